//! `predict`: a trained run, images, a CSV file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::{Checkpoint as Weights, CheckpointError, RunFolder};
use data_pipeline::{Channels, Dataset, EvalTransform, Loader, LoaderOptions, batches};
use inference::{FittedCalibration, PredictError, PredictOptions, Prediction, Preset, score, write_csv};
use inference::{average, predict as predict_all};
use memory_planner::Precision;
use metrics::Calibration;
use trainer::{Normalization, Phase, Pieces, Scoring};
use vision_nn::ClassifierSpec;

use crate::cli::{Checkpoint, PredictArguments, RunArguments};
use crate::commands::calibrate;
use crate::config::{Decode, Tta, UserConfig};
use crate::error::CommandError;
use crate::registry::{Network, find_architecture};
use crate::run::checks::check_output_file;
use crate::run::compute::Compute;
use crate::run::fold_results::{FoldResult, FoldResults};
use crate::run::precision::{Arithmetic, Precisions, check_device};
use crate::run::recovery::{Injection, tell_out_of_memory};
use crate::run::resolved::resize_from_name;
use crate::ui::{self, Progress};

/// Images in one pass when neither the run nor the user says.
const DEFAULT_BATCH: usize = 16;

/// Classifies images and writes the CSV file.
pub(crate) fn predict(arguments: &PredictArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let members = members(arguments)?;
    let run = TrainedRun::open(&members.runs[0])?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(arguments.run.device)?;
    let dataset = Dataset::open_for_prediction(&arguments.input, &run.weights.card.classes)
        .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    let dataset = Arc::new(dataset);
    let tta = arguments.tta.unwrap_or(run.config.predict.tta);
    let output = arguments.output.clone().unwrap_or_else(|| members.folder(&run).join("predictions.csv"));
    check_output_file(&output, "--output", "predictions.csv")?;
    let calibration = arguments.use_calibration.then(|| run.calibration(preset(tta))).transpose()?;
    let classes = run.weights.card.classes.clone();
    let mut predictions = match &members.folds {
        None => run.predict(&dataset, preset(tta), &compute, &injection, interrupt)?,
        Some(_) => {
            drop(run); // one model in memory at a time
            members.predict(&dataset, preset(tta), &compute, &injection, interrupt)?
        }
    };
    if let Some(calibration) = &calibration {
        calibration.apply(&mut predictions);
    }
    write_csv(&output, &dataset, &classes, &predictions)
        .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    report(&dataset, &predictions, tta, &output)
}

/// The run, or the runs of all folds.
fn members(arguments: &PredictArguments) -> Result<Members, CommandError> {
    let folder = match &arguments.fold_results {
        Some(path) if !path.exists() => return Err(request(&CheckpointError::Missing { path: path.clone() })),
        Some(path) if path.is_dir() => path.as_path(),
        Some(path) => path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        None if arguments.run.run.join("fold_results.yaml").exists() => arguments.run.run.as_path(),
        None => return Ok(Members { runs: vec![arguments.run.clone()], folds: None }),
    };
    let group = RunFolder::open(folder).map_err(|error| request(&error))?;
    let results = FoldResults::read(&group)?.filter(|results| !results.results.is_empty()).ok_or_else(|| {
        let message = format!("`{}` does not exist", group.fold_results().display());
        CommandError::wrong_request(message).with_hint("it is written when a fold is done: `stoker train`".to_owned())
    })?;
    if results.results.len() < results.folds {
        let (done, folds) = (results.results.len(), results.folds);
        ui::note(format_args!("note: {done} of {folds} folds are done: the others have no say"));
    }
    let run = |fold: &FoldResult| RunArguments { run: group.root().join(&fold.run), ..arguments.run.clone() };
    let runs = results.results.iter().map(run).collect();
    Ok(Members { runs, folds: Some(Folds { group, results, weight_by_score: arguments.weight_by_score }) })
}

/// What predicts: one model, or several whose probabilities are averaged.
struct Members {
    /// One at least.
    runs: Vec<RunArguments>,
    folds: Option<Folds>,
}

struct Folds {
    group: RunFolder,
    results: FoldResults,
    weight_by_score: bool,
}

impl Members {
    fn folder(&self, run: &TrainedRun) -> PathBuf {
        self.folds.as_ref().map_or(run.folder.root(), |folds| folds.group.root()).to_owned()
    }

    /// Predicts with one model after the other, and averages.
    fn predict(
        &self,
        dataset: &Arc<Dataset>,
        preset: Preset,
        compute: &Compute,
        injection: &Injection,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Vec<Prediction>, CommandError> {
        let mut predicted = Vec::with_capacity(self.runs.len());
        for (index, arguments) in self.runs.iter().enumerate() {
            let run = TrainedRun::open(arguments)?;
            if run.weights.card.classes != dataset.classes {
                let message = format!("`{}` was trained on other classes than the first run", run.path.display());
                return Err(CommandError::wrong_request(message));
            }
            let predictions = run.predict(dataset, preset, compute, injection, interrupt)?;
            if let Some(scores) = score(dataset, &predictions) {
                ui::note(format_args!("{}: macro-F1 {:.4}", run.folder.root().display(), scores.merged.macro_f1()));
            }
            predicted.push((self.weight(index), predictions));
        }
        average(&predicted).map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))
    }

    fn weight(&self, index: usize) -> f64 {
        let by_score = self.folds.as_ref().filter(|folds| folds.weight_by_score);
        by_score.map_or(1.0, |folds| folds.results.results[index].scores.macro_f1.max(f64::MIN_POSITIVE))
    }
}

