use burn::module::{Module, Param};
use burn::tensor::Tensor;
use vision_nn::{Initializer, Linear, has_window_attention, linear, softmax, stored_as, window_attention};

use crate::WindowLayout;
use crate::model::WEIGHT_STD;
use crate::relative_position::pairwise_bias;

/// Multi-head self-attention among the tokens of each window, with a learnt bias for each relative position.
#[derive(Module, Debug)]
pub struct WindowAttention {
    relative_position_bias_table: Param<Tensor<2>>,
    qkv: Linear,
    proj: Linear,
    window_rows: usize,
    window_columns: usize,
}

impl WindowAttention {
    /// Attention over `channels`, which `heads` divides, in windows of the layout's size.
    pub fn init(channels: usize, heads: usize, layout: WindowLayout, init: &mut Initializer) -> Self {
        let [window_rows, window_columns] = layout.size;
        Self {
            relative_position_bias_table: init.truncated_normal([layout.num_relative_positions(), heads], WEIGHT_STD),
            qkv: Linear::init(channels, 3 * channels, WEIGHT_STD, init),
            proj: Linear::init(channels, channels, WEIGHT_STD, init),
            window_rows,
            window_columns,
        }
    }

    /// Lets the tokens of each window of a map look at each other: as one operation where there is one for such windows.
    ///
    /// # Shapes
    /// - `map` and output: `[B, H, W, C]`
    pub fn over_map(&self, map: Tensor<4>, layout: WindowLayout) -> Tensor<4> {
        let [batch, height, width, channels] = map.dims();
        let [_, heads] = self.relative_position_bias_table.dims();
        if !has_window_attention(&map, layout.size, heads) {
            return self.over_cut_map(map, layout);
        }
        let rows = map.reshape([batch * height * width, channels]); // [B*H*W, C]
        let projected = self.qkv.forward(rows).reshape([batch, height, width, 3 * channels]); // [B, H, W, 3 C]
        let bias = pairwise_bias(self.relative_position_bias_table.val(), layout.size); // [nH, N, N]
        let seen = window_attention(projected, bias, layout.size, layout.shift); // [B, H, W, C]
        let rows = self.proj.forward(seen.reshape([batch * height * width, channels])); // [B*H*W, C]
        rows.reshape([batch, height, width, channels])
    }

    /// The same over windows that are cut from the map.
    ///
    /// # Shapes
    /// - `map` and output: `[B, H, W, C]`
    fn over_cut_map(&self, map: Tensor<4>, layout: WindowLayout) -> Tensor<4> {
        let [_, height, width, _] = map.dims();
        // Made when it is needed, from a few bytes. timm keeps one for each block.
        let mask = layout.shift_mask([height, width], &map.device()); // [nW, N, N]
        layout.join(self.forward(layout.cut(map), mask.as_ref()), [height, width])
    }

    /// Lets the tokens of each window look at each other. `shift_mask` is that of [`WindowLayout::shift_mask`].
    ///
    /// # Shapes
    /// - `windows` and output: `[B*nW, N, C]`
    /// - `shift_mask`: `[nW, N, N]`
    pub fn forward(&self, windows: Tensor<3>, shift_mask: Option<&Tensor<3>>) -> Tensor<3> {
        let [count, tokens, channels] = windows.dims();
        let [_, heads] = self.relative_position_bias_table.dims();
        let rows = windows.reshape([count * tokens, channels]); // [B*nW*N, C]
        let [query, key, value] = [0, 1, 2].map(|part| {
            let projected = self.project(rows.clone(), part); // [B*nW*N, C]
            projected.reshape([count, tokens, heads, channels / heads]).swap_dims(1, 2) // [B*nW, nH, N, D]
        });
        let query = query * ((channels / heads) as f32).powf(-0.5);
        let scores = query.matmul(key.transpose()); // [B*nW, nH, N, N]
        let weights = softmax(self.add_biases(scores, shift_mask)); // [B*nW, nH, N, N]
        let seen = weights.matmul(value).swap_dims(1, 2); // [B*nW, N, nH, D]
        let rows = self.proj.forward(seen.reshape([count * tokens, channels])); // [B*nW*N, C]
        rows.reshape([count, tokens, channels])
    }

    /// Query (part 0), key (1) or value (2).
    ///
    /// The weight is cut rather than the product, which is larger: the gradient of a cut is a whole tensor of zeros and the part.
    ///
    /// # Shapes
    /// - `rows` and output: `[B*nW*N, C]`
    fn project(&self, rows: Tensor<2>, part: usize) -> Tensor<2> {
        let [_, channels] = rows.dims();
        let of_part = part * channels..(part + 1) * channels;
        let weight = self.qkv.weight.val().slice_dim(0, of_part.clone()); // [C, C]
        let bias = self.qkv.bias.val().slice_dim(0, of_part); // [C]
        linear(rows, weight, Some(bias))
    }

    /// # Shapes
    /// - `scores` and output: `[B*nW, nH, N, N]`
    /// - `shift_mask`: `[nW, N, N]`
    fn add_biases(&self, scores: Tensor<4>, shift_mask: Option<&Tensor<3>>) -> Tensor<4> {
        let [count, heads, tokens, _] = scores.dims();
        let window = [self.window_rows, self.window_columns];
        let bias = pairwise_bias(self.relative_position_bias_table.val(), window); // [nH, N, N]
        let bias = stored_as(bias, scores.dtype());
        let scores = scores + bias.unsqueeze::<4>();
        let Some(mask) = shift_mask else {
            return scores;
        };
        let [windows, _, _] = mask.dims();
        let mask = mask.clone().cast(scores.dtype()).reshape([1, windows, 1, tokens, tokens]);
        let of_samples = scores.reshape([count / windows, windows, heads, tokens, tokens]) + mask; // [B, nW, nH, N, N]
        of_samples.reshape([count, heads, tokens, tokens])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};
    use vision_nn::{Initialization, Initializer};

    use super::*;

    #[test]
    fn with_and_without_the_fused_operation_it_is_the_same() {
        let device = Device::flex().autodiff();
        for shift in [[0, 0], [2, 1]] {
            let layout = WindowLayout { size: [4, 3], shift };
            let mut init = Initializer::new(1, Initialization::FanIn, &device);
            let attention = WindowAttention::init(8, 2, layout, &mut init);
            let map = Tensor::<4>::random([2, 8, 6, 8], Distribution::Normal(0.0, 1.0), &device);
            let upstream = Tensor::<4>::random([2, 8, 6, 8], Distribution::Normal(0.0, 1.0), &device);
            let run = |form: &dyn Fn(Tensor<4>) -> Tensor<4>| -> Vec<f32> {
                let map = map.clone().require_grad();
                let output = form(map.clone());
                let tape = (output.clone() * upstream.clone()).sum().backward();
                let found = [
                    output.into_data(),
                    map.grad(&tape).unwrap().into_data(),
                    attention.relative_position_bias_table.val().grad(&tape).unwrap().into_data(),
                    attention.qkv.weight.val().grad(&tape).unwrap().into_data(),
                ];
                found.iter().flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect()
            };
            assert!(has_window_attention(&map, layout.size, 2));
            let (fused, composed) =
                (run(&|map| attention.over_map(map, layout)), run(&|map| attention.over_cut_map(map, layout)));
            assert_eq!(fused.len(), composed.len());
            for (fused, composed) in fused.into_iter().zip(composed) {
                // Sums of some hundred numbers of order one, in f32.
                assert!((fused - composed).abs() < 5e-5, "{fused} is not {composed}");
            }
        }
    }
}
