//! Presets of test-time augmentation, measured on a sample of the images that a run or an ensemble held out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use checkpoint::{RunFolder, shell_word};
use data_pipeline::Dataset;
use device::{Card, CardCatalogue};
use inference::{Preset, score};

use super::estimate::views_per_second;
use super::verdict::{Goal, Measured, short_span};
use crate::cli::{Checkpoint, GpuArguments, PredictorArguments, RunsArguments, ViewArguments, WeightsArguments, typed};
use crate::commands::next_step;
use crate::commands::predict::{HeldOut, Judged, Members, Task, TrainedRun, of_preset};
use crate::config::{DeviceRequest, MergeRule, Tta, UserConfig};
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::recovery::Injection;
use crate::run::resolved::name_of_file;
use crate::ui::{self, short_number};

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
    let asked = config.as_ref().zip(arguments.config.as_deref());
    let path = arguments.run.clone().unwrap_or_else(|| newest_run(asked));
    let members = Members::open(&one_run(path.clone(), arguments.device))?;
    let images = match arguments.images {
        Some(images) => images,
        None => test_images(config.as_ref().unwrap_or(members.config()), members.classes())?,
    };
    let goal = Goal { images, time: arguments.target_time.map(|time| time.0), macro_f1: arguments.min_f1 };
    let compute = Compute::select(arguments.device)?;
    let injection = Injection::from_environment()?;
    let held_out = HeldOut::of(&members)?;
    let task = Task { dataset: &held_out.images, compute: &compute, injection: &injection, interrupt };
    let measured = measure(&members, &held_out, &task, &left_open(arguments.merge), card)?;
    let root = members.folder.as_ref().map_or(&*path, |folder| folder.root());
    let mut rows = table(&measured, &goal, &compute, card);
    rows[0].insert_str(0, &format!("{}: ", root.display()));
    rows.into_iter().try_for_each(ui::out)?;
    let best = decide(&measured, &goal)?;
    ui::out(reason(best, &goal))?;
    let merge = arguments.merge.map_or_else(String::new, |merge| format!(" --merge {}", typed(merge)));
    let command = format!("predict --run {} --input FOLDER --tta {}{merge}", shell_word(root), best.preset);
    ui::out(format_args!("\nnext, predict:\n  {}", next_step(&command)))
}

/// The newest run of a configuration, by its name; of all runs in its folder where none is called so, or where there is no configuration.
fn newest_run(asked: Option<(&UserConfig, &Path)>) -> PathBuf {
    let Some((config, path)) = asked else { return PathBuf::from("experiments/train/latest") };
    let (output, name) = (&config.output, config.name.clone().unwrap_or_else(|| name_of_file(path)));
    let dates = std::fs::read_dir(output).into_iter().flatten().flatten().map(|entry| entry.path());
    let runs = dates.filter(|date| !date.is_symlink()).map(|date| date.join(&name));
    // Dates are in the order of their names.
    runs.filter(|run| RunFolder::open(run).is_ok()).max().unwrap_or_else(|| {
        let newest = output.join("latest");
        if newest.exists() {
            ui::note(format_args!(
                "note: no run in `{}` is called `{name}`: taking the newest of all",
                output.display()
            ));
        }
        newest
    })
}

/// The preset for the images of `task`, by a measurement that is told on the way.
pub(crate) fn choose_preset(
    members: &Members,
    task: &Task<'_>,
    asked: &PredictorArguments,
) -> Result<Preset, CommandError> {
    let images = task.dataset.len() as u64;
    let goal = Goal { images, time: asked.target_time.map(|time| time.0), macro_f1: asked.min_f1 };
    let measured = measure(members, &HeldOut::of(members)?, task, &asked.views, None)?;
    table(&measured, &goal, task.compute, None).into_iter().for_each(ui::note);
    let best = decide(&measured, &goal)?;
    ui::note(reason(best, &goal));
    Ok(best.preset)
}

fn one_run(path: PathBuf, device: DeviceRequest) -> RunsArguments {
    let weights =
        WeightsArguments { checkpoint: Checkpoint::Best, device, batch_size: None, precision: None, workers: None };
    RunsArguments { runs: vec![path], weights, fold_results: None, weight_by_score: false }
}

/// All views are left to the measurement, and how they are merged to the run where nothing is said.
fn left_open(merge: Option<MergeRule>) -> ViewArguments {
    ViewArguments { tta: Some(Tta::Auto), views: Vec::new(), merge }
}

/// How many images there are to predict.
fn test_images(config: &UserConfig, classes: &[String]) -> Result<u64, CommandError> {
    let hint = || "say how many images there are: `--images 100000`".to_owned();
    let test = config.data.test.as_ref().ok_or_else(|| {
        CommandError::wrong_request("the configuration names no test images (`data.test`)").with_hint(hint())
    })?;
    let dataset = Dataset::open_for_prediction(test, classes).map_err(|error| {
        CommandError::from_request(&error).in_context("cannot count the test images").with_hint(hint())
    })?;
    Ok(dataset.len() as u64)
}

