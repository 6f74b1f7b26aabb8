//! The fully connected layer on rows, with PyTorch's weight as it is stored.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor, module};
use cpu_kernels::{Matrix, product};

use super::host::{is_cpu, tensor, values};
use crate::pass::stored_as;

/// `rows · weightᵀ + bias`, computed in the type of the rows: parameters are cast to it on the tape. Burn's own runs wherever the one for the CPU
/// does not.
///
/// # Shapes
/// - `rows`: `[N, in]`
/// - `weight`: `[out, in]`
/// - `bias`: `[out]`
/// - output: `[N, out]`
pub fn linear(rows: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let dtype = rows.dtype();
    if !is_cpu(&rows.device()) || dtype != DType::F32 {
        let bias = bias.map(|bias| stored_as(bias, dtype));
        return module::linear(rows, stored_as(weight, dtype).transpose(), bias);
    }
    let (rows, weight) = (rows.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::fused_linear(rows, weight, bias.into_dispatch()),
        None => Dispatch::fused_projection(rows, weight),
    })
}

/// The operation on the CPU, in f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Autodiff)]
pub trait FusedLinear: Backend {
    /// See [`linear`].
    fn fused_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The same without bias.
    fn fused_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the rows: `[N, in]`.
    fn fused_linear_rows_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the weight: `[out, in]`.
    fn fused_linear_weight_gradient(rows: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the bias: the sum over rows, `[out]`.
    fn fused_linear_bias_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl FusedLinear for Flex {
    fn fused_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        forward(rows, weight, Some(bias))
    }

    fn fused_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        forward(rows, weight, None)
    }

    fn fused_linear_rows_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([count, out], [_, inner]) = (sides(&gradient), sides(&weight));
        let (weight, gradient) = (values(&weight), values(&gradient));
        let of_rows = product(Matrix::of_rows(&gradient, out), Matrix::of_rows(&weight, inner), None);
        tensor(of_rows, &Shape::new([count, inner]))
    }

    fn fused_linear_weight_gradient(rows: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([_, out], [_, inner]) = (sides(&gradient), sides(&rows));
        let (rows, gradient) = (values(&rows), values(&gradient));
        let of_weight = product(Matrix::of_rows(&gradient, out).transposed(), Matrix::of_rows(&rows, inner), None);
        tensor(of_weight, &Shape::new([out, inner]))
    }

    fn fused_linear_bias_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let [_, out] = sides(&gradient);
        tensor(cpu_kernels::sum_of_rows(&values(&gradient), out), &Shape::new([out]))
    }
}

fn forward(rows: FloatTensor<Flex>, weight: FloatTensor<Flex>, bias: Option<FloatTensor<Flex>>) -> FloatTensor<Flex> {
    let ([count, inner], [out, _]) = (sides(&rows), sides(&weight));
    let (rows, weight, bias) = (values(&rows), values(&weight), bias.as_ref().map(values));
    let weight = Matrix::of_rows(&weight, inner).transposed();
    let output = product(Matrix::of_rows(&rows, inner), weight, bias.as_deref());
    tensor(output, &Shape::new([count, out]))
}

fn sides(matrix: &FloatTensor<Flex>) -> [usize; 2] {
    let shape = matrix.layout().shape();
    [shape[0], shape[1]]
}

#[derive(Debug)]
struct LinearBackward;

impl<B: Backend + FusedLinear, const N: usize> Backward<B, N> for LinearBackward {
    /// Rows and weight.
    type State = [NodeId; 2];

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [rows, weight] = ops.state.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let mut parents = ops.parents.into_iter();
        let [of_rows, of_weight, of_bias] = [(); 3].map(|()| parents.next().flatten());
        if let Some(node) = of_bias {
            gradients.register::<B>(node.id, B::fused_linear_bias_gradient(gradient.clone()));
        }
        if let Some(node) = of_weight {
            gradients.register::<B>(node.id, B::fused_linear_weight_gradient(rows, gradient.clone()));
        }
        if let Some(node) = of_rows {
            gradients.register::<B>(node.id, B::fused_linear_rows_gradient(weight, gradient));
        }
    }
}

impl<B: Backend + FusedLinear, C: CheckpointStrategy> FusedLinear for Autodiff<B, C> {
    fn fused_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [rows.node.clone(), weight.node.clone(), bias.node.clone()];
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = [prepared.checkpoint(&rows), prepared.checkpoint(&weight)];
                prepared.finish(state, B::fused_linear(rows.primitive, weight.primitive, bias.primitive))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::fused_linear(rows.primitive, weight.primitive, bias.primitive))
            }
        }
    }

    fn fused_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        match LinearBackward.prepare::<C>([rows.node.clone(), weight.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = [prepared.checkpoint(&rows), prepared.checkpoint(&weight)];
                prepared.finish(state, B::fused_projection(rows.primitive, weight.primitive))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::fused_projection(rows.primitive, weight.primitive)),
        }
    }

    fn fused_linear_rows_gradient(_weight: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn fused_linear_weight_gradient(_rows: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn fused_linear_bias_gradient(_gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    type Layer = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>;

    /// Output, and the gradients of rows, weight and, where there is one, bias.
    fn run(given: &[Tensor<2>; 4], with_bias: bool, layer: Layer) -> Vec<Tensor<2>> {
        let device = Device::flex().autodiff();
        let [rows, weight, bias, upstream] =
            given.each_ref().map(|tensor| Tensor::<2>::from_data(tensor.to_data(), &device));
        let [rows, weight, bias] = [rows, weight, bias].map(Tensor::require_grad);
        let output = layer(rows.clone(), weight.clone(), with_bias.then(|| bias.clone().squeeze_dim(0)));
        let tape = (output.clone() * upstream).sum().backward();
        let gradients = [rows, weight, bias].into_iter().filter_map(|leaf| leaf.grad(&tape));
        std::iter::once(output.inner()).chain(gradients).collect()
    }

    #[test]
    fn output_and_gradients_are_burns_with_bias_and_without() {
        let device = Device::flex();
        for [count, inner, out] in [[1, 1, 1], [130, 65, 33], [7, 200, 40]] {
            let given = [[count, inner], [out, inner], [1, out], [count, out]]
                .map(|shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device));
            for with_bias in [true, false] {
                let burns = run(&given, with_bias, |rows, weight, bias| module::linear(rows, weight.transpose(), bias));
                let ours = run(&given, with_bias, linear);
                assert_eq!(ours.len(), burns.len());
                for (ours, burns) in ours.into_iter().zip(burns) {
                    // Sums of up to 200 products of numbers of order one, in f32.
                    let largest = (ours - burns).abs().max().into_scalar::<f32>();
                    assert!(largest < 3e-5, "off by {largest:e}");
                }
            }
        }
    }
}
