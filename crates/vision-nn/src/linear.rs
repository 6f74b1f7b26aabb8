use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

use crate::pass::stored_as;
use crate::{Initializer, linear};

/// A fully connected layer over the last axis, stored as PyTorch stores it: weight `[out, in]`, bias `[out]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// Weight, `[out, in]`.
    pub weight: Param<Tensor<2>>,
    /// Bias, `[out]`.
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    /// A layer with weights from a truncated normal of standard deviation `std` and a zero bias.
    pub fn init(in_features: usize, out_features: usize, std: f32, init: &mut Initializer) -> Self {
        Self { weight: init.weight([out_features, in_features], std), bias: init.constant([out_features], 0.0) }
    }

    /// Applies the layer to rows.
    ///
    /// The input is two-dimensional on purpose: on more axes the weight gradient would be built once per leading index before
    /// it is summed.
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - output: `[N, out]`
    pub fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        linear(rows, self.weight.val(), Some(self.bias.val()))
    }
}

/// A 1x1 convolution that works on rows of a channels-last tensor: a [`Linear`] whose weight is stored as `[out, in, 1, 1]`.
#[derive(Module, Debug)]
pub struct Pointwise {
    /// Weight, `[out, in, 1, 1]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[out]`.
    pub bias: Param<Tensor<1>>,
}

impl Pointwise {
    /// A layer with weights from a truncated normal of standard deviation `std` and a zero bias.
    pub fn init(in_features: usize, out_features: usize, std: f32, init: &mut Initializer) -> Self {
        Self { weight: init.weight([out_features, in_features, 1, 1], std), bias: init.constant([out_features], 0.0) }
    }

    /// Applies the layer to rows.
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - output: `[N, out]`
    pub fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.as_matrix();
        linear(rows, weight, Some(bias))
    }

    /// # Shapes
    /// - output: `[out, in]` and `[out]`
    pub(crate) fn as_matrix(&self) -> (Tensor<2>, Tensor<1>) {
        let [out_features, in_features, _, _] = self.weight.dims();
        (self.weight.val().reshape([out_features, in_features]), self.bias.val())
    }
}

/// A layer over the channel axis in the form that the reference checkpoint stores: the arithmetic is the same, the weight's shape is not.
#[derive(Module, Debug)]
pub enum Projection {
    /// Weight `[out, in]`.
    Linear(Linear),
    /// Weight `[out, in, 1, 1]`.
    Pointwise(Pointwise),
}

impl Projection {
    /// A layer of the form asked for; see [`Linear::init`].
    pub fn init(in_features: usize, out_features: usize, pointwise: bool, std: f32, init: &mut Initializer) -> Self {
        if pointwise {
            Self::Pointwise(Pointwise::init(in_features, out_features, std, init))
        } else {
            Self::Linear(Linear::init(in_features, out_features, std, init))
        }
    }

    /// Applies the layer to rows.
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - output: `[N, out]`
    pub fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear(linear) => linear.forward(rows),
            Self::Pointwise(pointwise) => pointwise.forward(rows),
        }
    }

    /// Applies the layer to rows and scales its outputs, as `forward(rows) * scale` does.
    ///
    /// The weights are scaled rather than the product, so that the product need not be kept for the gradient of `scale`. In f16 that would lose what is small in
    /// both (2e-8 where a layer scale begins, and 6e-8 is the smallest f16): there the product is scaled.
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - `scale`: `[out]`
    /// - output: `[N, out]`
    pub fn forward_scaled(&self, rows: Tensor<2>, scale: Tensor<1>) -> Tensor<2> {
        if rows.dtype() == DType::F16 {
            return self.forward(rows) * stored_as(scale, DType::F16).unsqueeze::<2>(); // [N, out]
        }
        let (weight, bias) = match self {
            Self::Linear(linear) => (linear.weight.val(), linear.bias.val()),
            Self::Pointwise(pointwise) => {
                let [out_features, in_features, _, _] = pointwise.weight.dims();
                (pointwise.weight.val().reshape([out_features, in_features]), pointwise.bias.val())
            }
        };
        let weight = weight * scale.clone().unsqueeze_dim(1); // [out, in]
        linear(rows, weight, Some(bias * scale)) // [N, out]
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::Initialization;

    /// Rows through a layer, with `scale` inside and behind.
    fn scaled(pointwise: bool, scale: f32, dtype: DType) -> [Tensor<2>; 2] {
        let device = Device::flex();
        let mut init = Initializer::new(1, Initialization::Reference, &device);
        let layer = Projection::init(16, 8, pointwise, 0.02, &mut init);
        let rows = Tensor::<2>::random([5, 16], Distribution::Normal(0.0, 4.0), &device).cast(dtype);
        let vector = Tensor::<1>::full([8], scale, &device);
        let inside = layer.forward_scaled(rows.clone(), vector);
        [inside, layer.forward(rows).cast(DType::F32) * scale].map(|output| output.cast(DType::F32))
    }

    #[test]
    fn scaling_inside_is_scaling_behind() {
        for pointwise in [false, true] {
            let [inside, behind] = scaled(pointwise, 0.5, DType::F32);
            let difference = (inside - behind).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-6, "{difference}");
        }
    }

    #[test]
    fn small_scales_survive_in_f16() {
        let [inside, behind] = scaled(false, 1e-6, DType::F16);
        let difference = (inside.clone() - behind).abs().max().into_scalar::<f32>();
        // Half of the smallest f16, and as much again for the scale's own rounding: its outputs are near 1e-6.
        assert!(difference < 1.2e-7, "{difference:e}");
        assert!(inside.abs().max().into_scalar::<f32>() > 3e-7, "all is lost");
    }
}
