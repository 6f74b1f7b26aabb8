//! The tape of the backward pass, on every device that Burn computes on and on the one that it only records on.
//!
//! Burn 0.22.0-pre.3 builds a tape on its capture device, but `Tensor::backward`, `inner` and `from_inner` refuse it there. Below its dispatch
//! the same operations work, and that is the way taken here.

mod seed;

use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn::backend::autodiff::grads::Gradients as CapturedGradients;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, Capture, DispatchDevice, DispatchKindConversion, DispatchTensor,
};
use burn::tensor::{Device, GradientCheckpointingStrategy, Gradients, Tensor};

/// Evaluates an expression over the backend that tensors of a captured device have, on its tape or off it: Burn's extension macro does not know
/// the capture device, so that its tensors are taken out and put back by hand.
macro_rules! on_captured {
    ($device:expr, $backend:ident => $body:expr) => {{
        use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
        use burn::backend::{Autodiff, Capture};
        use burn::tensor::GradientCheckpointingStrategy;
        // A device without a tape has no strategy, and says so by a panic.
        match $device.is_autodiff().then(|| $device.gradient_checkpointing_strategy()) {
            None => {
                type $backend = Capture;
                $body
            }
            Some(GradientCheckpointingStrategy::Disabled) => {
                type $backend = Autodiff<Capture, NoCheckpointing>;
                $body
            }
            Some(GradientCheckpointingStrategy::Balanced) => {
                type $backend = Autodiff<Capture, BalancedCheckpointing>;
                $body
            }
        }
    }};
}

pub(crate) use on_captured;

/// The primitive of a captured tensor.
pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<D>) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    tensor.try_into_primitive::<B>().expect("the caller asked whether it is captured, on the tape or off it")
}

/// The gradients that a backward pass left behind.
pub enum Tape {
    /// Of a device that computes.
    Computed(Gradients),
    /// Of the capture device.
    Captured(CapturedGradients),
}

impl Tape {
    /// The backward pass of a loss.
    ///
    /// # Shapes
    /// - `loss`: `[1]`
    pub fn backward(loss: Tensor<1>) -> Self {
        if is_captured(&loss.device()) {
            Self::Captured(on_capture(loss).backward())
        } else {
            Self::Computed(loss.backward())
        }
    }

    /// The backward pass from `output` on, whose gradient is known already.
    ///
    /// # Shapes
    /// - `output`, on the tape, and `gradient`, off it: the same
    pub fn backward_from<const D: usize>(output: Tensor<D>, gradient: Tensor<D>) -> Self {
        Self::backward(seed::loss_with_gradient(output, gradient))
    }

    /// Takes out the gradient of a parameter or another leaf, off the tape; none where it has none.
    pub fn remove<const D: usize>(&mut self, parameter: &Tensor<D>) -> Option<Tensor<D>> {
        match self {
            Self::Computed(gradients) => parameter.grad_remove(gradients),
            Self::Captured(gradients) => {
                on_capture(parameter.clone()).grad_remove(gradients).map(Tensor::from_primitive::<Capture>)
            }
        }
    }
}

/// The tensor without its tape; as it is where it has none.
pub fn off_tape<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match is_captured(&tensor.device()) && tensor.device().is_autodiff() {
        true => Tensor::from_primitive::<Capture>(on_capture(tensor).primitive),
        false => tensor.no_grad(),
    }
}

/// The tensor as a leaf of the tape of `device`, whose gradient is wanted. It must be off the tape.
pub fn onto_tape<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    leaf_on_tape(tensor, device).require_grad()
}

/// The tensor as a leaf of the tape of `device`, whose gradient nobody wants. It must be off the tape.
pub fn leaf_on_tape<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    let strategy = device.gradient_checkpointing_strategy();
    match (is_captured(device), strategy) {
        // Burn takes what the tensor last was made with, or none; and tensors of two strategies do not meet in an operation.
        (false, _) => Tensor::from_inner(tensor).with_gradient_checkpointing_strategy(strategy),
        (true, GradientCheckpointingStrategy::Disabled) => onto_capture::<NoCheckpointing, D>(tensor),
        (true, GradientCheckpointingStrategy::Balanced) => onto_capture::<BalancedCheckpointing, D>(tensor),
    }
}

fn onto_capture<C, const D: usize>(tensor: Tensor<D>) -> Tensor<D>
where
    C: CheckpointStrategy,
    DispatchTensor: DispatchKindConversion<Autodiff<Capture, C>>,
{
    let primitive = tensor.try_into_primitive::<Capture>().expect("it is captured, and off the tape by contract");
    Tensor::from_primitive::<Autodiff<Capture, C>>(<Autodiff<Capture, C> as AutodiffBackend>::from_inner(primitive))
}

/// Whether tensors on this device, on the tape or off it, are only recorded.
pub fn is_captured(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Capture(_))
}

fn on_capture<const D: usize>(tensor: Tensor<D>) -> FloatTensor<Autodiff<Capture>> {
    tensor.try_into_primitive::<Autodiff<Capture>>().expect("the caller asked whether it is captured, on the tape")
}

/// The number by which the recorded graph knows a tensor. Numbers only grow: of two tensors, the later has the larger.
///
/// # Panics
/// When the tensor is not on the capture device.
pub fn captured_id<const D: usize>(tensor: &Tensor<D>) -> u64 {
    let tensor = off_tape(tensor.clone());
    tensor.try_into_primitive::<Capture>().expect("only captured tensors are asked for their number").id().value()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData};

    use super::*;

    #[test]
    fn a_backward_pass_in_two_parts_is_the_whole() {
        let device = Device::flex().autodiff();
        let input = Tensor::<2>::random([3, 4], Distribution::Normal(0.0, 1.0), &Device::flex());
        let upstream = || Tensor::<2>::from_data(TensorData::new(vec![0.5f32, -2.0, 3.0], [3, 1]), &device);
        let first = |input: Tensor<2>| input.clone().exp() * input;
        let second = |middle: Tensor<2>| (middle.tanh() * upstream()).sum();
        let whole = onto_tape(input.clone(), &device);
        let expected = Tape::backward(second(first(whole.clone()))).remove(&whole).unwrap();

        let middle = onto_tape(first(input.clone()), &device);
        let gradient = Tape::backward(second(middle.clone())).remove(&middle).unwrap();
        let start = onto_tape(input, &device);
        let found = Tape::backward_from(first(start.clone()), gradient).remove(&start).unwrap();
        // The same operations in the same order.
        assert_eq!(found.into_data(), expected.into_data());
    }
}
