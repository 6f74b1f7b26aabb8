//! `train`: configuration, device, data, memory plan, training, and how to predict.

mod averaging;
mod calibration;
mod changes;
mod elsewhere;
mod holding;
mod outcome;
mod request;
mod scoring;
mod test_scores;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use checkpoint::{
    CARD_VERSION, Checkpoint, CheckpointError, ModelCard, Progress, RunFolder, shell_word, write_atomically,
};
use data_pipeline::Dataset;
use inference::Prediction;
use memory_planner::{MemoryAnalysis, PRECISION_CHOICE};
use metrics::ValidationScores;
use trainer::{
    FaultPlan, FitOutcome, Normalization, Observer as _, Phase, Pieces, TrainError, TrainOptions, TrainSession,
    TrainStep, UncutWork, fit,
};

use crate::cli::{PlanSource, TrainArguments};
use crate::commands::folds::{go_on_with_one, train_folds};
use crate::commands::next_step;
use crate::error::CommandError;
use crate::registry::{Architecture, Network};
use crate::run::compute::{Compute, Gauge};
use crate::run::data::{self, NOTHING_SAVED, RunData};
use crate::run::fold_results::{self, FinishedFold, FoldResults};
use crate::run::groups::check_freezing;
use crate::run::listing::{Listing, check_same_as_other_folds, check_same_images, train_anew};
use crate::run::memory::{Planned, loader_bytes, plan_here};
use crate::run::observer::RunObserver;
use crate::run::post_mortem::PostMortem;
use crate::run::precision::Arithmetic;
use crate::run::recipe::{check_class_weights, idle_top_k};
use crate::run::recovery::{Injection, explain_out_of_memory, tell_remembered};
use crate::run::report_page::{BestOnValidation, ReportPage};
use crate::run::resolved::resize_name;
use crate::run::shared::{Others, select};
use crate::run::subject::{Subject, spec};
use crate::run::team::{TeamEntry, identity_of, team_entry};
use crate::run::weights::{check_starting_weights, with_starting_weights};
use crate::ui;

pub(crate) use calibration::calibrate_folds;
use changes::may_change_on_resume;
use holding::{Held, hold, tell_refusal};
pub(crate) use request::Request;
use test_scores::write_test_scores;

/// Trains a new run, or goes on with one; with folds, one run a fold.
pub(crate) fn train(arguments: &TrainArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let request = Request::read(arguments)?;
    match (request.is_of_folds(), request.resolved.config.data.fold) {
        (true, _) => train_folds(&request, interrupt),
        (false, Some(_)) => go_on_with_one(request, interrupt),
        (false, None) => train_one(request, interrupt),
    }
}

/// Trains one run.
pub(super) fn train_one(request: Request, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    begin(request, interrupt)?.finish(interrupt)
}

/// Plans one run and makes its folder, or opens the one that is there: all that can be refused comes before the folder.
pub(super) fn begin(request: Request, interrupt: &Arc<AtomicBool>) -> Result<Begun, CommandError> {
    let injection = Injection::from_environment()?;
    // Before anything is measured, and to the end.
    let resumed = request.resumed.clone().map(hold).transpose()?;
    let (compute, others) = select(request.resolved.config.device, request.sharing.as_ref())?;
    let mut run = Run { others, ..Run::prepare(request, compute, injection, interrupt)? };
    let analysis = run.plan()?;
    let held = match resumed {
        Some(held) => held,
        None if interrupt.load(Ordering::Relaxed) => return Err(CommandError::interrupted(NOTHING_SAVED)),
        None => run.make_folder(&analysis)?,
    };
    Ok(Begun { run, analysis, held })
}

/// A run whose memory is planned and whose folder is there.
pub(super) struct Begun {
    run: Run,
    analysis: MemoryAnalysis,
    held: Held,
}

impl Begun {
    /// Trains it and reports what came of it.
    pub(super) fn finish(self, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
        let Self { run, analysis, held: (folder, _) } = &self;
        let outcome = run.fit(folder, analysis, interrupt)?;
        run.report(folder, analysis, &outcome, interrupt)
    }
}

/// A run whose data is open and whose model is described.
struct Run {
    request: Request,
    compute: Compute,
    /// Cards that share the work of the first.
    others: Others,
    data: RunData,
    listing: Listing,
    card: ModelCard,
    injection: Injection,
    /// What loading takes in the memory that steps are computed in.
    loader_bytes: u64,
}

