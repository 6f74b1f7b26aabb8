//! How plans are shown and kept.

use memory_planner::{
    Choice, FootprintSource, Liveness, MemoryAnalysis, MultiCardPlan, PRECISION_CHOICE, Precision, Rung, SharedRung,
    format_bytes, render_peak,
};
use serde::Serialize;

use super::Request;
use crate::config::SavedConfig;
use crate::error::CommandError;
use crate::run::memory::Planned;
use crate::ui;

/// Layers and tensors that a report shows.
const SHOWN: usize = 8;

/// What `--json` prints for one device.
#[derive(Serialize)]
struct PlanJson<'a> {
    #[serde(flatten)]
    analysis: &'a MemoryAnalysis,
    precision: String,
    checkpointing: String,
}

/// Prints a plan: JSON, the whole report, or what was decided and why.
pub(super) fn show(request: &Request<'_>, planned: &Planned) -> Result<(), CommandError> {
    match (request.task.json, request.task.report) {
        (true, false) => ui::out(as_json(&planned.analysis, planned.rung)),
        (false, false) => ui::out(summary(&planned.analysis)),
        (is_json, true) => with_liveness(request, planned, planned.rung, |liveness| {
            let analysis = with_saving(request, planned, liveness.peak_bytes)?;
            let analysis = match analysis.footprint.source {
                // What real steps hold at their peak nobody recorded.
                FootprintSource::Measured { .. } => analysis,
                _ => analysis.with_recorded_peak(liveness),
            };
            if is_json {
                return ui::out(as_json(&analysis, planned.rung));
            }
            ui::out(analysis.render())?;
            ui::out(render_peak(liveness, SHOWN).trim_end())
        }),
    }
}

fn as_json(analysis: &MemoryAnalysis, rung: Rung) -> String {
    let (precision, checkpointing) = (rung.precision.to_string(), rung.checkpointing.to_string());
    json(&PlanJson { analysis, precision, checkpointing })
}

/// The plan in a few lines.
fn summary(analysis: &MemoryAnalysis) -> String {
    let plan = &analysis.plan;
    let mut text = format!(
        "{} on {}: micro-batch {} x {} = {}, {} of {}\n",
        analysis.model,
        analysis.device,
        plan.micro_batch,
        plan.accumulation_steps,
        plan.effective_batch,
        format_bytes(plan.predicted_peak_bytes),
        format_bytes(plan.budget_bytes),
    );
    let width = plan.choices.iter().map(|choice| choice.name.len()).max().unwrap_or(0);
    let value = plan.choices.iter().map(|choice| choice.value.len()).max().unwrap_or(0);
    for choice in &plan.choices {
        text.push_str(&format!("  {:width$}  {:>value$}  {}\n", choice.name, choice.value, choice.reason));
    }
    let levels = &plan.levels;
    let level = |name: &str, level: memory_planner::Level| match level.batch {
        // No image fits, and the peak of none says nothing.
        0 => format!("{name} 0"),
        batch => format!("{name} {batch} ({})", format_bytes(level.peak_bytes)),
    };
    text.push_str(&format!(
        "  batch sizes in one pass: {}, {}, {}",
        level("maximum", levels.maximum),
        level("recommended", levels.recommended),
        level("safe", levels.safe)
    ));
    if let Some((current, verdict)) = levels.current {
        text.push_str(&format!(", {}: {}", level("current", current), verdict.describe()));
    }
    text
}

/// What `--json` prints for several cards.
#[derive(Serialize)]
struct CardsJson<'a> {
    #[serde(flatten)]
    plans: &'a MultiCardPlan,
    precision: String,
    checkpointing: String,
    learning_rate: Option<&'a Choice>,
}

/// Prints the plans of several cards, and the one that all of them hold, computed as `rung` says; with what becomes of the learning rate.
pub(super) fn show_cards(
    SharedRung { rung, plans, .. }: &SharedRung,
    rate: Option<&Choice>,
    as_json: bool,
) -> Result<(), CommandError> {
    if as_json {
        let (precision, checkpointing) = (rung.precision.to_string(), rung.checkpointing.to_string());
        return ui::out(json(&CardsJson { plans, precision, checkpointing, learning_rate: rate }));
    }
    for card in &plans.cards {
        let plan = &card.plan;
        ui::out(format_args!(
            "{}: micro-batch {} x {}, {} of {}",
            card.name,
            plan.micro_batch,
            plan.accumulation_steps,
            format_bytes(plan.predicted_peak_bytes),
            format_bytes(plan.budget_bytes)
        ))?;
    }
    let shared = &plans.shared;
    ui::out(format_args!(
        "all cards: micro-batch {} x {} in {rung}, as {} holds it; global batch {}: {}",
        shared.micro_batch,
        shared.accumulation_steps,
        plans.cards[plans.smallest].name,
        plans.global_batch,
        plans.choice.reason
    ))?;
    match rate {
        Some(rate) => ui::out(format_args!("learning rate {} for the global batch: {}", rate.value, rate.reason)),
        None => Ok(()),
    }
}

/// Records the planned step as a rung computes it, to look into it.
pub(super) fn with_liveness<T>(
    request: &Request<'_>,
    planned: &Planned,
    rung: Rung,
    see: impl FnOnce(&Liveness<'_>) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let plan = &planned.analysis.plan;
    let trace = request.subject().recorded(rung, plan.micro_batch, plan.accumulation_steps > 1);
    let liveness = Liveness::of(&trace).map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    see(&liveness)
}

/// The analysis with what the precision saves against fp32, by the recorded graph at the planned micro-batch: there, `live_bytes` are its peak.
fn with_saving(request: &Request<'_>, planned: &Planned, live_bytes: u64) -> Result<MemoryAnalysis, CommandError> {
    let mut analysis = planned.analysis.clone();
    if planned.rung.precision == Precision::Fp32 {
        return Ok(analysis);
    }
    let full_rung = Rung { precision: Precision::Fp32, ..planned.rung };
    let full_bytes = with_liveness(request, planned, full_rung, |liveness| Ok(liveness.peak_bytes))?;
    let saved_bytes = full_bytes.saturating_sub(live_bytes);
    if let Some(choice) = analysis.plan.choices.iter_mut().find(|choice| choice.name == PRECISION_CHOICE) {
        let saving = planned.rung.precision.choice(&choice.reason, Some((Precision::Fp32, saved_bytes)));
        choice.reason = saving.reason;
    }
    Ok(analysis)
}

/// Says where the plan went and what it changed.
pub(super) fn tell_saved(saved: &SavedConfig, keys: &[&str]) -> Result<(), CommandError> {
    let path = saved.path.display();
    match &saved.backup {
        Some(backup) => {
            ui::note(format_args!(
                "wrote {} into `{path}`; before, it was as `{}` is",
                keys.join(", "),
                backup.display()
            ));
        }
        None => ui::note(format_args!("`{path}` has it: {}", keys.join(", "))),
    }
    Ok(())
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plans have string keys and plain values")
}
