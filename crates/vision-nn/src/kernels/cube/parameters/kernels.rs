//! Kernels over lists of flat tensors. The cubes of a launch are dealt out to the tensors in order, [`CHUNK`](crate::kernels::parameters::plan::CHUNK) numbers to each.

use burn::cubecl;
use burn::cubecl::prelude::*;

type Tensors = Sequence<OwnedTensor<f32>>;

#[cube]
fn write(tensors: &mut Tensors, #[comptime] tensor: usize, at: usize, value: f32) {
    tensors.index_mut(tensor).as_mut_slice()[at] = value;
}

/// An average on its way after its weight.
#[cube]
fn follow(averages: &mut Tensors, #[comptime] tensor: usize, at: usize, weight: f32, decay: f32, share: f32) {
    let before = averages.index(tensor).as_slice()[at];
    write(averages, tensor, at, decay * before + share * weight);
}

/// What AdamW takes beside the tensors.
#[derive(CubeLaunch, CubeType)]
pub(super) struct AdamWConstants {
    /// What each gradient is multiplied by.
    pub(super) factor: f32,
    pub(super) beta_1: f32,
    pub(super) share_1: f32,
    pub(super) beta_2: f32,
    pub(super) share_2: f32,
    /// One over what beginning at zero leaves of the second moment.
    pub(super) warmth: f32,
    pub(super) epsilon: f32,
    /// What the average keeps of itself.
    pub(super) decay: f32,
    /// What it takes of the weight.
    pub(super) share: f32,
}

/// AdamW's step over a list of parameters, in place, and that of their averages where there are any. The arithmetic is that of
/// `cpu_kernels::AdamWStep`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn adamw(
    weights: &mut Tensors,
    gradients: &Tensors,
    firsts: &mut Tensors,
    seconds: &mut Tensors,
    averages: &mut Tensors,
    // What decay leaves of a weight, and the length of a step, of each parameter.
    kept: Sequence<f32>,
    lengths: Sequence<f32>,
    constants: AdamWConstants,
    #[comptime] chunk: usize,
    #[comptime] has_averages: bool,
) {
    let mut begin = 0usize;
    #[unroll]
    for tensor in 0..gradients.len() {
        let count = gradients.index(tensor).len();
        let end = begin + count.div_ceil(chunk);
        if CUBE_POS >= begin && CUBE_POS < end {
            let start = (CUBE_POS - begin) * chunk;
            for at in range_stepped(start + UNIT_POS as usize, min(start + chunk, count), CUBE_DIM as usize) {
                let slope = gradients.index(tensor).as_slice()[at] * constants.factor;
                let first = constants.beta_1 * firsts.index(tensor).as_slice()[at] + constants.share_1 * slope;
                let second =
                    constants.beta_2 * seconds.index(tensor).as_slice()[at] + constants.share_2 * slope * slope;
                let root = (second * constants.warmth).sqrt() + constants.epsilon;
                let weight = kept[tensor] * weights.index(tensor).as_slice()[at] - lengths[tensor] * first / root;
                write(firsts, tensor, at, first);
                write(seconds, tensor, at, second);
                write(weights, tensor, at, weight);
                if comptime!(has_averages) {
                    follow(averages, tensor, at, weight, constants.decay, constants.share);
                }
            }
        }
        begin = end;
    }
}

/// What SGD takes beside the tensors.
#[derive(CubeLaunch, CubeType)]
pub(super) struct SgdConstants {
    /// What each gradient is multiplied by.
    pub(super) factor: f32,
    pub(super) momentum: f32,
    /// What the average keeps of itself.
    pub(super) decay: f32,
    /// What it takes of the weight.
    pub(super) share: f32,
}