/// Predicts a sample of the images that the models held out, with each preset in the place of views that are left open. Of an ensemble the time
/// is that of all models together, and the score is that of their mean. On a card that is not here the speed is an estimate.
fn measure(
    members: &Members,
    held_out: &HeldOut,
    task: &Task<'_>,
    asked: &ViewArguments,
    card: Option<&Card>,
) -> Result<Vec<Measured>, CommandError> {
    refuse_learned_weights(members, asked)?;
    let sample = sample(members, held_out, task, asked)?;
    let rates = |card| members.runs().map(|run| views_per_second(run, card)).collect::<Result<Vec<f64>, _>>();
    let estimated = card.map(rates).transpose()?;
    let mut all = Vec::new();
    for preset in Preset::ALL {
        let sights = members.sights(asked, &of_preset(preset, asked))?;
        let Judged { predictions, times } = sample.predict(members, task, &sights)?;
        let scores = score(&sample.images, &predictions).filter(|scores| scores.merged.total() > 0);
        let scores = scores.ok_or_else(|| CommandError::failed("none of the validation images could be scored"))?;
        let seconds_per_image: f64 = match &estimated {
            Some(rates) => rates.iter().zip(&sights).map(|(rate, sight)| sight.views.len() as f64 / rate).sum(),
            None => times.into_iter().map(seconds_for_image).sum(),
        };
        all.push(Measured { preset, images_per_second: 1.0 / seconds_per_image, macro_f1: scores.merged.macro_f1() });
    }
    Ok(all)
}

/// Of one model; a clock that stood still is not believed.
fn seconds_for_image((images, time): (usize, Duration)) -> f64 {
    time.max(Duration::from_millis(1)).as_secs_f64() / images.max(1) as f64
}

fn refuse_learned_weights(members: &Members, asked: &ViewArguments) -> Result<(), CommandError> {
    let is_learned = |run: &TrainedRun| run.is_auto(asked) && run.merge_rule(asked).without_weights().is_none();
    if !members.runs().any(is_learned) {
        return Ok(());
    }
    Err(CommandError::wrong_request("learned weights belong to one list of views, and this compares several")
        .with_hint("choose by another rule, as in `--merge mean`, or name the views".to_owned()))
}

/// As many of the held-out images as all presets have time for, evenly from the whole, which has class after class.
fn sample(members: &Members, all: &HeldOut, task: &Task<'_>, asked: &ViewArguments) -> Result<HeldOut, CommandError> {
    let sights = members.sights(asked, &of_preset(Preset::Essential, asked))?;
    let views: usize = Preset::ALL.iter().map(|preset| preset.views().len()).sum();
    // Of the folds of a run each sees a part of the images.
    let (mut seconds_per_image, mut largest_share) = (0.0, 1.0_f64);
    for (member, (run, sight)) in members.runs().zip(&sights).enumerate() {
        let places = all.places_of(member);
        let few = evenly(&places, WARM_UP_IMAGES);
        all.predict_places(run, task, sight, &few)?;
        let (_, time) = all.predict_places(run, task, sight, &few)?;
        let seconds_per_view = seconds_for_image((few.len(), time)) / sight.views.len() as f64;
        let share = places.len() as f64 / all.images.len() as f64;
        seconds_per_image += seconds_per_view * views as f64 * share;
        largest_share = largest_share.max(1.0 / share.max(f64::MIN_POSITIVE));
    }
    let total = all.images.len();
    let least = (LEAST_IMAGES as f64 * largest_share).ceil() as usize;
    let images = ((MEASURED_SECONDS / seconds_per_image) as usize).max(least).min(total);
    if images < total {
        ui::note(format_args!("measuring on {images} of {total} validation images, for about {MEASURED_SECONDS} s"));
    }
    Ok(all.evenly(images))
}

/// So many of the places, or all where there are fewer.
fn evenly(places: &[usize], count: usize) -> Vec<usize> {
    let count = count.min(places.len());
    (0..count).map(|place| places[place * places.len() / count]).collect()
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
        let (rate, time) = (short_number(measured.images_per_second), short_span(goal.seconds(measured)));
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
        let (time, way_out) = (short_span(goal.seconds(closest)), goal.way_out(measured));
        let message = format!("no preset predicts {} images {}", goal.images, goal.describe());
        let hint = format!(
            "`--tta {}` comes closest: macro-F1 {:.4} in {time}; ask for that, or {way_out}",
            closest.preset, closest.macro_f1
        );
        CommandError::failed(message).with_hint(hint)
    })
}
