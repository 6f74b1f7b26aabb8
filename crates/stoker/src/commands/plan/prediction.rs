//! Plans of prediction: how many images, and how many views of each, go through the model at once.

use burn::tensor::Device;
use device::{CardCatalogue, heap};
use inference::Preset;
use memory_planner::{Budget, Footprint, InferencePlan, PlanRequest, format_bytes, plan_inference};
use memory_probe::{CapturedSource, dry_run_footprint, measure_prediction};

use super::output::json;
use super::{Request, find_card};
use crate::cli::{PlanSource, Target};
use crate::commands::predict::prediction_precision;
use crate::config::{PredictSection, Tta};
use crate::error::CommandError;
use crate::run::absent::PlannedCard;
use crate::run::compute::Compute;
use crate::run::precision::Precisions;
use crate::ui;

/// Plans and prints; nothing is written, for a run's predictions have no configuration to write to.
pub(super) fn plan_prediction(request: &Request<'_>, tta: Option<Tta>) -> Result<(), CommandError> {
    let views = views(&request.resolved.config.predict, tta);
    match &request.task.target {
        Target::Catalogue => {
            for card in &CardCatalogue::embedded().cards {
                show(request, &card.title.clone(), on_card(request, &PlannedCard::of(card, None), views))?;
            }
            Ok(())
        }
        Target::Absent(asked) => {
            let card = find_card(asked)?;
            show(request, &card.title.clone(), Ok(on_card(request, &card, views)?))
        }
        Target::Cards(ids) => {
            ids.iter().try_for_each(|id| here(request, Some(crate::config::DeviceRequest::Cuda(*id)), views))
        }
        Target::Device(device) => here(request, *device, views),
    }
}

/// Views of each image; with `auto`, the most that it may choose.
fn views(config: &PredictSection, asked: Option<Tta>) -> usize {
    match (asked, &config.views[..]) {
        (None, [_, ..]) => config.views.len(),
        _ => asked.unwrap_or(config.tta).preset().unwrap_or(Preset::Comprehensive).views().len(),
    }
}

fn here(request: &Request<'_>, device: Option<crate::config::DeviceRequest>, views: usize) -> Result<(), CommandError> {
    let compute = Compute::select(device.unwrap_or(request.resolved.config.device))?;
    let budget = compute.budget(&request.budget())?;
    let footprint = match (request.task.source, compute.is_cpu()) {
        (PlanSource::Measured, _) | (_, true) => measured(request, &compute, &budget)?,
        _ => {
            let subject = request.subject();
            let build = |device: &Device| subject.build(device);
            let plan = plan_request(request);
            let precision = prediction_precision(&request.resolved.config, &compute)?;
            dry_run_footprint(&subject.prediction(precision), &compute.device, &build, budget.budget_bytes, &plan)
                .map_err(|error| CommandError::from_run(&error))?
        }
    };
    show(request, &compute.selected.describe(), planned(request, &footprint, &budget, views))
}

fn measured(request: &Request<'_>, compute: &Compute, budget: &Budget) -> Result<Footprint, CommandError> {
    let subject = request.subject();
    let build = |device: &Device| subject.build(device);
    let base_bytes = heap::current_bytes();
    let meter = compute.meter();
    let step = subject.prediction(prediction_precision(&request.resolved.config, compute)?);
    measure_prediction(&step, &compute.device, &build, meter.as_ref(), base_bytes, budget.budget_bytes)
        .map_err(|error| CommandError::from_run(&error).in_context("cannot measure the memory of a forward pass"))
}

fn on_card(request: &Request<'_>, card: &PlannedCard, views: usize) -> Result<InferencePlan, CommandError> {
    let subject = request.subject();
    let budget = card.budget(&request.budget())?;
    let asked = request.resolved.config.predict.precision;
    let precision = Precisions::choose("predict.precision", asked, card.arithmetic, &card.title)?.first;
    let source = CapturedSource::record(&subject.prediction(precision), |device: &Device| subject.build(device));
    let footprint = source
        .footprint(card.allocator(), budget.budget_bytes, &plan_request(request))
        .map_err(|error| CommandError::from_run(&error))?;
    planned(request, &footprint, &budget, views)
}

fn planned(
    request: &Request<'_>,
    footprint: &Footprint,
    budget: &Budget,
    views: usize,
) -> Result<InferencePlan, CommandError> {
    plan_inference(footprint, budget, views, request.task.max_batch_size)
        .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))
}

/// A prediction has no effective batch.
fn plan_request(request: &Request<'_>) -> PlanRequest {
    PlanRequest { effective_batch: None, current: None, maximum: None, minimum: None, ..request.plan_request() }
}

fn show(request: &Request<'_>, device: &str, plan: Result<InferencePlan, CommandError>) -> Result<(), CommandError> {
    let plan = match plan {
        Ok(plan) => plan,
        // In a list of cards, one that is too small is a line.
        Err(error) if request.task.target == Target::Catalogue => return ui::out(format_args!("{device}: {error}")),
        Err(error) => return Err(error),
    };
    if request.task.json {
        return ui::out(json(&plan));
    }
    ui::out(format_args!(
        "{} on {device}: {} images x {} views at once = {} in a pass, {} of {}",
        request.subject().describe(),
        plan.images,
        plan.views_at_once,
        plan.batch,
        format_bytes(plan.predicted_peak_bytes),
        format_bytes(plan.budget_bytes)
    ))?;
    if request.task.target == Target::Catalogue {
        return Ok(());
    }
    for choice in &plan.choices {
        ui::out(format_args!("  {:16} {:>10}  {}", choice.name, choice.value, choice.reason))?;
    }
    Ok(())
}
