//! Cross-validation: the runs of `train`, one fold after the other.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::{CheckpointError, RunFolder, shell_word, write_atomically};

use crate::commands::next_step;
use crate::commands::scores::{score_head, score_row};
use crate::commands::train::{Request, begin, calibrate_folds, checkpoint_request, train_one};
use crate::config::UserConfig;
use crate::error::{CommandError, Outcome};
use crate::run::checks::check_root;
use crate::run::fold_results::{FoldResults, group_of};
use crate::run::preprocessing::decide_as_before;
use crate::run::resolved::ResolvedConfig;
use crate::ui;

/// Trains the folds that are asked for and not done yet, and reports on all that are.
pub(crate) fn train_folds(request: &Request, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let data = &request.resolved.config.data;
    let folds = data.folds.expect("the request is one of folds");
    let wanted: Vec<usize> = data.fold.map_or_else(|| (0..folds).collect(), |fold| vec![fold]);
    let (group, mut new) = open_group(request)?;
    for fold in wanted {
        // With `--fold`, it is that fold that is replaced.
        let replaced = request.overwrite && data.fold.is_some();
        if new.is_none() && !replaced && FoldResults::read(&group)?.is_some_and(|known| known.has(fold)) {
            ui::note(format_args!("fold {fold} is done"));
            continue;
        }
        ui::out(format_args!("\nfold {fold}, of 0 to {}", folds - 1))?;
        let trained = match new.take() {
            // Until its folder is there, nothing is there to go on with.
            Some(new) => begin(request.of_first_fold(new, fold), interrupt)?.finish(interrupt),
            None => request.of_fold(&group, fold, replaced).and_then(|one| train_one(one, interrupt)),
        };
        trained.map_err(|error| go_on_with_all(error, &group.of_fold(fold), &request.resume(&group)))?;
    }
    conclude(&group, &request.resolved, interrupt)
}

/// Goes on with one fold, whose run is named and not the folder of all, and tells what is left of the others.
pub(crate) fn go_on_with_one(request: Request, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let (root, resolved) = (request.root.clone(), request.resolved.clone());
    train_one(request, interrupt)?;
    conclude(&group_of(&root)?, &resolved, interrupt)
}

/// Calibrates all folds together once the last of them is done, where that is wanted, and reports on those that are.
fn conclude(group: &RunFolder, resolved: &ResolvedConfig, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let config = &resolved.config;
    let is_whole = FoldResults::read(group)?.is_some_and(|known| known.results.len() == known.folds);
    if config.train.calibrate && is_whole {
        calibrate_folds(&group.fold_results(), &config.device.to_string(), interrupt)?;
    }
    report(group, config.train.calibrate)
}

/// The folder of all folds, where the first of them is still to be trained. It is made with that fold's own, so that a request that is refused before leaves
/// nothing behind, and an earlier folder as it was.
#[derive(Debug)]
pub(crate) struct NewGroup {
    folder: RunFolder,
    /// Whether an earlier run in its place goes.
    overwrite: bool,
    /// The configuration that all folds share, as it is saved.
    config: String,
}

impl NewGroup {
    /// Where it will be.
    pub(crate) fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Makes it. Another fold of the same configuration may have done so meanwhile.
    pub(crate) fn make(&self) -> Result<(), CheckpointError> {
        let there = fs::read_to_string(self.folder.resolved_config());
        if !self.overwrite && there.is_ok_and(|there| there == self.config) {
            return Ok(());
        }
        RunFolder::create_group(self.folder.root(), self.overwrite)?;
        write_atomically(&self.folder.resolved_config(), self.config.as_bytes())
    }
}

/// The folder of all folds; with what makes it, where it is not there yet.
fn open_group(request: &Request) -> Result<(RunFolder, Option<NewGroup>), CommandError> {
    if let Some(group) = &request.resumed {
        return Ok((group.clone(), None));
    }
    let of_all = of_all_folds(&request.resolved);
    // Folds that are trained one by one share a folder, if they are of one configuration.
    if request.resolved.config.data.fold.is_some() && RunFolder::is_occupied(&request.root) {
        return Ok((open_same(request, &of_all)?, None));
    }
    check_root(&request.root, request.overwrite)?;
    let folder = RunFolder::to_be_made(&request.root);
    // With `--fold`, nothing is there that could be replaced.
    let overwrite = request.overwrite && request.resolved.config.data.fold.is_none();
    let new = NewGroup { folder: folder.clone(), overwrite, config: of_all.to_yaml() };
    Ok((folder, Some(new)))
}

fn open_same(request: &Request, of_all: &ResolvedConfig) -> Result<RunFolder, CommandError> {
    let group = RunFolder::open(&request.root).map_err(|error| checkpoint_request(&error))?;
    let mut there = UserConfig::load(&group.resolved_config(), &[])?;
    decide_as_before(&mut there);
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
    format!("train --resume {}", shell_word(group.root()))
}

