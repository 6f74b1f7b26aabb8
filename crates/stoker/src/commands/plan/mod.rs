//! `plan`: what fits, on this machine or on any card, and the configuration that says so.

mod cards;
mod learning_rate;
mod output;
mod prediction;
mod saving;
mod team;

use std::path::Path;
use std::sync::Arc;

use data_pipeline::Dataset;
use memory_planner::{Budget, BudgetRequest, PlanRequest};

use crate::cli::{AbsentCard, PlanArguments, PlanSource, PlanTask, Target};
use crate::commands::config;
use crate::config::{DeviceRequest, Edit, UserConfig};
use crate::error::CommandError;
use crate::registry::Architecture;
use crate::run::absent::{PlannedCard, Recorded, catalogue_card};
use crate::run::compute::Compute;
use crate::run::data::images_to_plan_for;
use crate::run::groups::check_freezing;
use crate::run::memory::{Planned, loader_bytes, plan_here, refused_plan};
use crate::run::precision::Arithmetic;
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::{ASSUMED_CLASSES, Subject, planner_rounding};
use crate::ui;

use learning_rate::Rate;

/// Plans, shows the plan, and writes it where it was asked to go.
pub(crate) fn plan(arguments: &PlanArguments) -> Result<(), CommandError> {
    let cards = device::probe_cuda().map_or(0, |driver| driver.devices.len());
    let task = arguments.check(cards)?;
    for warning in &task.warnings {
        ui::warn(warning);
    }
    let request = Request::read(&task)?;
    if let Some(asked) = &task.inference {
        return prediction::plan_prediction(&request, asked.tta);
    }
    saving::check_places(&task)?;
    match &task.target {
        Target::Catalogue => team::plan_all(&request),
        Target::Cards(ids) => cards::plan_cards(&request, ids),
        Target::Absent(card) => request.finish(request.absent(card)?),
        Target::Device(device) => request.finish(request.here(*device)?),
    }
}

/// What is planned, read and checked.
struct Request<'a> {
    task: &'a PlanTask,
    resolved: ResolvedConfig,
    architecture: Architecture,
    num_classes: usize,
    /// The images, and how many are trained on, where they are here.
    images: Option<(Arc<Dataset>, usize)>,
    rate: Rate,
}

impl<'a> Request<'a> {
    fn read(task: &'a PlanTask) -> Result<Self, CommandError> {
        let mut user = match &task.config {
            Some(path) => config::load(path, &task.overrides)?,
            // An architecture alone: the rest as a configuration has it that says nothing.
            None => UserConfig::from_text(Path::new("--model"), "data: {train: images}\n", &task.overrides)?,
        };
        if let Some(rounding) = task.rounding {
            user.memory.rounding = rounding;
        }
        let rate = Rate::of(task, &user);
        if let Some(batch) = task.effective_batch_size {
            user.train.effective_batch_size = batch;
        }
        let scaled = rate.at(user.train.effective_batch_size)?.0;
        if rate.is_changed(scaled) {
            user.train.learning_rate = Some(scaled);
        }
        let resolved = ResolvedConfig::new(user, task.config.as_deref().unwrap_or(Path::new("plan")))?;
        let architecture = resolved.architecture()?;
        let images = task.config.as_ref().and_then(|_| images_to_plan_for(&resolved));
        if task.config.is_some() && images.is_none() {
            let data = resolved.config.data.train.display();
            ui::note(format_args!("note: no data at `{data}`: planned for {ASSUMED_CLASSES} classes"));
        }
        let num_classes = images.as_ref().map_or(ASSUMED_CLASSES, |(images, _)| images.classes.len());
        check_freezing(&resolved, &architecture, num_classes)?;
        Ok(Self { task, resolved, architecture, num_classes, images, rate })
    }

