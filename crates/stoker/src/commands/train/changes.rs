//! What `--set` may change in a run that goes on, and what stays as it was.

use checkpoint::{CheckpointError, RunFolder, shell_word, write_atomically};

use super::{Request, checkpoint_request};
use crate::commands::next_step;
use crate::config::{Edit, Override, UserConfig, edit_text};
use crate::error::CommandError;
use crate::ui;

/// How long the run is, where and in which parts its steps are computed, and whether an image that cannot be read ends it: none of it changes an image
/// or what a step is to do. A run that ends at such an image has made no step without one, and one that skips them makes the same steps until it ends.
const FREE: [&str; 12] = [
    "train.epochs",
    "train.early_stopping.*",
    "train.micro_batch_size",
    "train.adaptive_batch",
    "train.checkpoint_minutes",
    "train.max_nonfinite_steps",
    "train.calibrate",
    "data.workers",
    "data.prefetch_batches",
    "data.on_corrupt",
    "device",
    "memory.*",
];

const EPOCHS: &str = "train.epochs";

impl Request {
    /// Whether the run can go on with what the command line puts over its configuration.
    pub(super) fn check_changes(&self) -> Result<(), CommandError> {
        let Some(folder) = &self.resumed else { return Ok(()) };
        match self.overrides.iter().find(|given| !may_change_on_resume(given.path())) {
            Some(given) => Err(refused(given, folder)),
            None => self.check_epochs(folder),
        }
    }

    fn check_epochs(&self, folder: &RunFolder) -> Result<(), CommandError> {
        if !self.is_given(EPOCHS) {
            return Ok(());
        }
        if self.resolved.config.data.folds.is_some() {
            let message = "`train.epochs` cannot change in a run of folds: all of them are trained alike";
            let hint = format!("train them anew: {}", anew(folder, "--set train.epochs=NUMBER"));
            return Err(CommandError::wrong_request(message).with_hint(hint));
        }
        let before = UserConfig::load(&folder.resolved_config(), &[])?.train.epochs;
        let after = self.resolved.config.train.epochs;
        if after < before {
            let message = format!("`train.epochs` can only grow in a run that goes on: {after} is below {before}");
            let hint = "stop the run where it has come far enough; `best` is there from the first epoch on";
            return Err(CommandError::wrong_request(message).with_hint(hint.to_owned()));
        }
        Ok(())
    }

    /// Writes a new number of epochs into the configuration of the run: it has as many from now on, whoever reads it. Other changes hold for this
    /// command alone, as `--device` does.
    pub(super) fn keep_epochs(&self, folder: &RunFolder) -> Result<(), CommandError> {
        if !self.is_given(EPOCHS) {
            return Ok(());
        }
        let (path, epochs) = (folder.resolved_config(), self.resolved.config.train.epochs);
        let unreadable = |source| checkpoint_request(&CheckpointError::Read { path: path.clone(), source });
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        let edited = edit_text(&path, &text, &[Edit::new(EPOCHS, epochs)])
            .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
        if edited == text {
            return Ok(());
        }
        ui::note(format_args!(
            "the run has {epochs} epochs from now on; its learning rate is that of a run of so many"
        ));
        write_atomically(&path, edited.as_bytes())
            .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))
    }

    /// Whether a flag puts something over this key.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.overrides.iter().any(|given| given.path() == key)
    }
}

/// Whether the setting of `key` may change in a run that goes on.
pub(super) fn may_change_on_resume(key: &str) -> bool {
    FREE.iter().any(|free| match free.strip_suffix('*') {
        Some(section) => key.starts_with(section),
        None => key == *free,
    })
}

fn refused(given: &Override, folder: &RunFolder) -> CommandError {
    let key = given.path();
    let message = format!("`{key}` cannot change in a run that goes on: {}", why_it_stays(key));
    let free = FREE.map(|key| format!("`{key}`"));
    let hint = format!("what can is {}; or train anew: {}", free.join(", "), anew(folder, given.written()));
    CommandError::wrong_request(message).with_hint(hint)
}

fn why_it_stays(key: &str) -> &'static str {
    match key.split('.').next() {
        Some("name" | "output") => "it stays in its folder",
        Some("model") => "its weights are those of the model that it began with",
        Some("data" | "augment" | "seed" | "sample_data") => "all its epochs have the same images, varied alike",
        Some("predict") => "it is for `predict`, which has flags for it",
        _ => "all its steps are made alike",
    }
}

fn anew(folder: &RunFolder, settings: &str) -> String {
    // A setting is a word of its own behind its flag.
    let settings = match settings.split_once(' ') {
        Some((flag, setting)) => format!("{flag} {}", shell_word(setting)),
        None => settings.to_owned(),
    };
    next_step(&format!("train --config {} --set name=OTHER {settings}", shell_word(folder.resolved_config())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_free_with_all_its_keys_and_a_name_that_only_begins_alike_is_not() {
        for key in ["memory.limit", "memory.checkpointing", "device", "train.epochs", "train.early_stopping.patience"] {
            assert!(may_change_on_resume(key), "{key}");
        }
        for key in
            ["memory_limit", "train.epochs_more", "train", "train.learning_rate", "data.train", "seed", "devices"]
        {
            assert!(!may_change_on_resume(key), "{key}");
        }
    }

    #[test]
    fn a_setting_with_spaces_is_typed_again_as_one_word() {
        let folder = tempfile::tempdir().expect("writable");
        std::fs::write(folder.path().join("config.resolved.yaml"), "").expect("writable");
        let run = RunFolder::open(folder.path()).expect("it has a configuration");
        let given = Override::parse("data.test=d/te st").expect("a setting");
        let told = anew(&run, given.written());
        assert!(told.ends_with("--set name=OTHER --set 'data.test=d/te st'"), "{told}");
        assert!(anew(&run, "--device cpu").ends_with("--set name=OTHER --device cpu"));
    }

    #[test]
    fn what_is_free_are_settings_that_there_are() {
        let one_of = |key: &'static str| match key {
            "memory.*" => "memory.limit",
            "train.early_stopping.*" => "train.early_stopping.patience",
            key => key,
        };
        for key in FREE.map(one_of) {
            let given = Override::parse(&format!("{key}=")).unwrap();
            let message = Edit::from_override(&given).err().map(|error| error.to_string());
            assert_eq!(message, None, "{key}");
        }
    }
}
