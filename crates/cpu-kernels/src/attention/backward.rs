use multiversion::multiversion;
use rayon::prelude::*;

use super::head::{Head, read};
use super::rows::Rows;
use super::{WindowAttention, WindowAttentionGradient};
use crate::block::{Block, LANES, add};
use crate::output::Shared;

/// Windows are shared out in so many parts, whatever the number of threads: each sums its own gradient of the bias, and these are added in their order.
const PARTS: usize = 8;

/// One task a head and a part of the windows.
pub(super) fn gradient(
    of: &WindowAttention,
    projected: &[f32],
    bias: &[f32],
    gradient: &[f32],
) -> WindowAttentionGradient {
    let (tokens, width) = (of.tokens(), of.token_blocks());
    let mut of_projected = vec![0.0; projected.len()];
    let shared = Shared::new(&mut of_projected);
    let at_once = of.windows().div_ceil(PARTS).max(1);
    let parts = of.windows().div_ceil(at_once);
    let partial: Vec<Vec<Block>> = (0..of.heads * parts)
        .into_par_iter()
        .map(|task| {
            let mut bias_sums = vec![[0.0; LANES]; tokens * width];
            let mut work = Work::new(of, task / parts);
            for window in (task % parts * at_once..of.windows()).take(at_once) {
                window_task(of, [projected, bias, gradient], window, &mut work, &mut bias_sums, shared);
            }
            bias_sums
        })
        .collect();
    let mut of_bias = vec![0.0f32; of.heads * tokens * tokens];
    for (task, sums) in partial.iter().enumerate() {
        let of_head = &mut of_bias[task / parts * tokens * tokens..][..tokens * tokens];
        for (of_bias, sums) in of_head.chunks_exact_mut(tokens).zip(sums.chunks_exact(width)) {
            of_bias.iter_mut().zip(sums.as_flattened()).for_each(|(of_bias, sum)| *of_bias += sum);
        }
    }
    WindowAttentionGradient { projected: of_projected, bias: of_bias }
}

struct Work {
    index: usize,
    head: Head,
    /// Of what tokens see, `[N, D]`.
    upstream: Rows,
    /// Of weights, then of scores, `[N, N]`.
    scores: Rows,
    /// Of values, queries or keys, `[N, D]`.
    result: Rows,
}

impl Work {
    fn new(of: &WindowAttention, index: usize) -> Self {
        let of_head = || Rows::new(of.tokens(), of.head_blocks());
        let scores = Rows::new(of.tokens(), of.token_blocks());
        Self { index, head: Head::new(of), upstream: of_head(), scores, result: of_head() }
    }
}

/// With P the weights, O = P V and S the scores: `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P (dP - sum(P dP))`, `dQ = dS K`, `dK = dSᵀ Q`.
#[multiversion(targets = "simd")]
fn window_task(
    of: &WindowAttention,
    [projected, bias, gradient]: [&[f32]; 3],
    window: usize,
    work: &mut Work,
    bias_sums: &mut [Block],
    output: Shared<'_>,
) {
    let places = of.places(window);
    let Work { index, head, upstream, scores, result } = work;
    head.look(of, projected, bias, &places, *index);
    for (token, (place, _)) in places.iter().enumerate() {
        read(&gradient[place * of.channels() + *index * of.head_width..], of.head_width, upstream.row_mut(token));
    }
    let write = |rows: &Rows, part: usize, scale: f32| {
        for (token, (place, _)) in places.iter().enumerate() {
            let start = (place * 3 + part) * of.channels() + *index * of.head_width;
            // SAFETY: each place is in one window, and each head has numbers of its own there, in each of the three parts.
            let output = unsafe { output.part(start, of.head_width) };
            output.iter_mut().zip(rows.row(token).as_flattened()).for_each(|(output, value)| *output = value * scale);
        }
    };
    result.multiply_turned(&head.weights, upstream, of.tokens());
    write(result, 2, 1.0);
    head.turned.transpose_from(&head.values, of.head_width);
    scores.multiply(upstream, &head.turned, of.head_width);
    for token in 0..of.tokens() {
        through_softmax(head.weights.row(token), scores.row_mut(token));
    }
    bias_sums.iter_mut().zip(&scores.blocks).for_each(|(sum, score)| add(sum, score));
    result.multiply(scores, &head.keys, of.tokens());
    write(result, 0, of.scale());
    result.multiply_turned(scores, &head.queries, of.tokens());
    write(result, 1, 1.0);
}

/// Of the weights' gradient that of the scores.
#[inline(always)]
fn through_softmax(weights: &[Block], gradient: &mut [Block]) {
    let mut sums = [0.0; LANES];
    for (weights, gradient) in weights.iter().zip(&*gradient) {
        for lane in 0..LANES {
            sums[lane] = weights[lane].mul_add(gradient[lane], sums[lane]);
        }
    }
    let sum: f32 = sums.iter().sum();
    for (weights, gradient) in weights.iter().zip(gradient) {
        for lane in 0..LANES {
            gradient[lane] = weights[lane] * (gradient[lane] - sum);
        }
    }
}
