//! Learns what a training step takes on the device that trains, plans the batch, and says so.

use std::sync::Arc;

use burn::tensor::Device;
use data_pipeline::{Dataset, LoaderOptions, Transform};
use device::{SelectedDevice, heap};
use memory_planner::{
    Budget, Choice, FixedMemory, Footprint, FootprintError, LadderError, MemoryAnalysis, NothingFits, Plan,
    PlanRequest, Precision, Rung, RungNeed, WayOut, format_bytes, plan_with_ladder_past,
};
use memory_probe::{
    AllocatorModel, CapturedSource, ChosenPools, PoolLayout, ProbeError, ProbeOptions, measure_training,
    parameter_memory,
};

use crate::cli::PlanSource;
use crate::error::CommandError;
use crate::run::checks::{KEEPS_ITS_MODEL, no_room_for_model};
use crate::run::compute::Compute;
use crate::run::dry_process::{DryProcessError, Job, run_elsewhere};
use crate::run::kernel_choice::choose_kernels;
use crate::run::loading_bytes::LoadingBytes;
use crate::run::post_mortem::PostMortem;
use crate::run::precision::{Arithmetic, Precisions, check_device};
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::Subject;
use crate::run::throughput::prefer_smaller;
use crate::ui::{self, Progress};

/// A plan for the device at hand.
pub(crate) struct Planned {
    /// The memory report with its plan.
    pub(crate) analysis: MemoryAnalysis,
    /// How the step is computed.
    pub(crate) rung: Rung,
    /// Whether that is in less than what suits the device, for nothing fits in that.
    pub(crate) lowered: bool,
    /// How the card's memory is cut for it.
    pub(crate) pools: PoolLayout,
}

impl Planned {
    /// A plan with the choices of its precision and its checkpointing among its reasons.
    pub(crate) fn new(subject: &Subject<'_>, analysis: MemoryAnalysis, rung: Rung, precisions: &Precisions) -> Self {
        let asked = subject.resolved.config.memory.checkpointing;
        let checkpointing = precisions.checkpointing_choice(asked, rung.checkpointing);
        let analysis = analysis.with_choices([precisions.choice(rung.precision), checkpointing]);
        Self { analysis, rung, lowered: rung.precision != precisions.first, pools: PoolLayout::Runtime }
    }
}

/// Why a step's memory could not be learnt here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LearnError {
    /// Real steps made no line.
    #[error("real steps make no line")]
    Probe(#[from] ProbeError),
    /// The recorded step made none.
    #[error(transparent)]
    Recorded(#[from] FootprintError),
    /// The model alone is more than the budget.
    #[error("the model alone needs {}", format_bytes(known.total()))]
    NoRoom {
        /// What the model takes whatever the batch.
        known: FixedMemory,
    },
}

impl LearnError {
    /// Whether a way to compute the step that takes less may be learnt all the same.
    fn lacks_memory(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
    }
}

/// Plans the step on the device at hand, within `budget`: by real steps on the CPU, by dry ones on a card.
pub(crate) fn plan_here(
    subject: &Subject<'_>,
    compute: &Compute,
    source: PlanSource,
    precisions: &Precisions,
    budget: Budget,
    request: &PlanRequest,
) -> Result<Planned, CommandError> {
    check_device(&compute.device, precisions.first, "train.precision", &compute.selected.describe())?;
    let mut learner = Learner { subject, compute, source, budget: &budget, request, chosen: None };
    let mut kernels = None;
    let mut climb = |precisions: &Precisions| {
        let rungs = subject.rungs(precisions, compute.is_cpu());
        kernels = choose_kernels(subject, compute, &rungs);
        plan_with_ladder_past(&rungs, &mut |rung| learner.footprint(rung), &LearnError::lacks_memory, &budget, request)
    };
    let (precisions, planned) = match (climb(precisions), precisions.after_failure()) {
        (Err(LadderError::NothingFits(nothing)), Some(fp32)) if no_step_ran(&nothing) => {
            ui::note(format_args!("note: {}; planning in fp32", fp32.reason(fp32.first)));
            let planned = climb(&fp32);
            (fp32, planned)
        }
        (planned, _) => (precisions.clone(), planned),
    };
    let chosen = learner.chosen;
    let half = Arithmetic::of(&compute.selected).half();
    let (rung, footprint, plan) = planned.map_err(|error| refused(error, subject, &budget, half))?;
    let mut plan = prefer_smaller(plan, &footprint, &budget, request, (subject, compute, rung));
    tell_pools(&mut plan, chosen, &budget);
    plan.choices.extend(kernels);
    let device = compute.selected.describe();
    let analysis = MemoryAnalysis { device, model: subject.describe(), footprint, budget, plan, at_peak: None };
    let pools = chosen.map_or(PoolLayout::Runtime, |chosen| chosen.layout);
    Ok(Planned { pools, ..Planned::new(subject, analysis, rung, &precisions) })
}

/// Learns what steps take on the device at hand: by real ones on the CPU, by dry ones on a card.
pub(crate) struct Learner<'a> {
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) compute: &'a Compute,
    pub(crate) source: PlanSource,
    pub(crate) budget: &'a Budget,
    pub(crate) request: &'a PlanRequest,
    /// How a card's memory was cut for the last footprint; none where it stayed CubeCL's way.
    pub(crate) chosen: Option<ChosenPools>,
}

