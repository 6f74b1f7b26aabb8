//! Settings that a team shares: what each card runs.

use std::path::{Path, PathBuf};

use checkpoint::shell_word;
use device::{CardCatalogue, SelectedDevice};
use memory_planner::{Choice, Plan, TeamIdentity, TeamPlan, TeamSettings};

use crate::config::{OptimizerName, TEAM_SETTINGS_FILE, UserConfig};
use crate::error::CommandError;
use crate::run::subject::Subject;
use crate::ui;

/// Where `plan --write-team-settings` is shown to write, from the working folder.
const USUAL_PLACE: &str = "configs/team_settings.yaml";

/// An entry, and the file that has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TeamEntry {
    pub(crate) path: PathBuf,
    pub(crate) plan: TeamPlan,
}

impl TeamEntry {
    /// What came of it in a plan: no more at once than the team has for this card, and less where less memory is free.
    pub(crate) fn choice(&self, plan: &Plan) -> Choice {
        let (path, most) = (self.path.display(), self.plan.micro_batch);
        let reason = match plan.micro_batch < most {
            true => format!("`{path}` has {most} for this card, of which so many are taken now"),
            false => format!("what `{path}` has for this card"),
        };
        Choice { name: "team settings".to_owned(), value: plan.micro_batch.to_string(), reason }
    }

    /// What a run begins with by this entry, in a sentence; `micro_batch` is the configuration's, which stands where it has one.
    pub(crate) fn describe(&self, micro_batch: Option<usize>) -> String {
        let (path, of) = (self.path.display(), &self.plan);
        match micro_batch {
            None => format!("team settings: micro-batch {} on this card, by `{path}`", of.micro_batch),
            Some(own) => format!(
                "team settings: {} with checkpointing {} on this card, by `{path}`, as far as the configuration leaves them \
                 open; the micro-batch is `train.micro_batch_size`, {own}",
                of.precision, of.checkpointing
            ),
        }
    }
}

/// What a team's settings have for the card that a run is on: those that `memory.team_settings` names, or else those beside the configuration, or else those
/// in `configs/`. None without settings, without a card, or when they are for another configuration, which is said.
///
/// # Errors
/// A settings file that is named and not there, or that cannot be read.
pub(crate) fn team_entry(
    config: &Path,
    named: Option<&Path>,
    selected: &SelectedDevice,
    identity: &TeamIdentity,
) -> Result<Option<TeamEntry>, CommandError> {
    let SelectedDevice::Cuda(card) = selected else { return Ok(None) };
    let found = settings_files(config, named)?;
    let Some(first) = found.first() else { return Ok(None) };
    let Some(known) = CardCatalogue::embedded().match_driver_name(&card.name, card.total_bytes) else {
        let path = first.0.display();
        ui::note(format_args!("note: `{}` is not in the catalogue: `{path}` has nothing for it", card.name));
        return Ok(None);
    };
    first_entry(&found, &known.name, identity)
}

/// The first file that has an entry; why the others have none is said.
fn first_entry(
    found: &[(PathBuf, String)],
    card: &str,
    identity: &TeamIdentity,
) -> Result<Option<TeamEntry>, CommandError> {
    for (path, text) in found {
        if let Some(plan) = entry_in(path, text, card, identity)? {
            return Ok(Some(TeamEntry { path: path.clone(), plan }));
        }
    }
    Ok(None)
}

/// The files of settings that there are, with their text, the first to be asked first.
fn settings_files(config: &Path, named: Option<&Path>) -> Result<Vec<(PathBuf, String)>, CommandError> {
    if let Some(path) = named {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let again =
                format!("write it: `stoker plan --all-gpus --config FILE --write-team-settings {}`", shell_word(path));
            let message = format!("cannot read the team settings `{}`", path.display());
            CommandError::wrong_request(message).with_causes(vec![error.to_string()]).with_hint(again)
        })?;
        return Ok(vec![(path.to_owned(), text)]);
    }
    let places = [config.with_file_name(TEAM_SETTINGS_FILE), PathBuf::from(USUAL_PLACE)];
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    for path in places {
        let is_new = |path: &Path| found.iter().all(|(known, _)| known.canonicalize().ok() != path.canonicalize().ok());
        if let Ok(text) = std::fs::read_to_string(&path)
            && is_new(&path)
        {
            found.push((path, text));
        }
    }
    Ok(found)
}

