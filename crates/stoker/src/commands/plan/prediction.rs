//! Plans of prediction: how many images, and how many views of each, go through the model at once.

use burn::tensor::Device;
use device::{CardCatalogue, SelectedDevice, heap};
use inference::Preset;
use memory_planner::{
    Budget, Checkpointing, Footprint, InferencePlan, PlanError, PlanRequest, Precision, Rung, format_bytes,
    plan_inference,
};
use memory_probe::{AllocatorModel, CapturedSource, PoolLayout, measure_prediction};

use super::output::json;
use super::{Request, find_card};
use crate::cli::{PlanSource, Target};
use crate::commands::predict::prediction_precision;
use crate::config::{DeviceRequest, PredictSection, Tta};
use crate::error::CommandError;
use crate::run::absent::PlannedCard;
use crate::run::compute::Compute;
use crate::run::dry_process::Job;
use crate::run::memory::dry_run_elsewhere;
use crate::run::post_mortem::PostMortem;
use crate::run::precision::{Arithmetic, Precisions};
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
        Target::Cards(ids) => ids.iter().try_for_each(|id| here(request, Some(DeviceRequest::Cuda(*id)), views)),
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

fn here(request: &Request<'_>, device: Option<DeviceRequest>, views: usize) -> Result<(), CommandError> {
    let compute = request.select(device)?;
    let budget = compute.budget(&request.budget())?;
    let precision = prediction_precision(&request.resolved.config, &compute)?;
    let footprint = match (request.task.source, &compute.selected) {
        (PlanSource::Captured, SelectedDevice::Cuda(card)) => {
            recorded(request, AllocatorModel::cuda(card.total_bytes), precision, &budget)?
        }
        (PlanSource::Measured, _) | (_, SelectedDevice::Cpu { .. }) => measured(request, &compute, precision, &budget)?,
        _ => match dry_run(request, &compute, precision, &budget) {
            Some(footprint) => footprint,
            None => measured(request, &compute, precision, &budget)?,
        },
    };
    let formats = (precision, Arithmetic::of(&compute.selected));
    show(request, &compute.selected.describe(), planned(request, &footprint, &budget, views, formats))
}

/// The pass on the card's own allocator, in a process that tuning may break. None where it did.
fn dry_run(request: &Request<'_>, compute: &Compute, precision: Precision, budget: &Budget) -> Option<Footprint> {
    let rung = Rung { precision, checkpointing: Checkpointing::None };
    let (device, plan) = (compute.selected.request().to_string(), plan_request(request));
    let job = Job::of(&request.subject(), device, rung, PoolLayout::Runtime, (budget.budget_bytes, &plan));
    dry_run_elsewhere(&job.of_prediction(), "forward passes", "measuring real forward passes instead")
}

fn measured(
    request: &Request<'_>,
    compute: &Compute,
    precision: Precision,
    budget: &Budget,
) -> Result<Footprint, CommandError> {
    let subject = request.subject();
    let build = |device: &Device| subject.build(device);
    let base_bytes = heap::current_bytes();
    let meter = compute.meter();
    let step = subject.prediction(precision);
    measure_prediction(&step, &compute.device, &build, meter.as_ref(), base_bytes, budget.budget_bytes)
        .map_err(|error| CommandError::from_run(&error).in_context("cannot measure the memory of a forward pass"))
}

fn on_card(request: &Request<'_>, card: &PlannedCard, views: usize) -> Result<InferencePlan, CommandError> {
    let budget = card.budget(&request.budget())?;
    let asked = request.resolved.config.predict.precision;
    let precision = Precisions::choose("predict.precision", asked, card.arithmetic, &card.title)?.first;
    let footprint = recorded(request, card.allocator(), precision, &budget)?;
    planned(request, &footprint, &budget, views, (precision, card.arithmetic))
}

/// The recorded pass in a card's pools.
fn recorded(
    request: &Request<'_>,
    allocator: AllocatorModel,
    precision: Precision,
    budget: &Budget,
) -> Result<Footprint, CommandError> {
    let subject = request.subject();
    let source = CapturedSource::record(&subject.prediction(precision), |device: &Device| subject.build(device));
    let footprint = source.footprint(allocator, budget.budget_bytes, &plan_request(request));
    footprint.map_err(|error| CommandError::from_run(&error))
}

fn planned(
    request: &Request<'_>,
    footprint: &Footprint,
    budget: &Budget,
    views: usize,
    (precision, arithmetic): (Precision, Arithmetic),
) -> Result<InferencePlan, CommandError> {
    // The effective batch is training's.
    let asked = PlanRequest { effective_batch: None, current: None, ..request.plan_request() };
    plan_inference(footprint, budget, views, &asked).map_err(|error| {
        let refused = CommandError::from_request(&error);
        match (&error, request.task.min_batch_size) {
            // In a list of cards, the reasons are not shown.
            (PlanError::DoesNotFit { batch: 1, .. }, _) if request.task.target != Target::Catalogue => {
                let half = arithmetic.half_of_prediction();
                let post_mortem = PostMortem::of_prediction(&request.subject(), precision, half);
                let hint = error.hint().map(|hint| post_mortem.or_precision(hint));
                refused.with_causes(post_mortem.causes()).with_hint(hint)
            }
            (PlanError::DoesNotFit { .. }, Some(fewest)) if fewest > 1 => {
                refused.with_hint(format!("ask for fewer than `--min-batch-size {fewest}` images at once"))
            }
            _ => refused.with_hint(error.hint()),
        }
    })
}

/// What is asked of the footprint: a prediction has no effective batch, and its bounds are in images, not in views.
fn plan_request(request: &Request<'_>) -> PlanRequest {
    PlanRequest { effective_batch: None, current: None, maximum: None, minimum: None, ..request.plan_request() }
}

fn show(request: &Request<'_>, device: &str, plan: Result<InferencePlan, CommandError>) -> Result<(), CommandError> {
    let plan = match plan {
        Ok(plan) => plan,
        // In a list of cards, one that is too small is a line.
        Err(error) if request.task.target == Target::Catalogue => {
            return ui::out(format_args!("{device}: {}", error.message));
        }
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
