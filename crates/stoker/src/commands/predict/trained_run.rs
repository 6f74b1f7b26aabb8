//! A run folder, as predictions need it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use checkpoint::{Checkpoint as Weights, CheckpointError, ModelCard, RunFolder, shell_word};
use data_pipeline::{Channels, EvalTransform, Loader, LoaderOptions, Transform, batches};
use inference::{
    CalibrationError, FittedTo, Merge, PartHeader, PredictError, PredictOptions, Prediction, View, ViewLikelihoods,
    ViewWeights, listing_fingerprint, predict, view_likelihoods, weights_fingerprint,
};
use memory_planner::Precision;
use trainer::{Normalization, Pieces, Scoring};
use vision_nn::ClassifierSpec;

use super::Task;
use super::batch::{Answers, BatchSubject, Begun, PlannedBatch};
use super::parts::{Facts, Opened, Start};
use crate::cli::{Checkpoint, ViewArguments, WeightsArguments};
use crate::commands::calibrate;
use crate::config::{AutoCount, Decode, MergeRule, Tta, UserConfig};
use crate::error::CommandError;
use crate::registry::{Architecture, Network, find_architecture};
use crate::run::compute::Compute;
use crate::run::precision::{Arithmetic, Precisions, check_device};
use crate::run::recovery::tell_out_of_memory;
use crate::run::resolved::{ResolvedConfig, filter_from_name, resize_from_name};
use crate::ui::{Progress, short_number};

/// How a model looks at an image.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    pub(crate) views: Vec<View>,
    pub(crate) merge: Merge,
}

impl Sight {
    /// How the views are merged, by the name that is typed, with the weights where there are some.
    pub(super) fn merge_by_name(&self) -> String {
        match &self.merge {
            Merge::Weighted(weights) => format!("weighted {weights:?}"),
            merge => merge.name().to_owned(),
        }
    }
}

/// A model, and all it needs to go through the images once.
struct OnePass<'a> {
    model: &'a Network,
    loader: &'a mut Loader,
    options: PredictOptions<'a>,
    pieces: &'a mut Pieces,
    progress: &'a mut dyn FnMut(Scoring<'_>),
}

/// What images are loaded by: models with the same see the same pixels.
#[derive(Debug, PartialEq)]
pub(super) struct Loading {
    transform: EvalTransform,
    decode_scaling: bool,
    workers: usize,
    prefetch_batches: usize,
}

/// A run folder and what the weights that are asked for say of themselves. The weights are read when they are needed: of an ensemble only those
/// models are in memory that go through the images.
pub(crate) struct TrainedRun {
    pub(crate) folder: RunFolder,
    /// With what the flags say in its place.
    pub(crate) config: UserConfig,
    pub(crate) card: ModelCard,
    checkpoint: Checkpoint,
    pub(super) path: PathBuf,
    /// Of the file at `path`, once it was read.
    fingerprint: OnceLock<String>,
    /// Of the model in memory.
    pub(super) weight_bytes: u64,
    /// Images at once that were asked for.
    batch_size: AutoCount,
}

impl TrainedRun {
    pub(crate) fn open(run: &Path, arguments: &WeightsArguments) -> Result<Self, CommandError> {
        let folder = RunFolder::open(run).map_err(|error| request(&error))?;
        let mut config = UserConfig::load(&folder.resolved_config(), &[])?;
        config.predict.precision = arguments.precision.unwrap_or(config.predict.precision);
        config.data.workers = arguments.workers.unwrap_or(config.data.workers);
        let path = arguments.checkpoint.of_run(&folder);
        if !path.exists() && folder.fold_results().exists() {
            return Err(runs_of_folds(&folder));
        }
        let weights = Weights::read(&path).map_err(|error| request(&error))?;
        let (weight_bytes, card) = (weights.prediction_bytes(), weights.card);
        if card.model != config.model.name {
            let (found, expected) = (&card.model, &config.model.name);
            return Err(CommandError::wrong_request(format!(
                "`{}` holds weights of `{found}`, but the run trained `{expected}`",
                path.display()
            ))
            .with_hint("it was copied from another run: name that run with `--run`".to_owned()));
        }
        let batch_size = arguments.batch_size.unwrap_or(config.predict.batch_size);
        let (checkpoint, fingerprint) = (arguments.checkpoint, OnceLock::new());
        Ok(Self { folder, config, card, checkpoint, path, fingerprint, weight_bytes, batch_size })
    }

    /// Whether the views are left to a measurement.
    pub(crate) fn is_auto(&self, asked: &ViewArguments) -> bool {
        let config = &self.config.predict;
        let is_open = asked.views.is_empty() && (asked.tta.is_some() || config.views.is_empty());
        is_open && asked.tta.unwrap_or(config.tta) == Tta::Auto
    }

