use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use checkpoint::{Checkpoint, LiveState, LiveTensor, ModelCard, Progress, RunFolder, load_weights};
use metrics::read_records;
use vision_nn::{Classifier, parameter_shapes};

use crate::ema::flat_weights;
use crate::micro_batch::MicroBatch;
use crate::{MemoryLog, TrainError, TrainStep};

/// A run's state: the step with its weights, where training stands, and the folder that holds it.
pub struct TrainSession<M> {
    pub(crate) step: TrainStep<M>,
    pub(crate) card: ModelCard,
    pub(crate) folder: RunFolder,
    pub(crate) micro_batch: MicroBatch,
}

impl<M: Classifier> TrainSession<M> {
    /// A session at its start. `card` describes the model; its progress is set to the start.
    pub fn new(step: TrainStep<M>, mut card: ModelCard, folder: RunFolder) -> Self {
        card.progress = Progress::default();
        let micro_batch = MicroBatch::new(step.options().micro_batch_size);
        Self { step, card, folder, micro_batch }
    }

    /// The model to evaluate, off the tape.
    pub fn evaluation_model(&self) -> M {
        self.step.evaluation_model()
    }

    /// Most samples in one forward and backward pass, as it is now: less than was planned where memory ran out.
    pub fn micro_batch_size(&self) -> usize {
        self.micro_batch.size()
    }

    /// Takes up the state of `last`, and the micro-batch that the run had come to; a run that was stopped before its first checkpoint starts
    /// over, with that micro-batch.
    ///
    /// # Errors
    /// A damaged checkpoint, one of another model, [`TrainError::OtherRun`], [`TrainError::NoOptimizerState`], or [`TrainError::NoLast`].
    pub fn resume(mut self, device: &Device) -> Result<Self, TrainError> {
        self.micro_batch = MemoryLog::of(&self.folder).micro_batch(self.step.options().micro_batch_size)?;
        let path = self.folder.last();
        if !path.exists() {
            self.refuse_to_lose_epochs(path)?;
            return Ok(self);
        }
        let saved = Checkpoint::read(&path)?;
        refuse_other_run(&path, &saved.card, &self.card)?;
        let progress = saved.card.progress.clone();
        let plain_device = device.clone().inner();
        self.step.map_model(|model| load_weights(model, saved.weights, &self.card.model, &path))?;
        let optimizer = saved.optimizer.unwrap_or_default();
        // Before the first step that moves anything, nothing is kept.
        let missing = self.step.optimizer.missing_from(&optimizer);
        if progress.optimizer_steps() > 0 && !missing.is_empty() {
            return Err(TrainError::NoOptimizerState { path, missing });
        }
        self.step.optimizer.restore(optimizer, progress.optimizer_steps(), &plain_device);
        // Scaling that was switched on since begins at its start.
        self.step.loss_scale = self.step.loss_scale.map(|fresh| progress.loss_scale.unwrap_or(fresh));
        self.step.ema = match (self.step.ema.take(), saved.ema) {
            (Some(ema), Some(state)) => Some(ema.restore(state)?),
            // Averaging was switched on or off since; switched on, it starts from the weights of now.
            _ => self.step.fresh_ema(),
        };
        self.card.progress = progress;
        Ok(self)
    }

    /// Refuses to start over in place of `last`, which is not there, where more than an epoch would be lost: the first is recorded before it is saved.
    fn refuse_to_lose_epochs(&self, last: PathBuf) -> Result<(), TrainError> {
        let metrics = self.folder.metrics();
        let epochs = if metrics.exists() { read_records(&metrics)?.len() } else { 0 };
        if epochs <= 1 {
            return Ok(());
        }
        let best = Checkpoint::read(&self.folder.best()).ok().and_then(|best| best.card.progress.best);
        Err(TrainError::NoLast { path: last, epochs, best: best.map(|best| best.epoch) })
    }

    /// Where training stands.
    pub fn progress(&self) -> &Progress {
        &self.card.progress
    }

    /// Writes `last`: all that is needed to go on.
    pub(crate) fn save_last(&self) -> Result<(), TrainError> {
        self.save_state(&self.folder.last())
    }

    /// Writes all of the state to one file.
    pub(crate) fn save_state(&self, path: &Path) -> Result<(), TrainError> {
        let mut card = self.card.clone();
        card.progress.loss_scale = self.step.loss_scale;
        let step = &self.step;
        let state = LiveState {
            weights: live_weights(step.model()),
            ema: step.ema.as_ref().map(|ema| live_weights(ema.model())).unwrap_or_default(),
            optimizer: step.optimizer.live_state(),
        };
        Ok(state.write(&card, path)?)
    }

    /// Writes the evaluated weights alone, ready for prediction.
    pub(crate) fn write_evaluated(&self, path: &Path) -> Result<(), TrainError> {
        self.write_weights(&self.step.evaluation_model(), path)
    }

    /// Writes a model's weights alone, with where training stands.
    pub(crate) fn write_weights(&self, model: &M, path: &Path) -> Result<(), TrainError> {
        let state = LiveState { weights: live_weights(model), ..LiveState::default() };
        Ok(state.write(&self.card, path)?)
    }
}

/// Whether a saved state is of the run that is to take it up: of the same model, the same classes in the same order, and the same images, where both
/// know theirs.
fn refuse_other_run(path: &Path, saved: &ModelCard, here: &ModelCard) -> Result<(), TrainError> {
    let images = saved.images.clone().zip(here.images.clone());
    let compared = [
        Some(("the model is", (saved.model.clone(), here.model.clone()))),
        Some(("the classes are", (saved.classes.join(", "), here.classes.join(", ")))),
        images.map(|images| ("the fingerprint of its images is", images)),
    ];
    match compared.into_iter().flatten().find(|(_, (saved, here))| saved != here) {
        Some((what, (saved, here))) => Err(TrainError::OtherRun { path: path.to_owned(), what, saved, here }),
        None => Ok(()),
    }
}

/// A model's weights by name, where they are.
fn live_weights<M: Classifier>(model: &M) -> BTreeMap<String, LiveTensor> {
    let shapes: BTreeMap<String, Vec<usize>> = parameter_shapes(model).into_iter().collect();
    let weights = flat_weights(model).into_iter();
    weights.map(|(name, values)| (name.clone(), LiveTensor::new(values, shapes[&name].clone()))).collect()
}
