use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use cpu_kernels::Activation;

use crate::kernels::batch_norm::{self, NormForm};
use crate::pass::stored_as;
use crate::{Initializer, Pass, RunningStatistic};

/// PyTorch's and timm's default share of a new batch in the running statistics.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Batch normalisation over a channels-last map, with PyTorch's parameter names and semantics, and the activation behind it where one follows.
///
/// Ioffe and Szegedy, "Batch Normalization", 2015. A training pass normalises by the batch's mean and *biased* variance, and moves the running
/// statistics towards its mean and *unbiased* variance; an evaluation pass normalises by the running statistics.
///
/// The batch is what one forward pass sees. So each micro-batch of an accumulated step is normalised by itself and moves the running
/// statistics once, as in PyTorch: a model with this layer depends on how its effective batch is cut.
///
/// Statistics are moved when the forward pass runs, and a pass that is run again moves them again. Keep a clone of the model from before where a pass may
/// fail and be repeated: it is a snapshot, and shares no state (see [`RunningStatistic`]).
///
/// PyTorch also counts batches; with a momentum nothing depends on that, and it is not kept here (see [`is_batch_count`](crate::is_batch_count)).
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale, `[C]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[C]`.
    pub bias: Param<Tensor<1>>,
    /// Mean over batches, `[C]`.
    pub running_mean: RunningStatistic,
    /// Unbiased variance over batches, `[C]`.
    pub running_var: RunningStatistic,
    epsilon: f64,
    momentum: f64,
    #[module(skip)]
    activation: Activation,
}

impl BatchNorm {
    /// A layer over `channels` with scale 1, shift 0, and running statistics of mean 0 and variance 1.
    pub fn init(channels: usize, epsilon: f64, init: &mut Initializer) -> Self {
        let weight = init.constant([channels], 1.0);
        let one = weight.val();
        Self {
            bias: init.constant([channels], 0.0),
            running_mean: RunningStatistic::new(one.zeros_like()),
            running_var: RunningStatistic::new(one.ones_like()),
            weight,
            epsilon,
            momentum: BATCH_NORM_MOMENTUM,
            activation: Activation::Identity,
        }
    }

    /// The same with `activation` applied to what it gives (timm's `BatchNormAct2d`).
    pub fn with(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The same with `z σ(z)` applied to what it gives.
    pub fn with_silu(self) -> Self {
        self.with(Activation::Silu)
    }

    /// Normalises each channel over batch and grid.
    ///
    /// A frozen one, of which the pass knows, is in evaluation always: timm's `FrozenBatchNormAct2d`.
    ///
    /// A training pass over one position alone, where PyTorch refuses, has no unbiased variance: the biased one, zero, is taken.
    ///
    /// # Shapes
    /// - `map` and output: `[B, H, W, C]`
    pub fn forward(&self, map: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let [batch, height, width, channels] = map.dims();
        let rows = map.reshape([batch * height * width, channels]); // [N, C]
        self.over_rows(rows, pass.moves(&self.running_mean)).reshape([batch, height, width, channels])
    }

    /// # Shapes
    /// - `rows` and output: `[N, C]`
    fn over_rows(&self, rows: Tensor<2>, of_batch: bool) -> Tensor<2> {
        let [count, _] = rows.dims();
        let moments = if of_batch {
            let [mean, variance] = batch_norm::moments(rows.clone()); // [C]
            self.observe(mean.clone(), variance.clone(), count);
            [mean, variance]
        } else {
            [&self.running_mean, &self.running_var].map(|running| in_f32(running.value())) // [C]
        };
        let form = NormForm { epsilon: self.epsilon as f32, activation: self.activation, of_batch };
        batch_norm::normalize(rows, in_f32(self.weight.val()), in_f32(self.bias.val()), moments, form)
    }

    /// Moves the running statistics towards those of `count` positions.
    ///
    /// # Shapes
    /// - `mean`, `variance` (biased): `[C]`
    fn observe(&self, mean: Tensor<1>, variance: Tensor<1>, count: usize) {
        let unbiased = count as f64 / count.saturating_sub(1).max(1) as f64;
        self.running_mean.move_towards(mean, self.momentum);
        self.running_var.move_towards(variance.mul_scalar(unbiased), self.momentum);
    }
}

/// Statistics and norms are computed in f32 whatever the map is stored in.
fn in_f32<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    stored_as(tensor, DType::F32)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::Initialization;