    /// The views that are asked for, or else those of the run's configuration.
    pub(crate) fn views(&self, asked: &ViewArguments) -> Result<Vec<View>, CommandError> {
        let config = &self.config.predict;
        let named = match (&asked.views[..], asked.tta) {
            ([], Some(_)) => &[][..],
            ([], None) => &config.views,
            (views, _) => views,
        };
        if !named.is_empty() {
            return Ok(named.iter().map(|named| named.0).collect());
        }
        let preset = asked.tta.unwrap_or(config.tta).preset().ok_or_else(|| {
            CommandError::wrong_request("`auto` chooses the views when it predicts, and this must know them before")
                .with_hint("name a preset, as in `--tta essential`".to_owned())
        })?;
        Ok(preset.views())
    }

    /// The rule that is asked for, or else that of the run's configuration.
    pub(crate) fn merge_rule(&self, asked: &ViewArguments) -> MergeRule {
        asked.merge.unwrap_or(self.config.predict.merge)
    }

    /// The views and how they are merged, with the weights that were learned for them where the rule has weights.
    pub(crate) fn sight(&self, asked: &ViewArguments) -> Result<Sight, CommandError> {
        let views = self.views(asked)?;
        if let Some(merge) = self.merge_rule(asked).without_weights() {
            return Ok(Sight { views, merge });
        }
        let path = self.folder.view_weights();
        let remark = ": no weights were learned for the views of this run";
        let refused = |error: CalibrationError| calibrate::unusable(&error, remark, || self.learn_weights(asked));
        let learned = ViewWeights::read(&path).map_err(refused)?;
        learned.fitted_to.check(&self.fitted_to(&views)?, &path).map_err(refused)?;
        if learned.fitted_to.weights.is_none() {
            calibrate::note_unnamed_weights(&path);
        }
        Ok(Sight { views, merge: Merge::Weighted(learned.weights) })
    }

    /// How the weights of views are learned.
    fn learn_weights(&self, asked: &ViewArguments) -> String {
        let asked = ViewArguments { merge: Some(MergeRule::Weighted), ..asked.clone() };
        let (run, flags) = (shell_word(self.folder.root()), calibrate::flags(&asked, self.checkpoint, false));
        format!("learn them: {}", calibrate::command(&format!("--run {run}"), &flags, None))
    }

    /// What a fit to this run's answers in these views holds for.
    pub(crate) fn fitted_to(&self, views: &[View]) -> Result<FittedTo, CommandError> {
        Ok(FittedTo {
            views: views.iter().map(ToString::to_string).collect(),
            checkpoint: self.checkpoint.name().to_owned(),
            step: self.card.progress.step,
            weights: Some(self.fingerprint()?),
        })
    }

    /// One prediction an image, in their order.
    pub(crate) fn predict(
        &self,
        task: &Task<'_>,
        sight: &Sight,
        answers: Answers,
    ) -> Result<Vec<Prediction>, CommandError> {
        self.predict_timed(task, sight, answers).map(|(predictions, _)| predictions)
    }

    /// With the time from the first image to the last answer; loading the model and planning the batch are not in it.
    pub(crate) fn predict_timed(
        &self,
        task: &Task<'_>,
        sight: &Sight,
        answers: Answers,
    ) -> Result<(Vec<Prediction>, Duration), CommandError> {
        let (model, planned) = self.planned(task, sight, answers, None)?;
        let found = self.pass(task, sight, &model, ("predicting", Start::of(&planned)), |pass| {
            let start = Instant::now();
            let predictions =
                predict(pass.model, task.dataset, pass.loader, &pass.options, pass.pieces, pass.progress)?;
            Ok((predictions, start.elapsed()))
        })?;
        planned.tell_peak(task.compute);
        Ok(found)
    }

    /// The file at `path` as one of this run's predictions, with what an earlier run left there.
    pub(super) fn part(&self, path: PathBuf, task: &Task<'_>, sight: &Sight) -> Result<Opened, CommandError> {
        let header = PartHeader::new(self.facts(task, sight)?, task.dataset.len(), self.card.classes.len(), 1);
        Opened::find(path, header, &sight.views)
    }

