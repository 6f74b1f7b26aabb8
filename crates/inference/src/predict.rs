//! From images to probabilities.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use data_pipeline::{Batch, Dataset, Loader};
use memory_planner::Precision;
use metrics::softmax;
use trainer::{ComputeError, MemoryWatch, Normalization, Pieces, Scoring, images_to_tensor, storage_type};
use vision_nn::{Classifier, Pass};

use crate::{PredictError, View};

/// How images are predicted.
#[derive(Debug, Clone, Copy)]
pub struct PredictOptions<'a> {
    /// The views that are averaged, each with the same weight: a view that is listed twice counts twice.
    pub views: &'a [View],
    /// How images are normalised: the model's own figures.
    pub normalization: &'a Normalization,
    /// Where the model is; not an autodiff device.
    pub device: &'a Device,
    /// What the model computes in.
    pub precision: Precision,
    /// The model's classes, in the order of its scores.
    pub classes: &'a [String],
}

/// What became of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Index in the data set.
    pub sample: usize,
    /// Probabilities, or why there are none.
    pub outcome: Outcome,
}

/// Probabilities, or why there are none.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The image was scored.
    Scored {
        /// Probabilities from the image as it is: `[classes]`, sums to 1.
        plain: Vec<f32>,
        /// Mean of the probabilities over the views: `[classes]`, sums to 1.
        merged: Vec<f32>,
    },
    /// The file could not be read as an image.
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// The model's scores for the image are not finite numbers.
    NotFinite {
        /// The first such view.
        view: View,
    },
}

impl Outcome {
    /// Why there are no probabilities, on one line; none where there are.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Scored { .. } => None,
            Self::Unreadable { reason } => Some(reason.clone()),
            Self::NotFinite { view } => Some(format!("the model's scores are not finite in view `{view}`")),
        }
    }
}

/// Predicts every sample of `dataset`, which `loader` gives in any order, and returns one prediction a sample in the data
/// set's order. Tells `progress` the number of images done after each batch. Waits for the device.
///
/// The views of a batch go through the model in turn: the device holds one view's activations at a time and, beside what a
/// forward pass takes, a second copy of the batch's input. When memory runs out, the batch at hand is done again in smaller pieces, and so
/// are those that follow: `pieces` remembers it.
///
/// # Errors
/// A batch that cannot be loaded, a sample that the loader leaves out, options that do not fit the data or the model, and memory that does
/// not suffice for one image. Have the loader skip corrupt images: they come back as [`Outcome::Unreadable`].
pub fn predict(
    model: &impl Classifier,
    dataset: &Dataset,
    loader: Loader,
    options: &PredictOptions,
    pieces: &mut Pieces,
    progress: &mut dyn FnMut(Scoring<'_>),
) -> Result<Vec<Prediction>, PredictError> {
    options.check_classes(dataset)?;
    let mut outcomes = Outcomes::new(dataset);
    let mut done = 0;
    for batch in loader {
        let batch = batch?;
        if !batch.is_empty() {
            options.check_images(batch.size)?;
            let scored = score_batch(model, &batch, options, pieces, progress)?;
            outcomes.extend(batch.samples.iter().copied().zip(scored))?;
        }
        done += batch.len() + batch.corrupt.len();
        let unreadable = |reason| Outcome::Unreadable { reason };
        outcomes.extend(batch.corrupt.into_iter().map(|image| (image.sample, unreadable(image.reason))))?;
        progress(Scoring::Done(done));
    }
    outcomes.in_order()
}

impl PredictOptions<'_> {
    fn pass(&self) -> Pass {
        Pass::evaluation().storing(storage_type(self.precision))
    }

    fn check_classes(&self, dataset: &Dataset) -> Result<(), PredictError> {
        if self.views.is_empty() {
            return Err(PredictError::NoViews);
        }
        if dataset.classes != self.classes {
            let (expected, found) = (self.classes.to_vec(), dataset.classes.clone());
            return Err(PredictError::OtherClasses { expected, found });
        }
        Ok(())
    }

    pub(crate) fn check_images(&self, [height, width, found]: [usize; 3]) -> Result<(), PredictError> {
        let expected = self.normalization.mean.len().min(self.normalization.std.len());
        if found != expected {
            return Err(PredictError::Channels { expected, found });
        }
        match self.views.iter().find(|view| view.swaps_axes()) {
            Some(&view) if height != width => Err(PredictError::NotSquare { view, height, width }),
            _ => Ok(()),
        }
    }
}