fn entry_in(path: &Path, text: &str, card: &str, identity: &TeamIdentity) -> Result<Option<TeamPlan>, CommandError> {
    let again =
        "make it anew with `stoker plan --all-gpus --config FILE --write-team-settings`, or remove it".to_owned();
    let settings: TeamSettings = serde_yaml::from_str(text).map_err(|error| {
        let message = format!("`{}` is no file of team settings", path.display());
        CommandError::wrong_request(message).with_causes(vec![error.to_string()]).with_hint(again.clone())
    })?;
    let checked = settings.check();
    checked.map_err(|error| CommandError::from_request(&error).with_hint(error.hint().unwrap_or(again)))?;
    match settings.entry_for(card, identity) {
        Ok(plan) => Ok(Some(plan.clone())),
        Err(error) => {
            ui::note(format_args!("note: `{}` is not used: {error}", path.display()));
            Ok(None)
        }
    }
}

/// What must be the same for shared settings to hold: everything that a step's memory depends on. The effective batch is that which is planned, and so no
/// more than there are images to train on.
pub(crate) fn identity_of(subject: &Subject<'_>) -> TeamIdentity {
    let (resolved, num_classes) = (subject.resolved, subject.num_classes);
    let (model, train) = (&resolved.config.model, &resolved.config.train);
    TeamIdentity {
        model: model.name.clone(),
        image_size: resolved.image_size(),
        effective_batch_size: subject.plan_request().effective_batch.unwrap_or(train.effective_batch_size),
        config_digest: format!(
            "in_channels {}, classes {num_classes}, clip {}, ema {}, precision {:?}, checkpointing {:?}, rounding {:?}{}",
            model.in_channels,
            train.clip_norm.is_some(),
            train.ema_decay.is_some(),
            train.precision,
            resolved.config.memory.checkpointing,
            resolved.config.memory.rounding,
            kept_memory(&resolved.config),
        )
        .to_lowercase(),
    }
}

