//! Passes over all parameters at once: the optimizer's step, sums of squares, and sums of gradients, in a few launches on CubeCL devices and in one pass
//! of all threads on the CPU.
//!
//! Tensors here are flat, in f32 and off the tape. Memory that nobody else sees is written in place. The device that only records notes the passes of a
//! card.

mod on_cpu;
pub(crate) mod plan;

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::{Capture, DispatchDevice, TensorMetadata};
use burn::tensor::{Device, Tensor};
use cpu_kernels::AdamWStep;

use super::host::is_cpu;
use super::recorded::{notes_ours, record_in_place, record_scratch};
use crate::is_captured;
use crate::tape::primitive;

/// A parameter before or after its step, with what is kept for it.
#[derive(Debug, Clone)]
pub struct Moving {
    /// `[elements]`
    pub weight: Tensor<1>,
    /// AdamW's two moments.
    pub moments: [Tensor<1>; 2],
    /// The moving average of the weight, where there is one: for all parameters of a list, or none.
    pub average: Option<Tensor<1>>,
}

/// Whether [`adamw_of_all`], [`blend_all`], [`scale_all`] and [`squares_of_all`] run on this device, or are noted by it.
pub fn takes_lists(device: &Device) -> bool {
    notes_ours() && (is_card(device) || is_captured(device) || is_cpu(device))
}

/// Whether the device, with a tape or without, is one of CubeCL's.
pub fn is_card(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(_) => true,
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(_) => true,
        _ => false,
    }
}

/// AdamW's step of every parameter by its gradient times `factor`, where the device [takes lists](takes_lists); averages keep `decay` of themselves.
/// Constants may differ in learning rate and weight decay alone.
pub fn adamw_of_all(
    parameters: Vec<Moving>,
    gradients: Vec<Tensor<1>>,
    steps: Vec<AdamWStep>,
    factor: f64,
    decay: f64,
) -> Vec<Moving> {
    let count = parameters.len();
    let decay = parameters.first().and_then(|parameter| parameter.average.as_ref()).map(|_| decay);
    let mut kinds: [Vec<Tensor<1>>; 4] = Default::default();
    for Moving { weight, moments: [first, second], average } in parameters {
        for (kind, tensor) in kinds.iter_mut().zip([Some(weight), Some(first), Some(second), average]) {
            kind.extend(tensor);
        }
    }
    let [weights, firsts, seconds, averages] = kinds;
    let tensors = [weights, gradients, firsts, seconds, averages].into_iter().flatten().collect();
    let mut moved = run(ListPass::AdamW { steps, factor, decay }, tensors);
    let averages = moved.split_off(3 * count);
    let seconds = moved.split_off(2 * count);
    let firsts = moved.split_off(count);
    let mut averages = averages.into_iter();
    let moments = firsts.into_iter().zip(seconds);
    let moved = moved.into_iter().zip(moments);
    moved
        .map(|(weight, (first, second))| Moving { weight, moments: [first, second], average: averages.next() })
        .collect()
}

/// `own * kept + other * share` of each pair, where the device [takes lists](takes_lists).
pub fn blend_all(own: Vec<Tensor<1>>, other: Vec<Tensor<1>>, kept: f64, share: f64) -> Vec<Tensor<1>> {
    run(ListPass::Blend { kept, share }, own.into_iter().chain(other).collect())
}

/// Each tensor times `factor`, where the device [takes lists](takes_lists).
pub fn scale_all(tensors: Vec<Tensor<1>>, factor: f64) -> Vec<Tensor<1>> {
    run(ListPass::Scale(factor), tensors)
}

/// Sums of squares, `[parts]`, whose sum is that over all tensors, where the device [takes lists](takes_lists); none without tensors.
pub fn squares_of_all(tensors: Vec<Tensor<1>>) -> Option<Tensor<1>> {
    run(ListPass::Squares, tensors).pop()
}

/// What is done to a list.
enum ListPass {
    AdamW { steps: Vec<AdamWStep>, factor: f64, decay: Option<f64> },
    Blend { kept: f64, share: f64 },
    Scale(f64),
    Squares,
}

fn run(pass: ListPass, tensors: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
    let Some(device) = tensors.first().map(Tensor::device) else { return Vec::new() };
    match device.as_dispatch() {
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(_) => gpu::run::<Cuda, _>(pass, tensors),
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(_) => gpu::run::<Wgpu, _>(pass, tensors),
        DispatchDevice::Capture(_) => noted(&pass, tensors),
        DispatchDevice::Flex(_) => on_cpu::run(pass, tensors),
        _ => unreachable!("the caller asks `takes_lists` first, and tensors are off the tape"),
    }
}

/// The pass as the recording has it: one operation, whatever the number of launches.
fn noted(pass: &ListPass, tensors: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
    let tensors: Vec<_> = tensors.into_iter().map(primitive::<Capture, 1>).collect();
    let count = tensors.len();
    let outputs = match pass {
        ListPass::AdamW { steps, .. } => {
            record_in_place(plan::ADAMW, tensors, &plan::moved_by_adamw(steps.len(), count))
        }
        ListPass::Blend { .. } => record_in_place(plan::BLEND, tensors, &(0..count / 2).collect::<Vec<_>>()),
        ListPass::Scale(_) => record_in_place(plan::SCALE, tensors, &(0..count).collect::<Vec<_>>()),
        ListPass::Squares => {
            let form = plan::sums_of_squares(tensors.iter().map(|tensor| tensor.shape().num_elements()));
            record_scratch(plan::SQUARES, tensors, vec![form], &[])
        }
    };
    outputs.into_iter().map(Tensor::from_primitive::<Capture>).collect()
}

#[cfg(test)]
mod tests;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu {
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Backend, DispatchKindConversion, DispatchTensor};
    use burn::tensor::Tensor;
    use burn_cubecl::CubeRuntime;

    use super::ListPass;
    use crate::kernels::cube::Queued;
    use crate::kernels::cube::many::launch;
    use crate::kernels::cube::parameters::{AdamW, Blend, Scale, Squares};
    use crate::tape::primitive;

    pub(super) fn run<B, R>(pass: ListPass, tensors: Vec<Tensor<1>>) -> Vec<Tensor<1>>
    where
        B: Backend<FloatTensorPrimitive = Queued<R>>,
        R: CubeRuntime,
        DispatchTensor: DispatchKindConversion<B>,
    {
        let tensors: Vec<FloatTensor<B>> = tensors.into_iter().map(primitive::<B, 1>).collect();
        let outputs = match pass {
            ListPass::AdamW { steps, factor, decay } => launch(AdamW { steps, factor, decay }, tensors),
            ListPass::Blend { kept, share } => launch(Blend { kept, share }, tensors),
            ListPass::Scale(factor) => launch(Scale(factor), tensors),
            ListPass::Squares => launch(Squares, tensors),
        };
        outputs.into_iter().map(Tensor::from_primitive::<B>).collect()
    }
}
