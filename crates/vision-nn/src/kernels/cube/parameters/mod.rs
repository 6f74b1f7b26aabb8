//! What is done to all parameters at once: the step of AdamW with the average of the weights, sums of squares, and sums of gradients.
//!
//! A kernel takes many tensors at a time, each with a binding of its own. What nobody else sees is written in place.

mod kernels;

use burn::cubecl::prelude::*;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cpu_kernels::AdamWStep;

use super::Form;
use super::many::ListOperation;
use crate::kernels::parameters::plan::{ADAMW, BLEND, CHUNK, SCALE, SQUARES, moved_by_adamw, sums_of_squares};

const UNITS: u32 = 256;

/// Tensors bound at most. CUDA before 12.1 hands a kernel 4 KiB of parameters at most, eight bytes to a pointer; and the code of a kernel grows with
/// each tensor.
const MOST_BINDINGS: usize = 128;

/// Bindings that go to what is not a tensor of the list.
const OTHER_BINDINGS: usize = 3;

/// AdamW's step over parameters, each with settings of its own. Inputs are weights, gradients, first and second moments and, where a decay is given,
/// averages: all of one kind after the other. Outputs are the same without the gradients.
#[derive(Debug)]
pub(crate) struct AdamW {
    pub(crate) steps: Vec<AdamWStep>,
    /// What gradients are multiplied by.
    pub(crate) factor: f64,
    /// What averages keep of themselves.
    pub(crate) decay: Option<f64>,
}

impl ListOperation for AdamW {
    const NAME: &'static str = ADAMW;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        moved_by_adamw(self.steps.len(), inputs.len()).into_iter().map(|place| inputs[place].clone()).collect()
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let count = self.steps.len();
        let mut kinds: Vec<Vec<CubeTensor<R>>> = Vec::new();
        let mut inputs = inputs.into_iter();
        for kind in 0..if self.decay.is_some() { 5 } else { 4 } {
            let tensors = inputs.by_ref().take(count);
            kinds.push(if kind == 1 { tensors.map(into_contiguous).collect() } else { tensors.map(alone).collect() });
        }
        let gradients = kinds.remove(1);
        let at_once = tensors_at_once(&gradients, kinds.len() + 1);
        for begin in (0..count).step_by(at_once) {
            let part = begin..(begin + at_once).min(count);
            let of = |kind: usize| kinds.get(kind).map_or(SequenceArg::new(), |kind| arguments(&kind[part.clone()]));
            let steps = &self.steps[part.clone()];
            self.launch(steps, &gradients[part.clone()], [of(0), of(1), of(2), of(3)]);
        }
        kinds.into_iter().flatten().collect()
    }
}

impl AdamW {
    fn launch<R: CubeRuntime>(
        &self,
        steps: &[AdamWStep],
        gradients: &[CubeTensor<R>],
        [weights, firsts, seconds, averages]: [SequenceArg<R, OwnedTensor<f32>>; 4],
    ) {
        let AdamWStep { beta_1, beta_2, epsilon, step, .. } = steps[0];
        let warmth = |beta: f64| 1.0 - beta.powf(step as f64);
        let decay = self.decay.unwrap_or(0.0);
        let constants = kernels::ConstantsLaunch::new(
            self.factor as f32,
            beta_1 as f32,
            (1.0 - beta_1) as f32,
            beta_2 as f32,
            (1.0 - beta_2) as f32,
            (1.0 / warmth(beta_2)) as f32,
            epsilon as f32,
            decay as f32,
            (1.0 - decay) as f32,
        );
        let kept = steps.iter().map(|step| (1.0 - step.learning_rate * step.weight_decay) as f32).collect();
        let lengths = steps.iter().map(|step| (step.learning_rate / warmth(beta_1)) as f32).collect();
        // SAFETY: units stay below the length of the gradient, which is that of the other tensors of its parameter.
        unsafe {
            kernels::adamw::launch_unchecked(
                &gradients[0].client,
                cube_count(gradients),
                CubeDim::new_1d(UNITS),
                address_type(gradients),
                weights,
                arguments(gradients),
                firsts,
                seconds,
                averages,
                kept,
                lengths,
                constants,
                CHUNK,
                self.decay.is_some(),
            );
        }
    }
}

/// Sums of squares whose sum is that over all tensors: one output, `[parts]`.
#[derive(Debug)]
pub(crate) struct Squares;

