//! Cross-validation: the runs of `train`, one fold after the other.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::{CheckpointError, RunFolder, write_atomically};

use crate::commands::next_step;
use crate::commands::scores::{score_head, score_row};
use crate::commands::train::{Request, calibrate_folds, checkpoint_request, train_one};
use crate::config::UserConfig;
use crate::error::{CommandError, Outcome};
use crate::run::checks::check_root;
use crate::run::fold_results::FoldResults;
use crate::run::resolved::ResolvedConfig;
use crate::ui;

/// Trains the folds that are asked for and not done yet, and reports on all that are.
pub(crate) fn train_folds(request: &Request, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let data = &request.resolved.config.data;
    let folds = data.folds.expect("the request is one of folds");
    let wanted: Vec<usize> = data.fold.map_or_else(|| (0..folds).collect(), |fold| vec![fold]);
    let group = open_group(request)?;
    for fold in wanted {
        // With `--fold`, it is that fold that is replaced.
        let replaced = request.overwrite && data.fold.is_some();
        if !replaced && FoldResults::read(&group)?.is_some_and(|known| known.has(fold)) {
            ui::note(format_args!("fold {fold} is done"));
            continue;
        }
        ui::out(format_args!("\nfold {fold}, of 0 to {}", folds - 1))?;
        let one = request.of_fold(&group, fold, replaced)?;
        train_one(one, interrupt).map_err(|error| go_on_with_all(error, &group))?;
    }
    let config = &request.resolved.config;
    let is_whole = FoldResults::read(&group)?.is_some_and(|known| known.results.len() == folds);
    if config.train.calibrate && is_whole {
        calibrate_folds(&group.fold_results(), &config.device.to_string(), interrupt)?;
    }
    report(&group, config.train.calibrate)
}

/// Makes the folder of all folds, or opens the one that is there.
fn open_group(request: &Request) -> Result<RunFolder, CommandError> {
    if let Some(group) = &request.resumed {
        return Ok(group.clone());
    }
    let of_all = of_all_folds(&request.resolved);
    // Folds that are trained one by one share a folder, if they are of one configuration.
    if request.resolved.config.data.fold.is_some() && RunFolder::is_occupied(&request.root) {
        return open_same(request, &of_all);
    }
    check_root(&request.root, request.overwrite)?;
    let made = || -> Result<RunFolder, CheckpointError> {
        let group = RunFolder::create_group(&request.root, request.overwrite)?;
        write_atomically(&group.resolved_config(), of_all.to_yaml().as_bytes())?;
        Ok(group)
    };
    made().map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))
}

fn open_same(request: &Request, of_all: &ResolvedConfig) -> Result<RunFolder, CommandError> {
    let group = RunFolder::open(&request.root).map_err(|error| checkpoint_request(&error))?;
    let there = UserConfig::load(&group.resolved_config(), &[])?;
    if there != of_all.config {
        let message = format!("run folder `{}` holds folds of another configuration", group.root().display());
        let hint = "choose another name with `--set name=OTHER`, go on with those: `stoker train --resume`, or replace them all: \
                    `--overwrite` without `--fold`";
        return Err(CommandError::wrong_request(message).with_hint(hint.to_owned()));
    }
    let fold = request.resolved.config.data.fold.map(|fold| group.of_fold(fold));
    match fold.filter(|root| !request.overwrite && RunFolder::is_occupied(root)) {
        Some(root) => {
            let error = CheckpointError::RunExists { path: root };
            Err(checkpoint_request(&error).with_hint(format!(
                "train the folds that are missing: {}, or replace this one: `--overwrite`",
                next_step(&resume(&group))
            )))
        }
        None => Ok(group),
    }
}

/// The configuration that all folds share.
fn of_all_folds(resolved: &ResolvedConfig) -> ResolvedConfig {
    let mut resolved = resolved.clone();
    resolved.config.data.fold = None;
    resolved
}

fn resume(group: &RunFolder) -> String {
    format!("train --resume {}", group.root().display())
}

/// A fold that was stopped is gone on with by all of them.
fn go_on_with_all(error: CommandError, group: &RunFolder) -> CommandError {
    match error.outcome {
        Outcome::Interrupted => error.with_hint(format!("go on with: {}", next_step(&resume(group)))),
        _ => error,
    }
}

/// A row a fold, and how good all of them are on images that they were not trained on.
fn report(group: &RunFolder, is_calibrated: bool) -> Result<(), CommandError> {
    let Some(results) = FoldResults::read(group)? else { return Ok(()) };
    ui::out(format_args!("\n{}", score_head()))?;
    for result in &results.results {
        let scores = result.scores;
        let name = format!("fold {}, epoch {}", result.fold, result.epoch);
        ui::out(score_row(&name, scores.macro_f1, scores.accuracy, scores.images))?;
    }
    let (mean, deviation) = results.macro_f1_spread();
    let all = results.out_of_fold;
    ui::out(score_row("out of fold", all.macro_f1, all.accuracy, all.images))?;
    let done = results.results.len();
    ui::out(format_args!("macro-F1 {mean:.4} ± {deviation:.4} over {done} of {} folds", results.folds))?;
    let (file, predictions) = (group.fold_results(), group.out_of_fold());
    ui::out(format_args!("results: {}; predictions: {}", file.display(), predictions.display()))?;
    let command = match done == results.folds {
        true => {
            let calibrated = if is_calibrated { " --use-calibration" } else { "" };
            format!("predict --fold-results {} --input FOLDER --output predictions.csv{calibrated}", file.display())
        }
        false => resume(group),
    };
    let purpose = if done == results.folds { "predict with all folds" } else { "train the other folds" };
    ui::out(format_args!("\nnext, {purpose}:\n  {}", next_step(&command)))
}
