//! A table of every card of the catalogue, for a team with mixed cards.

use device::CardCatalogue;
use memory_planner::{TeamIdentity, TeamRow, TeamSettings};

use super::Request;
use super::output::{json, write};
use crate::cli::Destination;
use crate::error::CommandError;
use crate::run::absent::{PlannedCard, Recorded};
use crate::run::memory::refused_plan;
use crate::run::team::identity_of;
use crate::ui::{self, Progress};

const HEAD: &str = "\
# What each card runs so that all make the same optimizer steps: written by `stoker plan --all-gpus`, read by `stoker train`.
# The effective batch size is the configuration's; a changed configuration makes these settings stale, and they are then ignored.
";

/// Plans for every card, prints the table, and keeps it where that is asked for.
pub(super) fn plan_all(request: &Request<'_>) -> Result<(), CommandError> {
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
    let settings = TeamSettings { made_for: identity(request), cards: rows };
    if request.task.json {
        ui::out(json(&settings))?
    } else {
        ui::out(settings.render().trim_end())?
    }
    if let Destination::TeamSettings(path) = &request.task.destination {
        let text = serde_yaml::to_string(&settings).expect("settings have string keys and plain values");
        write(path, &format!("{HEAD}{text}"))?;
    }
    Ok(())
}

fn identity(request: &Request<'_>) -> TeamIdentity {
    identity_of(&request.resolved, request.num_classes)
}
