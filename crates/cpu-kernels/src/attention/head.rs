use super::places::Places;
use super::rows::{Rows, width};
use super::{BLOCKED, WindowAttention};
use crate::block::{LANES, Line, add_lines, folded, total};
use crate::exponential::exp_of_negative;

/// One head of one window.
pub(super) struct Head {
    /// Scaled, `[N, D]`.
    pub(super) queries: Rows,
    /// `[N, D]`
    pub(super) keys: Rows,
    /// `[N, D]`
    pub(super) values: Rows,
    /// How much each token sees of each, `[N, N]`.
    pub(super) weights: Rows,
    /// Of keys or values, `[D, N]`.
    pub(super) turned: Rows,
}

impl Head {
    pub(super) fn new(of: &WindowAttention) -> Self {
        let (tokens, head_width) = (of.tokens(), of.head_width);
        let of_head = || Rows::new(tokens, head_width);
        let (weights, turned) = (Rows::new(tokens, tokens), Rows::new(head_width, tokens));
        Self { queries: of_head(), keys: of_head(), values: of_head(), weights, turned }
    }

    /// Takes up a window's head, and finds its weights. `bias` is that of [`bias_lines`].
    #[inline(always)]
    pub(super) fn look(
        &mut self,
        of: &WindowAttention,
        projected: &[f32],
        bias: &[Line],
        places: &Places,
        head: usize,
    ) {
        let channels = of.channels();
        for (token, place) in places.places.iter().enumerate() {
            let row = &projected[place * 3 * channels + head * of.head_width..];
            self.queries.read(token, row);
            self.keys.read(token, &row[channels..]);
            self.values.read(token, &row[2 * channels..]);
        }
        self.queries.scale(of.scale());
        self.turned.transpose_from(&self.keys);
        self.weights.multiply(self.queries.matrix(), &self.turned);
        let of_head = bias.len() / of.heads;
        let bias = bias[head * of_head..][..of_head].chunks_exact(width(of.tokens()));
        for (token, bias) in bias.enumerate() {
            let scores = self.weights.row_mut(token);
            add_lines(scores, bias);
            if places.are_apart {
                block(scores, &places.regions, places.region(token));
            }
            softmax(scores);
        }
    }
}

/// The bias in whole lines, a row each token and head; nothing is seen beyond the last token.
pub(super) fn bias_lines(of: &WindowAttention, bias: &[f32]) -> Vec<Line> {
    let tokens = of.tokens();
    let mut lines = vec![Line([f32::NEG_INFINITY; LANES]); of.heads * tokens * width(tokens)];
    let rows = Line::numbers_mut(&mut lines).chunks_exact_mut(width(tokens) * LANES);
    rows.zip(bias.chunks_exact(tokens)).for_each(|(row, bias)| row[..tokens].copy_from_slice(bias));
    lines
}

/// Keeps a token of this region from seeing those of others.
#[inline(always)]
fn block(scores: &mut [Line], regions: &[[u32; LANES]], own: u32) {
    for (Line(scores), regions) in scores.iter_mut().zip(regions) {
        for lane in 0..LANES {
            scores[lane] += if regions[lane] == own { 0.0 } else { BLOCKED };
        }
    }
}

/// Shares that add up to 1.
#[inline(always)]
fn softmax(scores: &mut [Line]) {
    let mut highest = [f32::NEG_INFINITY; LANES];
    for Line(scores) in &*scores {
        for lane in 0..LANES {
            highest[lane] = highest[lane].max(scores[lane]);
        }
    }
    let highest = folded(highest, f32::max);
    let mut sums = [0.0f32; LANES];
    for Line(scores) in &mut *scores {
        for lane in 0..LANES {
            scores[lane] = share(scores[lane] - highest);
            sums[lane] += scores[lane];
        }
    }
    let scale = 1.0 / total(sums);
    Line::numbers_mut(scores).iter_mut().for_each(|score| *score *= scale);
}

/// `exp(below)`; exactly zero where that is next to nothing: what a processor does with numbers below the normal ones takes it a hundred times as long, and
/// masks make many of them. NaN stays.
#[inline(always)]
fn share(below: f32) -> f32 {
    /// e^-80 is far below the last bit of a sum that holds e^0.
    const NOTHING: f32 = -80.0;
    let share = if below < NOTHING { 0.0 } else { exp_of_negative(below) };
    if below.is_nan() { below } else { share }
}