impl Run {
    fn prepare(
        mut request: Request,
        compute: Compute,
        injection: Injection,
        interrupt: &AtomicBool,
    ) -> Result<Self, CommandError> {
        request.resolved.decide_device(compute.selected.request());
        request.resolved.decide_workers(compute.default_workers());
        let data = data::open(&request.resolved, interrupt).map_err(|error| request.explain_missing(error))?;
        let config = &request.resolved.config;
        let normalization = request.resolved.normalization();
        let listing = Listing::of(&data.training.train, &data.training.validation);
        match &request.resumed {
            Some(folder) => check_same_images(folder, &listing)?,
            // Beside the first fold there are only those that are about to be replaced.
            None if config.data.fold.is_some() && request.group.is_none() => {
                check_same_as_other_folds(&request.root, &listing)?;
            }
            None => {}
        }
        let card = ModelCard {
            version: CARD_VERSION,
            model: config.model.name.clone(),
            classes: data.training.train.classes.clone(),
            image_size: request.resolved.image_size(),
            in_channels: config.model.in_channels,
            resize: resize_name(config.augment.resize).to_owned(),
            interpolation: config.augment.interpolation.as_str().to_owned(),
            crop_share: request.resolved.crop_share(),
            mean: normalization.mean,
            std: normalization.std,
            images: Some(listing.fingerprint()),
            progress: Progress::default(),
        };
        let architecture = request.resolved.architecture()?;
        check_freezing(&request.resolved, &architecture, card.classes.len())?;
        check_class_weights(&request.resolved.config.train, &card.classes)?;
        if request.resumed.is_none() {
            if let Some(told) = idle_top_k(&request.resolved.config.train, card.classes.len()) {
                ui::warn(told);
            }
            check_starting_weights(&mut request.resolved, &card.classes, &compute.device)?;
            request.resolved.follow_links();
        }
        let train = &data.training.train;
        let evaluated: Vec<&Arc<Dataset>> = std::iter::once(&data.training.validation).chain(&data.test).collect();
        let loader_bytes = loader_bytes(&request.resolved, train, train.len(), &evaluated, &compute);
        Ok(Self { request, compute, others: Others::default(), data, listing, card, injection, loader_bytes })
    }

    /// Prints the memory analysis and fixes the micro-batch.
    fn plan(&mut self) -> Result<MemoryAnalysis, CommandError> {
        let architecture = self.request.resolved.architecture()?;
        let budget = self.others.smallest_budget(&self.compute, &self.request.resolved.budget_request())?;
        let cards = self.others.count();
        let share = (cards > 1).then(|| self.request.resolved.config.train.effective_batch_size.div_ceil(cards));
        self.request.reopen_elsewhere(&self.compute.selected.describe(), budget.budget_bytes, share);
        let subject = self.subject(&architecture);
        let mut request = subject.plan_request().dealt_round(cards);
        let selected = self.others.least_capable(&self.compute);
        let mut precisions = subject.precisions(Arithmetic::of(selected), &selected.describe())?;
        let team = self.team_entry(&subject)?;
        if let Some(entry) = &team {
            precisions = precisions.begun_as(&entry.plan);
            // What an idle card would hold is no request: less may be free.
            let most = request.maximum.map_or(entry.plan.micro_batch, |share| share.min(entry.plan.micro_batch));
            request.maximum = request.micro_batch.is_none().then_some(most);
        }
        let Planned { mut analysis, rung, pools, .. } =
            plan_here(&subject, &self.compute, PlanSource::Auto, &precisions, budget, &request)?;
        if let Some(entry) = team.filter(|_| request.maximum.is_some()) {
            let choice = entry.choice(&analysis.plan);
            analysis.plan.choices.push(choice);
        }
        let mut analysis = subject.explained(analysis, rung);
        self.request.tell_what_is_kept(&mut analysis);
        ui::out(&analysis)?;
        let micro_batch = analysis.plan.choices.iter().find(|choice| choice.name == "micro-batch");
        let reason = micro_batch.map_or(String::new(), |choice| choice.reason.clone());
        self.request.resolved.decide_micro_batch(analysis.plan.micro_batch, &reason);
        self.request.resolved.decide_checkpointing(rung.checkpointing);
        let precision = analysis.plan.choices.iter().find(|choice| choice.name == PRECISION_CHOICE);
        let reason = precision.map_or(String::new(), |choice| choice.reason.clone());
        self.request.resolved.decide_precision(rung.precision, &reason);
        let subject = self.subject(&architecture);
        self.others.rehearse(&subject, rung, pools, (analysis.budget.budget_bytes, &request));
        self.others.tell(analysis.plan.accumulation_steps);
        Ok(analysis)
    }

