use burn::module::Param;
use burn::tensor::Tensor;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::{Initialization, Initializer};
use crate::pass::mix;

impl Initializer {
    /// A weight `[out, in, ..]`: uniform within the reference's bound, or of variance one over the fan-in.
    pub fn uniform_weight<const D: usize>(&mut self, shape: [usize; D], reference_bound: f32) -> Param<Tensor<D>> {
        let fan_in: usize = shape[1..].iter().product();
        let bound = match self.initialization {
            Initialization::Reference => reference_bound,
            // A uniform number within a bound b has variance b^2 / 3.
            Initialization::FanIn => (3.0 / fan_in as f32).sqrt(),
        };
        self.uniform(shape, bound)
    }

    /// Uniform numbers within `-bound..bound`, as PyTorch draws the weights and biases that a reference leaves alone.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f32) -> Param<Tensor<D>> {
        self.turn += 1;
        let mut random = ChaCha8Rng::seed_from_u64(mix(self.seed ^ mix(self.turn)));
        self.parameter(shape, move || bound * (2.0 * random.random::<f32>() - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn draw(initialization: Initialization) -> Vec<f32> {
        let mut init = Initializer::new(5, initialization, &Device::flex());
        init.uniform_weight([500, 200], 0.1).val().into_data().iter::<f32>().collect()
    }

    fn assert_uniform_within(bound: f32, values: &[f32]) {
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / count;
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        // Four standard errors: of the mean b / sqrt(3 n), of the variance b^2 sqrt(4 / 45 n).
        assert!(mean.abs() < 4.0 * bound / (3.0 * count).sqrt(), "mean {mean}");
        let off = (variance - bound * bound / 3.0).abs();
        assert!(off < 4.0 * bound * bound * (4.0 / (45.0 * count)).sqrt(), "variance {variance}");
        // All of 100,000 draws miss the outermost thousandth with a probability of e^-100.
        assert!((0.999 * bound..=bound).contains(&largest), "largest {largest}");
    }

    #[test]
    fn uniform_weights_fill_the_references_bound() {
        assert_uniform_within(0.1, &draw(Initialization::Reference));
    }

    #[test]
    fn uniform_weights_by_fan_in_have_its_variance() {
        assert_uniform_within((3.0f32 / 200.0).sqrt(), &draw(Initialization::FanIn));
    }
}
