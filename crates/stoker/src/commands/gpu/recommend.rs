//! Presets of test-time augmentation, measured on a sample of a run's validation images.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use data_pipeline::Dataset;
use device::{Card, CardCatalogue};
use inference::{Merge, Preset, score};

use super::estimate::views_per_second;
use super::verdict::{Goal, Measured};
use crate::cli::{Checkpoint, GpuArguments, PredictorArguments, ViewArguments, WeightsArguments};
use crate::commands::calibrate::validation_of;
use crate::commands::next_step;
use crate::commands::predict::{Sight, Task, TrainedRun};
use crate::config::{MergeRule, UserConfig};
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::recovery::Injection;
use crate::ui::{self, short_number, short_time};

/// All presets together may take about so long.
const MEASURED_SECONDS: f64 = 60.0;

/// Images that are predicted first, so that what a first pass makes ready is not measured: kernels tuned, pages of memory taken.
const WARM_UP_IMAGES: usize = 16;

/// The least images of a sample: below that a speed is a guess.
const LEAST_IMAGES: usize = 32;

/// Measures, prints the table, and says which preset fits.
pub(super) fn recommend(arguments: &GpuArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let config = arguments.config.as_deref().map(|path| UserConfig::load(path, &[])).transpose()?;
    let card = arguments.gpu.as_deref().map(|name| CardCatalogue::embedded().find(name)).transpose();
    let card = card.map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    let newest = || config.as_ref().map_or_else(|| PathBuf::from("experiments/train"), |config| config.output.clone());
    let path = arguments.run.clone().unwrap_or_else(|| newest().join("latest"));
    let weights = WeightsArguments { checkpoint: Checkpoint::Best, device: arguments.device, batch_size: None };
    let run = TrainedRun::open(&path, &weights)?;
    let images = match arguments.images {
        Some(images) => images,
        None => test_images(config.as_ref().unwrap_or(&run.config), &run)?,
    };
    let goal = Goal { images, time: arguments.target_time.map(|time| time.0), macro_f1: arguments.min_f1 };
    let compute = Compute::select(arguments.device)?;
    let injection = Injection::from_environment()?;
    let validation = Arc::new(validation_of(&run)?);
    let task = Task { dataset: &validation, compute: &compute, injection: &injection, interrupt };
    let measured = measure(&run, &task, run.merge_rule(&NOTHING_ASKED), card)?;
    for row in table(&measured, &goal, &compute, card) {
        ui::out(row)?;
    }
    let best = decide(&measured, &goal)?;
    ui::out(reason(best, &goal))?;
    let command = format!("predict --run {} --input FOLDER --tta {}", run.folder.root().display(), best.preset);
    ui::out(format_args!("\nnext, predict:\n  {}", next_step(&command)))
}

/// The preset for the images of `task`, by a measurement that is told on the way.
pub(crate) fn choose_preset(
    run: &TrainedRun,
    task: &Task<'_>,
    arguments: &PredictorArguments,
) -> Result<Preset, CommandError> {
    let images = task.dataset.len() as u64;
    let goal = Goal { images, time: arguments.target_time.map(|time| time.0), macro_f1: arguments.min_f1 };
    let validation = Arc::new(validation_of(run)?);
    let measured = measure(run, &Task { dataset: &validation, ..*task }, run.merge_rule(&arguments.views), None)?;
    table(&measured, &goal, task.compute, None).into_iter().for_each(ui::note);
    let best = decide(&measured, &goal)?;
    ui::note(reason(best, &goal));
    Ok(best.preset)
}

const NOTHING_ASKED: ViewArguments = ViewArguments { tta: None, views: Vec::new(), merge: None };

/// How many images there are to predict.
fn test_images(config: &UserConfig, run: &TrainedRun) -> Result<u64, CommandError> {
    let hint = || "say how many images there are: `--images 100000`".to_owned();
    let test = config.data.test.as_ref().ok_or_else(|| {
        CommandError::wrong_request("the configuration names no test images (`data.test`)").with_hint(hint())
    })?;
    let dataset = Dataset::open_for_prediction(test, &run.weights.card.classes).map_err(|error| {
        CommandError::from_request(&error).in_context("cannot count the test images").with_hint(hint())
    })?;
    Ok(dataset.len() as u64)
}

