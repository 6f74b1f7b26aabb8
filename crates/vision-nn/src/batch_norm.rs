use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, activation};

use crate::fused_batch_norm::{self, NormForm, is_fused};
use crate::pass::stored_as;
use crate::{Initializer, Pass, RunningStatistic};

/// PyTorch's and timm's default share of a new batch in the running statistics.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Batch normalisation over a channels-last map, with PyTorch's parameter names and semantics, and SiLU behind it where one follows.
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
    silu: bool,
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
            silu: false,
        }
    }

    /// The same with `z σ(z)` applied to what it gives (timm's `BatchNormAct2d` with SiLU).
    pub fn with_silu(self) -> Self {
        Self { silu: true, ..self }
    }

    /// Normalises each channel over batch and grid.
    ///
    /// A training pass over one position alone, where PyTorch refuses, has no unbiased variance: the biased one, zero, is taken.
    ///
    /// # Shapes
    /// - `map` and output: `[B, H, W, C]`
    pub fn forward(&self, map: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let [batch, height, width, channels] = map.dims();
        let rows = map.reshape([batch * height * width, channels]); // [N, C]
        let dtype = rows.dtype();
        let output = match (is_fused(&rows.device()), pass.is_training()) {
            (true, training) => self.fused(rows, training),
            (false, true) => stored_as(self.by_batch(in_f32(rows)), dtype),
            (false, false) => stored_as(self.by_running_statistics(in_f32(rows)), dtype),
        };
        output.reshape([batch, height, width, channels])
    }

    /// # Shapes
    /// - `rows` and output: `[N, C]`
    fn fused(&self, rows: Tensor<2>, training: bool) -> Tensor<2> {
        let [count, _] = rows.dims();
        let moments = if training {
            let [mean, variance] = fused_batch_norm::moments(rows.clone()); // [C]
            self.observe(mean.clone(), variance.clone(), count);
            [mean, variance]
        } else {
            [&self.running_mean, &self.running_var].map(|running| in_f32(running.value())) // [C]
        };
        let form = NormForm { epsilon: self.epsilon as f32, silu: self.silu, of_batch: training };
        fused_batch_norm::normalize(rows, in_f32(self.weight.val()), in_f32(self.bias.val()), moments, form)
    }

    /// Of what has the map's size, the tape keeps the centred rows, and with SiLU its input and σ.
    ///
    /// # Shapes
    /// - `rows` and output: `[N, C]`
    fn by_batch(&self, rows: Tensor<2>) -> Tensor<2> {
        let [count, channels] = rows.dims();
        let mean = rows.clone().mean_dim(0); // [1, C]
        let centred = rows - mean.clone(); // [N, C]
        let variance = (centred.clone() * centred.clone()).mean_dim(0); // [1, C]
        self.observe(mean.reshape([channels]), variance.clone().reshape([channels]), count);
        self.scale_and_shift(centred, variance)
    }

    /// # Shapes
    /// - `rows` and output: `[N, C]`
    fn by_running_statistics(&self, rows: Tensor<2>) -> Tensor<2> {
        let [mean, variance] =
            [&self.running_mean, &self.running_var].map(|running| in_f32(running.value()).unsqueeze::<2>()); // [1, C]
        self.scale_and_shift(rows - mean, variance)
    }

    /// # Shapes
    /// - `centred` and output: `[N, C]`
    /// - `variance`: `[1, C]`
    fn scale_and_shift(&self, centred: Tensor<2>, variance: Tensor<2>) -> Tensor<2> {
        let weight = in_f32(self.weight.val()).unsqueeze::<2>(); // [1, C]
        let bias = in_f32(self.bias.val()).unsqueeze::<2>(); // [1, C]
        let scale = weight / variance.add_scalar(self.epsilon).sqrt(); // [1, C]
        let normalised = centred * scale + bias; // [N, C]
        if self.silu { activation::silu(normalised) } else { normalised }
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

    /// Output, gradients of rows, weight and bias, and the statistics then.
    fn run(form: impl Fn(&BatchNorm, Tensor<2>) -> Tensor<2>) -> Vec<Vec<f32>> {
        let device = Device::flex().autodiff();
        let norm = norm(&device);
        let rows = Tensor::<2>::from_data(TensorData::new(numbers(5.0, SHAPE[0] * SHAPE[1]), SHAPE), &device);
        let rows = rows.require_grad();
        let output = form(&norm, rows.clone());
        let upstream = Tensor::from_data(TensorData::new(numbers(6.0, SHAPE[0] * SHAPE[1]), SHAPE), &device);
        let tape = (output.clone() * upstream).sum().backward();
        let found = [
            output.into_data(),
            rows.grad(&tape).unwrap().into_data(),
            norm.weight.val().grad(&tape).unwrap().into_data(),
            norm.bias.val().grad(&tape).unwrap().into_data(),
            norm.running_mean.value().into_data(),
            norm.running_var.value().into_data(),
        ];
        found.map(|data| data.iter::<f32>().collect()).to_vec()
    }

    fn assert_equal(left: &[Vec<f32>], right: &[Vec<f32>]) {
        for (left, right) in left.iter().flatten().zip(right.iter().flatten()) {
            // Sums of two dozen numbers of order one, in f32.
            assert!((left - right).abs() < 1e-5, "{left} {right}");
        }
    }

    #[test]
    fn with_and_without_the_fused_operation_it_is_the_same() {
        assert_equal(&run(|norm, rows| norm.fused(rows, true)), &run(BatchNorm::by_batch));
        assert_equal(&run(|norm, rows| norm.fused(rows, false)), &run(BatchNorm::by_running_statistics));
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