impl Learner<'_> {
    /// What a step takes that is computed as `rung` says.
    pub(crate) fn footprint(&mut self, rung: Rung) -> Result<Footprint, LearnError> {
        let Self { subject, compute, budget, request, .. } = *self;
        match (self.source, &compute.selected) {
            (PlanSource::Measured, _) | (_, SelectedDevice::Cpu { .. }) => {
                measured(subject, compute, rung, budget, request.effective_batch)
            }
            (_, SelectedDevice::Cuda(card)) => {
                let allocator = AllocatorModel::cuda(card.total_bytes);
                let source = CapturedSource::record(&subject.step(rung), |device: &Device| subject.build(device));
                let chosen = source.best_pools(allocator, budget.budget_bytes, request);
                // Where the memory cannot be cut, CubeCL's own pools are there.
                self.chosen = cut_memory(chosen.layout, compute).then_some(chosen);
                let layout = self.chosen.map_or(PoolLayout::Runtime, |chosen| chosen.layout);
                let expected = source.footprint(allocator.with_pools(layout), budget.budget_bytes, request);
                let job = Job::of(subject, &compute.selected, rung, layout, (budget.budget_bytes, request));
                let job = job.expecting(expected.ok());
                dry_run_elsewhere(&job, "training steps", "measuring real training steps instead").map_or_else(
                    || {
                        self.chosen = None;
                        // Peaks in few large pages make no line: the memory is cut CubeCL's way again.
                        cut_memory(PoolLayout::Runtime, compute);
                        measured(subject, compute, rung, budget, request.effective_batch)
                    },
                    Ok,
                )
            }
        }
    }
}

/// Whether not even the smallest step came to its end, on any rung.
fn no_step_ran(nothing: &NothingFits) -> bool {
    nothing.needs.iter().all(|need| need.needed_bytes == u64::MAX)
}

/// Cuts the card's memory. Whether that could be done; where it could not, says so.
pub(crate) fn cut_memory(layout: PoolLayout, compute: &Compute) -> bool {
    let cut = layout.install(&compute.device);
    if let Err(error) = &cut {
        let name = compute.selected.describe();
        ui::note(format_args!("note: the memory pools of {name} stay as they are: {error}"));
    }
    cut.is_ok()
}

/// Says in the plan how the memory is cut, where it is not CubeCL's way.
pub(crate) fn tell_pools(plan: &mut Plan, chosen: Option<ChosenPools>, budget: &Budget) {
    let Some(ChosenPools { layout, largest, largest_in_runtime }) = chosen else { return };
    if layout != PoolLayout::Runtime {
        plan.choices.push(Choice {
            name: "memory pools".to_owned(),
            value: layout.describe(budget.budget_bytes),
            reason: format!("hold {largest} images at once, and CubeCL's own {largest_in_runtime}"),
        });
    }
}

/// Real steps on a throwaway model.
fn measured(
    subject: &Subject<'_>,
    compute: &Compute,
    rung: Rung,
    budget: &Budget,
    request_batch: Option<usize>,
) -> Result<Footprint, LearnError> {
    let progress = Progress::start("measuring training steps", "steps", 0);
    let meter = compute.meter();
    meter.reset();
    let base_bytes = heap::current_bytes();
    let step = subject.train_step(rung, compute.tracked(rung.checkpointing));
    let mut known = parameter_memory(&step);
    if compute.is_cpu() {
        known.overhead = base_bytes;
    }
    let probe = ProbeOptions {
        image: subject.image(),
        budget_bytes: budget.budget_bytes,
        largest_batch: request_batch.unwrap_or(usize::MAX),
    };
    if known.total() > budget.budget_bytes {
        return Err(LearnError::NoRoom { known });
    }
    let mut footprint = measure_training(step, probe, meter.as_ref(), known)?;
    progress.finish("done");
    meter.reset();
    if compute.is_cpu() {
        // On the CPU the loader lives in the same memory as the step.
        footprint.fixed.overhead += subject.loader_bytes;
        // At the end the best weights are read into a model of their own, beside all that training keeps.
        let at_end = 2 * (known.weights + known.buffers) + known.optimizer + known.ema;
        footprint.floor_bytes = (footprint.floor_bytes + subject.loader_bytes).max(footprint.fixed.overhead + at_end);
    }
    Ok(footprint.with_accumulation_extra(known.gradients))
}

