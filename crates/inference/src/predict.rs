//! From images to probabilities.

use burn::tensor::Device;
use data_pipeline::{Batch, CorruptImage, Dataset, Loader};
use memory_planner::Precision;
use trainer::{Normalization, Pieces, Scoring, storage_type};
use vision_nn::{Classifier, Pass};

use crate::passes::score_batch;
use crate::{Merge, PredictError, View};

/// How images are predicted.
#[derive(Debug, Clone, Copy)]
pub struct PredictOptions<'a> {
    /// The views that are merged: a view that is listed twice counts twice.
    pub views: &'a [View],
    /// How they are merged; with as many weights as views.
    pub merge: &'a Merge,
    /// How images are normalised: the model's own figures.
    pub normalization: &'a Normalization,
    /// Where the model is; not an autodiff device.
    pub device: &'a Device,
    /// What the model computes in.
    pub precision: Precision,
    /// The model's classes, in the order of its scores.
    pub classes: &'a [String],
    /// Whether a pass that has fewer images than may be at once is filled up with black ones, whose scores are dropped: a card compiles and
    /// tunes its kernels for each shape that it meets, and a set whose last batch is short would have it do so again. On the CPU, which does
    /// neither, it would be work for nothing.
    pub fixed_shapes: bool,
}

/// A model, and how it goes through images.
#[derive(Debug)]
pub struct Predictor<'a, M> {
    /// The model.
    pub model: &'a M,
    /// How it is shown the images.
    pub options: PredictOptions<'a>,
    /// How many it is shown at once.
    pub pieces: &'a mut Pieces,
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
        /// The probabilities of the views, merged: `[classes]`, sums to 1.
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
/// set's order: [`predict_batches`], all of it kept.
///
/// # Errors
/// As [`predict_batches`], and a sample that the loader leaves out.
pub fn predict(
    model: &impl Classifier,
    dataset: &Dataset,
    loader: &mut Loader,
    options: &PredictOptions,
    pieces: &mut Pieces,
    progress: &mut dyn FnMut(Scoring<'_>),
) -> Result<Vec<Prediction>, PredictError> {
    let mut outcomes = Outcomes::new(dataset);
    let mut keep = |batch: Vec<Prediction>, _: usize| outcomes.extend(batch);
    predict_batches(model, dataset, loader, options, pieces, progress, &mut keep)?;
    outcomes.in_order()
}

/// Predicts the batches of `loader`, and gives each to `take`: a prediction for every one of its samples, in ascending order, and how many
/// images were computed at once, at most. Keeps none of them. Tells `progress` the number of images done after each batch. Waits for the
/// device.
///
/// A pass takes as many images as [`Pieces::at_most`] allows, each view of an image counted as one: several views of few images, or a part of
/// one view of many. Beside what a forward pass takes, the device holds a second copy of its input, and a third where a pass spans several
/// views. When memory runs out, the pass at hand is done again in smaller ones, and so are those that follow: `pieces` remembers it.
///
/// # Errors
/// A batch that cannot be loaded, options that do not fit the data or the model, memory that does not suffice for one image, and what `take`
/// refuses. Have the loader skip corrupt images: they come back as [`Outcome::Unreadable`].
pub fn predict_batches(
    model: &impl Classifier,
    dataset: &Dataset,
    loader: &mut Loader,
    options: &PredictOptions,
    pieces: &mut Pieces,
    progress: &mut dyn FnMut(Scoring<'_>),
    take: &mut dyn FnMut(Vec<Prediction>, usize) -> Result<(), PredictError>,
) -> Result<(), PredictError> {
    let mut only = [Predictor { model, options: *options, pieces }];
    predict_together(&mut only, dataset, loader, progress, &mut |_, batch, at_once| take(batch, at_once))
}

/// As [`predict_batches`] by each of several models, with each batch loaded once for all of them; `take` is given the model's place first. A batch
/// is given when all models have seen it: whatever stops one of them, all have the same batches.
///
/// # Errors
/// As [`predict_batches`].
pub fn predict_together<M: Classifier>(
    predictors: &mut [Predictor<'_, M>],
    dataset: &Dataset,
    loader: &mut Loader,
    progress: &mut dyn FnMut(Scoring<'_>),
    take: &mut dyn FnMut(usize, Vec<Prediction>, usize) -> Result<(), PredictError>,
) -> Result<(), PredictError> {
    predictors.iter().try_for_each(|predictor| predictor.options.check_classes(dataset))?;
    let mut done = 0;
    for batch in loader {
        let batch = batch?;
        let mut said = Vec::with_capacity(predictors.len());
        for predictor in predictors.iter_mut() {
            said.push(predictor.predict(&batch, progress)?);
        }
        done += batch.len() + batch.corrupt.len();
        for (place, (predictions, predictor)) in said.into_iter().zip(predictors.iter()).enumerate() {
            take(place, predictions, predictor.pieces.largest())?;
        }
        progress(Scoring::Done(done));
    }
    Ok(())
}

impl<M: Classifier> Predictor<'_, M> {
    /// Every sample of the batch, in ascending order.
    fn predict(
        &mut self,
        batch: &Batch,
        progress: &mut dyn FnMut(Scoring<'_>),
    ) -> Result<Vec<Prediction>, PredictError> {
        let options = &self.options;
        let mut predictions = Vec::with_capacity(batch.len() + batch.corrupt.len());
        if !batch.is_empty() {
            options.check_images(batch.size)?;
            let scored = score_batch(self.model, batch, options, self.pieces, progress)?;
            let scored = batch.samples.iter().zip(&scored);
            predictions.extend(scored.map(|(&sample, scores)| Prediction { sample, outcome: scores.outcome(options) }));
        }
        let unreadable = |image: &CorruptImage| Outcome::Unreadable { reason: image.reason.clone() };
        let corrupt = batch.corrupt.iter();
        predictions.extend(corrupt.map(|image| Prediction { sample: image.sample, outcome: unreadable(image) }));
        predictions.sort_by_key(|prediction| prediction.sample);
        Ok(predictions)
    }
}

impl PredictOptions<'_> {
    pub(crate) fn pass(&self) -> Pass {
        Pass::evaluation().storing(storage_type(self.precision))
    }

    pub(crate) fn check_classes(&self, dataset: &Dataset) -> Result<(), PredictError> {
        if self.views.is_empty() {
            return Err(PredictError::NoViews);
        }
        if !self.merge.serves(self.views.len()) {
            return Err(PredictError::Weights { views: self.views.len() });
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

/// A place for each sample of a data set.
struct Outcomes<'a> {
    dataset: &'a Dataset,
    by_sample: Vec<Option<Outcome>>,
}

impl<'a> Outcomes<'a> {
    fn new(dataset: &'a Dataset) -> Self {
        Self { dataset, by_sample: vec![None; dataset.len()] }
    }

    fn extend(&mut self, predictions: Vec<Prediction>) -> Result<(), PredictError> {
        let samples = self.dataset.len();
        for Prediction { sample, outcome } in predictions {
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
                merge: &Merge::Mean,
                normalization: &normalization,
                device: &device,
                precision: Precision::Fp32,
                classes: &[],
                fixed_shapes: false,
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
}
