use multiversion::multiversion;
use rayon::prelude::*;

use super::head::{Head, bias_lines};
use super::places::Places;
use super::rows::{Rows, width};
use super::{WindowAttention, WindowAttentionGradient};
use crate::block::{LANES, Line, add_lines, total};
use crate::output::{Shared, in_parts_of_tasks};

/// Windows are shared out in so many parts, whatever the number of threads: each sums its own gradient of the bias, and these are added in their order.
const PARTS: usize = 8;

/// Tasks a thread, about: heads are shared out, too, where parts are too few for that.
const TASKS_A_THREAD: usize = 4;

/// One task a part of the windows and of the heads: all heads of a window lie together in the map.
pub(super) fn gradient(
    of: &WindowAttention,
    projected: &[f32],
    bias: &[f32],
    gradient: &[f32],
) -> WindowAttentionGradient {
    let (tokens, width) = (of.tokens(), width(of.tokens()));
    let bias = bias_lines(of, bias);
    let at_once = of.windows().div_ceil(PARTS).max(1);
    let parts = of.windows().div_ceil(at_once);
    let groups = (TASKS_A_THREAD * rayon::current_num_threads()).div_ceil(parts.max(1)).clamp(1, of.heads.max(1));
    let group = of.heads.div_ceil(groups);
    let of_head = tokens * width;
    let of_task = |task: usize, output: Shared<'_>| {
        let heads = task / parts * group..(task / parts * group + group).min(of.heads);
        let mut bias_sums = vec![Line::ZEROS; heads.len() * of_head];
        let mut work = Work::new(of);
        for window in (task % parts * at_once..of.windows()).take(at_once) {
            work.places.find(of, window);
            for (head, bias_sums) in heads.clone().zip(bias_sums.chunks_exact_mut(of_head)) {
                window_task(of, head, [projected, gradient], &bias, &mut work, bias_sums, output);
            }
        }
        bias_sums
    };
    // SAFETY: windows tile the map, and each head has numbers of its own in each of the three parts.
    let (of_projected, partial) = unsafe {
        in_parts_of_tasks(projected.len(), |output| -> Vec<Vec<Line>> {
            (0..of.heads.div_ceil(group) * parts).into_par_iter().map(|task| of_task(task, output)).collect()
        })
    };
    let mut of_bias = vec![0.0f32; of.heads * tokens * tokens];
    for (task, sums) in partial.iter().enumerate() {
        let of_heads = of_bias[task / parts * group * tokens * tokens..].chunks_exact_mut(tokens);
        for (of_bias, sums) in of_heads.zip(sums.chunks_exact(width)) {
            of_bias.iter_mut().zip(Line::numbers(sums)).for_each(|(of_bias, sum)| *of_bias += sum);
        }
    }
    WindowAttentionGradient { projected: of_projected, bias: of_bias }
}

struct Work {
    places: Places,
    head: Head,
    /// Of what tokens see, `[N, D]`.
    upstream: Rows,
    /// Of weights, then of scores, `[N, N]`.
    scores: Rows,
    /// Of values, queries or keys, `[N, D]`.
    result: Rows,
}

impl Work {
    fn new(of: &WindowAttention) -> Self {
        let of_head = || Rows::new(of.tokens(), of.head_width);
        let scores = Rows::new(of.tokens(), of.tokens());
        let (head, places) = (Head::new(of), Places::default());
        Self { places, head, upstream: of_head(), scores, result: of_head() }
    }
}

/// With P the weights, O = P V and S the scores: `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P (dP - sum(P dP))`, `dQ = dS K`, `dK = dSᵀ Q`.
#[multiversion(targets = "simd")]
fn window_task(
    of: &WindowAttention,
    index: usize,
    [projected, gradient]: [&[f32]; 2],
    bias: &[Line],
    work: &mut Work,
    bias_sums: &mut [Line],
    output: Shared<'_>,
) {
    let Work { places, head, upstream, scores, result } = work;
    head.look(of, projected, bias, places, index);
    for (token, place) in places.places.iter().enumerate() {
        upstream.read(token, &gradient[place * of.channels() + index * of.head_width..]);
    }
    let write = |rows: &Rows, part: usize, scale: f32| {
        for (token, place) in places.places.iter().enumerate() {
            let start = (place * 3 + part) * of.channels() + index * of.head_width;
            // SAFETY: each place is in one window, and each head has numbers of its own there, in each of the three parts.
            rows.write(token, scale, unsafe { output.part(start, of.head_width) });
        }
    };
    result.multiply(head.weights.matrix().transposed(), upstream);
    write(result, 2, 1.0);
    head.turned.transpose_from(&head.values);
    scores.multiply(upstream.matrix(), &head.turned);
    for token in 0..of.tokens() {
        through_softmax(head.weights.row(token), scores.row_mut(token));
    }
    add_lines(bias_sums, scores.lines());
    result.multiply(scores.matrix(), &head.keys);
    write(result, 0, of.scale());
    result.multiply(scores.matrix().transposed(), &head.queries);
    write(result, 1, 1.0);
}

/// Of the weights' gradient that of the scores.
#[inline(always)]
fn through_softmax(weights: &[Line], gradient: &mut [Line]) {
    let mut sums = [0.0; LANES];
    for (Line(weights), Line(gradient)) in weights.iter().zip(&*gradient) {
        for lane in 0..LANES {
            sums[lane] = weights[lane].mul_add(gradient[lane], sums[lane]);
        }
    }
    let sum = total(sums);
    for (Line(weights), Line(gradient)) in weights.iter().zip(gradient) {
        for lane in 0..LANES {
            gradient[lane] = weights[lane] * (gradient[lane] - sum);
        }
    }
}