/// Runs a job in a process of its own; `what` it runs is told. None where that did not work, which is said with what is done `instead`.
pub(crate) fn dry_run_elsewhere(job: &Job, what: &str, instead: &str) -> Option<Footprint> {
    let progress = Progress::start(format!("running {what} dry"), "steps", 0);
    let footprint =
        std::env::current_exe().map_err(DryProcessError::from).and_then(|executable| run_elsewhere(&executable, job));
    progress.finish("done");
    let footprint = footprint.map_err(|error| {
        ui::note(format_args!("note: the dry run on {} did not work: {error}; {instead}", job.device));
    });
    footprint.ok()
}

/// Why nothing was planned here, as the user reads it; where the budget is below the weights, with what takes most. See [`refused_plan`].
pub(crate) fn refused(
    error: LadderError<LearnError>,
    subject: &Subject<'_>,
    budget: &Budget,
    half: Option<Precision>,
) -> CommandError {
    match error {
        LadderError::Footprint { rung, source: LearnError::NoRoom { known } } => {
            let post_mortem = PostMortem::of(subject, rung, half).with_remedies_that(subject.may_change);
            let beside_bytes = known.overhead + subject.loader_bytes;
            let enough_bytes = post_mortem.enough_bytes(beside_bytes).max(known.total());
            no_room_for_model(subject, &known, enough_bytes, budget).with_causes(post_mortem.causes())
        }
        LadderError::Footprint { source: LearnError::Probe(source), .. } => {
            CommandError::from_run(&source).in_context("cannot measure the memory of a training step")
        }
        error => refused_plan(error, subject, half),
    }
}

/// A plan that cannot be, as the user reads it; when nothing fits, with what takes most and which setting would save enough, or most. The step could be
/// computed in `half`, where that is known.
pub(crate) fn refused_plan<E: std::error::Error + 'static>(
    error: LadderError<E>,
    subject: &Subject<'_>,
    half: Option<Precision>,
) -> CommandError {
    let LadderError::NothingFits(nothing) = &error else {
        let hint = error.hint();
        return CommandError::from_request(&error).with_hint(hint);
    };
    let look = |need: &RungNeed| PostMortem::of_batch(subject, need.rung, half, need.batch);
    let post_mortem = nothing.needs.last().map(look).unwrap_or_default().with_remedies_that(subject.may_change);
    let hint = match (&nothing.way_out, error.hint()) {
        (WayOut::SmallerImage | WayOut::SmallerModel { .. }, _) if !(subject.may_change)("model.name") => {
            Some(post_mortem.or_remedy(KEEPS_ITS_MODEL.to_owned(), nothing.gap_bytes()))
        }
        (WayOut::SmallerImage | WayOut::SmallerModel { .. } | WayOut::LowerMinimum { .. }, Some(hint)) => {
            Some(post_mortem.or_remedy(hint, nothing.gap_bytes()))
        }
        (_, hint) => hint,
    };
    CommandError::from_request(&error).with_causes(post_mortem.causes()).with_hint(hint)
}

/// What loading images takes beside the step, where both share memory: the most of effective batches in bytes, and of images in workers' hands. Those of
/// `evaluated`, the sets that are scored after the steps, may be larger than the `images` that are trained on.
pub(crate) fn loader_bytes(
    resolved: &ResolvedConfig,
    images: &Arc<Dataset>,
    samples: usize,
    evaluated: &[&Arc<Dataset>],
    compute: &Compute,
) -> u64 {
    if !compute.is_cpu() {
        return 0;
    }
    let config = &resolved.config;
    let image_bytes = (resolved.image_size().pow(2) * config.model.in_channels) as u64;
    // Those that are ready or in the making, and the one of the step.
    let batches = config.data.prefetch_batches + 1;
    let queue = (batches * config.train.effective_batch_size.min(samples)) as u64 * image_bytes;
    let workers = config.data.workers.exactly().unwrap_or_else(|| compute.default_workers());
    let options = LoaderOptions { workers, ..resolved.loader_options() };
    let meter = compute.meter();
    let held = |images: &Arc<Dataset>, transform: Arc<dyn Transform>| {
        LoadingBytes::measure(images, &transform, &options, meter.as_ref()).most(0)
    };
    let trained = held(images, Arc::new(resolved.train_transform()));
    let scored = evaluated.iter().map(|images| held(images, Arc::new(resolved.eval_transform()))).max();
    queue + trained.max(scored.unwrap_or(0))
}
