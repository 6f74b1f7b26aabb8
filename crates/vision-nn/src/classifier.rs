use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

use crate::{Initialization, LayerNames, Pass};

/// An image classifier: a module that turns a batch of normalised images into one score a class.
///
/// It is a chain: segments, of which each knows nothing but what the one before it gives, and a head behind the last. So a training step may keep
/// what goes into a segment and compute the segment again in the backward pass, instead of keeping all that is in it.
pub trait Classifier: AutodiffModule + 'static {
    /// Segments before the head.
    fn num_segments(&self) -> usize;

    /// One segment, `index` of [`num_segments`](Self::num_segments). Segments share a pass and run in order; one that runs again must be given a clone of
    /// the pass that it was given first, to draw the same random numbers.
    ///
    /// # Shapes
    /// - `map`: what the segment before gave; for the first the images, `[B, C, H, W]`
    /// - output: `[B, H, W, C]`
    fn forward_segment(&self, index: usize, map: Tensor<4>, pass: &mut Pass) -> Tensor<4>;

    /// What stands behind the segments.
    ///
    /// # Shapes
    /// - `map`: what the last segment gave, or the images where there are none
    /// - output: `[B, classes]`, unnormalised (logits)
    fn forward_head(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<2>;

    /// Whether a gradient is wanted for any parameter of a segment.
    fn is_segment_trained(&self, index: usize) -> bool;

    /// Scores a batch.
    ///
    /// # Shapes
    /// - `images`: `[B, C, H, W]`, normalised with the model's mean and standard deviation
    /// - output: `[B, classes]`, unnormalised (logits), of the pass's type
    fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        let images = pass.images(images);
        let map = (0..self.num_segments()).fold(images, |map, index| self.forward_segment(index, map, pass));
        self.forward_head(map, pass)
    }

    /// How the names of its parameters tell its layers apart.
    fn layer_names(&self) -> LayerNames {
        LayerNames::UNKNOWN
    }
}

/// Stage and block of a segment in a model whose segments are the blocks of its stages.
///
/// # Panics
/// When the stages have fewer blocks in all.
pub fn block_of_segment(index: usize, depths: impl IntoIterator<Item = usize>) -> (usize, usize) {
    let mut block = index;
    for (stage, depth) in depths.into_iter().enumerate() {
        if block < depth {
            return (stage, block);
        }
        block -= depth;
    }
    panic!("segment {index} of a model that has fewer");
}

/// Whether a gradient is wanted for any parameter of a module.
pub fn is_trained<M: Module>(module: &M) -> bool {
    struct IsTrained(bool);
    impl ModuleVisitor for IsTrained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut visitor = IsTrained(false);
    module.visit(&mut visitor);
    visitor.0
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
    /// Probability that a pooled feature is dropped before the classifier in training; timm's `drop_rate`.
    pub dropout: f32,
    /// How weights are drawn.
    pub initialization: Initialization,
    /// Seed of the initial weights.
    pub seed: u64,
    /// Where the weights live; an autodiff device for training.
    pub device: Device,
}

impl ClassifierSpec {
    /// RGB images, no stochastic depth, no dropout, the reference's initial weights from seed 0.
    pub fn new(num_classes: usize, device: &Device) -> Self {
        Self {
            in_channels: 3,
            num_classes,
            drop_path: 0.0,
            dropout: 0.0,
            initialization: Initialization::Reference,
            seed: 0,
            device: device.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_the_blocks_of_all_stages_in_order() {
        let places: Vec<(usize, usize)> = (0..6).map(|index| block_of_segment(index, [2, 0, 1, 3])).collect();
        assert_eq!(places, [(0, 0), (0, 1), (2, 0), (3, 0), (3, 1), (3, 2)]);
    }
}