/// The step of SGD over a list of parameters, in place, with their velocities where there are any, and that of their averages where there are any. The
/// arithmetic is that of `cpu_kernels::SgdStep`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn sgd(
    weights: &mut Tensors,
    gradients: &Tensors,
    velocities: &mut Tensors,
    averages: &mut Tensors,
    // What is added of a weight to its gradient, and the length of a step, of each parameter.
    weight_decays: Sequence<f32>,
    lengths: Sequence<f32>,
    constants: SgdConstants,
    #[comptime] chunk: usize,
    #[comptime] has_velocities: bool,
    #[comptime] is_nesterov: bool,
    #[comptime] has_averages: bool,
) {
    let mut begin = 0usize;
    #[unroll]
    for tensor in 0..gradients.len() {
        let count = gradients.index(tensor).len();
        let end = begin + count.div_ceil(chunk);
        if CUBE_POS >= begin && CUBE_POS < end {
            let start = (CUBE_POS - begin) * chunk;
            for at in range_stepped(start + UNIT_POS as usize, min(start + chunk, count), CUBE_DIM as usize) {
                let weight = weights.index(tensor).as_slice()[at];
                let slope = gradients.index(tensor).as_slice()[at] * constants.factor + weight_decays[tensor] * weight;
                let mut direction = slope;
                if comptime!(has_velocities) {
                    let velocity = constants.momentum * velocities.index(tensor).as_slice()[at] + slope;
                    write(velocities, tensor, at, velocity);
                    direction = velocity;
                    if comptime!(is_nesterov) {
                        direction = slope + constants.momentum * velocity;
                    }
                }
                let moved = weight - lengths[tensor] * direction;
                write(weights, tensor, at, moved);
                if comptime!(has_averages) {
                    follow(averages, tensor, at, moved, constants.decay, constants.share);
                }
            }
        }
        begin = end;
    }
}

/// The sum of squares of each cube's numbers, from `first_sum` on.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn squares(
    tensors: &Tensors,
    sums: &mut [f32],
    first_sum: u32,
    #[comptime] chunk: usize,
    #[comptime] units: usize,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let mut sum = 0.0f32;
    let mut begin = 0usize;
    #[unroll]
    for tensor in 0..tensors.len() {
        let count = tensors.index(tensor).len();
        let end = begin + count.div_ceil(chunk);
        if CUBE_POS >= begin && CUBE_POS < end {
            let start = (CUBE_POS - begin) * chunk;
            for at in range_stepped(start + UNIT_POS as usize, min(start + chunk, count), CUBE_DIM as usize) {
                let number = tensors.index(tensor).as_slice()[at];
                sum += number * number;
            }
        }
        begin = end;
    }
    shared[UNIT_POS as usize] = sum;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if (UNIT_POS as usize) < half {
            shared[UNIT_POS as usize] += shared[UNIT_POS as usize + half];
        }
        sync_cube();
        half /= 2;
    }
    if UNIT_POS == 0 && CUBE_POS < begin {
        sums[first_sum as usize + CUBE_POS] = shared[0];
    }
}

/// `own * kept + other * share` of each pair of tensors, in place.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn blend(own: &mut Tensors, other: &Tensors, kept: f32, share: f32, #[comptime] chunk: usize) {
    let mut begin = 0usize;
    #[unroll]
    for tensor in 0..other.len() {
        let count = other.index(tensor).len();
        let end = begin + count.div_ceil(chunk);
        if CUBE_POS >= begin && CUBE_POS < end {
            let start = (CUBE_POS - begin) * chunk;
            for at in range_stepped(start + UNIT_POS as usize, min(start + chunk, count), CUBE_DIM as usize) {
                let blended = kept * own.index(tensor).as_slice()[at] + share * other.index(tensor).as_slice()[at];
                write(own, tensor, at, blended);
            }
        }
        begin = end;
    }
}

/// Every number times `factor`, in place.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn scale(tensors: &mut Tensors, factor: f32, #[comptime] chunk: usize) {
    let mut begin = 0usize;
    #[unroll]
    for tensor in 0..tensors.len() {
        let count = tensors.index(tensor).len();
        let end = begin + count.div_ceil(chunk);
        if CUBE_POS >= begin && CUBE_POS < end {
            let start = (CUBE_POS - begin) * chunk;
            for at in range_stepped(start + UNIT_POS as usize, min(start + chunk, count), CUBE_DIM as usize) {
                let scaled = factor * tensors.index(tensor).as_slice()[at];
                write(tensors, tensor, at, scaled);
            }
        }
        begin = end;
    }
}

/// Every number in another type.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn convert<I: Float, O: Float>(
    inputs: &Sequence<OwnedTensor<I>>,
    outputs: &mut Sequence<OwnedTensor<O>>,
    #[comptime] chunk: usize,
    #[define(I)] _from: ElemType,
    #[define(O)] _to: ElemType,
) {
    let mut begin = 0usize;
    #[unroll]
    for tensor in 0..inputs.len() {
        let count = inputs.index(tensor).len();
        let end = begin + count.div_ceil(chunk);
        if CUBE_POS >= begin && CUBE_POS < end {
            let start = (CUBE_POS - begin) * chunk;
            for at in range_stepped(start + UNIT_POS as usize, min(start + chunk, count), CUBE_DIM as usize) {
                let number = O::cast_from(inputs.index(tensor).as_slice()[at]);
                outputs.index_mut(tensor).as_mut_slice()[at] = number;
            }
        }
        begin = end;
    }
}
