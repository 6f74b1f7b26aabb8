//! A run folder, as predictions need it.

use std::path::PathBuf;
use std::sync::Arc;

use checkpoint::{Checkpoint as Weights, CheckpointError, RunFolder};
use data_pipeline::{Channels, EvalTransform, Loader, LoaderOptions, batches};
use inference::{FittedCalibration, PredictError, PredictOptions, Prediction, Preset, predict};
use memory_planner::Precision;
use metrics::Calibration;
use trainer::{Normalization, Phase, Pieces, Scoring};
use vision_nn::ClassifierSpec;

use super::Task;
use super::batch::BatchSubject;
use crate::cli::{Checkpoint, RunArguments};
use crate::commands::calibrate;
use crate::config::{AutoCount, Decode, UserConfig};
use crate::error::CommandError;
use crate::registry::{Network, find_architecture};
use crate::run::compute::Compute;
use crate::run::precision::{Arithmetic, Precisions, check_device};
use crate::run::recovery::tell_out_of_memory;
use crate::run::resolved::{ResolvedConfig, resize_from_name};
use crate::ui::Progress;

/// A run folder with the weights that are asked for.
pub(crate) struct TrainedRun {
    pub(crate) folder: RunFolder,
    pub(crate) config: UserConfig,
    pub(crate) weights: Weights,
    checkpoint: Checkpoint,
    pub(super) path: PathBuf,
    /// Images at once that were asked for.
    batch_size: AutoCount,
}

impl TrainedRun {
    pub(crate) fn open(arguments: &RunArguments) -> Result<Self, CommandError> {
        let folder = RunFolder::open(&arguments.run).map_err(|error| request(&error))?;
        let config = UserConfig::load(&folder.resolved_config(), &[])?;
        let path = match arguments.checkpoint {
            Checkpoint::Best => folder.best(),
            Checkpoint::Last => folder.last(),
        };
        if !path.exists() && folder.fold_results().exists() {
            return Err(runs_of_folds(&folder));
        }
        let weights = Weights::read(&path).map_err(|error| request(&error))?;
        if weights.card.model != config.model.name {
            let (found, expected) = (&weights.card.model, &config.model.name);
            return Err(CommandError::wrong_request(format!(
                "`{}` holds weights of `{found}`, but the run trained `{expected}`",
                path.display()
            ))
            .with_hint("it was copied from another run: name that run with `--run`".to_owned()));
        }
        let batch_size = arguments.batch_size.unwrap_or(config.predict.batch_size);
        Ok(Self { folder, config, weights, checkpoint: arguments.checkpoint, path, batch_size })
    }

    /// A temperature that was fitted to what this run's weights say in these views.
    pub(crate) fn calibration_of(&self, calibration: Calibration, preset: Preset) -> FittedCalibration {
        let step = self.weights.card.progress.step;
        FittedCalibration { calibration, views: names(preset), checkpoint: self.checkpoint.name().to_owned(), step }
    }

    /// The temperature that was fitted to what this run's weights say in these views, from its file.
    pub(crate) fn calibration(&self, preset: Preset) -> Result<FittedCalibration, CommandError> {
        let path = self.folder.calibration();
        let calibration = FittedCalibration::read(&path).map_err(|error| calibrate::failed(&error))?;
        let (checkpoint, step) = (self.checkpoint.name(), self.weights.card.progress.step);
        let checked = calibration.check(&names(preset), checkpoint, step, &path);
        checked.map(|()| calibration).map_err(|error| calibrate::failed(&error))
    }

