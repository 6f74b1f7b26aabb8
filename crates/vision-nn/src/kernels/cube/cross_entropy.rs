//! Cross-entropy of rows of logits: a kernel for the losses of rows and one for their sum, and one backward.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::cubecl;
use burn::cubecl::prelude::*;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{address_type, cube_count, empty, in_f32, like};
use super::{CubeOperation, Form};
use crate::kernels::cross_entropy::{CROSS_ENTROPY, CROSS_ENTROPY_GRADIENT};

/// Units that share a row.
const UNITS: u32 = 128;

/// The loss `[1]` of logits and targets `[B, K]`, summed.
#[derive(Debug)]
pub(crate) struct Forward;

/// The gradient of the logits, of logits, targets and the loss's gradient.
#[derive(Debug)]
pub(crate) struct Backward;

impl CubeOperation<2, 1> for Forward {
    const NAME: &'static str = CROSS_ENTROPY;

    fn outputs(&self, _: [Form; 2]) -> [Form; 1] {
        [(Shape::new([1]), DType::F32)]
    }

    fn run<R: CubeRuntime>(&self, [logits, targets]: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 1] {
        let (logits, targets) = (into_contiguous(logits), in_f32(targets));
        let [rows, classes] = logits.meta.shape().dims();
        let losses = empty(&logits, Shape::new([rows]), DType::F32);
        let loss = empty(&logits, Shape::new([1]), DType::F32);
        let storage = dtype_to_storage_type(logits.dtype);
        // SAFETY: units read and write the numbers of the rows that there are, and no others.
        unsafe {
            row_losses::launch_unchecked(
                &logits.client.clone(),
                cube_count(&logits, rows),
                CubeDim::new_1d(UNITS),
                address_type(&[&logits]),
                logits.into_tensor_arg(),
                targets.into_tensor_arg(),
                losses.clone().into_tensor_arg(),
                rows as u32,
                classes as u32,
                UNITS as usize,
                storage,
            );
            sum_of_losses::launch_unchecked(
                &loss.client,
                CubeCount::new_1d(1),
                CubeDim::new_1d(UNITS),
                losses.into_tensor_arg(),
                loss.clone().into_tensor_arg(),
                rows as u32,
                UNITS as usize,
            );
        }
        [loss]
    }
}

impl CubeOperation<3, 1> for Backward {
    const NAME: &'static str = CROSS_ENTROPY_GRADIENT;

    fn outputs(&self, [logits, ..]: [Form; 3]) -> [Form; 1] {
        [logits]
    }

    fn run<R: CubeRuntime>(&self, [logits, targets, gradient]: [CubeTensor<R>; 3]) -> [CubeTensor<R>; 1] {
        let (logits, [targets, gradient]) = (into_contiguous(logits), [targets, gradient].map(in_f32));
        let [rows, classes] = logits.meta.shape().dims();
        let output = like(&logits);
        let storage = dtype_to_storage_type(logits.dtype);
        // SAFETY: as in `Forward`.
        unsafe {
            logits_gradient::launch_unchecked(
                &logits.client.clone(),
                cube_count(&logits, rows),
                CubeDim::new_1d(UNITS),
                address_type(&[&logits]),
                logits.into_tensor_arg(),
                targets.into_tensor_arg(),
                gradient.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                rows as u32,
                classes as u32,
                UNITS as usize,
                storage,
            );
        }
        [output]
    }
}

