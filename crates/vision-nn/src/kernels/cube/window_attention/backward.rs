//! The gradients: those of projections, with sums for the bias over some windows, and then the sums of those sums.

use burn::cubecl;
use burn::cubecl::prelude::*;

use super::tokens::{Form, add_scaled, blocked, dot, load_tile, position, region, scale, token_row, zeros};

/// What a window's scores are found by again.
#[derive(CubeType)]
struct Window {
    index: u32,
    head: u32,
    /// Where the head begins in the queries of a position.
    start: usize,
    /// The unit's own, or the last where it has none.
    token: u32,
    own_region: u32,
    factor: f32,
    /// Where the part's sums for the head begin.
    sums: usize,
    /// Whether there are none yet.
    is_first: bool,
}

/// A cube has a head and some windows, one after the other, and a unit a token. Weights are made three times, and kept nowhere: first the logarithm of each
/// token's sum of exponentials, and the mean of the weights' gradients; then the gradient of its query and those of the scores; then, with the tokens the other
/// way round, those of its key and value.
///
/// With P the weights, O = P V and S the scores: `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P (dP - sum(P dP))`, `dQ = dS K`, `dK = dSᵀ Q`.
///
/// # Shapes
/// - `projected`, `of_projected`: `[B, H, W, 3 C]`
/// - `turned_bias`: `[nH, N, N]`, by key and then by query; `bias` by query and then by key
/// - `gradient`: `[B, H, W, C]`
/// - `partial`: `[parts, nH, N, N]`, by key and then by query
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn gradients<E: Float, N: Size>(
    projected: &Tensor<Vector<E, N>>,
    turned_bias: &Tensor<f32>,
    bias: &Tensor<f32>,
    gradient: &Tensor<Vector<E, N>>,
    of_projected: &mut Tensor<Vector<E, N>>,
    partial: &mut Tensor<f32>,
    windows: u32,
    windows_each: u32,
    factor: f32,
    #[comptime] form: Form,
    #[define(E)] _storage: ElemType,
) {
    let mut ones = Shared::<[Vector<f32, N>]>::new_slice(comptime!(form.tile_vectors()));
    let mut others = Shared::<[Vector<f32, N>]>::new_slice(comptime!(form.tile_vectors()));
    let mut regions = Shared::<[u32]>::new_slice(comptime!(form.tokens as usize));
    let mut logarithms = Shared::<[f32]>::new_slice(comptime!(form.tokens as usize));
    let mut means = Shared::<[f32]>::new_slice(comptime!(form.tokens as usize));
    let head = CUBE_POS_X;
    let first_window = CUBE_POS_Y * windows_each;
    let token = min(UNIT_POS, comptime!(form.tokens - 1));
    let sums = (CUBE_POS_Y * comptime!(form.heads) + head) as usize * comptime!((form.tokens * form.tokens) as usize);
    let start = head as usize * comptime!(form.vectors);
    for index in first_window..min(first_window + windows_each, windows) {
        let own_region = region(index, token, form);
        let is_first = index == first_window;
        let window = Window { index, head, start, token, own_region, factor, sums, is_first };
        keep_region(&window, &mut regions, form);
        look_back::<E, N>(
            projected,
            turned_bias,
            gradient,
            &window,
            &mut ones,
            &mut others,
            &regions,
            &mut logarithms,
            &mut means,
            form,
        );
        of_queries::<E, N>(
            projected,
            turned_bias,
            gradient,
            of_projected,
            partial,
            &window,
            &mut ones,
            &mut others,
            &regions,
            &logarithms,
            &means,
            form,
        );
        of_keys_and_values::<E, N>(
            projected,
            bias,
            gradient,
            of_projected,
            &window,
            &mut ones,
            &mut others,
            &regions,
            &logarithms,
            &means,
            form,
        );
    }
}

/// Leaves the region of each token, once all units have read what the last window had there.
#[cube]
fn keep_region(window: &Window, regions: &mut Shared<[u32]>, #[comptime] form: Form) {
    sync_cube();
    if UNIT_POS < comptime!(form.tokens) {
        regions[window.token as usize] = window.own_region;
    }
}

