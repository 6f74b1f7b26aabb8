//! A batch of images in several views, through the model in passes of as many images as fit.

use std::cell::Cell;
use std::ops::Range;

use burn::tensor::Tensor;
use data_pipeline::Batch;
use metrics::softmax;
use trainer::{ComputeError, MemoryWatch, Pieces, RecoveryEvent, Scoring, images_to_tensor};
use vision_nn::Classifier;

use crate::{Outcome, PredictError, PredictOptions, View};

/// What the model says of one image: logits.
#[derive(Debug, Clone)]
pub(crate) struct ImageScores {
    /// Of the image as it is: `[classes]`.
    plain: Vec<f32>,
    /// Of each view of the options, in their order: `[views][classes]`.
    views: Vec<Vec<f32>>,
}

impl ImageScores {
    /// The first view, or the image as it is, with a score that makes no probabilities.
    fn not_finite(&self, views: &[View]) -> Option<View> {
        let rows = views.iter().copied().zip(&self.views);
        let with_plain = std::iter::once((View::IDENTITY, &self.plain)).filter(|_| !views.contains(&View::IDENTITY));
        // Softmax shows a score that is not finite as NaN, or is right about it: a class at minus infinity has probability 0.
        let is_broken = |row: &[f32]| softmax(row).iter().any(|probability| probability.is_nan());
        with_plain.chain(rows).find(|(_, row)| is_broken(row)).map(|(view, _)| view)
    }

    /// The views merged as the options say.
    pub(crate) fn outcome(&self, options: &PredictOptions) -> Outcome {
        match self.not_finite(options.views) {
            Some(view) => Outcome::NotFinite { view },
            None => Outcome::Scored { plain: softmax(&self.plain), merged: options.merge.probabilities(&self.views) },
        }
    }

    /// The probability that each view gives to a class: `[views]`; none where a score is not finite or the class is another.
    pub(crate) fn likelihoods(&self, class: usize, views: &[View]) -> Option<Vec<f64>> {
        if self.not_finite(views).is_some() {
            return None;
        }
        self.views.iter().map(|row| softmax(row).get(class).copied().map(f64::from)).collect()
    }
}

/// What the model says of each image of a batch, in its order.
///
/// The images of all views are one row, view after view, and go through the model in passes of at most as many as `pieces` allows: several
/// views at once where the images are few, a part of one view where they are many. When memory runs out, the pass at hand is done again in
/// smaller ones.
pub(crate) fn score_batch(
    model: &impl Classifier,
    batch: &Batch,
    options: &PredictOptions,
    pieces: &mut Pieces,
    progress: &mut dyn FnMut(Scoring<'_>),
) -> Result<Vec<ImageScores>, PredictError> {
    let shown = shown(options.views);
    let at_once = Cell::new(pieces.largest());
    let told = &mut |event: &RecoveryEvent| {
        at_once.set(event.micro_batch_after);
        progress(Scoring::OutOfMemory(event));
    };
    let mut pass = Pass { batch, shown: &shown, options, kept: None };
    let scored = pieces.score(batch.len() * shown.len(), options.device, told, |places, watch| {
        let rows = if options.fixed_shapes { at_once.get() } else { places.len() };
        // Another width of the model is no matter of memory.
        match pass.score(model, places, rows, watch) {
            Err(ScoreError::Compute(error)) => Err(error),
            Err(ScoreError::ModelWidth { found }) => Ok(Err(found)),
            Ok(rows) => Ok(Ok(rows)),
        }
    })?;
    let expected = options.classes.len();
    let rows: Result<Vec<Vec<Vec<f32>>>, usize> = scored.into_iter().collect();
    let rows = rows.map_err(|found| PredictError::ModelWidth { expected, found })?.concat();
    Ok(by_image(rows, batch.len(), &shown, options.views.len()))
}

/// The views, after the image as it is where they leave that out.
fn shown(views: &[View]) -> Vec<View> {
    let added = (!views.contains(&View::IDENTITY)).then_some(View::IDENTITY);
    added.into_iter().chain(views.iter().copied()).collect()
}

/// From rows view after view to rows image after image.
fn by_image(rows: Vec<Vec<f32>>, images: usize, shown: &[View], views: usize) -> Vec<ImageScores> {
    let plain = shown.iter().position(|&view| view == View::IDENTITY).expect("`shown` puts it there");
    let of_image = |image: usize| {
        let row = |view: usize| rows[view * images + image].clone();
        ImageScores { plain: row(plain), views: (shown.len() - views..shown.len()).map(row).collect() }
    };
    (0..images).map(of_image).collect()
}

/// Passes over the views of one batch.
struct Pass<'a> {
    batch: &'a Batch,
    shown: &'a [View],
    options: &'a PredictOptions<'a>,
    /// The images that were put on the device last, so that a view of the same ones does not put them there again.
    kept: Option<Kept>,
}

/// Why a pass has no scores.
enum ScoreError {
    Compute(ComputeError),
    ModelWidth { found: usize },
}

impl From<ComputeError> for ScoreError {
    fn from(error: ComputeError) -> Self {
        Self::Compute(error)
    }
}

