//! Settings that a team shares: what each card runs.

use std::path::Path;

use device::{CardCatalogue, SelectedDevice};
use memory_planner::{TeamIdentity, TeamPlan, TeamSettings};

use crate::config::TEAM_SETTINGS_FILE;
use crate::error::CommandError;
use crate::run::resolved::ResolvedConfig;
use crate::ui;

/// What the settings beside a configuration have for the card that a run is on; none without settings, without a card, or when they are for
/// another configuration, which is said.
///
/// # Errors
/// A settings file that cannot be read.
pub(crate) fn entry_beside(
    config: &Path,
    selected: &SelectedDevice,
    identity: &TeamIdentity,
) -> Result<Option<TeamPlan>, CommandError> {
    let SelectedDevice::Cuda(card) = selected else { return Ok(None) };
    let path = config.with_file_name(TEAM_SETTINGS_FILE);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    match CardCatalogue::embedded().match_driver_name(&card.name, card.total_bytes) {
        Some(card) => entry_in(&path, &text, &card.name, identity),
        None => {
            ui::note(format_args!(
                "note: `{}` is not in the catalogue: `{}` has nothing for it",
                card.name,
                path.display()
            ));
            Ok(None)
        }
    }
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

/// What must be the same for shared settings to hold: everything that a step's memory depends on.
pub(crate) fn identity_of(resolved: &ResolvedConfig, num_classes: usize) -> TeamIdentity {
    let (model, train) = (&resolved.config.model, &resolved.config.train);
    TeamIdentity {
        model: model.name.clone(),
        image_size: model.image_size,
        effective_batch_size: train.effective_batch_size,
        config_digest: format!(
            "in_channels {}, classes {num_classes}, clip {}, ema {}, precision {:?}, checkpointing {:?}, rounding {:?}",
            model.in_channels,
            train.clip_norm.is_some(),
            train.ema_decay.is_some(),
            train.precision,
            resolved.config.memory.checkpointing,
            resolved.config.memory.rounding,
        )
        .to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use memory_planner::{Budget, BudgetRequest, MemoryReading, TeamRow, Tier};

    use super::*;

    fn identity(classes: usize) -> TeamIdentity {
        TeamIdentity {
            model: "convnext_tiny".to_owned(),
            image_size: 224,
            effective_batch_size: 128,
            config_digest: format!("classes {classes}"),
        }
    }

    fn settings() -> String {
        let reading = MemoryReading { total_bytes: 12 << 30, free_bytes: 11 << 30, own_bytes: 0 };
        let budget = Budget::for_card(reading, Tier::Budget, &BudgetRequest::default()).unwrap();
        let plan = TeamPlan {
            precision: memory_planner::Precision::Fp32,
            checkpointing: memory_planner::Checkpointing::None,
            micro_batch: 64,
            accumulation_steps: 2,
            effective_batch: 128,
            peak_bytes: 9 << 30,
            share_of_memory: 0.75,
        };
        let mut fits = TeamRow::does_not_fit("rtx3060-12gb", &budget, "too small");
        fits.outcome = memory_planner::TeamOutcome::Fits(plan);
        let small = TeamRow::does_not_fit("gtx1060-3gb", &budget, "batch 1 needs more");
        let settings = TeamSettings { made_for: identity(10), cards: vec![fits, small] };
        serde_yaml::to_string(&settings).unwrap()
    }

    fn entry(text: &str, card: &str, classes: usize) -> Result<Option<usize>, CommandError> {
        let found = entry_in(Path::new("team_settings.yaml"), text, card, &identity(classes))?;
        Ok(found.map(|plan| plan.micro_batch))
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
}
