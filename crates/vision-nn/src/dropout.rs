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
        let (device, dtype) = (rows.device(), rows.dtype());
        rows * Tensor::from_data(TensorData::new(factors, [batch, channels]), (&device, dtype))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn ones(batch: usize) -> Tensor<2> {
        Tensor::ones([batch, 500], &Device::flex())
    }

    fn values(rows: Tensor<2>) -> Vec<f32> {
        rows.into_data().iter::<f32>().collect()
    }

    #[test]
    fn kept_numbers_make_up_for_dropped_ones() {
        let dropped = values(Dropout::new(0.2).forward(ones(40), &mut Pass::training(3, 0)));
        assert!(dropped.iter().all(|value| *value == 0.0 || *value == 1.25));
        let mean = dropped.iter().sum::<f32>() / dropped.len() as f32;
        // Four standard deviations of the mean of 20,000 numbers that are 1.25 with probability 0.8.
        assert!((mean - 1.0).abs() < 4.0 * 1.25 * (0.16f32 / 20_000.0).sqrt(), "{mean}");
    }

    #[test]
    fn a_sample_keeps_its_mask_when_the_batch_is_cut() {
        let layer = Dropout::new(0.5);
        let whole = values(layer.forward(ones(6), &mut Pass::training(3, 0)));
        let end = values(layer.forward(ones(2), &mut Pass::training(3, 4)));
        assert_eq!(whole[4 * 500..], end);
    }

    #[test]
    fn evaluation_drops_nothing() {
        assert_eq!(values(Dropout::new(0.5).forward(ones(1), &mut Pass::evaluation())), [1.0; 500]);
    }
}