/// The outcome of each sample of a batch, in its order.
pub(crate) fn score_batch(
    model: &impl Classifier,
    batch: &Batch,
    options: &PredictOptions,
    pieces: &mut Pieces,
    progress: &mut dyn FnMut(Scoring<'_>),
) -> Result<Vec<Outcome>, PredictError> {
    let told = &mut |event: &_| progress(Scoring::OutOfMemory(event));
    let scored = pieces.score(batch.len(), options.device, told, |samples, watch| {
        // Another width of the model is no matter of memory.
        match score_views(model, batch, samples, options, watch) {
            Err(ScoreError::Compute(error)) => Err(error),
            Err(ScoreError::ModelWidth { found }) => Ok(Err(found)),
            Ok(outcomes) => Ok(Ok(outcomes)),
        }
    })?;
    let expected = options.classes.len();
    let outcomes: Result<Vec<Vec<Outcome>>, usize> = scored.into_iter().collect();
    outcomes.map(|outcomes| outcomes.concat()).map_err(|found| PredictError::ModelWidth { expected, found })
}

/// Why a piece of a batch has no scores.
enum ScoreError {
    Compute(ComputeError),
    ModelWidth { found: usize },
}

impl From<ComputeError> for ScoreError {
    fn from(error: ComputeError) -> Self {
        Self::Compute(error)
    }
}

/// The outcome of each of `samples`, places in the batch.
fn score_views(
    model: &impl Classifier,
    batch: &Batch,
    samples: Range<usize>,
    options: &PredictOptions,
    watch: &MemoryWatch,
) -> Result<Vec<Outcome>, ScoreError> {
    let bytes = batch.sample_bytes();
    let pixels = &batch.pixels[samples.start * bytes..samples.end * bytes];
    let images = || images_to_tensor(pixels, batch.size, options.normalization, options.device);
    let images = watch.run(images)?; // [B, C, H, W]
    let mut merges = vec![Merge::default(); samples.len()];
    if !options.views.contains(&View::IDENTITY) {
        let rows = score(model, || images.clone(), options, watch)?;
        merges.iter_mut().zip(rows).for_each(|(merge, row)| merge.set_plain(row));
    }
    for &view in options.views {
        let rows = score(model, || view.apply(images.clone(), options.normalization), options, watch)?;
        merges.iter_mut().zip(rows).for_each(|(merge, row)| merge.add(view, row));
    }
    Ok(merges.into_iter().map(Merge::finish).collect())
}

/// Probabilities of one view's images, a row each. Waits for the device: so no view's work begins before the last one's
/// memory is free, and scores are read only once it is known that they were computed.
fn score(
    model: &impl Classifier,
    images: impl FnOnce() -> Tensor<4>,
    options: &PredictOptions,
    watch: &MemoryWatch,
) -> Result<Vec<Vec<f32>>, ScoreError> {
    let logits = watch.run(|| model.forward(images(), &mut options.pass()))?; // [B, K]
    let [_, found] = logits.dims();
    let expected = options.classes.len();
    if found != expected {
        return Err(ScoreError::ModelWidth { found });
    }
    let logits = logits.try_into_data().map_err(|error| ComputeError::from_device(&error.to_string()))?;
    let logits: Vec<f32> = logits.iter::<f32>().collect();
    Ok(logits.chunks_exact(expected).map(softmax).collect())
}

/// One image's probabilities, gathered view by view.
#[derive(Debug, Clone, Default)]
struct Merge {
    plain: Vec<f32>,
    /// In f64, so that the mean of one view is that view, bit for bit, and the order of views does not show.
    sum: Vec<f64>,
    views: usize,
    not_finite: Option<View>,
}

impl Merge {
    fn set_plain(&mut self, row: Vec<f32>) {
        self.check(View::IDENTITY, &row);
        self.plain = row;
    }

    fn add(&mut self, view: View, row: Vec<f32>) {
        self.check(view, &row);
        self.sum.resize(row.len(), 0.0);
        self.sum.iter_mut().zip(&row).for_each(|(sum, &probability)| *sum += f64::from(probability));
        self.views += 1;
        if view == View::IDENTITY {
            self.plain = row;
        }
    }

    /// Softmax shows a score that is not finite as NaN, or is right about it: a class at minus infinity has probability 0.
    fn check(&mut self, view: View, row: &[f32]) {
        if self.not_finite.is_none() && row.iter().any(|probability| probability.is_nan()) {
            self.not_finite = Some(view);
        }
    }

    fn finish(self) -> Outcome {
        let views = self.views as f64;
        match self.not_finite {
            Some(view) => Outcome::NotFinite { view },
            None => {
                let merged = self.sum.iter().map(|sum| (sum / views) as f32).collect();
                Outcome::Scored { plain: self.plain, merged }
            }
        }
    }
}

/// A place for each sample of a data set.
struct Outcomes<'a> {
    dataset: &'a Dataset,
    by_sample: Vec<Option<Outcome>>,
}

