//! Damaged configurations of a tiny run, on the binary itself: it trains, or says in words what is wrong with which setting. `run/mutations.rs` does a
//! thousand of them without the device.

mod generator;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use generator::{Chance, mutate, paths, put};
use image::{Rgb, RgbImage};
use serde_yaml::{Mapping, Value};
use tempfile::TempDir;

const MUTATIONS: u64 = 36;

/// A run takes a second or two, and what a mutation asks for is held to that by [`bounded`]: one that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(90);

/// Settings that may ask for hours, and the most that is asked of the binary; other values of them are refused, or not, as they stand.
const BOUNDS: [(&str, u64, u64); 3] =
    [("train.epochs", 2, 100_000), ("model.image_size", 64, 4096), ("train.early_stopping.patience", 2, 100_000)];

const CONFIG: &str = "\
name: tiny
device: cpu
output: runs
data: {train: images, validation_share: 0.4, workers: 1}
model: {name: convnext_atto, image_size: 32}
train: {epochs: 1, effective_batch_size: 4, micro_batch_size: 2, warmup_epochs: 0, top_k: 1, precision: fp32}
";

/// A folder with ten images of two classes.
fn stage() -> TempDir {
    let folder = tempfile::tempdir().expect("the system's temporary folder is writable");
    for (class, red) in [("cat", 200), ("dog", 20)] {
        fs::create_dir_all(folder.path().join("images").join(class)).expect("writable");
        for number in 0..5u8 {
            let image = RgbImage::from_fn(36, 34, |x, y| Rgb([red, (x * 7) as u8, (y * 5) as u8 ^ number]));
            image.save(folder.path().join(format!("images/{class}/{number}.png"))).expect("writable");
        }
    }
    folder
}

/// The configuration with less to do, where it is one that a run would take up.
fn bounded(text: &str) -> String {
    let Ok(mut tree) = serde_yaml::from_str::<Mapping>(text) else { return text.to_owned() };
    let mut is_changed = false;
    for (key, most, largest) in BOUNDS {
        let (section, name) = key.rsplit_once('.').expect("each is in a section");
        let section = section.split('.').try_fold(&tree, |tree, name| tree.get(name)?.as_mapping());
        let asked = section.and_then(|section| section.get(name)?.as_u64());
        if asked.is_some_and(|asked| (most + 1..=largest).contains(&asked)) {
            put(&mut tree, key, most.into());
            is_changed = true;
        }
    }
    if is_changed { serde_yaml::to_string(&tree).expect("what was YAML is YAML again") } else { text.to_owned() }
}

/// Exit code and stderr.
fn train(stage: &Path) -> (i32, String) {
    let log = fs::File::create(stage.join("stderr.txt")).expect("writable");
    let mut child = Command::new(env!("CARGO_BIN_EXE_stoker"))
        .args(["train", "--config", "damaged.yaml", "--overwrite"])
        .current_dir(stage)
        .env("NO_COLOR", "1")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary was built for this test");
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("it is our child") {
            Some(status) => break status,
            None if start.elapsed() > PATIENCE => {
                child.kill().expect("it is our child");
                child.wait().expect("it is our child");
                let said = fs::read_to_string(stage.join("stderr.txt")).expect("messages are UTF-8");
                let config = fs::read_to_string(stage.join("damaged.yaml")).expect("it was written");
                panic!("still at work after {PATIENCE:?}: {said}\n{config}");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let said = fs::read_to_string(stage.join("stderr.txt")).expect("messages are UTF-8");
    assert!(!said.contains("panicked") && !said.contains("made a mistake"), "{said}");
    (status.code().expect("nobody else kills it"), said)
}

#[test]
fn only_what_takes_long_is_cut_short() {
    let bounded_epochs = |epochs: &str| bounded(&format!("train: {{epochs: {epochs}}}\n"));
    assert_eq!(bounded_epochs("100000"), "train:\n  epochs: 2\n");
    for kept in ["1", "2", "100001", "-3", "three", "[5]", "1e308"] {
        assert_eq!(bounded_epochs(kept), format!("train: {{epochs: {kept}}}\n"));
    }
    assert_eq!(bounded("train: ["), "train: [");
    assert_eq!(bounded("train: 7\n"), "train: 7\n");
}

#[test]
fn a_damaged_configuration_trains_or_is_refused_by_the_binary() {
    let config: Mapping = serde_yaml::from_str(CONFIG).expect("YAML");
    let mut all = config.clone();
    for key in ["train.class_weights", "model.freeze", "augment.mix.mixup", "train.optimizer", "memory.limit"] {
        put(&mut all, key, Value::Null);
    }
    let keys = paths(&all);
    let stage = stage();
    let mut codes = Vec::new();
    for number in 0..MUTATIONS {
        let mutation = mutate(CONFIG, &keys, &mut Chance::new(number));
        fs::write(stage.path().join("damaged.yaml"), bounded(&mutation.text)).expect("writable");
        let (code, said) = train(stage.path());
        codes.push(code);
        let told = said.contains("error: ") && said.contains('`') && mutation.is_named_in(&said);
        assert!(
            code == 0 || (code == 1 || code == 2) && told,
            "mutation {number} ended with {code}: {said}\n{}",
            mutation.text
        );
    }
    for code in [0, 2] {
        assert!(codes.contains(&code), "no mutation ended with {code}: {codes:?}");
    }
}