    /// Fingerprint of the weights' file.
    pub(crate) fn fingerprint(&self) -> Result<String, CommandError> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let found = weights_fingerprint(&self.path).map_err(|error| request(&error))?;
        Ok(self.fingerprint.get_or_init(|| found).clone())
    }

    /// What predictions depend on.
    fn facts(&self, task: &Task<'_>, sight: &Sight) -> Result<Facts, CommandError> {
        let (checkpoint, step) = (self.checkpoint.name(), self.card.progress.step);
        let content = self.fingerprint()?;
        let compute = task.compute;
        let device = if compute.is_cpu() { "cpu".to_owned() } else { compute.selected.describe() };
        let decode = if self.config.data.decode == Decode::Scaled { "scaled" } else { "exact" };
        let views: Vec<String> = sight.views.iter().map(ToString::to_string).collect();
        let facts = [
            ("weights", format!("{checkpoint}, step {step}, {content}")),
            ("views", views.join(", ")),
            ("merge", sight.merge_by_name()),
            ("precision", prediction_precision(&self.config, compute)?.to_string()),
            ("device", device),
            ("decoding", decode.to_owned()),
            ("input", listing_fingerprint(task.dataset)),
        ];
        Ok(facts.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// What each view by itself says of the true classes.
    pub(crate) fn view_likelihoods(&self, task: &Task<'_>, views: &[View]) -> Result<ViewLikelihoods, CommandError> {
        let sight = Sight { views: views.to_vec(), merge: Merge::Mean };
        let (model, planned) = self.planned(task, &sight, Answers::Held { later: 0 }, None)?;
        self.pass(task, &sight, &model, ("weighing views", Start::of(&planned)), |pass| {
            view_likelihoods(pass.model, task.dataset, pass.loader, &pass.options, pass.pieces, pass.progress)
        })
    }

    /// The model, and how many images go through it at once; `begun` as in [`BatchSubject`].
    pub(super) fn planned(
        &self,
        task: &Task<'_>,
        sight: &Sight,
        answers: Answers,
        begun: Option<Begun>,
    ) -> Result<(Network, PlannedBatch), CommandError> {
        let model = self.model(task.compute)?;
        let planned = self.plan(task, sight, &model, answers, (None, begun))?;
        Ok((model, planned))
    }

    /// How many images go through the model at once; `later_models` and `begun` as in [`BatchSubject`].
    pub(super) fn plan(
        &self,
        task: &Task<'_>,
        sight: &Sight,
        model: &Network,
        answers: Answers,
        (later_models, begun): (Option<u64>, Option<Begun>),
    ) -> Result<PlannedBatch, CommandError> {
        let card = &self.card;
        let budget = ResolvedConfig::new(self.config.clone(), &self.folder.resolved_config())?.budget_request();
        let loader = self.loader_options(task);
        let transform: Arc<dyn Transform> = Arc::new(self.transform()?);
        let post_mortem = || self.post_mortem(task.compute);
        let subject = BatchSubject {
            dataset: task.dataset,
            image: [card.image_size, card.image_size, card.in_channels],
            loader: &loader,
            transform: &transform,
            compute: task.compute,
            answers,
            later_models,
            begun,
            post_mortem: &post_mortem,
        };
        let normalization = self.normalization();
        let options = self.options(task, sight, &normalization)?;
        subject.plan(self.batch_size, &budget, model, &options)
    }

    /// Has `work` go through the images with the model.
    fn pass<T>(
        &self,
        task: &Task<'_>,
        sight: &Sight,
        model: &Network,
        (name, start): (&str, Start),
        work: impl FnOnce(OnePass<'_>) -> Result<T, PredictError>,
    ) -> Result<T, CommandError> {
        task.injection.hold_heap_to(self.config.memory.limit.as_ref(), task.compute);
        let normalization = self.normalization();
        let options = self.options(task, sight, &normalization)?;
        let mut pieces = task.pieces(start);
        self.go_through(task, (name, start, 0), |loader, progress| {
            work(OnePass { model, loader, options, pieces: &mut pieces, progress })
        })
    }

    /// Has `work` go through the images as this run loads them, and tells how fast that was. Other models in memory take `other_models_bytes`.
    pub(super) fn go_through<T>(
        &self,
        task: &Task<'_>,
        (name, start, other_models_bytes): (&str, Start, u64),
        work: impl FnOnce(&mut Loader, &mut dyn FnMut(Scoring<'_>)) -> Result<T, PredictError>,
    ) -> Result<T, CommandError> {
        let images = task.dataset.len();
        let mut loader = self.loader(task, start)?;
        let mut progress = Progress::start(name, "images", images as u64);
        let before = start.first_batch.saturating_mul(start.batch_size);
        let mut heard = |scoring: Scoring<'_>| match scoring {
            Scoring::Done(done) => progress.set((before + done) as u64),
            Scoring::OutOfMemory(event) => tell_out_of_memory(event),
        };
        let done = work(&mut loader, &mut heard);
        let done = done.map_err(|error| self.failed(&error, task.compute, other_models_bytes))?;
        let seconds = progress.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let rate = images.saturating_sub(before) as f64 / seconds;
        let waiting = 100.0 * loader.wait_seconds() / seconds;
        progress.finish(format_args!("{} images/s, {waiting:.0} % waiting for data", short_number(rate)));
        Ok(done)
    }

    pub(super) fn normalization(&self) -> Normalization {
        Normalization { mean: self.card.mean.clone(), std: self.card.std.clone() }
    }

    pub(super) fn options<'a>(
        &'a self,
        task: &Task<'a>,
        sight: &'a Sight,
        normalization: &'a Normalization,
    ) -> Result<PredictOptions<'a>, CommandError> {
        Ok(PredictOptions {
            views: &sight.views,
            merge: &sight.merge,
            normalization,
            device: &task.compute.device,
            precision: prediction_precision(&self.config, task.compute)?,
            classes: &self.card.classes,
            fixed_shapes: !task.compute.is_cpu(),
        })
    }

    /// How the images of a task are loaded.
    pub(super) fn loading(&self, task: &Task<'_>) -> Result<Loading, CommandError> {
        let LoaderOptions { workers, prefetch_batches, decode_scaling, .. } = self.loader_options(task);
        Ok(Loading { transform: self.transform()?, decode_scaling, workers, prefetch_batches })
    }

    /// Every image once, in their order.
    fn loader(&self, task: &Task<'_>, start: Start) -> Result<Loader, CommandError> {
        let order: Vec<usize> = (0..task.dataset.len()).collect();
        let options = LoaderOptions { first_batch: start.first_batch, ..self.loader_options(task) };
        let transform = Arc::new(self.transform()?);
        Ok(Loader::new(task.dataset.clone(), batches(&order, start.batch_size), transform, options))
    }

    fn loader_options(&self, task: &Task<'_>) -> LoaderOptions {
        LoaderOptions {
            workers: self.config.data.workers.exactly().unwrap_or_else(|| task.compute.default_workers()),
            prefetch_batches: self.config.data.prefetch_batches,
            interrupt: Some(task.interrupt.clone()),
            decode_scaling: self.config.data.decode == Decode::Scaled,
            ..LoaderOptions::default()
        }
    }

    /// The model's, at the size of the run's images.
    pub(crate) fn architecture(&self) -> Result<Architecture, CommandError> {
        let card = &self.card;
        let architecture = find_architecture(&card.model).map_err(|_| {
            CommandError::wrong_request(format!("`{}` needs the model `{}`", self.path.display(), card.model))
                .with_hint("this program does not know it: update stoker, or see `stoker models`".to_owned())
        })?;
        let (side, path) = (card.image_size, self.path.display());
        architecture.at_image_size(side, side).map_err(|refused| {
            CommandError::wrong_request(format!("`{path}` is for images of {side}x{side}"))
                .with_causes(vec![refused.reason])
        })
    }

    pub(super) fn model(&self, compute: &Compute) -> Result<Network, CommandError> {
        let card = &self.card;
        let spec = ClassifierSpec {
            in_channels: card.in_channels,
            ..ClassifierSpec::new(card.classes.len(), &compute.device)
        };
        let changed = "the file was changed since it was saved: try the other one with `--checkpoint`, or train again";
        let weights = Weights::read(&self.path).map_err(|error| request(&error))?;
        let loaded = weights.load_for_prediction(self.architecture()?.build(&spec), &self.path);
        loaded.map_err(|error| request(&error).with_hint(changed.to_owned()))
    }

    fn transform(&self) -> Result<EvalTransform, CommandError> {
        let card = &self.card;
        let resize = resize_from_name(&card.resize, card.crop_share).zip(filter_from_name(&card.interpolation));
        let known = resize.zip(Channels::from_count(card.in_channels));
        let ((resize, filter), channels) = known.ok_or_else(|| {
            CommandError::wrong_request(format!(
                "`{}` asks for resize `{}` ({}) of {} channels, which this program does not know",
                self.path.display(),
                card.resize,
                card.interpolation,
                card.in_channels
            ))
        })?;
        Ok(EvalTransform { image_size: card.image_size, channels, resize, filter })
    }
}

/// What a prediction computes in on the device at hand.
///
/// # Errors
/// A format that was asked for and that the device lacks.
pub(crate) fn prediction_precision(config: &UserConfig, compute: &Compute) -> Result<Precision, CommandError> {
    const SETTING: &str = "predict.precision";
    let name = compute.selected.describe();
    let asked = config.predict.precision;
    let precision = Precisions::choose(SETTING, asked, Arithmetic::of(&compute.selected), &name)?.first;
    check_device(&compute.device, precision, SETTING, &name)?;
    Ok(precision)
}

/// Several runs in one folder, where one is asked for.
pub(crate) fn runs_of_folds(folder: &RunFolder) -> CommandError {
    let root = folder.root().display();
    let [one, all] = [folder.of_fold(0), folder.root().to_owned()].map(shell_word);
    let hint = format!("name one of them: `--run {one}`; `predict` takes all: `--fold-results {all}`");
    CommandError::wrong_request(format!("`{root}` holds a run for each fold, and no weights of its own"))
        .with_hint(hint)
}

pub(super) fn request(error: &CheckpointError) -> CommandError {
    CommandError::from_request(error).with_hint(error.hint())
}
