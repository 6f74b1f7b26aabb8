//! What each token sees.

use burn::cubecl;
use burn::cubecl::prelude::*;

use super::tokens::{Form, add_scaled, blocked, dot, load_tile, position, region, scale, token_row, zeros};

/// A cube has a head of a window, and a unit a token of it: its query and what it has seen so far stay in registers, while keys and values go by in shared
/// memory. What was seen is scaled down when a higher score is found, so that scores are made once and kept nowhere.
///
/// # Shapes
/// - `projected`: `[B, H, W, 3 C]`
/// - `bias`: `[nH, N, N]`, by key and then by query
/// - `output`: `[B, H, W, C]`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn look<E: Float, N: Size>(
    projected: &Tensor<Vector<E, N>>,
    bias: &Tensor<f32>,
    output: &mut Tensor<Vector<E, N>>,
    windows: u32,
    factor: f32,
    #[comptime] form: Form,
    #[define(E)] _storage: ElemType,
) {
    let mut keys = Shared::<[Vector<f32, N>]>::new_slice(comptime!(form.tile_vectors()));
    let mut values = Shared::<[Vector<f32, N>]>::new_slice(comptime!(form.tile_vectors()));
    let mut regions = Shared::<[u32]>::new_slice(comptime!(form.tokens as usize));
    // A cube without a window of its own works on the last one, and so do units without a token: all must come to the loads.
    let task = min(CUBE_POS as u32, windows * comptime!(form.heads) - 1);
    let window = task / comptime!(form.heads);
    let head = task % comptime!(form.heads);
    let token = min(UNIT_POS, comptime!(form.tokens - 1));
    let is_own = UNIT_POS < comptime!(form.tokens);
    let start = head as usize * comptime!(form.vectors);
    let own_region = region(window, token, form);
    if is_own {
        regions[token as usize] = own_region;
    }
    let mut query = token_row::<E, N>(projected, window, token, start, comptime!(3 * form.row()), form);
    scale::<N>(&mut query, factor, comptime!(form.vectors));
    let mut seen = zeros::<N>(comptime!(form.vectors));
    let mut highest = f32::new(-1e30_f32);
    let mut sum = 0.0f32;
    for tile in 0..comptime!(form.tiles) {
        let first = tile * comptime!(form.tile);
        sync_cube();
        let of_keys = start + comptime!(form.row());
        let of_values = start + comptime!(2 * form.row());
        load_tile::<E, N>(projected, &mut keys, window, first, of_keys, comptime!(3 * form.row()), form);
        load_tile::<E, N>(projected, &mut values, window, first, of_values, comptime!(3 * form.row()), form);
        sync_cube();
        for key in 0..min(comptime!(form.tile), comptime!(form.tokens) - first) {
            let at = key as usize * comptime!(form.vectors);
            let other = first + key;
            let pair = (head * comptime!(form.tokens) + other) * comptime!(form.tokens) + token;
            let score = dot::<N>(&query, &mut keys, at, comptime!(form.vectors))
                + bias[pair as usize]
                + blocked(own_region, regions[other as usize], form);
            if score > highest {
                let kept = (highest - score).exp();
                sum *= kept;
                scale::<N>(&mut seen, kept, comptime!(form.vectors));
                highest = score;
            }
            let weight = (score - highest).exp();
            sum += weight;
            add_scaled::<N>(&mut seen, &mut values, at, weight, comptime!(form.vectors));
        }
    }
    if is_own {
        scale::<N>(&mut seen, 1.0f32 / sum, comptime!(form.vectors));
        let begin = position(window, token, form) * comptime!(form.row()) + start;
        #[unroll]
        for vector in 0..comptime!(form.vectors) {
            output[begin + vector] = Vector::cast_from(seen[vector]);
        }
    }
}
