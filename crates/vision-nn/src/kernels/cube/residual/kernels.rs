//! Sums and gradients over vectors of channels, in f32.

use burn::cubecl;
use burn::cubecl::prelude::*;
use burn::cubecl::std::FastDivmod;

use super::UNITS_OF_A_CUBE;

/// A unit makes one vector of the output.
///
/// # Shapes
/// - `map`, `branch`, `output`: `[B, .., C]`
/// - `scale`: `[C]`; read only if `has_scale`
/// - `factors`: `[B]`; read only if `has_factors`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn add_branch<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    branch: &Tensor<Vector<E, N>>,
    scale: &Tensor<Vector<f32, N>>,
    factors: &Tensor<f32>,
    output: &mut Tensor<Vector<E, N>>,
    vectors: FastDivmod<u32>,
    vectors_of_sample: FastDivmod<u32>,
    units: u32,
    #[comptime] has_scale: bool,
    #[comptime] has_factors: bool,
    #[define(E)] _storage: ElemType,
) {
    if ABSOLUTE_POS >= units as usize {
        terminate!();
    }
    let mut value = Vector::<f32, N>::cast_from(branch[ABSOLUTE_POS]);
    if comptime!(has_scale) {
        let (_, vector) = vectors.div_mod(ABSOLUTE_POS as u32);
        value *= scale[vector as usize];
    }
    if comptime!(has_factors) {
        let (sample, _) = vectors_of_sample.div_mod(ABSOLUTE_POS as u32);
        value *= Vector::new(factors[sample as usize]);
    }
    output[ABSOLUTE_POS] = Vector::cast_from(Vector::<f32, N>::cast_from(map[ABSOLUTE_POS]) + value);
}

/// A unit has one vector of channels and a chunk of the rows: it makes the gradients of the branch there, and leaves the sum of what the scale gets. The
/// units of a chunk follow each other, so that what they read is one stretch of memory.
///
/// # Shapes
/// - `gradient`, `branch`, `of_branch`: `[B, .., C]`; `branch` is read only if `has_branch`
/// - `scale`: `[C]`; read only if `has_scale`
/// - `factors`: `[B]`; read only if `has_factors`
/// - `partial`: `[chunks, C]`; written only if `has_branch`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn branch_gradient<E: Float, N: Size>(
    gradient: &Tensor<Vector<E, N>>,
    branch: &Tensor<Vector<E, N>>,
    scale: &Tensor<Vector<f32, N>>,
    factors: &Tensor<f32>,
    of_branch: &mut Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    vectors: FastDivmod<u32>,
    rows_of_sample: FastDivmod<u32>,
    units: u32,
    row_vectors: u32,
    rows_each: u32,
    longer: u32,
    #[comptime] has_branch: bool,
    #[comptime] has_scale: bool,
    #[comptime] has_factors: bool,
    #[define(E)] _storage: ElemType,
) {
    if ABSOLUTE_POS >= units as usize {
        terminate!();
    }
    let (chunk, vector) = vectors.div_mod(ABSOLUTE_POS as u32);
    // The first chunks have one row more than the others.
    let mut start = chunk * rows_each + longer;
    let mut end = start + rows_each;
    if chunk < longer {
        start = chunk * (rows_each + 1);
        end = start + rows_each + 1;
    }
    let mut weight = Vector::<f32, N>::new(1.0f32);
    if comptime!(has_scale) {
        weight = scale[vector as usize];
    }
    let mut sum = Vector::<f32, N>::zero();
    for row in start..end {
        let place = row as usize * row_vectors as usize + vector as usize;
        let mut slope = Vector::<f32, N>::cast_from(gradient[place]);
        if comptime!(has_factors) {
            let (sample, _) = rows_of_sample.div_mod(row);
            slope *= Vector::new(factors[sample as usize]);
        }
        if comptime!(has_branch) {
            sum += slope * Vector::cast_from(branch[place]);
        }
        of_branch[place] = Vector::cast_from(slope * weight);
    }
    if comptime!(has_branch) {
        partial[ABSOLUTE_POS] = sum;
    }
}

/// Adds up the chunks: a column of units for each channel, of which each has every `strips`th chunk.
///
/// # Shapes
/// - `partial`: `[chunks, C]`
/// - `output`: `[C]`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn sum_chunks(
    partial: &Tensor<f32>,
    output: &mut Tensor<f32>,
    chunks: u32,
    channels: u32,
    #[comptime] strips: u32,
) {
    let channel = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    let is_there = channel < channels as usize;
    let mut sum = 0.0f32;
    if is_there {
        for chunk in range_stepped(UNIT_POS_Y, chunks, strips) {
            sum += partial[chunk as usize * channels as usize + channel];
        }
    }
    if comptime!(strips > 1) {
        let mut of_strips = Shared::new_slice(comptime!(UNITS_OF_A_CUBE as usize));
        of_strips[UNIT_POS as usize] = sum;
        sync_cube();
        if UNIT_POS_Y == 0 {
            for strip in 1..strips {
                sum += of_strips[(strip * CUBE_DIM_X + UNIT_POS_X) as usize];
            }
        }
    }
    if UNIT_POS_Y == 0 && is_there {
        output[channel] = sum;
    }
}
