//! What `train` is asked for, before any data is touched.

use std::path::{Path, PathBuf};

use checkpoint::{RunFolder, shell_word};

use super::checkpoint_request;
use crate::cli::TrainArguments;
use crate::commands::folds::NewGroup;
use crate::commands::{config, today};
use crate::config::{Override, UserConfig};
use crate::error::CommandError;
use crate::run::checks;
use crate::run::preprocessing::decide_as_before;
use crate::run::resolved::ResolvedConfig;
use crate::run::shared::Sharing;
use crate::ui;

/// What the command line asks for, read and checked as far as is possible without touching data.
pub(crate) struct Request {
    pub(crate) resolved: ResolvedConfig,
    /// The configuration of a new run.
    pub(super) config: Option<PathBuf>,
    /// The run to go on with.
    pub(crate) resumed: Option<RunFolder>,
    /// Where a new run goes.
    pub(crate) root: PathBuf,
    pub(crate) overwrite: bool,
    /// The folder of all folds, where it is made with the run of this one.
    pub(super) group: Option<NewGroup>,
    /// The cards that share the work, where they are named.
    pub(super) sharing: Option<Sharing>,
    /// What the command line puts over the configuration.
    pub(super) overrides: Vec<Override>,
}

impl Request {
    pub(super) fn read(arguments: &TrainArguments) -> Result<Self, CommandError> {
        let overrides = [recipe_of(arguments)?, arguments.overrides()?].concat();
        let request = match (&arguments.resume, &arguments.config) {
            (Some(run), _) => {
                let resumed = Self::of_resumed(run, overrides)?;
                resumed.check_changes()?;
                Self { sharing: Sharing::of(arguments), ..resumed }
            }
            (None, Some(path)) => {
                let resolved = ResolvedConfig::new(config::load(path, &overrides)?, path)?;
                let (root, overwrite) = (resolved.run_folder(&today()), arguments.overwrite);
                let sharing = Sharing::of(arguments);
                let config = Some(path.clone());
                Self { resolved, config, resumed: None, root, overwrite, group: None, sharing, overrides }
            }
            (None, None) => return Err(CommandError::wrong_request("`train` needs `--config FILE` or `--resume RUN`")),
        };
        request.resolved.architecture()?;
        if request.resumed.is_none() && !request.is_of_folds() {
            checks::check_root(&request.root, request.overwrite)?;
        }
        Ok(request)
    }

    /// Whether it takes a run for each fold. To go on with the run of one fold is to go on with one run.
    pub(super) fn is_of_folds(&self) -> bool {
        let data = &self.resolved.config.data;
        data.folds.is_some() && (self.resumed.is_none() || data.fold.is_none())
    }

    /// The words that go on with the run, or the folds, in `folder`, on the cards that share the work.
    pub(crate) fn resume(&self, folder: &RunFolder) -> String {
        let flags = self.sharing.as_ref().map_or(String::new(), Sharing::flags);
        format!("train --resume {}{flags}", shell_word(folder.root()))
    }

    /// What to do about images that are not there, where the run was begun in another folder than the one that it is gone on with from.
    pub(super) fn explain_missing(&self, error: CommandError) -> CommandError {
        let data = &self.resolved.config.data;
        let mut sets = [Some(&data.train), data.validation.as_ref(), data.test.as_ref()].into_iter().flatten();
        let is_named = |path: &Path| error.causes.iter().any(|cause| cause.contains(&format!("`{}`", path.display())));
        let missing = sets.find(|path| path.is_relative() && !path.exists() && is_named(path));
        match missing {
            Some(path) if self.resumed.is_some() => error.with_hint(format!(
                "`{}` is looked for from the folder that you are in: go on with the run from the one that it was begun in",
                path.display()
            )),
            _ => error,
        }
    }

    /// The request for one of its folds: to begin it in the folder of all, or to go on with what is there unless that is to be replaced.
    pub(crate) fn of_fold(&self, group: &RunFolder, fold: usize, replaced: bool) -> Result<Self, CommandError> {
        let root = group.of_fold(fold);
        if !replaced && RunFolder::is_occupied(&root) {
            let resumed = Self::of_resumed(&root, self.overrides.clone())?;
            return Ok(Self { sharing: self.sharing.clone(), ..resumed });
        }
        Ok(self.of_new_fold(root, fold, replaced))
    }

    /// The request for the first of its folds, with which the folder of all is made.
    pub(crate) fn of_first_fold(&self, group: NewGroup, fold: usize) -> Self {
        // What stands in the way goes with the old folder of all.
        let first = self.of_new_fold(group.folder().of_fold(fold), fold, false);
        Self { group: Some(group), ..first }
    }

    fn of_new_fold(&self, root: PathBuf, fold: usize, overwrite: bool) -> Self {
        let (config, sharing, overrides) = (self.config.clone(), self.sharing.clone(), self.overrides.clone());
        let mut resolved = self.resolved.clone();
        resolved.config.data.fold = Some(fold);
        Self { resolved, config, resumed: None, root, overwrite, group: None, sharing, overrides }
    }

    fn of_resumed(run: &Path, overrides: Vec<Override>) -> Result<Self, CommandError> {
        let folder = RunFolder::open(run).map_err(|error| checkpoint_request(&error))?;
        let path = folder.resolved_config();
        let mut user = UserConfig::load(&path, &overrides)?;
        decide_as_before(&mut user);
        let resolved = ResolvedConfig::new(user, &path)?;
        let root = folder.root().to_owned();
        let (resumed, overwrite) = (Some(folder), false);
        let mut request =
            Self { resolved, config: None, root, resumed, overwrite, group: None, sharing: None, overrides };
        request.reopen_device();
        Ok(request)
    }
}

/// The settings of `--mode`, which it says; others overrule them.
fn recipe_of(arguments: &TrainArguments) -> Result<Vec<Override>, CommandError> {
    let (Some(mode), Some(path)) = (arguments.mode, &arguments.config) else { return Ok(Vec::new()) };
    let (overrides, told) = mode.fill(path, &arguments.overrides()?)?;
    let told = if told.is_empty() { "nothing: all of it is set already".to_owned() } else { told.join(", ") };
    ui::note(format_args!("mode {} sets {told}", mode.name()));
    Ok(overrides)
}
