mod convolution;

use burn::module::Param;
use burn::tensor::{Device, Shape, Tensor, TensorData};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::is_captured;
use crate::pass::mix;

mod uniform;

/// How weights are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Initialization {
    /// As the reference does it: made for long training on large data, residual branches almost closed at the start.
    #[default]
    Reference,
    /// For short training from scratch: variance one over the fan-in (LeCun et al., "Efficient BackProp", 1998), residual branches open.
    FanIn,
}

/// Draws initial weights on the host, so that a seed gives the same model on every device.
///
/// Each parameter has a stream of its own (seed and turn), so that one layer's size does not shift the next layer's numbers.
pub struct Initializer {
    seed: u64,
    turn: u64,
    initialization: Initialization,
    device: Device,
}

impl Initializer {
    /// An initializer for a model on `device`.
    pub fn new(seed: u64, initialization: Initialization, device: &Device) -> Self {
        Self { seed, turn: 0, initialization, device: device.clone() }
    }

    /// A weight `[out, in, ..]`: truncated normal of the reference's standard deviation, or by fan-in.
    pub fn weight<const D: usize>(&mut self, shape: [usize; D], reference_std: f32) -> Param<Tensor<D>> {
        let fan_in: usize = shape[1..].iter().product();
        let std = match self.initialization {
            Initialization::Reference => reference_std,
            Initialization::FanIn => 1.0 / (fan_in as f32).sqrt(),
        };
        self.truncated_normal(shape, std)
    }

    /// The layer scale of a residual branch over `channels`.
    pub fn layer_scale(&mut self, channels: usize, reference: f32) -> Param<Tensor<1>> {
        match self.initialization {
            Initialization::Reference => self.constant([channels], reference),
            Initialization::FanIn => self.constant([channels], 1.0),
        }
    }

    /// A parameter of one value.
    pub fn constant<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.turn += 1;
        self.parameter(shape, || value)
    }

    /// Normal numbers of mean 0 and standard deviation `std`, redrawn outside `[-2, 2]`: the bounds are absolute, as in PyTorch's `trunc_normal_`.
    pub fn truncated_normal<const D: usize>(&mut self, shape: [usize; D], std: f32) -> Param<Tensor<D>> {
        self.turn += 1;
        let mut random = ChaCha8Rng::seed_from_u64(mix(self.seed ^ mix(self.turn)));
        let draw = move || loop {
            let normal: f32 = StandardNormal.sample(&mut random);
            if (normal * std).abs() <= 2.0 {
                return normal * std;
            }
        };
        self.parameter(shape, draw)
    }

    /// Where a step is only recorded, a parameter is its shape: a gibibyte of random numbers would cost seconds and mean nothing.
    fn parameter<const D: usize>(&self, shape: [usize; D], draw: impl FnMut() -> f32) -> Param<Tensor<D>> {
        if is_captured(&self.device) {
            return Param::from_tensor(Tensor::empty(shape, &self.device));
        }
        let count = shape.iter().product();
        // Nor does a dry run read any: they are put onto the device all the same.
        let values = if is_dry() { vec![0.0; count] } else { std::iter::repeat_with(draw).take(count).collect() };
        let data = TensorData::new(values, shape);
        // As Burn's own `Param::from_data` does: where memory comes in pools, parameters lie apart.
        self.device
            .memory_persistent_allocations(data, |data| Param::from_tensor(tensor_without_gaps(data, &self.device)))
    }
}

/// A tensor of `data` whose rows lie one behind another. CubeCL pads each row of what a CUDA card is given (a 2x2 kernel takes twice its size so), and
/// kernels that want it dense would copy it again and again.
///
/// # Panics
/// When `data` has other than `D` axes.
pub fn tensor_without_gaps<const D: usize>(mut data: TensorData, device: &Device) -> Tensor<D> {
    if is_captured(device) {
        return Tensor::from_data(data, device);
    }
    let shape: [usize; D] = data.shape.as_slice().try_into().expect("the data has as many axes as the tensor");
    data.shape = Shape::new([shape.iter().product()]);
    Tensor::<1>::from_data(data, device).reshape(shape)
}

/// Whether launches of this process are dropped for the moment.
fn is_dry() -> bool {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    return burn::cubecl::dry_run::dry_run();
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, std: f32) -> Vec<f32> {
        let mut init = Initializer::new(seed, Initialization::Reference, &Device::flex());
        init.truncated_normal([200, 500], std).val().into_data().iter::<f32>().collect()
    }

    #[test]
    fn truncated_normal_has_the_moments_asked_for() {
        let values = draw(3, 0.02);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        // Four standard errors at 100,000 draws: 0.02 / sqrt(n) for the mean, 1 / sqrt(2 n) of itself for the deviation.
        assert!(mean.abs() < 4.0 * 0.02 / 316.0, "mean {mean}");
        assert!((variance.sqrt() / 0.02 - 1.0).abs() < 4.0 / 447.0, "deviation {}", variance.sqrt());
    }

    #[test]
    fn truncated_normal_stays_inside_two() {
        assert!(draw(3, 1.5).iter().all(|value| value.abs() <= 2.0));
    }

    #[test]
    fn a_seed_gives_the_same_weights_again() {
        assert_eq!(draw(9, 0.02), draw(9, 0.02));
        assert_ne!(draw(9, 0.02), draw(10, 0.02));
    }
}
