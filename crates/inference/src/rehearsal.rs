//! Passes over images that are not there, for those who measure.

use data_pipeline::Batch;
use trainer::{FaultPlan, Phase, Pieces};
use vision_nn::Classifier;

use crate::passes::score_batch;
use crate::{PredictError, PredictOptions};

/// Scores `batch` black images of `size` (H, W, C) in every view, in passes of so many, as [`predict`](crate::predict()) would, and forgets what came of it: what
/// that takes is what a prediction takes, loading aside. Waits for the device.
///
/// # Errors
/// Options that do not fit the model, and memory that does not suffice for one image.
pub fn rehearse(
    model: &impl Classifier,
    size: [usize; 3],
    batch: usize,
    options: &PredictOptions,
) -> Result<(), PredictError> {
    options.check_images(size)?;
    let black = Batch {
        index: 0,
        pixels: vec![0; batch * size.iter().product::<usize>()],
        labels: vec![None; batch],
        samples: (0..batch).collect(),
        corrupt: Vec::new(),
        size,
        partners: Vec::new(),
    };
    let mut pieces = Pieces::new(Phase::Prediction, FaultPlan::default()).at_most(batch);
    score_batch(model, &black, options, &mut pieces, &mut |_| {}).map(drop)
}
