//! A thousand damaged configurations, through all that `train` does with one before the device is asked: each is refused in words, or what a run is
//! made of is made of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use data_pipeline::{Dataset, Loader, LoaderOptions, batches};
use image::{Rgb, RgbImage};
use serde_yaml::Mapping;
use tempfile::TempDir;

use crate::config::{ConfigError, UserConfig};
use crate::error::CommandError;
use crate::run::groups::check_freezing;
use crate::run::recipe::check_class_weights;
use crate::run::resolved::ResolvedConfig;

#[path = "../../tests/mutations/generator.rs"]
mod generator;

use generator::{Chance, Mutation, mutate, paths};

/// `STOKER_MUTATIONS=20000` in the environment tries more.
fn mutations() -> u64 {
    std::env::var("STOKER_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000)
}

/// Sides up to here are tried with images: above, time goes into pixels.
const LARGEST_TRIED: usize = 128;

/// What becomes of a configuration.
#[derive(Debug, PartialEq)]
enum Fate {
    Refused(String),
    Runs,
}

fn shipped() -> Vec<(PathBuf, String)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs"));
    let names = ["quickstart.yaml", "sign_digits.yaml", "train.yaml", "train_highperf.yaml"];
    let read = |name: &str| (PathBuf::from(name), std::fs::read_to_string(folder.join(name)).expect("it is shipped"));
    names.map(read).to_vec()
}

fn all_keys() -> Vec<String> {
    let config = UserConfig::from_text(Path::new("x.yaml"), "data: {train: images}", &[]).expect("valid");
    let tree: Mapping = serde_yaml::from_str(&config.to_yaml()).expect("written by us");
    paths(&tree)
}

/// Six images of two classes.
fn images() -> &'static (TempDir, Arc<Dataset>) {
    static DRAWN: OnceLock<(TempDir, Arc<Dataset>)> = OnceLock::new();
    DRAWN.get_or_init(|| {
        let folder = tempfile::tempdir().expect("the system's temporary folder is writable");
        for (class, red) in [("cat", 200), ("dog", 20)] {
            std::fs::create_dir(folder.path().join(class)).expect("writable");
            for number in 0..3u8 {
                let pixel = |x, y| Rgb([red, (x * 7) as u8, (y * 5) as u8 ^ number]);
                let image = RgbImage::from_fn(40, 30, pixel);
                image.save(folder.path().join(class).join(format!("{number}.png"))).expect("writable");
            }
        }
        let images = Dataset::open(folder.path()).expect("drawn just now");
        (folder, Arc::new(images))
    })
}

fn fate_of(path: &Path, mutation: &Mutation) -> Fate {
    let config = match UserConfig::from_text(path, &mutation.text, &[]) {
        Ok(config) => config,
        Err(error) => {
            assert!(!matches!(error, ConfigError::Refused { .. }), "the checks let it through: {error:?}");
            return Fate::Refused(said(error.into()));
        }
    };
    assert!(config.warnings().iter().all(|warning| warning.contains('`')));
    let again = UserConfig::from_text(path, &config.to_yaml(), &[]).expect("what was accepted is accepted again");
    assert_eq!(format!("{again:?}"), format!("{config:?}"));
    match ResolvedConfig::new(config, path).and_then(|resolved| prepare(&resolved)) {
        Ok(()) => Fate::Runs,
        Err(error) => Fate::Refused(said(error)),
    }
}

/// What a run is made of.
fn prepare(resolved: &ResolvedConfig) -> Result<(), CommandError> {
    let images = &images().1;
    let architecture = resolved.architecture()?;
    check_freezing(resolved, &architecture, images.classes.len())?;
    check_class_weights(&resolved.config.train, &images.classes)?;
    resolved.budget_request();
    resolved.run_folder("2026-01-01");
    let options = resolved.train_options(images.len(), &images.class_counts());
    let total = u64::from(options.epochs) * images.len().div_ceil(options.effective_batch_size) as u64;
    for step in [0, 1, total / 2, total.saturating_sub(1), total, total + 1] {
        let rate = options.schedule.at(step, &Default::default());
        assert!(rate >= 0.0, "learning rate {rate} at step {step}");
    }
    if resolved.image_size() <= LARGEST_TRIED {
        load_an_epoch(resolved, images);
    }
    Ok(())
}

/// All that chance does to images.
fn load_an_epoch(resolved: &ResolvedConfig, images: &Arc<Dataset>) {
    let order = resolved.sampling().order(images, resolved.config.seed, 1);
    let options = LoaderOptions {
        seed: resolved.config.seed,
        epoch: 1,
        mixing: resolved.mixing(),
        workers: 1,
        prefetch_batches: 1,
        ..resolved.loader_options()
    };
    let all = batches(&order, resolved.config.train.effective_batch_size);
    let loader = Loader::new(images.clone(), all, Arc::new(resolved.train_transform()), options);
    let shown: usize = loader.map(|batch| batch.expect("the images are whole").len()).sum();
    assert_eq!(shown, images.len());
}

/// The error as a user sees it.
fn said(error: CommandError) -> String {
    let named = [vec![error.message.clone()], error.causes.clone()].concat().join("\n");
    assert!(named.contains('`'), "it names nothing: {named}");
    assert!(!named.ends_with('.') && !error.message.is_empty(), "{named}");
    let hint = error.hint.unwrap_or_else(|| panic!("no way out: {named}"));
    format!("{named}\n{hint}")
}

/// What became of a mutation, or what it broke.
fn tried(path: &Path, mutation: &Mutation) -> Result<Fate, String> {
    let fate = std::panic::catch_unwind(|| fate_of(path, mutation)).map_err(|_| "it panicked, see above".to_owned())?;
    match &fate {
        Fate::Refused(said) if !mutation.is_named_in(said) => Err(format!("what was done is not named: {said}")),
        _ => Ok(fate),
    }
}

#[test]
fn a_thousand_damaged_configurations_run_or_are_refused_by_name() {
    let (shipped, keys, mutations) = (shipped(), all_keys(), mutations());
    let (mut refused, mut broken) = (0, Vec::new());
    for number in 0..mutations {
        let (path, original) = &shipped[number as usize % shipped.len()];
        let mutation = mutate(original, &keys, &mut Chance::new(number));
        match tried(path, &mutation) {
            Ok(fate) => refused += u64::from(fate != Fate::Runs),
            Err(reason) => broken.push(format!("mutation {number} of {}: {reason}\n{}", path.display(), mutation.text)),
        }
    }
    assert!(broken.is_empty(), "{} of {mutations}:\n{}", broken.len(), broken.join("\n\n"));
    // Neither side of the test is empty.
    assert!((mutations * 3 / 10..mutations * 9 / 10).contains(&refused), "{refused} of {mutations} were refused");
}