impl Pass<'_> {
    /// Logits of the images at `places` in the row of all views, a row each, from a pass of `rows` images, as many or more. Scores are read only
    /// once it is known that they were computed.
    fn score(
        &mut self,
        model: &impl Classifier,
        places: Range<usize>,
        rows: usize,
        watch: &MemoryWatch,
    ) -> Result<Vec<Vec<f32>>, ScoreError> {
        // An error leaves nothing on the device.
        let kept = self.kept.take();
        let wanted = places.len();
        let (logits, kept) = watch.run(|| {
            let (images, kept) = self.images(places, kept); // [P, C, H, W]
            let images = filled_up(images, rows); // [R, C, H, W]
            (model.forward(images, &mut self.options.pass()), kept) // [R, K]
        })?;
        let [_, found] = logits.dims();
        let expected = self.options.classes.len();
        if found != expected {
            return Err(ScoreError::ModelWidth { found });
        }
        let logits = logits.try_into_data().map_err(|error| ComputeError::from_device(&error.to_string()))?;
        self.kept = kept;
        let logits: Vec<f32> = logits.iter::<f32>().collect();
        Ok(logits.chunks_exact(expected).take(wanted).map(<[f32]>::to_vec).collect())
    }

    /// The images at `places`, each in its view: `[P, C, H, W]`; and those put on the device last, as they are.
    fn images(&self, places: Range<usize>, mut kept: Option<Kept>) -> (Tensor<4>, Option<Kept>) {
        let images = self.batch.len();
        let mut parts = Vec::new();
        for view in places.start / images..places.end.div_ceil(images) {
            let first = view * images;
            let samples = places.start.max(first) - first..places.end.min(first + images) - first;
            let as_they_are = match kept.take() {
                Some((range, tensor)) if range == samples => tensor,
                _ => self.upload(samples.clone()),
            };
            parts.push(self.shown[view].apply(as_they_are.clone(), self.options.normalization));
            kept = Some((samples, as_they_are));
        }
        let only = if parts.len() == 1 { parts.pop() } else { None };
        (only.unwrap_or_else(|| Tensor::cat(parts, 0)), kept)
    }

    /// `[B, C, H, W]` of some samples of the batch.
    fn upload(&self, samples: Range<usize>) -> Tensor<4> {
        let bytes = self.batch.sample_bytes();
        let pixels = &self.batch.pixels[samples.start * bytes..samples.end * bytes];
        images_to_tensor(pixels, self.batch.size, self.options.normalization, self.options.device)
    }
}

/// Black images behind those that are there, up to `rows`: `[P, C, H, W]` to `[R, C, H, W]`.
fn filled_up(images: Tensor<4>, rows: usize) -> Tensor<4> {
    let [present, channels, height, width] = images.dims();
    if present >= rows {
        return images;
    }
    let black = Tensor::zeros([rows - present, channels, height, width], &images.device());
    Tensor::cat(vec![images, black], 0) // [R, C, H, W]
}

/// Places in the batch, and what lies there.
type Kept = (Range<usize>, Tensor<4>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Variation;

    #[test]
    fn the_image_as_it_is_comes_first_where_no_view_shows_it() {
        let brighter = View::from(Variation::Brightness { factor: 1.1 });
        assert_eq!(shown(&[brighter]), [View::IDENTITY, brighter]);
        assert_eq!(shown(&[brighter, View::IDENTITY]), [brighter, View::IDENTITY]);
        let rows = |values: &[f32]| values.iter().map(|&value| vec![value]).collect::<Vec<_>>();
        // Two images in two views.
        let added = by_image(rows(&[1.0, 2.0, 3.0, 4.0]), 2, &shown(&[brighter]), 1);
        assert_eq!((added[1].plain[0], added[1].views.concat()), (2.0, vec![4.0]));
        let named = by_image(rows(&[1.0, 2.0, 3.0, 4.0]), 2, &shown(&[brighter, View::IDENTITY]), 2);
        assert_eq!((named[0].plain[0], named[0].views.concat()), (3.0, vec![1.0, 3.0]));
    }

    #[test]
    fn the_first_view_without_finite_scores_is_the_one_that_is_told() {
        let (fine, broken) = (vec![0.5, 0.5], vec![f32::NAN, 0.5]);
        let views = [View::from(Variation::Zoom { factor: 1.1 }), View::from(Variation::Brightness { factor: 1.1 })];
        let scores = |plain: &Vec<f32>, rows: [&Vec<f32>; 2]| ImageScores {
            plain: plain.clone(),
            views: rows.into_iter().cloned().collect(),
        };
        assert_eq!(scores(&fine, [&fine, &broken]).not_finite(&views), Some(views[1]));
        assert_eq!(scores(&broken, [&fine, &broken]).not_finite(&views), Some(View::IDENTITY));
        assert_eq!(scores(&fine, [&fine, &fine]).not_finite(&views), None);
        assert_eq!(scores(&fine, [&fine, &broken]).likelihoods(1, &views), None);
        assert_eq!(scores(&fine, [&fine, &fine]).likelihoods(1, &views), Some(vec![0.5, 0.5]));
        let outcome = Outcome::NotFinite { view: views[1] };
        assert_eq!(outcome.error().unwrap(), "the model's scores are not finite in view `brightness_1.1`");
    }
}
