use burn::tensor::Device;
use data_pipeline::{CorruptImage, Dataset, Loader};
use metrics::{ConfusionMatrix, TopKCounter, ValidationScores, argmax};
use vision_nn::{Classifier, Pass};

use crate::loss::cross_entropy_of_row;
use crate::{Normalization, TrainError, images_to_tensor};

/// How a model is scored.
#[derive(Debug, Clone)]
pub struct Evaluator<'a> {
    /// How images are normalised.
    pub normalization: &'a Normalization,
    /// Where the model is; not an autodiff device.
    pub device: &'a Device,
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

/// Scores `model` over all that `loader` gives, calling `progress` with the number of samples done. Waits for the device.
///
/// # Errors
/// A batch that cannot be loaded, a sample without a label, or not one readable sample.
pub fn evaluate<M: Classifier>(
    model: &M,
    dataset: &Dataset,
    loader: Loader,
    evaluator: &Evaluator,
    progress: &mut dyn FnMut(usize),
) -> Result<Evaluation, TrainError> {
    let mut confusion = ConfusionMatrix::new(dataset.classes.clone());
    let mut top_k = TopKCounter::new(evaluator.top_k);
    let (mut loss, mut done, mut corrupt) = (0.0, 0, Vec::new());
    for batch in loader {
        let batch = batch?;
        done += batch.len() + batch.corrupt.len();
        corrupt.extend(batch.corrupt.iter().cloned());
        if !batch.is_empty() {
            let images = images_to_tensor(&batch.pixels, batch.size, evaluator.normalization, evaluator.device);
            let logits = model.forward(images, &mut Pass::evaluation()).into_data(); // [B, K]
            let logits: Vec<f32> = logits.iter::<f32>().collect();
            for (row, (label, sample)) in
                logits.chunks_exact(dataset.classes.len()).zip(batch.labels.iter().zip(&batch.samples))
            {
                let label = label.ok_or_else(|| no_label(dataset, *sample))? as usize;
                loss += cross_entropy_of_row(row, label, 0.0);
                top_k.record(row, label);
                // A row without a number at all is a mistake, whatever its label: the first class stands for it.
                let recorded = confusion.record(label, argmax(row).unwrap_or(usize::from(label == 0)));
                recorded.map_err(|_| no_label(dataset, *sample))?;
            }
        }
        progress(done);
    }
    let samples = confusion.total();
    if samples == 0 {
        return Err(TrainError::NothingReadable { samples: corrupt.len() as u64 });
    }
    Ok(Evaluation { loss: loss / samples as f64, confusion, top_k, corrupt })
}

fn no_label(dataset: &Dataset, sample: usize) -> TrainError {
    TrainError::NoLabel { path: dataset.samples[sample].path.clone(), classes: dataset.classes.len() }
}
