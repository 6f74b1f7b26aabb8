//! GELU in its exact form, computed in f32, keeping nothing for the backward pass but its input as it is stored.

mod composed;

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor};

use super::host::{alone, tensor_like, values};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// `x Φ(x)` of each number.
pub fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    let device = input.device();
    if is_captured(&device) {
        return on_captured!(device, B => Tensor::from_primitive::<B>(B::fused_gelu(primitive::<B, D>(input))));
    }
    Tensor::from_dispatch(Dispatch::fused_gelu(input.into_dispatch()))
}

/// The operation on a backend. Input, output and their gradients have one type.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait FusedGelu: Backend {
    /// See [`gelu`].
    fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the input.
    fn fused_gelu_gradient(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The output again, and the gradient of the input.
    fn fused_gelu_with_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        (Self::fused_gelu(input.clone()), Self::fused_gelu_gradient(input, gradient))
    }
}

/// A backend on which the operation is composed of Burn's own.
macro_rules! composed_on {
    ($backend:ty) => {
        impl FusedGelu for $backend {
            fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
                composed::forward::<Self>(input)
            }

            fn fused_gelu_gradient(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
                composed::gradient::<Self>(input, gradient)
            }
        }
    };
}

composed_on!(Capture);
#[cfg(feature = "cuda")]
composed_on!(Cuda);
#[cfg(feature = "wgpu")]
composed_on!(Wgpu);

/// Maps of f32 that nobody else sees are written over.
impl FusedGelu for Flex {
    fn fused_gelu(mut input: FloatTensor<Self>) -> FloatTensor<Self> {
        if let Some(numbers) = own_numbers(&mut input) {
            cpu_kernels::gelu_in_place(numbers);
            return input;
        }
        tensor_like(cpu_kernels::gelu(&values(&input)), &input)
    }

    fn fused_gelu_gradient(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        if gradient.dtype() != DType::F32 {
            let mut numbers = values(&gradient).to_vec();
            cpu_kernels::gelu_gradient(&values(&input), &mut numbers);
            return tensor_like(numbers, &input);
        }
        let mut gradient = alone(gradient);
        cpu_kernels::gelu_gradient(&values(&input), gradient.storage_mut());
        gradient
    }

    fn fused_gelu_with_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if input.dtype() != DType::F32 {
            return (Self::fused_gelu(input.clone()), Self::fused_gelu_gradient(input, gradient));
        }
        let [mut output, mut gradient] = [input, gradient].map(alone);
        cpu_kernels::gelu_with_gradient(output.storage_mut(), gradient.storage_mut());
        (output, gradient)
    }
}

/// All of a tensor's numbers in order, to be written over: where they are f32, and nobody else sees them.
fn own_numbers(tensor: &mut FlexTensor) -> Option<&mut [f32]> {
    if tensor.dtype() != DType::F32 {
        return None;
    }
    let (first, end) = tensor.layout().contiguous_offsets()?;
    tensor.try_storage_mut::<f32>().filter(|numbers| (first, end) == (0, numbers.len()))
}

#[derive(Debug)]
struct GeluBackward;

impl<B: Backend + FusedGelu> Backward<B, 1> for GeluBackward {
    type State = NodeId;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [input_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(ops.state);
        if let Some(node) = input_node {
            gradients.register::<B>(node.id, B::fused_gelu_gradient(input, gradient));
        }
    }
}

impl<B: Backend + FusedGelu, C: CheckpointStrategy> FusedGelu for Autodiff<B, C> {
    fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        match GeluBackward.prepare::<C>([input.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = prepared.checkpoint(&input);
                prepared.finish(state, B::fused_gelu(input.primitive))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::fused_gelu(input.primitive)),
        }
    }

    fn fused_gelu_gradient(_input: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn fused_gelu_with_gradient(
        _input: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::test_tensors::numbers;

    fn place(tensor: &FlexTensor) -> *const f32 {
        tensor.storage::<f32>().as_ptr()
    }

    #[test]
    fn what_nobody_else_sees_is_written_over_and_what_others_see_is_not() {
        let input = numbers(1.0, &[40, 9]);
        let [before, expected] = [values(&input).to_vec(), cpu_kernels::gelu(&values(&input))];
        let output = Flex::fused_gelu(input.clone());
        assert_eq!([values(&input).to_vec(), values(&output).to_vec()], [before, expected.clone()]);

        let start = place(&input);
        let output = Flex::fused_gelu(input);
        assert_eq!((place(&output), values(&output).to_vec()), (start, expected));
    }

    #[test]
    fn output_and_gradient_take_the_memory_of_input_and_upstream() {
        let [input, upstream] = [1.0, 2.0].map(|seed| numbers(seed, &[40, 9]));
        let starts = [place(&input), place(&upstream)];
        let of_input = Flex::fused_gelu_gradient(input.clone(), upstream.clone());
        let expected = [cpu_kernels::gelu(&values(&input)), values(&of_input).to_vec()];
        let (output, gradient) = Flex::fused_gelu_with_gradient(input, upstream);
        assert_eq!([place(&output), place(&gradient)], starts);
        assert_eq!([values(&output).to_vec(), values(&gradient).to_vec()], expected);
    }
}