impl<'a> Outcomes<'a> {
    fn new(dataset: &'a Dataset) -> Self {
        Self { dataset, by_sample: vec![None; dataset.len()] }
    }

    fn extend(&mut self, outcomes: impl Iterator<Item = (usize, Outcome)>) -> Result<(), PredictError> {
        let samples = self.dataset.len();
        for (sample, outcome) in outcomes {
            // The loader may have been given another, larger data set.
            let place = self.by_sample.get_mut(sample);
            let place = place.ok_or(data_pipeline::LoadError::NoSuchSample { sample, samples })?;
            *place = Some(outcome);
        }
        Ok(())
    }

    fn in_order(self) -> Result<Vec<Prediction>, PredictError> {
        if let Some(first) = self.by_sample.iter().position(Option::is_none) {
            return Err(PredictError::NotLoaded {
                missing: self.by_sample.iter().filter(|outcome| outcome.is_none()).count(),
                samples: self.by_sample.len(),
                first: self.dataset.samples[first].path.clone(),
            });
        }
        let outcomes = self.by_sample.into_iter().flatten().enumerate();
        Ok(outcomes.map(|(sample, outcome)| Prediction { sample, outcome }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    #[test]
    fn views_that_swap_axes_are_refused_for_images_that_are_not_square_and_others_are_not() {
        let (normalization, device) = (Normalization::imagenet(3), Device::flex());
        let check = |views: &[View], size| {
            let options = PredictOptions {
                views,
                normalization: &normalization,
                device: &device,
                precision: Precision::Fp32,
                classes: &[],
            };
            options.check_images(size)
        };
        let views = Preset::Essential.views();
        let error = check(&views, [4, 6, 3]).unwrap_err();
        assert_eq!(error.to_string(), "view `rotate_90` swaps height and width, but images are 4 x 6");
        assert!(error.hint().is_some());
        assert!(check(&views, [6, 6, 3]).is_ok());
        assert!(check(&views[..3], [4, 6, 3]).is_ok(), "the image and its flips");
    }

    #[test]
    fn the_first_view_without_finite_scores_is_the_one_that_is_told() {
        let brighter = View::Brightness { factor: 1.1 };
        let mut merge = Merge::default();
        merge.add(View::IDENTITY, vec![0.5, 0.5]);
        merge.add(brighter, vec![f32::NAN, f32::NAN]);
        merge.add(View::Zoom { factor: 1.1 }, vec![f32::NAN, f32::NAN]);
        let outcome = merge.finish();
        assert_eq!(outcome, Outcome::NotFinite { view: brighter });
        assert_eq!(outcome.error().unwrap(), "the model's scores are not finite in view `brightness_1.1`");
    }
}