/// A cube makes the loss of a row.
#[cube(launch_unchecked, address_type = "dynamic")]
fn row_losses<E: Float>(
    logits: &Tensor<E>,
    targets: &Tensor<f32>,
    losses: &mut Tensor<f32>,
    rows: u32,
    classes: u32,
    #[comptime] units: usize,
    #[define(E)] _storage: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    // A cube without a row of its own works on the last one.
    let row = min(CUBE_POS, rows as usize - 1);
    let start = row * classes as usize;
    let highest = highest_of_row::<E>(logits, start, classes, &mut shared);
    let mut exponentials = 0.0f32;
    let mut whole = 0.0f32;
    let mut weighted = 0.0f32;
    for class in range_stepped(UNIT_POS, classes, CUBE_DIM) {
        let below = f32::cast_from(logits[start + class as usize]) - highest;
        let target = targets[start + class as usize];
        exponentials += below.exp();
        whole += target;
        weighted += target * below;
    }
    let exponentials = sum_of_units(exponentials, &mut shared);
    let whole = sum_of_units(whole, &mut shared);
    let weighted = sum_of_units(weighted, &mut shared);
    if UNIT_POS == 0 {
        losses[row] = whole * exponentials.ln() - weighted;
    }
}

/// One cube adds up all rows.
#[cube(launch_unchecked)]
fn sum_of_losses(losses: &Tensor<f32>, loss: &mut Tensor<f32>, rows: u32, #[comptime] units: usize) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let mut sum = 0.0f32;
    for row in range_stepped(UNIT_POS, rows, CUBE_DIM) {
        sum += losses[row as usize];
    }
    let sum = sum_of_units(sum, &mut shared);
    if UNIT_POS == 0 {
        loss[0] = sum;
    }
}

/// A cube makes the gradient of a row. `gradient` is that of the loss, `[1]`.
#[cube(launch_unchecked, address_type = "dynamic")]
fn logits_gradient<E: Float>(
    logits: &Tensor<E>,
    targets: &Tensor<f32>,
    gradient: &Tensor<f32>,
    output: &mut Tensor<E>,
    rows: u32,
    classes: u32,
    #[comptime] units: usize,
    #[define(E)] _storage: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let row = min(CUBE_POS, rows as usize - 1);
    let start = row * classes as usize;
    let highest = highest_of_row::<E>(logits, start, classes, &mut shared);
    let mut exponentials = 0.0f32;
    let mut whole = 0.0f32;
    for class in range_stepped(UNIT_POS, classes, CUBE_DIM) {
        exponentials += (f32::cast_from(logits[start + class as usize]) - highest).exp();
        whole += targets[start + class as usize];
    }
    let share = sum_of_units(whole, &mut shared) / sum_of_units(exponentials, &mut shared);
    let upstream = gradient[0];
    for class in range_stepped(UNIT_POS, classes, CUBE_DIM) {
        let place = start + class as usize;
        let exponential = (f32::cast_from(logits[place]) - highest).exp();
        output[place] = E::cast_from(upstream * (share * exponential - targets[place]));
    }
}

/// The highest logit of the row that begins at `start`, the same in each unit. Every unit of the cube must come here.
#[cube]
fn highest_of_row<E: Float>(logits: &Tensor<E>, start: usize, classes: u32, shared: &mut Shared<[f32]>) -> f32 {
    // Units beyond the classes begin with the first one too.
    let mut highest = f32::cast_from(logits[start]);
    for class in range_stepped(UNIT_POS, classes, CUBE_DIM) {
        highest = max(highest, f32::cast_from(logits[start + class as usize]));
    }
    shared[UNIT_POS as usize] = highest;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if (UNIT_POS as usize) < half {
            shared[UNIT_POS as usize] = max(shared[UNIT_POS as usize], shared[UNIT_POS as usize + half]);
        }
        sync_cube();
        half /= 2;
    }
    let highest = shared[0];
    sync_cube();
    highest
}

/// The sum over the units of a cube, the same in each. Every unit must come here; their number is a power of two.
#[cube]
fn sum_of_units(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    shared[UNIT_POS as usize] = value;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if (UNIT_POS as usize) < half {
            shared[UNIT_POS as usize] += shared[UNIT_POS as usize + half];
        }
        sync_cube();
        half /= 2;
    }
    let sum = shared[0];
    sync_cube();
    sum
}
