use burn::module::AutodiffModule;
use burn::tensor::{Device, Tensor};

use crate::{Initialization, Pass};

/// An image classifier: a module that turns a batch of normalised images into one score a class.
pub trait Classifier: AutodiffModule + 'static {
    /// Scores a batch.
    ///
    /// # Shapes
    /// - `images`: `[B, C, H, W]`, normalised with the model's mean and standard deviation
    /// - output: `[B, classes]`, unnormalised (logits), of the pass's type
    fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2>;
}

/// What a classifier is built from, whatever its family.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierSpec {
    /// Channels of the input images: 1 (grey) or 3 (RGB).
    pub in_channels: usize,
    /// Number of classes, the width of the logits.
    pub num_classes: usize,
    /// Probability that the deepest residual branch is dropped; shallower ones scale down linearly to zero.
    pub drop_path: f32,
    /// How weights are drawn.
    pub initialization: Initialization,
    /// Seed of the initial weights.
    pub seed: u64,
    /// Where the weights live; an autodiff device for training.
    pub device: Device,
}

impl ClassifierSpec {
    /// RGB images, no stochastic depth, the reference's initial weights from seed 0.
    pub fn new(num_classes: usize, device: &Device) -> Self {
        Self {
            in_channels: 3,
            num_classes,
            drop_path: 0.0,
            initialization: Initialization::Reference,
            seed: 0,
            device: device.clone(),
        }
    }
}