    pub(crate) fn predict(&self, task: &Task<'_>) -> Result<Vec<Prediction>, CommandError> {
        let Task { dataset, preset, compute, injection, interrupt } = *task;
        let card = &self.weights.card;
        let model = self.model(compute)?;
        let order: Vec<usize> = (0..dataset.len()).collect();
        let options = LoaderOptions {
            workers: self.config.data.workers.exactly().unwrap_or_else(|| compute.default_workers()),
            prefetch_batches: self.config.data.prefetch_batches,
            interrupt: Some(interrupt.clone()),
            decode_scaling: self.config.data.decode == Decode::Scaled,
            ..LoaderOptions::default()
        };
        let transform = Arc::new(self.transform()?);
        let normalization = Normalization { mean: card.mean.clone(), std: card.std.clone() };
        let predict_options = PredictOptions {
            views: &preset.views(),
            normalization: &normalization,
            device: &compute.device,
            precision: prediction_precision(&self.config, compute)?,
            classes: &card.classes,
        };
        let budget = ResolvedConfig::new(self.config.clone(), &self.folder.resolved_config()).budget_request();
        let image = [card.image_size, card.image_size, card.in_channels];
        let subject = BatchSubject { dataset, image, loader: &options, compute };
        let planned = subject.plan(self.batch_size, &budget, &model, &predict_options)?;
        injection.hold_heap_to(self.config.memory.limit.as_ref(), compute);
        let loader = Loader::new(dataset.clone(), batches(&order, planned.images), transform, options);
        let mut progress = Progress::start("predicting", "images", dataset.len() as u64);
        let mut pieces = Pieces::new(Phase::Prediction, injection.faults.clone());
        let predictions =
            predict(&model, dataset, loader, &predict_options, &mut pieces, &mut |scoring| match scoring {
                Scoring::Done(done) => progress.set(done as u64),
                Scoring::OutOfMemory(event) => tell_out_of_memory(event),
            })
            .map_err(|error| self.failed(&error))?;
        progress.finish("done");
        planned.tell_peak();
        Ok(predictions)
    }

    fn failed(&self, error: &PredictError) -> CommandError {
        let limit = match error {
            PredictError::Load(data_pipeline::LoadError::Interrupted) => {
                return CommandError::interrupted("interrupted; nothing was written");
            }
            PredictError::OutOfMemory { reason } => reason.sufficient_limit_mebibytes(),
            _ => None,
        };
        // `predict` takes the limit from the run.
        let config = self.folder.resolved_config();
        let raise = limit.map(|limit| format!("set `memory.limit: {limit}MiB` or more in `{}`", config.display()));
        CommandError::from_run(error).with_hint(error.hint()).with_hint(raise)
    }

    fn model(&self, compute: &Compute) -> Result<Network, CommandError> {
        let card = &self.weights.card;
        let architecture = find_architecture(&card.model).map_err(|_| {
            CommandError::wrong_request(format!("`{}` needs the model `{}`", self.path.display(), card.model))
                .with_hint("this program does not know it: update stoker, or see `stoker models`".to_owned())
        })?;
        let (side, path) = (card.image_size, self.path.display());
        let architecture = architecture.at_image_size(side, side).map_err(|refused| {
            CommandError::wrong_request(format!("`{path}` is for images of {side}x{side}"))
                .with_causes(vec![refused.reason])
        })?;
        let spec = ClassifierSpec {
            in_channels: card.in_channels,
            ..ClassifierSpec::new(card.classes.len(), &compute.device)
        };
        let changed = "the file was changed since it was saved: try the other one with `--checkpoint`, or train again";
        let loaded = self.weights.load_for_prediction(architecture.build(&spec), &self.path);
        loaded.map_err(|error| request(&error).with_hint(changed.to_owned()))
    }

    fn transform(&self) -> Result<EvalTransform, CommandError> {
        let card = &self.weights.card;
        let known = resize_from_name(&card.resize).zip(Channels::from_count(card.in_channels));
        let (resize, channels) = known.ok_or_else(|| {
            CommandError::wrong_request(format!(
                "`{}` asks for resize `{}` of {} channels, which this program does not know",
                self.path.display(),
                card.resize,
                card.in_channels
            ))
        })?;
        Ok(EvalTransform { image_size: card.image_size, channels, resize })
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
fn runs_of_folds(folder: &RunFolder) -> CommandError {
    let root = folder.root().display();
    let hint = format!("name one of them: `--run {root}/fold_0`; `predict` takes all: `--fold-results {root}`");
    CommandError::wrong_request(format!("`{root}` holds a run for each fold, and no weights of its own"))
        .with_hint(hint)
}

fn names(preset: Preset) -> Vec<String> {
    preset.views().iter().map(ToString::to_string).collect()
}

pub(super) fn request(error: &CheckpointError) -> CommandError {
    CommandError::from_request(error).with_hint(error.hint())
}