    /// What the team's settings have for the card that this run is on; a new run's alone, for a resumed one goes on as it was.
    fn team_entry(&self, subject: &Subject<'_>) -> Result<Option<TeamEntry>, CommandError> {
        let Some(config) = &self.request.config else { return Ok(None) };
        let identity = identity_of(subject);
        let named = subject.resolved.config.memory.team_settings.as_deref();
        let entry = team_entry(config, named, &self.compute.selected, &identity)?;
        if let Some(entry) = &entry {
            ui::note(entry.describe(subject.plan_request().micro_batch));
        }
        Ok(entry)
    }

    /// Makes the folder of a new run, with its configuration and plan, and holds it.
    fn make_folder(&self, analysis: &MemoryAnalysis) -> Result<Held, CommandError> {
        let request = &self.request;
        if let Some(fold) = request.resolved.config.data.fold.filter(|_| request.overwrite) {
            FoldResults::forget(&request.root, fold)?;
        }
        let written = || -> Result<Held, CheckpointError> {
            if let Some(group) = &request.group {
                group.make()?;
            }
            let folder = RunFolder::create(&request.root, request.overwrite)?;
            let lock = folder.hold()?;
            tell_refusal(&folder, &lock);
            write_atomically(&folder.resolved_config(), request.resolved.to_yaml().as_bytes())?;
            let plan = serde_json::to_string_pretty(analysis).expect("a plan has string keys and plain values");
            write_atomically(&folder.plan(), plan.as_bytes())?;
            self.listing.write(&folder)?;
            let newest = match request.resolved.config.data.fold.and(request.root.parent()) {
                Some(folds) => RunFolder::open(folds)?,
                None => folder.clone(),
            };
            newest.mark_latest(&request.resolved.config.output.join("latest"))?;
            Ok((folder, lock))
        };
        written().map_err(|error| match error {
            CheckpointError::Write { .. } => CommandError::from_run(&error).with_hint(error.hint()),
            _ => checkpoint_request(&error),
        })
    }

