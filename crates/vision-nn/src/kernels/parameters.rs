//! Passes over all parameters at once: the optimizer's step, sums of squares, and sums of gradients, in a few launches on CubeCL devices and in one pass
//! of all threads on the CPU.
//!
//! Tensors here are flat, off the tape and, but where they are cast, in f32. Memory that nobody else sees is written in place. The device that only records notes the passes of a
//! card.

mod on_cpu;
pub(crate) mod plan;

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::{Capture, DispatchDevice, TensorMetadata};
use burn::tensor::{DType, Device, Tensor};
use cpu_kernels::{AdamWStep, SgdStep};

use super::host::is_cpu;
use super::recorded::{notes_ours, record_in_place, record_scratch};
use crate::is_captured;
use crate::tape::primitive;

/// A parameter before or after its step, with what is kept for it.
#[derive(Debug, Clone)]
pub struct Moving {
    /// `[elements]`
    pub weight: Tensor<1>,
    /// What the rule keeps of the steps before, `[elements]` each, zeros at first: AdamW's two moments, SGD's velocity.
    pub kept: Vec<Tensor<1>>,
    /// The moving average of the weight, where there is one: for all parameters of a list, or none.
    pub average: Option<Tensor<1>>,
}

/// A rule with the constants of each parameter's step, which may differ in learning rate and weight decay alone.
#[derive(Debug, Clone)]
pub enum Steps {
    /// Keeps two moments.
    AdamW(Vec<AdamWStep>),
    /// Keeps a velocity, or nothing without momentum.
    Sgd(Vec<SgdStep>),
}

impl Steps {
    /// How many tensors it keeps of a parameter.
    fn kept(&self) -> usize {
        match self {
            Self::AdamW(_) => 2,
            Self::Sgd(steps) => usize::from(steps.first().is_some_and(SgdStep::keeps_velocity)),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::AdamW(steps) => steps.len(),
            Self::Sgd(steps) => steps.len(),
        }
    }
}

/// Whether [`move_all`], [`blend_all`], [`scale_all`], [`cast_all`] and [`squares_of_all`] run on this device, or are noted by it.
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

/// The rule's step of every parameter by its gradient times `factor`, where the device [takes lists](takes_lists); averages keep `decay` of themselves.
///
/// # Panics
/// When a parameter lacks its gradient or its constants, or comes with more or fewer tensors than the rule keeps.
pub fn move_all(
    parameters: Vec<Moving>,
    gradients: Vec<Tensor<1>>,
    steps: Steps,
    factor: f64,
    decay: f64,
) -> Vec<Moving> {
    let count = parameters.len();
    assert_eq!([gradients.len(), steps.count()], [count; 2], "a gradient and constants for each parameter");
    let decay = parameters.first().and_then(|parameter| parameter.average.as_ref()).map(|_| decay);
    let mut weights = Vec::with_capacity(count);
    let mut kept: Vec<Vec<Tensor<1>>> = vec![Vec::new(); steps.kept()];
    let mut averages: Vec<Tensor<1>> = Vec::new();
    for Moving { weight, kept: own, average } in parameters {
        assert_eq!(own.len(), kept.len(), "tensors that the rule keeps of a parameter");
        weights.push(weight);
        kept.iter_mut().zip(own).for_each(|(kind, tensor)| kind.push(tensor));
        averages.extend(average);
    }
    let slots = kept.len();
    let tensors = [weights, gradients].into_iter().chain(kept).chain([averages]).flatten().collect();
    let mut moved = run(ListPass::Move { steps, factor, decay }, tensors).into_iter();
    let mut after: Vec<Moving> =
        moved.by_ref().take(count).map(|weight| Moving { weight, kept: Vec::new(), average: None }).collect();
    for _ in 0..slots {
        after.iter_mut().zip(moved.by_ref()).for_each(|(parameter, tensor)| parameter.kept.push(tensor));
    }
    after.iter_mut().zip(moved).for_each(|(parameter, average)| parameter.average = Some(average));
    after
}

/// `own * kept + other * share` of each pair, where the device [takes lists](takes_lists).
pub fn blend_all(own: Vec<Tensor<1>>, other: Vec<Tensor<1>>, kept: f64, share: f64) -> Vec<Tensor<1>> {
    run(ListPass::Blend { kept, share }, own.into_iter().chain(other).collect())
}

/// Each tensor times `factor`, where the device [takes lists](takes_lists).
pub fn scale_all(tensors: Vec<Tensor<1>>, factor: f64) -> Vec<Tensor<1>> {
    run(ListPass::Scale(factor), tensors)
}

/// Each tensor in another type, in other memory, where the device [takes lists](takes_lists). All have one type, which is not `dtype`.
///
/// # Shapes
/// - `tensors`: `[elements]` each
pub fn cast_all(tensors: Vec<Tensor<1>>, dtype: DType) -> Vec<Tensor<1>> {
    run(ListPass::Cast(dtype), tensors)
}

/// Sums of squares, `[parts]`, whose sum is that over all tensors, where the device [takes lists](takes_lists); none without tensors.
pub fn squares_of_all(tensors: Vec<Tensor<1>>) -> Option<Tensor<1>> {
    run(ListPass::Squares, tensors).pop()
}

/// What is done to a list.
enum ListPass {
    Move { steps: Steps, factor: f64, decay: Option<f64> },
    Blend { kept: f64, share: f64 },
    Scale(f64),
    Cast(DType),
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
        ListPass::Move { steps, .. } => {
            let name = match steps {
                Steps::AdamW(_) => plan::ADAMW,
                Steps::Sgd(_) => plan::SGD,
            };
            record_in_place(name, tensors, &plan::moved_by_step(steps.count(), count))
        }
        ListPass::Blend { .. } => record_in_place(plan::BLEND, tensors, &(0..count / 2).collect::<Vec<_>>()),
        ListPass::Scale(_) => record_in_place(plan::SCALE, tensors, &(0..count).collect::<Vec<_>>()),
        ListPass::Cast(dtype) => {
            let forms = tensors.iter().map(|tensor| (tensor.shape(), *dtype)).collect();
            record_scratch(plan::CAST, tensors, forms, &[])
        }
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

    use super::{ListPass, Steps};
    use crate::kernels::cube::Queued;
    use crate::kernels::cube::many::launch;
    use crate::kernels::cube::parameters::{Blend, Cast, Move, Scale, Squares};
    use crate::tape::primitive;

    pub(super) fn run<B, R>(pass: ListPass, tensors: Vec<Tensor<1>>) -> Vec<Tensor<1>>
    where
        B: Backend<FloatTensorPrimitive = Queued<R>>,
        R: CubeRuntime,
        DispatchTensor: DispatchKindConversion<B>,
    {
        let tensors: Vec<FloatTensor<B>> = tensors.into_iter().map(primitive::<B, 1>).collect();
        let outputs = match pass {
            ListPass::Move { steps: Steps::AdamW(steps), factor, decay } => {
                launch(Move { steps, factor, decay }, tensors)
            }
            ListPass::Move { steps: Steps::Sgd(steps), factor, decay } => {
                launch(Move { steps, factor, decay }, tensors)
            }
            ListPass::Blend { kept, share } => launch(Blend { kept, share }, tensors),
            ListPass::Scale(factor) => launch(Scale(factor), tensors),
            ListPass::Cast(dtype) => launch(Cast(dtype), tensors),
            ListPass::Squares => launch(Squares, tensors),
        };
        outputs.into_iter().map(Tensor::from_primitive::<B>).collect()
    }
}
