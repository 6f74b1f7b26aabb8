//! Plans of prediction: how many images, and how many views of each, go through the model at once.

use burn::tensor::Device;
use device::{CardCatalogue, SelectedDevice, heap};
use inference::Preset;
use memory_planner::{
    Budget, Checkpointing, Footprint, InferencePlan, PlanError, PlanRequest, Precision, Rung, format_bytes,
    plan_inference,
};
use memory_probe::{AllocatorModel, CapturedSource, PoolLayout, measure_prediction};
use serde::Serialize;

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
            let cards = CardCatalogue::embedded().cards.iter();
            show_all(request, cards.map(|card| Ok(on_card(request, &PlannedCard::of(card, None), views))))
        }
        Target::Absent(asked) => {
            let card = find_card(asked)?;
            show(request, on_card(request, &card, views))
        }
        Target::Cards(ids) => {
            show_all(request, ids.iter().map(|id| here(request, Some(DeviceRequest::Cuda(*id)), views)))
        }
        Target::Device(device) => show(request, here(request, *device, views)?),
    }
}

/// What came of planning for one device.
struct Predicted {
    /// Its name in a list of cards.
    card: String,
    /// Its name in a sentence.
    device: String,
    /// What a pass computes in; none where the device lacks the format that is asked for.
    precision: Option<Precision>,
    plan: Result<InferencePlan, CommandError>,
}

/// Views of each image; with `auto`, the most that it may choose.
fn views(config: &PredictSection, asked: Option<Tta>) -> usize {
    match (asked, &config.views[..]) {
        (None, [_, ..]) => config.views.len(),
        _ => asked.unwrap_or(config.tta).preset().unwrap_or(Preset::Comprehensive).views().len(),
    }
}

fn here(request: &Request<'_>, device: Option<DeviceRequest>, views: usize) -> Result<Predicted, CommandError> {
    let compute = request.select(device)?;
    let budget = compute.budget(&request.budget())?;
    let precision = prediction_precision(&request.resolved.config, &compute)?;
    let footprint = match (request.task.source, &compute.selected) {
        (PlanSource::Captured, SelectedDevice::Cuda(card)) => {
            recorded(request, AllocatorModel::cuda(card.total_bytes), precision, &budget)?
        }
        (PlanSource::Measured, _) | (_, SelectedDevice::Cpu { .. }) => measured(request, &compute, precision, &budget)?,
        (_, SelectedDevice::Cuda(card)) => {
            let expected = recorded(request, AllocatorModel::cuda(card.total_bytes), precision, &budget)?;
            match dry_run(request, &compute, precision, &budget, expected) {
                Some(footprint) => footprint,
                None => measured(request, &compute, precision, &budget)?,
            }
        }
    };
    let formats = (precision, Arithmetic::of(&compute.selected));
    let device = compute.selected.describe();
    let plan = planned(request, &footprint, &budget, views, formats);
    Ok(Predicted { card: device.clone(), device, precision: Some(precision), plan })
}

/// The pass on the card's own allocator, in a process that tuning may break. None where it did.
fn dry_run(
    request: &Request<'_>,
    compute: &Compute,
    precision: Precision,
    budget: &Budget,
    expected: Footprint,
) -> Option<Footprint> {
    let rung = Rung { precision, checkpointing: Checkpointing::None };
    let bounds = (budget.budget_bytes, &plan_request(request));
    let job = Job::of(&request.subject(), &compute.selected, rung, PoolLayout::Runtime, bounds);
    let job = job.of_prediction().expecting(Some(expected));
    dry_run_elsewhere(&job, "forward passes", "measuring real forward passes instead")
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

fn on_card(request: &Request<'_>, card: &PlannedCard, views: usize) -> Predicted {
    let asked = request.resolved.config.predict.precision;
    let chosen = Precisions::choose("predict.precision", asked, card.arithmetic, &card.title).map(|all| all.first);
    let precision = chosen.as_ref().ok().copied();
    let plan = chosen.and_then(|precision| plan_on(request, card, precision, views));
    let name = card.name.as_ref().unwrap_or(&card.title);
    Predicted { card: name.clone(), device: card.title.clone(), precision, plan }
}

fn plan_on(
    request: &Request<'_>,
    card: &PlannedCard,
    precision: Precision,
    views: usize,
) -> Result<InferencePlan, CommandError> {
    let budget = card.budget(&request.budget())?;
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

/// A device's line in the JSON of several.
#[derive(Serialize)]
struct CardJson {
    card: String,
    precision: Option<Precision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<InferencePlan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    does_not_fit: Option<String>,
}

/// The JSON of one device.
#[derive(Serialize)]
struct DeviceJson<'a> {
    device: &'a str,
    model: String,
    precision: Option<Precision>,
    #[serde(flatten)]
    plan: &'a InferencePlan,
}

/// Shows the plans of several devices: each as soon as it is known, or all as one JSON array.
fn show_all(
    request: &Request<'_>,
    mut predicted: impl Iterator<Item = Result<Predicted, CommandError>>,
) -> Result<(), CommandError> {
    if !request.task.json {
        return predicted.try_for_each(|one| show(request, one?));
    }
    let rows = predicted.map(|one| -> Result<CardJson, CommandError> {
        let Predicted { card, precision, plan, .. } = one?;
        let (plan, does_not_fit) = match plan {
            Ok(plan) => (Some(plan), None),
            Err(error) if request.task.target == Target::Catalogue => (None, Some(error.message)),
            Err(error) => return Err(error),
        };
        Ok(CardJson { card, precision, plan, does_not_fit })
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    ui::out(json(&rows))
}

fn show(request: &Request<'_>, predicted: Predicted) -> Result<(), CommandError> {
    let Predicted { device, precision, plan, .. } = predicted;
    let plan = match plan {
        Ok(plan) => plan,
        // In a list of cards, one that is too small is a line.
        Err(error) if request.task.target == Target::Catalogue => {
            return ui::out(format_args!("{device}: {}", error.message));
        }
        Err(error) => return Err(error),
    };
    if request.task.json {
        let model = request.subject().describe();
        return ui::out(json(&DeviceJson { device: &device, model, precision, plan: &plan }));
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