    fn fit(
        &self,
        folder: &RunFolder,
        analysis: &MemoryAnalysis,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Fitted, CommandError> {
        let device = self.compute.tracked(self.request.resolved.checkpointing());
        let limit = self.request.resolved.config.memory.limit.as_ref();
        self.injection.hold_heap_to(limit, &self.compute);
        let session = self.session(folder, &device)?;
        let steps_before = session.progress().step;
        let gauge = Gauge::start(self.compute.meter(), self.injection.allowed_bytes(analysis.budget.budget_bytes));
        let predicted = analysis.plan.predicted_peak_bytes;
        let mut observer = RunObserver::new(self.data.training.train.len(), self.compute.meter(), predicted);
        let (session, outcome) = fit(session, &self.data.training, &device, interrupt, &gauge, &mut observer)
            .map_err(|error| self.fit_error(&error, folder, analysis))?;
        if let Some(work) = UncutWork::take() {
            // After the last step nobody asks: the last checkpoint is written then.
            observer.limit_passed(session.progress().step, &work);
        }
        let trained = session.progress().step > steps_before;
        Ok(Fitted { session, outcome, peak_bytes: gauge.highest_peak_bytes(), corrupt: observer.corrupt(), trained })
    }

    /// The model and its state: fresh, from given weights, or as the run folder has them.
    fn session(&self, folder: &RunFolder, device: &Device) -> Result<TrainSession<Network>, CommandError> {
        let resolved = &self.request.resolved;
        let faults = self.injection.faults.clone();
        let train = &self.data.training.train;
        let options = TrainOptions { faults, ..resolved.train_options(train.len(), &train.class_counts()) };
        let planned = options.micro_batch_size;
        let architecture = resolved.architecture()?;
        let mut model = architecture.build(&spec(resolved, self.card.classes.len(), device.clone()));
        // `last`, where there is one, replaces the weights that the run started from.
        if !folder.last().exists() {
            model = with_starting_weights(model, resolved, &architecture, &self.card.classes)?;
        }
        let step = TrainStep::new(model, options, self.normalization(), device.clone());
        let step = self.others.join(step, resolved.checkpointing());
        let session = TrainSession::new(step, self.card.clone(), folder.clone());
        let session = session.resume(device).map_err(|error| cannot_resume(&error, folder))?;
        if self.request.resumed.is_some() {
            self.request.keep_epochs(folder)?;
            ui::note(resumed_at(session.progress(), resolved.config.train.epochs));
            tell_remembered(session.micro_batch_size(), planned);
        }
        Ok(session)
    }

    fn fit_error(&self, error: &TrainError, folder: &RunFolder, analysis: &MemoryAnalysis) -> CommandError {
        match error {
            TrainError::OutOfMemoryAtBatchOne { reason, .. } => {
                let go_on = self.resume_command(folder);
                let post_mortem = self.post_mortem();
                let known = (&analysis.footprint, &post_mortem.remedies[..]);
                let explained = explain_out_of_memory(failed(error), reason, known, folder, &go_on);
                explained.with_causes(post_mortem.causes())
            }
            error => self.say_how_to_resume(failed(error), folder),
        }
    }

    /// What takes most in a step of one image, and what would help.
    fn post_mortem(&self) -> PostMortem {
        let Ok(architecture) = self.request.resolved.architecture() else { return PostMortem::default() };
        let arithmetic = Arithmetic::of(&self.compute.selected);
        PostMortem::of(&self.subject(&architecture), self.request.resolved.rung(), arithmetic.half())
    }

    /// The step that this run makes.
    fn subject<'a>(&'a self, architecture: &'a Architecture) -> Subject<'a> {
        let train = &self.data.training.train;
        Subject {
            resolved: &self.request.resolved,
            architecture,
            num_classes: train.classes.len(),
            train_samples: Some(train.len()),
            loader_bytes: self.loader_bytes,
            may_change: if self.request.resumed.is_some() { may_change_on_resume } else { |_| true },
        }
    }

    /// Prints what came of the run, and last the command that uses it.
    fn report(
        &self,
        folder: &RunFolder,
        analysis: &MemoryAnalysis,
        fitted: &Fitted,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<(), CommandError> {
        if fitted.outcome == FitOutcome::Interrupted {
            return Err(self.interrupted(folder));
        }
        self.tell_outcome(folder, analysis, fitted)?;
        let averaged = self.average(folder, &fitted.session, interrupt)?;
        let best = self.best_model(folder, &fitted.session)?;
        let test = self.test(folder, &best, fitted.session.micro_batch_size(), interrupt)?;
        if let Some(scores) = &test {
            write_test_scores(folder, best_epoch(fitted), scores)?;
        }
        let scores = [test.as_ref(), averaged.as_ref()];
        let predictions = self.write_page(folder, analysis, fitted, &best, scores, interrupt)?;
        ui::out(format_args!("run folder: {}", folder.root().display()))?;
        self.calibrate(folder, interrupt)?;
        if let Some(fold) = self.request.resolved.config.data.fold {
            let (epoch, validation) = (best_epoch(fitted), &self.data.training.validation);
            let finished = FinishedFold { fold, folder, epoch, validation, predictions: &predictions };
            return fold_results::record(&self.request.resolved, &finished);
        }
        ui::out(format_args!("\nnext, predict:\n  {}", self.predict_command(folder)))
    }

    /// The weights of the best epoch.
    fn best_model(&self, folder: &RunFolder, session: &TrainSession<Network>) -> Result<Network, CommandError> {
        let path = folder.best();
        let best = Checkpoint::read(&path).map_err(|error| failed(&error.into()))?;
        best.load_for_prediction(session.evaluation_model(), &path).map_err(|error| failed(&error.into()))
    }

    /// Writes `report.html`, and returns what the best weights make of the validation images.
    fn write_page(
        &self,
        folder: &RunFolder,
        analysis: &MemoryAnalysis,
        fitted: &Fitted,
        model: &Network,
        [test, averaged]: [Option<&ValidationScores>; 2],
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Vec<Prediction>, CommandError> {
        let validation = &self.data.training.validation;
        let best = BestOnValidation {
            model,
            validation,
            transform: self.data.training.eval_transform.clone(),
            normalization: &self.normalization(),
            device: &self.compute.device,
            precision: self.request.resolved.rung().precision,
            batch_size: fitted.session.micro_batch_size(),
            loader: self.request.resolved.loader_options(),
            interrupt,
        };
        // Injected failures are for the run's own passes, which count them.
        let predictions = best.predict(&mut Pieces::new(Phase::Evaluation, FaultPlan::default()))?;
        let predictions = predictions.ok_or_else(|| self.interrupted(folder))?;
        let page = ReportPage {
            folder,
            resolved: &self.request.resolved,
            analysis,
            progress: fitted.session.progress(),
            test,
            averaged,
            measured_peak_bytes: fitted.trained.then_some(fitted.peak_bytes),
            next: &self.predict_command(folder),
        };
        page.write(validation, &predictions)?;
        Ok(predictions)
    }

    fn normalization(&self) -> Normalization {
        Normalization { mean: self.card.mean.clone(), std: self.card.std.clone() }
    }

    fn predict_command(&self, folder: &RunFolder) -> String {
        let input = self.request.resolved.config.data.test.as_ref();
        let input = input.map_or("FOLDER".to_owned(), shell_word);
        let run = shell_word(folder.root());
        // A calibration is for the views of the configuration.
        let views =
            if self.request.resolved.config.train.calibrate { " --use-calibration" } else { " --tta essential" };
        next_step(&format!("predict --run {run} --input {input}{views} --output predictions.csv"))
    }

    fn interrupted(&self, folder: &RunFolder) -> CommandError {
        interrupted(folder, &self.resume_command(folder))
    }

    /// On the cards that shared the run.
    fn resume_command(&self, folder: &RunFolder) -> String {
        next_step(&self.request.resume(folder))
    }

    fn say_how_to_resume(&self, error: CommandError, folder: &RunFolder) -> CommandError {
        let command = self.resume_command(folder);
        match (folder.last().exists(), error.hint.clone()) {
            // The hint of an epoch without readable images speaks of this list, and cannot know where it is.
            (_, Some(hint)) if hint.contains("`corrupt_images.txt`") => {
                error.with_hint(format!("what is wrong with each is listed in `{}`", folder.corrupt_images().display()))
            }
            (true, None) => error.with_hint(format!("go on from the last checkpoint: {command}")),
            _ => error,
        }
    }
}

/// What training left behind.
struct Fitted {
    session: TrainSession<Network>,
    outcome: FitOutcome,
    peak_bytes: u64,
    corrupt: usize,
    /// Whether any step was made, which a finished run that is resumed needs none of.
    trained: bool,
}

/// The epoch that `best` is of, from 1.
fn best_epoch(fitted: &Fitted) -> u32 {
    fitted.session.progress().best.map_or(0, |best| best.epoch)
}

fn resumed_at(progress: &Progress, epochs: usize) -> String {
    if progress.epochs_done as usize >= epochs {
        return format!("all {epochs} epochs are done");
    }
    format!("going on after epoch {} and {} steps of the next", progress.epochs_done, progress.batches_done)
}

fn interrupted(folder: &RunFolder, go_on: &str) -> CommandError {
    CommandError::interrupted(format!("interrupted; the run is saved in `{}`", folder.root().display()))
        .with_hint(format!("go on with: {go_on}"))
}

/// A run goes on with its own checkpoint alone, and a whole one.
fn cannot_resume(error: &TrainError, folder: &RunFolder) -> CommandError {
    let error = match error {
        TrainError::Checkpoint(error) => error,
        TrainError::OtherRun { .. } | TrainError::NoOptimizerState { .. } | TrainError::NoLast { .. } => {
            let hint = train_anew(folder, "put the run's own checkpoint back");
            return CommandError::from_request(error).with_hint(hint);
        }
        error => return failed(error),
    };
    let again = next_step(&format!("train --config {} --set name=OTHER", shell_word(folder.resolved_config())));
    let foreign = matches!(error, CheckpointError::OtherModel { .. });
    checkpoint_request(error).with_hint(foreign.then(|| format!("the file is of another run; to train anew: {again}")))
}

fn failed(error: &TrainError) -> CommandError {
    CommandError::from_run(error).with_hint(error.hint())
}

pub(super) fn checkpoint_request(error: &CheckpointError) -> CommandError {
    CommandError::from_request(error).with_hint(error.hint())
}
