use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use crate::Pass;

/// Dropout: in training, drops each number and scales the kept ones by `1 / (1 - probability)`.
///
/// Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014. The mask is drawn on the host: this layer
/// is for features, not for maps.
#[derive(Module, Debug)]
pub struct Dropout {
    probability: f32,
}

impl Dropout {
    /// A layer that drops with `probability`, in `[0, 1)`.
    pub fn new(probability: f32) -> Self {
        Self { probability }
    }

    /// Drops numbers.
    ///
    /// # Shapes
    /// - `rows` and output: `[B, C]`
    pub fn forward(&self, rows: Tensor<2>, pass: &mut Pass) -> Tensor<2> {
        let [batch, channels] = rows.dims();
        let Some(kept) = pass.draw_kept_elements(batch, channels, self.probability) else {
            return rows;
        };
        let scale = 1.0 / (1.0 - self.probability);
        let factors: Vec<f32> = kept.into_iter().map(|kept| if kept { scale } else { 0.0 }).collect();
        let factors = TensorData::new(factors, [batch, channels]).convert_dtype(rows.dtype());
        let device = rows.device();
        rows * Tensor::from_data(factors, &device)
    }
}