impl ListOperation for Squares {
    const NAME: &'static str = SQUARES;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        vec![sums_of_squares(inputs.iter().map(|(shape, _)| shape.num_elements()))]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let tensors: Vec<_> = inputs.into_iter().map(into_contiguous).collect();
        let (client, device) = (tensors[0].client.clone(), tensors[0].device.clone());
        let (shape, dtype) = sums_of_squares(tensors.iter().map(|tensor| tensor.meta.num_elements()));
        let sums = empty_device_contiguous_dtype(client, device, shape, dtype);
        let mut first_sum = 0;
        for part in tensors.chunks(tensors_at_once(&tensors, 1)) {
            // SAFETY: units stay below the length of their tensor, and each cube that has one writes the sum of its own.
            unsafe {
                kernels::squares::launch_unchecked(
                    &part[0].client,
                    cube_count(part),
                    CubeDim::new_1d(UNITS),
                    address_type(part),
                    arguments(part),
                    sums.clone().into_buffer_arg(),
                    first_sum,
                    CHUNK,
                    UNITS as usize,
                );
            }
            first_sum += cubes_of(part) as u32;
        }
        vec![sums]
    }
}

/// `own * kept + other * share`. Inputs are all own tensors and then all others; outputs are the own ones.
#[derive(Debug)]
pub(crate) struct Blend {
    pub(crate) kept: f64,
    pub(crate) share: f64,
}

impl ListOperation for Blend {
    const NAME: &'static str = BLEND;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        inputs[..inputs.len() / 2].to_vec()
    }

    fn run<R: CubeRuntime>(&self, mut inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let other: Vec<_> = inputs.split_off(inputs.len() / 2).into_iter().map(into_contiguous).collect();
        let own: Vec<_> = inputs.into_iter().map(alone).collect();
        let at_once = tensors_at_once(&own, 2);
        for (own, other) in own.chunks(at_once).zip(other.chunks(at_once)) {
            // SAFETY: units stay below the length of the other tensor, which is that of the own one.
            unsafe {
                kernels::blend::launch_unchecked(
                    &own[0].client,
                    cube_count(own),
                    CubeDim::new_1d(UNITS),
                    address_type(own),
                    arguments(own),
                    arguments(other),
                    self.kept as f32,
                    self.share as f32,
                    CHUNK,
                );
            }
        }
        own
    }
}

/// Every number times the factor.
#[derive(Debug)]
pub(crate) struct Scale(pub(crate) f64);

impl ListOperation for Scale {
    const NAME: &'static str = SCALE;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        inputs.to_vec()
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let tensors: Vec<_> = inputs.into_iter().map(alone).collect();
        for part in tensors.chunks(tensors_at_once(&tensors, 1)) {
            // SAFETY: units stay below the length of their tensor.
            unsafe {
                kernels::scale::launch_unchecked(
                    &part[0].client,
                    cube_count(part),
                    CubeDim::new_1d(UNITS),
                    address_type(part),
                    arguments(part),
                    self.0 as f32,
                    CHUNK,
                );
            }
        }
        tensors
    }
}

/// The tensor in memory that nobody else sees, in order.
fn alone<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Parameters of one launch, of which each has so many tensors.
fn tensors_at_once<R: CubeRuntime>(tensors: &[CubeTensor<R>], each: usize) -> usize {
    let bindings = tensors.first().map_or(0, |tensor| tensor.client.properties().hardware.max_bindings as usize);
    (bindings.min(MOST_BINDINGS).saturating_sub(OTHER_BINDINGS) / each).max(1)
}

fn cubes_of<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> usize {
    tensors.iter().map(|tensor| tensor.meta.num_elements().div_ceil(CHUNK)).sum()
}

fn cube_count<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> CubeCount {
    let most = tensors[0].client.properties().hardware.max_cube_count.0 as usize;
    match cubes_of(tensors) {
        cubes if cubes <= most => CubeCount::new_1d(cubes as u32),
        cubes => CubeCount::new_2d(most as u32, cubes.div_ceil(most) as u32),
    }
}

fn arguments<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> SequenceArg<R, OwnedTensor<f32>> {
    tensors.iter().map(|tensor| tensor.clone().into_tensor_arg()).collect()
}

fn address_type<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}
