//! Sums and gradients over vectors of channels, in f32.

use burn::cubecl;
use burn::cubecl::prelude::*;
use burn::cubecl::std::FastDivmod;

use super::UNITS_OF_A_CUBE;

/// A unit makes one vector of the output.
///
/// # Shapes
/// - `map`, `branch`, `output`: `[B, .., C]`
/// - `bias`, `scale`: `[C]`; read only if `has_scale`
/// - `factors`: `[B]`; read only if `has_factors`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn add_branch<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    branch: &Tensor<Vector<E, N>>,
    bias: &Tensor<Vector<f32, N>>,
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
        value = (value + bias[vector as usize]) * scale[vector as usize];
    }
    if comptime!(has_factors) {
        let (sample, _) = vectors_of_sample.div_mod(ABSOLUTE_POS as u32);
        value *= Vector::new(factors[sample as usize]);
    }
    output[ABSOLUTE_POS] = Vector::cast_from(Vector::<f32, N>::cast_from(map[ABSOLUTE_POS]) + value);
}

/// A unit has one vector of channels and a chunk of the rows: it makes the gradients of the branch there, and leaves the sums of what bias and scale get. The
/// units of a chunk follow each other, so that what they read is one stretch of memory.
///
/// # Shapes
/// - `gradient`, `branch`, `of_branch`: `[B, .., C]`; `branch` is read only if `has_branch`
/// - `bias`, `scale`: `[C]`; read only if `has_scale`
/// - `factors`: `[B]`; read only if `has_factors`
/// - `partial`: `[chunks, 2, C]`; written only if `has_branch`: sums without the scale, and those of products with the branch
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn branch_gradient<E: Float, N: Size>(
    gradient: &Tensor<Vector<E, N>>,
    branch: &Tensor<Vector<E, N>>,
    bias: &Tensor<Vector<f32, N>>,
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
    let mut shift = Vector::<f32, N>::zero();
    if comptime!(has_branch) {
        shift = bias[vector as usize];
    }
    let mut slopes = Vector::<f32, N>::zero();
    let mut products = Vector::<f32, N>::zero();
    for row in start..end {
        let place = row as usize * row_vectors as usize + vector as usize;
        let mut slope = Vector::<f32, N>::cast_from(gradient[place]);
        if comptime!(has_factors) {
            let (sample, _) = rows_of_sample.div_mod(row);
            slope *= Vector::new(factors[sample as usize]);
        }
        if comptime!(has_branch) {
            slopes += slope;
            products += slope * (Vector::<f32, N>::cast_from(branch[place]) + shift);
        }
        of_branch[place] = Vector::cast_from(slope * weight);
    }
    if comptime!(has_branch) {
        let place = (chunk * 2 * row_vectors + vector) as usize;
        partial[place] = slopes;
        partial[place + row_vectors as usize] = products;
    }
}

/// Adds up the chunks: a column of units for each channel, of which each has every `strips`th chunk.
///
/// # Shapes
/// - `partial`: `[chunks, 2, C]`
/// - `scale`, `of_bias`, `of_scale`: `[C]`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn sum_chunks(
    partial: &Tensor<f32>,
    scale: &Tensor<f32>,
    of_bias: &mut Tensor<f32>,
    of_scale: &mut Tensor<f32>,
    chunks: u32,
    channels: u32,
    #[comptime] strips: u32,
) {
    let channel = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    let is_there = channel < channels as usize;
    let mut slopes = 0.0f32;
    let mut products = 0.0f32;
    if is_there {
        for chunk in range_stepped(UNIT_POS_Y, chunks, strips) {
            let place = 2 * chunk as usize * channels as usize + channel;
            slopes += partial[place];
            products += partial[place + channels as usize];
        }
    }
    if comptime!(strips > 1) {
        let mut slopes_of_strips = Shared::new_slice(comptime!(UNITS_OF_A_CUBE as usize));
        let mut products_of_strips = Shared::new_slice(comptime!(UNITS_OF_A_CUBE as usize));
        slopes_of_strips[UNIT_POS as usize] = slopes;
        products_of_strips[UNIT_POS as usize] = products;
        sync_cube();
        if UNIT_POS_Y == 0 {
            for strip in 1..strips {
                let place = (strip * CUBE_DIM_X + UNIT_POS_X) as usize;
                slopes += slopes_of_strips[place];
                products += products_of_strips[place];
            }
        }
    }
    if UNIT_POS_Y == 0 && is_there {
        of_bias[channel] = slopes * scale[channel];
        of_scale[channel] = products;
    }
}