    const SHAPE: [usize; 2] = [24, 7];

    /// Numbers without a pattern, in -1 to 1, and their mean off zero.
    fn numbers(seed: f32, count: usize) -> Vec<f32> {
        (0..count).map(|at| ((at as f32 + seed) * 78.233).sin() * 0.8 + 0.2).collect()
    }

    fn norm(device: &Device) -> BatchNorm {
        let mut init = Initializer::new(1, Initialization::Reference, device);
        let vector = |seed| Tensor::from_data(TensorData::new(numbers(seed, SHAPE[1]), [SHAPE[1]]), device);
        let norm = BatchNorm::init(SHAPE[1], 1e-3, &mut init).with_silu();
        let running_var = RunningStatistic::new(vector(3.0).abs().add_scalar(0.5));
        let [weight, bias, mean] = [1.0, 2.0, 4.0].map(vector);
        BatchNorm {
            weight: Param::from_tensor(weight),
            bias: Param::from_tensor(bias),
            running_mean: RunningStatistic::new(mean),
            running_var,
            ..norm
        }
    }

    #[test]
    fn running_variance_is_unbiased_and_normalising_variance_is_not() {
        let device = Device::flex();
        let mut init = Initializer::new(1, Initialization::Reference, &device);
        let norm = BatchNorm::init(1, 0.0, &mut init);
        // Mean 2, squared deviations 1 + 0 + 1.
        let map = Tensor::<4>::from_data([[[[1.0f32], [2.0], [3.0]]]], &device);
        let output: Vec<f32> = norm.forward(map, &Pass::training(0, 0)).into_data().iter::<f32>().collect();
        assert!((output[2] - (1.0f32 / (2.0 / 3.0)).sqrt()).abs() < 1e-6, "{output:?}");
        let value = |running: &RunningStatistic| running.value().into_data().iter::<f32>().next().unwrap();
        assert!((value(&norm.running_mean) - 0.1 * 2.0).abs() < 1e-6);
        assert!((value(&norm.running_var) - (0.9 + 0.1 * 1.0)).abs() < 1e-6);
    }

    #[test]
    fn half_precision_maps_come_back_in_their_own_type() {
        let device = Device::flex();
        let norm = norm(&device);
        let map = Tensor::<2>::from_data(TensorData::new(numbers(5.0, SHAPE[0] * SHAPE[1]), SHAPE), &device);
        let map = map.reshape([2, 3, 4, SHAPE[1]]);
        let expected: Vec<f32> = norm.forward(map.clone(), &Pass::training(0, 0)).into_data().iter::<f32>().collect();
        let output = norm.forward(map.cast(DType::BF16), &Pass::training(0, 0));
        assert_eq!(output.dtype(), DType::BF16);
        for (found, expected) in output.into_data().iter::<f32>().zip(expected) {
            // bf16 has 8 bits: inputs of order one are off by 4e-3, and the norm multiplies that by up to 3.
            assert!((found - expected).abs() < 0.03, "{found} {expected}");
        }
        assert_eq!(norm.running_mean.value().dtype(), DType::F32);
    }

    #[test]
    fn a_training_pass_reads_nothing_back() {
        // Nothing has a value on this device: reading one would fail.
        let capture = Device::capture();
        let device = capture.clone().autodiff();
        let recorded = capture.capture_scope(|scope| {
            let mut init = Initializer::new(1, Initialization::Reference, &device);
            let norm = BatchNorm::init(3, 1e-3, &mut init).with_silu();
            let squeeze = crate::SqueezeExcite::init(3, 1, &mut init);
            let conv = crate::Conv2d::dense([3, 3], 3, 2, crate::Padding::Same, &mut init);
            let map = conv.forward(Tensor::<4>::zeros([2, 8, 8, 3], &device));
            let map = squeeze.forward(norm.forward(map, &Pass::training(0, 0)));
            assert_eq!(map.dims(), [2, 4, 4, 3]);
            scope.complete([], [])
        });
        assert!(recorded.is_ok());
    }
}
