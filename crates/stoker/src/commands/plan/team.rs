//! A table of every card of the catalogue, for a team with mixed cards.

use std::path::Path;

use device::CardCatalogue;
use memory_planner::{TeamIdentity, TeamRow, TeamSettings};

use super::output::json;
use super::{Request, saving};
use crate::cli::{Destination, PlanTask};
use crate::config::UserConfig;
use crate::error::CommandError;
use crate::run::absent::{PlannedCard, Recorded};
use crate::run::data::images_to_plan_for;
use crate::run::memory::refused_plan;
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::{ASSUMED_CLASSES, Subject, planner_rounding};
use crate::run::team::identity_of;
use crate::ui::{self, Progress};

const HEAD: &str = "\
# What each card runs so that all make the same optimizer steps: written by `stoker plan --all-gpus`, read by `stoker train`.
# The effective batch size is the configuration's, or all images where there are fewer; a changed configuration makes these settings stale, and they are then ignored.
";

/// Plans for every card, prints the table, and keeps it where that is asked for.
pub(super) fn plan_all(request: &Request<'_>) -> Result<(), CommandError> {
    let made_for = identity(request);
    if let Destination::TeamSettings(_) = request.task.destination {
        refuse_stale(request.task, &made_for)?;
    }
    let settings = TeamSettings { made_for, cards: rows(request)? };
    if request.task.json {
        ui::out(json(&settings))?
    } else {
        ui::out(settings.render().trim_end())?
    }
    if let Destination::TeamSettings(path) = &request.task.destination {
        let text = serde_yaml::to_string(&settings).expect("settings have string keys and plain values");
        saving::save_team(path, &format!("{HEAD}{text}"))?;
    }
    Ok(())
}

/// A row for each card of the catalogue.
fn rows(request: &Request<'_>) -> Result<Vec<TeamRow>, CommandError> {
    let cards = &CardCatalogue::embedded().cards;
    let subject = request.subject();
    let mut recorded = Recorded::of(&subject);
    let mut progress = Progress::start("planning for every card", "cards", cards.len() as u64);
    let mut rows = Vec::with_capacity(cards.len());
    for (done, card) in cards.iter().enumerate() {
        let planned = PlannedCard::of(card, None);
        let budget = planned.budget(&request.budget())?;
        let precisions = match subject.precisions(planned.arithmetic, &planned.title) {
            Ok(precisions) => precisions,
            Err(lacks) => {
                rows.push(TeamRow::does_not_fit(&card.name, &budget, lacks));
                continue;
            }
        };
        rows.push(match recorded.plan(&planned, &precisions, budget.clone(), &request.plan_request()) {
            Ok(plan) => TeamRow::fits(&card.name, &budget, plan.rung, &plan.analysis.plan),
            Err(memory_planner::LadderError::NothingFits(nothing)) => {
                TeamRow::does_not_fit(&card.name, &budget, nothing)
            }
            Err(error) => return Err(refused_plan(error, &subject, planned.arithmetic.half())),
        });
        progress.set(done as u64 + 1);
    }
    progress.finish("done");
    Ok(rows)
}

/// What the table is planned for; where each card takes as many samples a step as it holds, there is no one effective batch.
fn identity(request: &Request<'_>) -> TeamIdentity {
    let identity = identity_of(&request.subject());
    let effective_batch_size = request.plan_request().effective_batch.unwrap_or(0);
    TeamIdentity { effective_batch_size, ..identity }
}

/// Refuses to write settings for what the configuration has by flags alone: `train` reads the file, and would find them stale.
fn refuse_stale(task: &PlanTask, made_for: &TeamIdentity) -> Result<(), CommandError> {
    let flags = flags_over(task);
    let Some(path) = task.config.as_ref().filter(|_| !flags.is_empty()) else { return Ok(()) };
    if *made_for == identity_in_file(path)? {
        return Ok(());
    }
    let path = path.display();
    let message =
        format!("settings with these flags would not be those of `{path}`, and `train` would find them stale");
    let hint = format!("put into `{path}` first, and leave the flags out: {}", flags.join(", "));
    Err(CommandError::wrong_request(message).with_hint(hint))
}

/// What `train` would compare with, by the file alone.
fn identity_in_file(path: &Path) -> Result<TeamIdentity, CommandError> {
    let resolved = ResolvedConfig::new(UserConfig::load(path, &[])?, path)?;
    let architecture = resolved.architecture()?;
    let images = images_to_plan_for(&resolved);
    let num_classes = images.as_ref().map_or(ASSUMED_CLASSES, |(images, _)| images.classes.len());
    let train_samples = images.map(|(_, samples)| samples);
    let alone = Subject::without_data(&resolved, &architecture, num_classes);
    Ok(identity_of(&Subject { train_samples, ..alone }))
}

/// The keys that flags put over the file, each with its flag.
fn flags_over(task: &PlanTask) -> Vec<String> {
    let told = |key: &str, flag: &str| format!("`{key}` as in `{flag}`");
    let batch = task.effective_batch_size.map(|batch| format!("--effective-batch-size {batch}"));
    let rounding = task.rounding.map(|rounding| format!("--rounding {}", planner_rounding(rounding)));
    let overrides = task.overrides.iter().map(|given| told(given.path(), given.written()));
    overrides
        .chain(batch.map(|flag| told("train.effective_batch_size", &flag)))
        .chain(rounding.map(|flag| told("memory.rounding", &flag)))
        .collect()
}