/// A run folder with the weights that are asked for.
pub(crate) struct TrainedRun {
    pub(crate) folder: RunFolder,
    pub(crate) config: UserConfig,
    pub(crate) weights: Weights,
    checkpoint: Checkpoint,
    path: PathBuf,
    batch_size: usize,
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
        // The training step of this size fitted with its activations kept; a forward pass alone takes less.
        let planned = config.train.micro_batch_size;
        let asked = arguments.batch_size.unwrap_or(config.predict.batch_size);
        let batch_size = asked.exactly().or(planned.exactly()).unwrap_or(DEFAULT_BATCH);
        Ok(Self { folder, config, weights, checkpoint: arguments.checkpoint, path, batch_size })
    }

    /// A temperature that was fitted to what this run's weights say in these views.
    pub(crate) fn calibration_of(&self, calibration: Calibration, preset: Preset) -> FittedCalibration {
        let step = self.weights.card.progress.step;
        FittedCalibration { calibration, views: names(preset), checkpoint: self.checkpoint.name().to_owned(), step }
    }

    /// The temperature that was fitted to what this run's weights say in these views, from its file.
    fn calibration(&self, preset: Preset) -> Result<FittedCalibration, CommandError> {
        let path = self.folder.calibration();
        let calibration = FittedCalibration::read(&path).map_err(|error| calibrate::failed(&error))?;
        let (checkpoint, step) = (self.checkpoint.name(), self.weights.card.progress.step);
        let checked = calibration.check(&names(preset), checkpoint, step, &path);
        checked.map(|()| calibration).map_err(|error| calibrate::failed(&error))
    }

    pub(crate) fn predict(
        &self,
        dataset: &Arc<Dataset>,
        preset: Preset,
        compute: &Compute,
        injection: &Injection,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Vec<Prediction>, CommandError> {
        let card = &self.weights.card;
        injection.hold_heap_to(self.config.memory.limit.as_ref(), compute);
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
        let loader = Loader::new(dataset.clone(), batches(&order, self.batch_size), transform, options);
        let normalization = Normalization { mean: card.mean.clone(), std: card.std.clone() };
        let options = PredictOptions {
            views: &preset.views(),
            normalization: &normalization,
            device: &compute.device,
            precision: prediction_precision(&self.config, compute)?,
            classes: &card.classes,
        };
        let mut progress = Progress::start("predicting", "images", dataset.len() as u64);
        let mut pieces = Pieces::new(Phase::Prediction, injection.faults.clone());
        let predictions = predict_all(&model, dataset, loader, &options, &mut pieces, &mut |scoring| match scoring {
            Scoring::Done(done) => progress.set(done as u64),
            Scoring::OutOfMemory(event) => tell_out_of_memory(event),
        })
        .map_err(|error| self.failed(&error))?;
        progress.finish("done");
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

/// Prints where the predictions are, and how good they are where labels are known.
fn report(
    dataset: &Dataset,
    predictions: &[Prediction],
    tta: Tta,
    output: &std::path::Path,
) -> Result<(), CommandError> {
    let failed = predictions.iter().filter(|prediction| prediction.outcome.error().is_some()).count();
    let views = preset(tta).views().len();
    let scores = score(dataset, predictions).filter(|_| failed < predictions.len());
    if let Some(scores) = scores {
        ui::out(format_args!("{:<24} {:>10} {:>10} {:>8}", "", "macro-F1", "accuracy", "images"))?;
        let mut rows = vec![("without TTA".to_owned(), &scores.plain)];
        if views > 1 {
            rows.push((format!("with TTA, {views} views"), &scores.merged));
        }
        for (name, matrix) in rows {
            let (macro_f1, accuracy) = (matrix.macro_f1(), matrix.accuracy());
            ui::out(format_args!("{name:<24} {macro_f1:>10.4} {accuracy:>10.4} {:>8}", matrix.total()))?;
        }
    }
    if failed > 0 {
        ui::out(format_args!(
            "images without a prediction: {failed}, each a row with the reason in the column `error`"
        ))?;
    }
    ui::out(format_args!("{} rows written to {}", predictions.len(), output.display()))?;
    if failed == predictions.len() {
        let message = format!("none of the {failed} images could be read");
        let hint = format!("the column `error` of `{}` says why, image by image", output.display());
        return Err(CommandError::failed(message).with_hint(hint));
    }
    Ok(())
}

/// Several runs in one folder, where one is asked for.
pub(crate) fn runs_of_folds(folder: &RunFolder) -> CommandError {
    let root = folder.root().display();
    let hint = format!("name one of them: `--run {root}/fold_0`; `predict` takes all: `--fold-results {root}`");
    CommandError::wrong_request(format!("`{root}` holds a run for each fold, and no weights of its own"))
        .with_hint(hint)
}

fn names(preset: Preset) -> Vec<String> {
    preset.views().iter().map(ToString::to_string).collect()
}

pub(crate) fn preset(tta: Tta) -> Preset {
    match tta {
        Tta::None => Preset::None,
        Tta::Legacy => Preset::Legacy,
        Tta::Essential => Preset::Essential,
        Tta::Comprehensive => Preset::Comprehensive,
    }
}

fn request(error: &CheckpointError) -> CommandError {
    CommandError::from_request(error).with_hint(error.hint())
}