/// Predicts a sample of the images of `task`, which have labels, with each preset. On a card that is not here the speed is an estimate.
fn measure(
    run: &TrainedRun,
    task: &Task<'_>,
    rule: MergeRule,
    card: Option<&Card>,
) -> Result<Vec<Measured>, CommandError> {
    let merge = rule.without_weights().ok_or_else(|| {
        CommandError::wrong_request("learned weights belong to one list of views, and this compares several")
            .with_hint("choose by another rule, as in `--merge mean`, or name the views".to_owned())
    })?;
    let sample = sample(run, task, &merge)?;
    let task = Task { dataset: &sample, ..*task };
    let estimated = card.map(|card| views_per_second(run, card)).transpose()?;
    let mut all = Vec::new();
    for preset in Preset::ALL {
        let sight = Sight { views: preset.views(), merge: merge.clone() };
        let (predictions, time) = run.predict_timed(&task, &sight)?;
        let scores = score(&sample, &predictions).filter(|scores| scores.merged.total() > 0);
        let scores = scores.ok_or_else(|| CommandError::failed("none of the validation images could be scored"))?;
        let here = sample.len() as f64 / time.as_secs_f64().max(Duration::from_millis(1).as_secs_f64());
        let images_per_second = estimated.map_or(here, |views| views / sight.views.len() as f64);
        all.push(Measured { preset, images_per_second, macro_f1: scores.merged.macro_f1() });
    }
    Ok(all)
}

/// As many of the images as all presets have time for, evenly from the whole, which has class after class.
fn sample(run: &TrainedRun, task: &Task<'_>, merge: &Merge) -> Result<Arc<Dataset>, CommandError> {
    let total = task.dataset.len();
    let few = Arc::new(evenly(task.dataset, WARM_UP_IMAGES));
    let first = Task { dataset: &few, ..*task };
    let sight = Sight { views: Preset::Essential.views(), merge: merge.clone() };
    run.predict_timed(&first, &sight)?;
    let (_, time) = run.predict_timed(&first, &sight)?;
    let views: usize = Preset::ALL.iter().map(|preset| preset.views().len()).sum();
    let seconds_per_view = time.as_secs_f64() / (few.len() * sight.views.len()) as f64;
    let affordable = (MEASURED_SECONDS / (seconds_per_view * views as f64)) as usize;
    let images = affordable.max(LEAST_IMAGES).min(total);
    if images < total {
        ui::note(format_args!("measuring on {images} of {total} validation images, for about {MEASURED_SECONDS} s"));
    }
    Ok(Arc::new(evenly(task.dataset, images)))
}

/// So many of the samples, or all where there are fewer.
fn evenly(dataset: &Dataset, images: usize) -> Dataset {
    let total = dataset.len();
    let images = images.min(total);
    let samples = (0..images).map(|place| dataset.samples[place * total / images].clone()).collect();
    Dataset { samples, ..dataset.clone() }
}

fn table(measured: &[Measured], goal: &Goal, compute: &Compute, card: Option<&Card>) -> Vec<String> {
    let speed = match card {
        Some(card) => format!(
            "speed on {}: an ESTIMATE from its {} GB/s; scores measured on {}",
            card.title,
            card.bandwidth,
            compute.selected.describe()
        ),
        None => format!("measured on {}", compute.selected.describe()),
    };
    let time = format!("{} images", goal.images);
    let head =
        format!("{:<14} {:>6} {:>10} {time:>18} {:>10}  {}", "preset", "views", "images/s", "macro-F1", "verdict");
    let row = |measured: &Measured| {
        let (rate, time) = (short_number(measured.images_per_second), short_time(goal.seconds(measured)));
        let (views, judged) = (measured.preset.views().len(), goal.judge(measured));
        format!("{:<14} {views:>6} {rate:>10} {time:>18} {:>10.4}  {judged}", measured.preset, measured.macro_f1)
    };
    [speed, head].into_iter().chain(measured.iter().map(row)).collect()
}

fn reason(best: &Measured, goal: &Goal) -> String {
    let asked = goal.describe();
    let among = if asked.is_empty() { "of all presets".to_owned() } else { format!("of those {asked}") };
    format!("`{}` has the highest macro-F1 {among}; of equal ones the one with fewer views is taken", best.preset)
}

/// The preset that fits.
///
/// # Errors
/// None does: what comes closest, and that ends with exit code 1.
fn decide<'m>(measured: &'m [Measured], goal: &Goal) -> Result<&'m Measured, CommandError> {
    goal.best(measured).ok_or_else(|| {
        let closest = goal.closest(measured).expect("every preset was measured");
        let time = short_time(goal.seconds(closest));
        let message = format!("no preset predicts {} images {}", goal.images, goal.describe());
        let hint = format!(
            "`--tta {}` comes closest: macro-F1 {:.4} in {time}; ask for that, or take a faster device",
            closest.preset, closest.macro_f1
        );
        CommandError::failed(message).with_hint(hint)
    })
}