/// However a fold ended, it is gone on with by all of them: its own command would leave the others out. `resume` are the words for all.
fn go_on_with_all(error: CommandError, fold: &Path, resume: &str) -> CommandError {
    let own = format!("train --resume {}", shell_word(fold));
    let all = resume.split(" --gpus").next().unwrap_or(resume);
    let hint = match error.hint.as_deref() {
        // Flags that follow stay.
        Some(hint) if hint.contains(&own) => hint.replace(&own, all),
        // Who begins anew does not go on, and what was refused has a way out of its own.
        Some(hint) if hint.contains("--overwrite") => return error,
        Some(_) if error.outcome == Outcome::WrongRequest => return error,
        Some(hint) => format!("{hint}; then go on with all folds: {}", next_step(resume)),
        None => format!("go on with all folds: {}", next_step(resume)),
    };
    error.with_hint(hint)
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
    let all = results.out_of_fold;
    ui::out(score_row("out of fold", all.macro_f1, all.accuracy, all.images))?;
    let done = results.results.len();
    ui::out(results.macro_f1_in_words())?;
    let (file, predictions) = (group.fold_results(), group.out_of_fold());
    ui::out(format_args!("results: {}; predictions: {}", file.display(), predictions.display()))?;
    let command = match done == results.folds {
        true => {
            let calibrated = if is_calibrated { " --use-calibration" } else { "" };
            format!("predict --fold-results {} --input FOLDER --output predictions.csv{calibrated}", shell_word(&file))
        }
        false => resume(group),
    };
    let purpose = if done == results.folds { "predict with all folds" } else { "train the other folds" };
    ui::out(format_args!("\nnext, {purpose}:\n  {}", next_step(&command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_of(hint: Option<&str>) -> String {
        let error = CommandError::failed("disk full").with_hint(hint.map(str::to_owned));
        let told = go_on_with_all(error, Path::new("runs/pets/fold_0"), "train --resume runs/pets --gpus 0,1");
        told.hint.expect("there is a way to go on")
    }

    #[test]
    fn folds_that_begin_at_once_share_a_folder_if_they_are_of_one_configuration() {
        let parent = tempfile::tempdir().expect("the system's temporary folder is writable");
        let new = |config: &str, overwrite| {
            let folder = RunFolder::to_be_made(&parent.path().join("pets"));
            NewGroup { folder, overwrite, config: config.to_owned() }
        };
        let one = new("name: pets\n", false);
        assert!(!one.folder().root().exists(), "it is made when it is asked for");
        one.make().expect("nothing is there");
        let begun = one.folder().of_fold(0);
        fs::create_dir(&begun).expect("writable");
        new("name: pets\n", false).make().expect("it is the same");
        assert!(begun.exists());
        let other = new("name: cats\n", false).make();
        assert!(matches!(other, Err(CheckpointError::RunExists { .. })), "{other:?}");
        new("name: pets\n", true).make().expect("a run may be replaced");
        assert!(!begun.exists() && one.folder().resolved_config().exists());
    }

    #[test]
    fn whatever_stopped_a_fold_all_folds_go_on() {
        let full = hint_of(Some(
            "free some space, then go on with `stoker train --resume runs/pets/fold_0`; all else is whole",
        ));
        assert_eq!(full, "free some space, then go on with `stoker train --resume runs/pets`; all else is whole");
        let stopped = hint_of(Some("go on with: stoker train --resume runs/pets/fold_0 --gpus 0,1"));
        assert_eq!(stopped, "go on with: stoker train --resume runs/pets --gpus 0,1");
        for (hint, start) in [(Some("lower the learning rate"), "lower the learning rate; then "), (None, "")] {
            let told = hint_of(hint);
            assert!(told.starts_with(&format!("{start}go on with all folds: ")), "{told}");
            assert!(told.ends_with("train --resume runs/pets --gpus 0,1"), "{told}");
        }
        assert_eq!(hint_of(Some("train anew: `--overwrite`")), "train anew: `--overwrite`");
        let spaced =
            CommandError::failed("disk full").with_hint("go on with `train --resume 'my runs/fold_0'`".to_owned());
        let told = go_on_with_all(spaced, Path::new("my runs/fold_0"), "train --resume 'my runs' --gpus 0,1").hint;
        assert_eq!(told.as_deref(), Some("go on with `train --resume 'my runs'`"));
        let refused = CommandError::wrong_request("other images").with_hint("put them back".to_owned());
        assert_eq!(go_on_with_all(refused.clone(), Path::new("runs/pets/fold_0"), "train --resume runs/pets"), refused);
    }
}