/// Leaves the logarithm of each token's sum of exponentials, and the mean of what its weights' gradients are.
#[cube]
fn look_back<E: Float, N: Size>(
    projected: &Tensor<Vector<E, N>>,
    turned_bias: &Tensor<f32>,
    gradient: &Tensor<Vector<E, N>>,
    window: &Window,
    keys: &mut Shared<[Vector<f32, N>]>,
    values: &mut Shared<[Vector<f32, N>]>,
    regions: &Shared<[u32]>,
    logarithms: &mut Shared<[f32]>,
    means: &mut Shared<[f32]>,
    #[comptime] form: Form,
) {
    let mut query =
        token_row::<E, N>(projected, window.index, window.token, window.start, comptime!(3 * form.row()), form);
    scale::<N>(&mut query, window.factor, comptime!(form.vectors));
    let upstream = token_row::<E, N>(gradient, window.index, window.token, window.start, comptime!(form.row()), form);
    let mut highest = f32::new(-1e30_f32);
    let mut sum = 0.0f32;
    let mut slopes = 0.0f32;
    for tile in 0..comptime!(form.tiles) {
        let first = tile * comptime!(form.tile);
        load_keys_and_values::<E, N>(projected, window, keys, values, first, form);
        for key in 0..min(comptime!(form.tile), comptime!(form.tokens) - first) {
            let at = key as usize * comptime!(form.vectors);
            let other = first + key;
            let score = dot::<N>(&query, keys, at, comptime!(form.vectors))
                + turned_bias[pair(window.head, other, window.token, form)]
                + blocked(window.own_region, regions[other as usize], form);
            if score > highest {
                let kept = (highest - score).exp();
                sum *= kept;
                slopes *= kept;
                highest = score;
            }
            let weight = (score - highest).exp();
            sum += weight;
            slopes += weight * dot::<N>(&upstream, values, at, comptime!(form.vectors));
        }
    }
    if UNIT_POS < comptime!(form.tokens) {
        logarithms[window.token as usize] = highest + sum.ln();
        means[window.token as usize] = slopes / sum;
    }
}

/// The gradient of the token's query, and those of its scores, added to what other windows have left in `partial`.
#[cube]
fn of_queries<E: Float, N: Size>(
    projected: &Tensor<Vector<E, N>>,
    turned_bias: &Tensor<f32>,
    gradient: &Tensor<Vector<E, N>>,
    of_projected: &mut Tensor<Vector<E, N>>,
    partial: &mut Tensor<f32>,
    window: &Window,
    keys: &mut Shared<[Vector<f32, N>]>,
    values: &mut Shared<[Vector<f32, N>]>,
    regions: &Shared<[u32]>,
    logarithms: &Shared<[f32]>,
    means: &Shared<[f32]>,
    #[comptime] form: Form,
) {
    let mut query =
        token_row::<E, N>(projected, window.index, window.token, window.start, comptime!(3 * form.row()), form);
    scale::<N>(&mut query, window.factor, comptime!(form.vectors));
    let upstream = token_row::<E, N>(gradient, window.index, window.token, window.start, comptime!(form.row()), form);
    let mut of_query = zeros::<N>(comptime!(form.vectors));
    let is_own = UNIT_POS < comptime!(form.tokens);
    for tile in 0..comptime!(form.tiles) {
        let first = tile * comptime!(form.tile);
        load_keys_and_values::<E, N>(projected, window, keys, values, first, form);
        for key in 0..min(comptime!(form.tile), comptime!(form.tokens) - first) {
            let at = key as usize * comptime!(form.vectors);
            let other = first + key;
            let score = dot::<N>(&query, keys, at, comptime!(form.vectors))
                + turned_bias[pair(window.head, other, window.token, form)]
                + blocked(window.own_region, regions[other as usize], form);
            let weight = (score - logarithms[window.token as usize]).exp();
            let slope = dot::<N>(&upstream, values, at, comptime!(form.vectors));
            let of_score = weight * (slope - means[window.token as usize]);
            add_scaled::<N>(&mut of_query, keys, at, of_score, comptime!(form.vectors));
            if is_own {
                let place = window.sums + (other * comptime!(form.tokens) + window.token) as usize;
                let mut total = of_score;
                if !window.is_first {
                    total += partial[place];
                }
                partial[place] = total;
            }
        }
    }
    write::<E, N>(of_projected, window, &of_query, window.start, window.factor, form);
}