    fn subject(&self) -> Subject<'_> {
        let train_samples = self.images.as_ref().map(|(_, samples)| *samples);
        Subject { train_samples, ..Subject::without_data(&self.resolved, &self.architecture, self.num_classes) }
    }

    /// On the CPU the loader's images lie in the same memory as the step. Those of validation and test are not looked at here: `train` has them open, and
    /// counts them as well.
    fn subject_on(&self, compute: &Compute) -> Subject<'_> {
        let of_images = |(images, samples): &(_, _)| loader_bytes(&self.resolved, images, *samples, &[], compute);
        let loader_bytes = self.images.as_ref().map_or(0, of_images);
        Subject { loader_bytes, ..self.subject() }
    }

    fn budget(&self) -> BudgetRequest {
        let of_config = self.resolved.budget_request();
        BudgetRequest {
            safety_margin: self.task.safety_margin.or(of_config.safety_margin),
            memory_fraction: self.task.memory_fraction.or(of_config.memory_fraction),
            ..of_config
        }
    }

    /// A plan chooses the micro-batch; what the configuration has is judged.
    fn plan_request(&self) -> PlanRequest {
        let from_config = self.subject().plan_request();
        let alone = self.task.config.is_none() && self.task.effective_batch_size.is_none();
        PlanRequest {
            effective_batch: from_config.effective_batch.filter(|_| !alone),
            micro_batch: None,
            rounding: planner_rounding(self.resolved.config.memory.rounding),
            minimum: self.task.min_batch_size,
            maximum: self.task.max_batch_size,
            current: from_config.micro_batch,
            cards: None,
            effective_batch_beyond_samples: from_config.effective_batch_beyond_samples,
        }
    }

    fn absent(&self, card: &AbsentCard) -> Result<Planned, CommandError> {
        let card = find_card(card)?;
        let budget = card.budget(&self.budget())?;
        self.recorded(&card, budget)
    }

    fn recorded(&self, card: &PlannedCard, budget: Budget) -> Result<Planned, CommandError> {
        let subject = self.subject();
        let precisions = subject.precisions(card.arithmetic, &card.title)?;
        let planned = Recorded::of(&subject).plan(card, &precisions, budget, &self.plan_request());
        planned.map_err(|error| refused_plan(error, &subject, card.arithmetic.half()))
    }

    /// The device at hand that was asked for.
    fn select(&self, device: Option<DeviceRequest>) -> Result<Compute, CommandError> {
        let compute = Compute::select(device.unwrap_or(self.resolved.config.device))?;
        if compute.is_cpu() && self.task.source == PlanSource::Captured {
            let message = "`--source captured` describes a card, and this plan is for the CPU";
            let hint = "name the card, as in `--gpu rtx3060` or `--gpu-memory 6GiB`, or leave `--source` out";
            return Err(CommandError::wrong_request(message).with_hint(hint.to_owned()));
        }
        Ok(compute)
    }

    fn here(&self, device: Option<DeviceRequest>) -> Result<Planned, CommandError> {
        let compute = self.select(device)?;
        let budget = compute.budget(&self.budget())?;
        match (self.task.source, &compute.selected) {
            (PlanSource::Captured, device::SelectedDevice::Cuda(card)) => {
                let arithmetic = Arithmetic::Card(card.compute_capability);
                let card = PlannedCard { arithmetic, ..PlannedCard::of_memory(card.total_bytes) };
                self.recorded(&card, budget)
            }
            (source, selected) => {
                let subject = self.subject_on(&compute);
                let precisions = subject.precisions(Arithmetic::of(selected), &selected.describe())?;
                plan_here(&subject, &compute, source, &precisions, budget, &self.plan_request())
            }
        }
    }

    /// Shows a plan and writes what is asked for.
    fn finish(&self, mut planned: Planned) -> Result<(), CommandError> {
        let rate = self.rate.choice(&planned.analysis.plan)?;
        planned.analysis.plan.choices.extend(rate);
        output::show(self, &planned)?;
        saving::save(self, &planned)
    }

    /// What the plan changes in the configuration, with the flags that it rests on.
    fn edits(&self, planned: &Planned) -> Result<Vec<Edit>, CommandError> {
        let mut edits: Vec<Edit> = self.task.overrides.iter().map(Edit::from_override).collect::<Result<_, _>>()?;
        let config = &self.resolved.config;
        if self.task.effective_batch_size.is_some() {
            edits.push(Edit::new("train.effective_batch_size", config.train.effective_batch_size));
        }
        let rate = config.train.highest_learning_rate();
        if self.rate.is_changed(rate) {
            edits.push(Edit::new("train.learning_rate", rate));
        }
        edits.push(Edit::new("train.micro_batch_size", planned.analysis.plan.micro_batch));
        if planned.lowered {
            edits.push(Edit::new("train.precision", planned.rung.precision.to_string()));
        }
        if planned.rung.checkpointing != self.resolved.checkpointing() {
            edits.push(Edit::new("memory.checkpointing", planned.rung.checkpointing.to_string()));
        }
        if let Some(margin) = self.task.safety_margin {
            edits.push(Edit::new("memory.safety_margin", margin));
        }
        if let Some(fraction) = self.task.memory_fraction {
            edits.push(Edit::new("memory.fraction", fraction));
        }
        Ok(edits)
    }
}

fn find_card(asked: &AbsentCard) -> Result<PlannedCard, CommandError> {
    let Some(name) = &asked.name else {
        let bytes = asked.memory_bytes.expect("a card is asked for by name, by memory, or both");
        return Ok(PlannedCard::of_memory(bytes));
    };
    let card = catalogue_card(name).map_err(|error| {
        const MEMORY: &str = "`--gpu-memory 12GiB` for a card that is not in the catalogue";
        let near = error.hint.as_ref().map_or_else(|| format!("pass {MEMORY}"), |near| format!("{near}, or {MEMORY}"));
        error.with_hint(near)
    })?;
    asked.memory_within(card.memory_bytes)?;
    Ok(PlannedCard::of(card, asked.memory_bytes))
}
