use burn::tensor::Device;
use data_pipeline::{Batch, CorruptImage, Dataset, Loader};
use memory_planner::Precision;
use metrics::{ConfusionMatrix, TopKCounter, ValidationScores, argmax};
use vision_nn::{Classifier, Pass};

use crate::loss::cross_entropy_of_row;
use crate::{ComputeError, Normalization, Pieces, Scoring, TrainError, images_to_tensor, storage_type};

/// How a model is scored.
#[derive(Debug, Clone)]
pub struct Evaluator<'a> {
    /// How images are normalised.
    pub normalization: &'a Normalization,
    /// Where the model is; not an autodiff device.
    pub device: &'a Device,
    /// What the model computes in.
    pub precision: Precision,
    /// The k of top-k accuracy.
    pub top_k: usize,
}

/// Scores over a labelled data set.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Mean cross-entropy without label smoothing, nats.
    pub loss: f64,
    /// Counts by label and prediction.
    pub confusion: ConfusionMatrix,
    /// Top-k hits.
    pub top_k: TopKCounter,
    /// Images that were left out.
    pub corrupt: Vec<CorruptImage>,
}

impl Evaluation {
    /// The scores for the record.
    pub fn scores(&self, ema: bool) -> ValidationScores {
        ValidationScores {
            loss: self.loss,
            accuracy: self.confusion.accuracy(),
            macro_f1: self.confusion.macro_f1(),
            top_k: self.top_k.accuracy(),
            samples: self.confusion.total(),
            skipped: self.corrupt.len() as u64,
            ema,
        }
    }
}

/// Scores `model` over all that `loader` gives, and tells `progress` how far it is. Waits for the device.
///
/// When memory runs out, the batch at hand is scored again in smaller pieces, and so are those that follow: `pieces` remembers it.
///
/// # Errors
/// A batch that cannot be loaded, a sample without a label, not one readable sample, or memory that does not suffice for one image.
pub fn evaluate<M: Classifier>(
    model: &M,
    dataset: &Dataset,
    loader: Loader,
    evaluator: &Evaluator,
    pieces: &mut Pieces,
    progress: &mut dyn FnMut(Scoring<'_>),
) -> Result<Evaluation, TrainError> {
    let mut totals = Totals::new(dataset, evaluator.top_k);
    let mut done = 0;
    for batch in loader {
        let batch = batch?;
        done += batch.len() + batch.corrupt.len();
        let logits = evaluator.logits(model, &batch, pieces, progress);
        let logits = logits.map_err(TrainError::of_evaluation)?;
        totals.add(dataset, &batch, &logits)?;
        totals.corrupt.extend(batch.corrupt);
        progress(Scoring::Done(done));
    }
    totals.finish()
}

impl Evaluator<'_> {
    /// Logits of a batch on the host, row after row: `B * K` numbers.
    fn logits<M: Classifier>(
        &self,
        model: &M,
        batch: &Batch,
        pieces: &mut Pieces,
        progress: &mut dyn FnMut(Scoring<'_>),
    ) -> Result<Vec<f32>, ComputeError> {
        let told = &mut |event: &_| progress(Scoring::OutOfMemory(event));
        let parts = pieces.score(batch.len(), self.device, told, |samples, watch| {
            let bytes = batch.sample_bytes();
            let pixels = &batch.pixels[samples.start * bytes..samples.end * bytes];
            let logits = watch.run(|| {
                let images = images_to_tensor(pixels, batch.size, self.normalization, self.device); // [B, C, H, W]
                model.forward(images, &mut Pass::evaluation().storing(storage_type(self.precision))) // [B, K]
            })?;
            Ok(logits.into_data().iter::<f32>().collect::<Vec<f32>>())
        })?;
        Ok(parts.concat())
    }
}

/// Sums over the batches so far.
struct Totals {
    loss: f64,
    confusion: ConfusionMatrix,
    top_k: TopKCounter,
    corrupt: Vec<CorruptImage>,
}

impl Totals {
    fn new(dataset: &Dataset, top_k: usize) -> Self {
        let confusion = ConfusionMatrix::new(dataset.classes.clone());
        Self { loss: 0.0, confusion, top_k: TopKCounter::new(top_k), corrupt: Vec::new() }
    }

    fn add(&mut self, dataset: &Dataset, batch: &Batch, logits: &[f32]) -> Result<(), TrainError> {
        let rows = logits.chunks_exact(dataset.classes.len());
        for (row, (label, sample)) in rows.zip(batch.labels.iter().zip(&batch.samples)) {
            let label = label.ok_or_else(|| no_label(dataset, *sample))? as usize;
            self.loss += cross_entropy_of_row(row, label, 0.0);
            self.top_k.record(row, label);
            // A row without a number at all is a mistake, whatever its label: the first class stands for it.
            let recorded = self.confusion.record(label, argmax(row).unwrap_or(usize::from(label == 0)));
            recorded.map_err(|_| no_label(dataset, *sample))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Evaluation, TrainError> {
        let samples = self.confusion.total();
        if samples == 0 {
            return Err(TrainError::NothingReadable { samples: self.corrupt.len() as u64 });
        }
        let Self { loss, confusion, top_k, corrupt } = self;
        Ok(Evaluation { loss: loss / samples as f64, confusion, top_k, corrupt })
    }
}

fn no_label(dataset: &Dataset, sample: usize) -> TrainError {
    TrainError::NoLabel { path: dataset.samples[sample].path.clone(), classes: dataset.classes.len() }
}