/// The gradients of the token's key and value.
#[cube]
fn of_keys_and_values<E: Float, N: Size>(
    projected: &Tensor<Vector<E, N>>,
    bias: &Tensor<f32>,
    gradient: &Tensor<Vector<E, N>>,
    of_projected: &mut Tensor<Vector<E, N>>,
    window: &Window,
    queries: &mut Shared<[Vector<f32, N>]>,
    upstream: &mut Shared<[Vector<f32, N>]>,
    regions: &Shared<[u32]>,
    logarithms: &Shared<[f32]>,
    means: &Shared<[f32]>,
    #[comptime] form: Form,
) {
    let of_keys = window.start + comptime!(form.row());
    let of_values = window.start + comptime!(2 * form.row());
    let key = token_row::<E, N>(projected, window.index, window.token, of_keys, comptime!(3 * form.row()), form);
    let value = token_row::<E, N>(projected, window.index, window.token, of_values, comptime!(3 * form.row()), form);
    let mut of_key = zeros::<N>(comptime!(form.vectors));
    let mut of_value = zeros::<N>(comptime!(form.vectors));
    for tile in 0..comptime!(form.tiles) {
        let first = tile * comptime!(form.tile);
        sync_cube();
        load_tile::<E, N>(projected, queries, window.index, first, window.start, comptime!(3 * form.row()), form);
        load_tile::<E, N>(gradient, upstream, window.index, first, window.start, comptime!(form.row()), form);
        sync_cube();
        for query in 0..min(comptime!(form.tile), comptime!(form.tokens) - first) {
            let at = query as usize * comptime!(form.vectors);
            let other = first + query;
            let score = dot::<N>(&key, queries, at, comptime!(form.vectors)) * window.factor
                + bias[pair(window.head, other, window.token, form)]
                + blocked(window.own_region, regions[other as usize], form);
            let weight = (score - logarithms[other as usize]).exp();
            add_scaled::<N>(&mut of_value, upstream, at, weight, comptime!(form.vectors));
            let slope = dot::<N>(&value, upstream, at, comptime!(form.vectors));
            let of_score = weight * (slope - means[other as usize]);
            add_scaled::<N>(&mut of_key, queries, at, of_score, comptime!(form.vectors));
        }
    }
    write::<E, N>(of_projected, window, &of_key, of_keys, window.factor, form);
    write::<E, N>(of_projected, window, &of_value, of_values, 1.0f32, form);
}

/// Keys and values of the tokens from `first` on, once all units are done with those before.
#[cube]
fn load_keys_and_values<E: Float, N: Size>(
    projected: &Tensor<Vector<E, N>>,
    window: &Window,
    keys: &mut Shared<[Vector<f32, N>]>,
    values: &mut Shared<[Vector<f32, N>]>,
    first: u32,
    #[comptime] form: Form,
) {
    let of_keys = window.start + comptime!(form.row());
    let of_values = window.start + comptime!(2 * form.row());
    sync_cube();
    load_tile::<E, N>(projected, keys, window.index, first, of_keys, comptime!(3 * form.row()), form);
    load_tile::<E, N>(projected, values, window.index, first, of_values, comptime!(3 * form.row()), form);
    sync_cube();
}

/// Where a pair of tokens stands in a bias.
#[cube]
fn pair(head: u32, row: u32, column: u32, #[comptime] form: Form) -> usize {
    ((head * comptime!(form.tokens) + row) * comptime!(form.tokens) + column) as usize
}

/// Writes the row of the unit's own token, times `factor`.
#[cube]
fn write<E: Float, N: Size>(
    of_projected: &mut Tensor<Vector<E, N>>,
    window: &Window,
    row: &Array<Vector<f32, N>>,
    start: usize,
    factor: f32,
    #[comptime] form: Form,
) {
    if UNIT_POS < comptime!(form.tokens) {
        let begin = position(window.index, window.token, form) * comptime!(3 * form.row()) + start;
        #[unroll]
        for vector in 0..comptime!(form.vectors) {
            of_projected[begin + vector] = Vector::cast_from(row[vector] * Vector::new(factor));
        }
    }
}

/// Adds up the parts: a column of units for each number of the bias, whose units share the parts among them. `of_bias` is by query and then by key.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn bias_gradient(
    partial: &Tensor<f32>,
    of_bias: &mut Tensor<f32>,
    parts: u32,
    numbers: u32,
    #[comptime] tokens: u32,
    #[comptime] units: usize,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let place = CUBE_POS as u32 * CUBE_DIM_X + UNIT_POS_X;
    let mut sum = 0.0f32;
    if place < numbers {
        for part in range_stepped(UNIT_POS_Y, parts, CUBE_DIM_Y) {
            sum += partial[part as usize * numbers as usize + place as usize];
        }
    }
    shared[UNIT_POS as usize] = sum;
    sync_cube();
    if UNIT_POS_Y == 0 && place < numbers {
        let mut total = 0.0f32;
        for line in 0..CUBE_DIM_Y {
            total += shared[(line * CUBE_DIM_X + UNIT_POS_X) as usize];
        }
        let rest = place / tokens;
        let query = place % tokens;
        let key = rest % tokens;
        let head = rest / tokens;
        of_bias[((head * tokens + query) * tokens + key) as usize] = total;
    }
}
