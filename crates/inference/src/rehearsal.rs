//! Passes over images that are not there, for those who measure.

use data_pipeline::Batch;
use trainer::{FaultPlan, Phase, Pieces};
use vision_nn::Classifier;

use crate::passes::score_batch;
use crate::{PredictError, PredictOptions};

/// Scores `images` black images of `size` (H, W, C) in every view, in passes of at most `at_once`, each view of an image counted as one, as
/// [`predict`](crate::predict()) would, and forgets what came of it: what that takes is what a prediction takes, loading aside. Waits for the
/// device.
///
/// # Errors
/// Options that do not fit the model, and memory that does not suffice for one image.
pub fn rehearse(
    model: &impl Classifier,
    size: [usize; 3],
    images: usize,
    at_once: usize,
    options: &PredictOptions,
) -> Result<(), PredictError> {
    options.check_images(size)?;
    let black = Batch {
        index: 0,
        pixels: vec![0; images * size.iter().product::<usize>()],
        labels: vec![None; images],
        samples: (0..images).collect(),
        corrupt: Vec::new(),
        size,
        partners: Vec::new(),
        last_steps: Vec::new(),
    };
    let mut pieces = Pieces::new(Phase::Prediction, FaultPlan::default()).at_most(at_once);
    score_batch(model, &black, options, &mut pieces, &mut |_| {}).map(drop)
}

/// Makes the passes of `at_once` images, each view of an image counted as one, that a prediction of batches of `images` makes: each view of as many
/// images where a batch has them, and, where there are several views, a part of the images in all of them, whose input is joined from the views'.
///
/// # Errors
/// As [`rehearse`].
pub fn rehearse_pass(
    model: &impl Classifier,
    size: [usize; 3],
    images: usize,
    at_once: usize,
    options: &PredictOptions,
) -> Result<(), PredictError> {
    let views = options.views.len();
    if images >= at_once || views < 2 {
        rehearse(model, size, at_once, at_once, options)?;
    }
    if views < 2 { Ok(()) } else { rehearse(model, size, at_once.div_ceil(views), at_once, options) }
}
