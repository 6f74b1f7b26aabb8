use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

use crate::half_weights::parameter_as;
use crate::{Initializer, gelu_linear, gelu_projection, linear};

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
        let (weight, bias) = self.parameters(rows.dtype());
        linear(rows, weight, Some(bias))
    }

    /// Applies the layer to the GELU of rows, of which nothing is kept for the backward pass but the rows themselves.
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - output: `[N, out]`
    pub fn forward_gelu(&self, rows: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.parameters(rows.dtype());
        gelu_linear(rows, weight, bias)
    }

    /// [`forward_gelu`](Self::forward_gelu) but for the bias, which an operation behind it adds.
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - output: `[N, out]`
    pub fn project_gelu(&self, rows: Tensor<2>) -> Tensor<2> {
        let weight = parameter_as(&self.weight, rows.dtype());
        gelu_projection(rows, weight)
    }

    /// In the type of the rows.
    fn parameters(&self, dtype: DType) -> (Tensor<2>, Tensor<1>) {
        (parameter_as(&self.weight, dtype), parameter_as(&self.bias, dtype))
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
        let (weight, bias) = self.as_matrix(rows.dtype());
        linear(rows, weight, Some(bias))
    }

    /// Applies the layer to the GELU of rows; see [`Linear::forward_gelu`].
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - output: `[N, out]`
    pub fn forward_gelu(&self, rows: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.as_matrix(rows.dtype());
        gelu_linear(rows, weight, bias)
    }

    /// [`forward_gelu`](Self::forward_gelu) but for the bias; see [`Linear::project_gelu`].
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - output: `[N, out]`
    pub fn project_gelu(&self, rows: Tensor<2>) -> Tensor<2> {
        let [out_features, in_features, _, _] = self.weight.dims();
        let weight = parameter_as(&self.weight, rows.dtype()).reshape([out_features, in_features]);
        gelu_projection(rows, weight)
    }

    /// # Shapes
    /// - output: `[out, in]` and `[out]`
    fn as_matrix(&self, dtype: DType) -> (Tensor<2>, Tensor<1>) {
        let [out_features, in_features, _, _] = self.weight.dims();
        (parameter_as(&self.weight, dtype).reshape([out_features, in_features]), parameter_as(&self.bias, dtype))
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

    /// Applies the layer to the GELU of rows; see [`Linear::forward_gelu`].
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - output: `[N, out]`
    pub fn forward_gelu(&self, rows: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear(linear) => linear.forward_gelu(rows),
            Self::Pointwise(pointwise) => pointwise.forward_gelu(rows),
        }
    }

    /// [`forward_gelu`](Self::forward_gelu) but for the bias; see [`Linear::project_gelu`].
    ///
    /// # Shapes
    /// - `rows`: `[N, in]`
    /// - output: `[N, out]`
    pub fn project_gelu(&self, rows: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear(linear) => linear.project_gelu(rows),
            Self::Pointwise(pointwise) => pointwise.project_gelu(rows),
        }
    }

    /// The bias, `[out]`.
    pub fn bias(&self) -> Tensor<1> {
        match self {
            Self::Linear(linear) => linear.bias.val(),
            Self::Pointwise(pointwise) => pointwise.bias.val(),
        }
    }
}