/// What of the optimizer and the parameter groups changes how much memory is kept; empty for plain AdamW, so that older settings still fit.
fn kept_memory(config: &UserConfig) -> String {
    let (optimizer, freeze) = (config.train.optimizer, &config.model.freeze);
    match (optimizer, freeze.is_empty()) {
        (OptimizerName::AdamW, true) => String::new(),
        _ => format!(", optimizer {}, freeze {freeze:?}", optimizer.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use memory_planner::{Budget, BudgetRequest, MemoryReading, TeamRow, Tier};

    use super::*;
    use crate::run::subject::bare_config;

    fn identity(classes: usize) -> TeamIdentity {
        TeamIdentity {
            model: "convnext_tiny".to_owned(),
            image_size: 224,
            effective_batch_size: 128,
            config_digest: format!("classes {classes}"),
        }
    }

    fn team_plan() -> TeamPlan {
        TeamPlan {
            precision: memory_planner::Precision::Fp32,
            checkpointing: memory_planner::Checkpointing::None,
            micro_batch: 64,
            accumulation_steps: 2,
            effective_batch: 128,
            peak_bytes: 9 << 30,
            share_of_memory: 0.75,
        }
    }

    fn settings() -> String {
        let reading = MemoryReading { total_bytes: 12 << 30, free_bytes: 11 << 30, own_bytes: 0 };
        let budget = Budget::for_card(reading, Tier::Budget, &BudgetRequest::default()).unwrap();
        let mut fits = TeamRow::does_not_fit("rtx3060-12gb", &budget, "too small");
        fits.outcome = memory_planner::TeamOutcome::Fits(team_plan());
        let small = TeamRow::does_not_fit("gtx1060-3gb", &budget, "batch 1 needs more");
        let settings = TeamSettings { made_for: identity(10), cards: vec![fits, small] };
        serde_yaml::to_string(&settings).unwrap()
    }

    fn entry(text: &str, card: &str, classes: usize) -> Result<Option<usize>, CommandError> {
        let found = entry_in(Path::new("team_settings.yaml"), text, card, &identity(classes))?;
        Ok(found.map(|plan| plan.micro_batch))
    }

    /// The settings of a configuration in `folder`, as if that were the working folder.
    fn entry_for(folder: &Path, named: Option<&str>, classes: usize) -> Result<Option<PathBuf>, CommandError> {
        let named = named.map(|name| folder.join(name));
        let found = settings_files(&folder.join("mine/x.yaml"), named.as_deref())?;
        Ok(first_entry(&found, "rtx3060-12gb", &identity(classes))?.map(|entry| entry.path))
    }

    #[test]
    fn settings_are_found_where_they_are_named_or_beside_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        std::fs::write(folder.path().join("team.yaml"), settings()).unwrap();
        assert_eq!(entry_for(folder.path(), None, 10).unwrap(), None);
        assert_eq!(entry_for(folder.path(), Some("team.yaml"), 10).unwrap(), Some(folder.path().join("team.yaml")));
        std::fs::write(folder.path().join("mine/team_settings.yaml"), settings()).unwrap();
        let beside = folder.path().join("mine/team_settings.yaml");
        assert_eq!(entry_for(folder.path(), None, 10).unwrap(), Some(beside));
        assert_eq!(entry_for(folder.path(), None, 11).unwrap(), None, "of another configuration");
        let missing = entry_for(folder.path(), Some("nowhere.yaml"), 10).unwrap_err();
        assert!(missing.message.contains("nowhere.yaml") && missing.hint.unwrap().contains("--write-team-settings"));
    }

    /// The help of `plan` writes settings there.
    #[test]
    fn the_place_of_the_help_is_read() {
        assert!(crate::cli::PLAN_EXAMPLES.contains(&format!("--write-team-settings {USUAL_PLACE}\n")));
    }

    #[test]
    fn a_card_gets_its_own_entry() {
        assert_eq!(entry(&settings(), "rtx3060-12gb", 10).unwrap(), Some(64));
    }

    #[test]
    fn settings_for_another_configuration_or_card_are_not_used() {
        assert_eq!(entry(&settings(), "rtx3060-12gb", 11).unwrap(), None);
        assert_eq!(entry(&settings(), "gtx1060-3gb", 10).unwrap(), None);
        assert_eq!(entry(&settings(), "h200", 10).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        assert!(entry("cards: 7", "h200", 10).unwrap_err().to_string().contains("no file of team settings"));
    }

    /// Rows are cut for as many images as there are; the configuration's 64 would make 24 x 1 a wrong row.
    #[test]
    fn settings_are_made_for_the_effective_batch_that_is_planned() {
        let mut resolved = bare_config("convnext_atto", 64).unwrap();
        resolved.config.train.effective_batch_size = 64;
        let architecture = resolved.architecture().unwrap();
        let of = |train_samples| {
            let alone = Subject::without_data(&resolved, &architecture, 10);
            identity_of(&Subject { train_samples, ..alone })
        };
        let batches = [None, Some(24), Some(640)].map(|samples| of(samples).effective_batch_size);
        assert_eq!(batches, [64, 24, 64]);
        let row = TeamPlan { micro_batch: 24, accumulation_steps: 1, effective_batch: 24, ..team_plan() };
        let mut fits: TeamSettings = serde_yaml::from_str(&settings()).unwrap();
        fits.made_for = of(Some(24));
        fits.cards[0].outcome = memory_planner::TeamOutcome::Fits(row);
        assert_eq!(fits.entry_for("rtx3060-12gb", &of(Some(24))).unwrap().micro_batch, 24);
    }

    #[test]
    fn a_micro_batch_that_is_not_used_is_not_told() {
        let entry = TeamEntry { path: "team.yaml".into(), plan: team_plan() };
        assert_eq!(entry.describe(None), "team settings: micro-batch 64 on this card, by `team.yaml`");
        let own = entry.describe(Some(8));
        assert!(!own.contains("64") && own.contains("fp32") && own.ends_with("`train.micro_batch_size`, 8"), "{own}");
    }
}
