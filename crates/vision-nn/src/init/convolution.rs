use burn::module::Param;
use burn::tensor::Tensor;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{Initialization, Initializer};
use crate::pass::mix;

/// What the EfficientNet reference draws: timm's
/// [`_init_weight_goog`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_efficientnet_builder.py#L536).
impl Initializer {
    /// A kernel `[out, in / groups, height, width]`: normal, not truncated, of variance two over the fan-out `height * width * out / groups`; or by fan-in.
    ///
    /// He et al., "Delving Deep into Rectifiers", 2015, the form that keeps the variance of gradients.
    pub fn convolution(&mut self, shape: [usize; 4], groups: usize) -> Param<Tensor<4>> {
        let [out_channels, _, height, width] = shape;
        match self.initialization {
            Initialization::Reference => {
                let fan_out = (height * width * out_channels / groups).max(1);
                self.normal(shape, (2.0 / fan_out as f32).sqrt())
            }
            Initialization::FanIn => self.weight(shape, 0.0),
        }
    }

    /// A classifier's weight `[classes, features]`: uniform within one over the root of the number of classes; or by fan-in.
    pub fn classifier(&mut self, shape: [usize; 2]) -> Param<Tensor<2>> {
        let [classes, _] = shape;
        match self.initialization {
            Initialization::Reference => self.uniform(shape, 1.0 / (classes.max(1) as f32).sqrt()),
            Initialization::FanIn => self.weight(shape, 0.0),
        }
    }

    fn normal<const D: usize>(&mut self, shape: [usize; D], std: f32) -> Param<Tensor<D>> {
        self.turn += 1;
        let mut random = ChaCha8Rng::seed_from_u64(mix(self.seed ^ mix(self.turn)));
        let draw = move || {
            let normal: f32 = StandardNormal.sample(&mut random);
            std * normal
        };
        self.parameter(shape, draw)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn moments(values: &[f32]) -> (f32, f32) {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt())
    }

    fn init() -> Initializer {
        Initializer::new(5, Initialization::Reference, &Device::flex())
    }

    #[test]
    fn kernels_have_the_references_deviation_in_and_out_of_groups() {
        // Dense: fan-out 3 * 3 * 96. Depthwise: 5 * 5 * 4000 / 4000.
        for (shape, groups, fan_out) in [([96, 64, 3, 3], 1, 864.0f32), ([4000, 1, 5, 5], 4000, 25.0)] {
            let values: Vec<f32> = init().convolution(shape, groups).val().into_data().iter::<f32>().collect();
            let (mean, deviation) = moments(&values);
            let expected = (2.0 / fan_out).sqrt();
            // Four standard errors: 1 / sqrt(n) for the mean, 1 / sqrt(2 n) of itself for the deviation.
            let count = values.len() as f32;
            assert!(mean.abs() < 4.0 * expected / count.sqrt(), "mean {mean}");
            assert!((deviation / expected - 1.0).abs() < 4.0 / (2.0 * count).sqrt(), "deviation {deviation}");
            assert!(values.iter().any(|value| value.abs() > 3.5 * expected), "not truncated");
        }
    }

    #[test]
    fn classifiers_are_uniform_within_the_references_range() {
        let values: Vec<f32> = init().classifier([100, 1000]).val().into_data().iter::<f32>().collect();
        let (mean, deviation) = moments(&values);
        let expected = 0.1 / 3f32.sqrt();
        assert!(values.iter().all(|value| value.abs() <= 0.1));
        // Four standard errors at 100,000 draws; a uniform's squares have a relative deviation of sqrt(0.8), its deviation half that.
        assert!(mean.abs() < 4.0 * expected / 316.0, "mean {mean}");
        assert!((deviation / expected - 1.0).abs() < 4.0 * 0.45 / 316.0, "deviation {deviation}");
    }
}
