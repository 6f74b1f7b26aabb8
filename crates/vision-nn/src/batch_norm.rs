use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, activation};

use crate::batch_norm_cpu::{self, NormForm, is_cpu};
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
/// PyTorch also counts batches (`num_batches_tracked`); with a momentum nothing depends on it, and it is not kept here.
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
        let rows = in_f32(rows);
        let output = match (is_cpu(&rows.device()), pass.is_training()) {
            (true, training) => self.on_cpu(rows, training),
            (false, true) => self.by_batch(rows),
            (false, false) => self.by_running_statistics(rows),
        };
        let output = if dtype == DType::F32 { output } else { output.cast(dtype) };
        output.reshape([batch, height, width, channels])
    }

    /// # Shapes
    /// - `rows` and output: `[N, C]`
    fn on_cpu(&self, rows: Tensor<2>, training: bool) -> Tensor<2> {
        let [count, channels] = rows.dims();
        let moments = if training {
            let moments = batch_norm_cpu::moments(rows.clone().no_grad()); // [2, C]
            let moments = if rows.device().is_autodiff() { Tensor::from_inner(moments) } else { moments };
            let [mean, variance] = [0, 1].map(|row| moments.clone().slice([row..row + 1]).reshape([channels]));
            self.observe(mean, variance, count);
            moments
        } else {
            let [mean, variance] = [&self.running_mean, &self.running_var].map(|running| in_f32(running.value()));
            Tensor::stack(vec![mean, variance], 0) // [2, C]
        };
        let form = NormForm { epsilon: self.epsilon as f32, silu: self.silu, of_batch: training };
        batch_norm_cpu::normalize(rows, in_f32(self.weight.val()), in_f32(self.bias.val()), moments, form)
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
    if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(DType::F32) }
}
