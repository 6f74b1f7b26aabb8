//! Axes in another order, and numbers in theirs. Burn's own is a view, whose copy on the CPU, by whoever wants numbers in order, is made number by number
//! and by one thread where it has more than two axes.

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor};

use super::host::{contiguous, is_cpu};

/// Puts axes in another order, as [`Tensor::permute`] does. In f32 on the CPU, output and gradient are copies in order and no views.
///
/// # Shapes
/// - output: axis `i` is axis `axes[i]` of `tensor`
///
/// # Panics
/// When `axes` does not name each axis once.
pub fn permute<const D: usize>(tensor: Tensor<D>, axes: [usize; D]) -> Tensor<D> {
    if !is_cpu(&tensor.device()) || tensor.dtype() != DType::F32 {
        return tensor.permute(axes.map(|axis| axis as isize));
    }
    Tensor::from_dispatch(Dispatch::permuted_copy(tensor.into_dispatch(), axes.to_vec()))
}

/// The operation on the CPU; no other backend is asked for it.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait PermutedCopy: Backend {
    /// See [`permute`].
    fn permuted_copy(_tensor: FloatTensor<Self>, _axes: Vec<usize>) -> FloatTensor<Self> {
        unreachable!("the CPU alone is asked for it")
    }
}

#[cfg(feature = "cuda")]
impl PermutedCopy for Cuda {}
#[cfg(feature = "wgpu")]
impl PermutedCopy for Wgpu {}

impl PermutedCopy for Flex {
    fn permuted_copy(tensor: FloatTensor<Self>, axes: Vec<usize>) -> FloatTensor<Self> {
        contiguous(&tensor.permute(&axes))
    }
}

#[derive(Debug)]
struct PermutedCopyBackward;

impl<B: Backend + PermutedCopy> Backward<B, 1> for PermutedCopyBackward {
    /// The order of the axes.
    type State = Vec<usize>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [tensor] = ops.parents;
        if let Some(node) = tensor {
            let mut back = vec![0; ops.state.len()];
            for (to, from) in ops.state.into_iter().enumerate() {
                back[from] = to;
            }
            gradients.register::<B>(node.id, B::permuted_copy(gradient, back));
        }
    }
}

impl<B: Backend + PermutedCopy, C: CheckpointStrategy> PermutedCopy for Autodiff<B, C> {
    fn permuted_copy(tensor: FloatTensor<Self>, axes: Vec<usize>) -> FloatTensor<Self> {
        match PermutedCopyBackward.prepare::<C>([tensor.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(axes.clone(), B::permuted_copy(tensor.primitive, axes)),
            OpsKind::UnTracked(prepared) => prepared.finish(B::permuted_copy(tensor.primitive, axes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::TensorMetadata;
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn values_and_gradients_are_those_of_a_view() {
        let device = Device::flex().autodiff();
        for axes in [[0, 1, 3, 5, 2, 4], [5, 4, 3, 2, 1, 0], [1, 2, 0, 4, 5, 3], [0, 1, 2, 3, 4, 5]] {
            let given = Tensor::<6>::random([2, 5, 2, 4, 3, 7], Distribution::Default, &device).require_grad();
            let views = given.clone().permute(axes.map(|axis| axis as isize));
            let upstream = Tensor::<6>::random(views.dims(), Distribution::Default, &device);
            let gradient_of = |output: Tensor<6>| given.grad(&(output * upstream.clone()).sum().backward()).unwrap();
            let ours = permute(given.clone(), axes);
            assert_eq!(ours.to_data(), views.to_data(), "{axes:?}");
            assert_eq!(gradient_of(ours).to_data(), gradient_of(views).to_data(), "{axes:?}");
        }
    }

    #[test]
    fn copies_are_in_order_also_of_views_that_are_parts_or_go_backwards() {
        let numbers = super::super::test_tensors::numbers(0.3, &[6, 4, 5]);
        let part = numbers.layout().narrow(0, 1, 3).narrow(2, 2, 3);
        for layout in [numbers.layout().clone(), part.clone(), part.flip(&[1]), part.permute(&[1, 2, 0])] {
            let view = numbers.clone().with_layout(layout);
            let copy = contiguous(&view);
            assert_eq!(copy.layout().contiguous_offsets(), Some((0, copy.storage::<f32>().len())));
            assert_eq!(copy.into_data(), view.to_contiguous().into_data());
        }
        let copy = Flex::permuted_copy(numbers, vec![2, 0, 1]);
        assert!(copy.is_contiguous());
        assert_eq!(copy.shape().to_vec(), [5, 6, 4]);
    }
}
