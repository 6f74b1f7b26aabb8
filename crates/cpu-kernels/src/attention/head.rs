use super::rows::Rows;
use super::{BLOCKED, WindowAttention};
use crate::block::{Block, LANES, load};
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
        let rows = |width| Rows::new(of.tokens(), width);
        Self {
            queries: rows(of.head_blocks()),
            keys: rows(of.head_blocks()),
            values: rows(of.head_blocks()),
            weights: rows(of.token_blocks()),
            turned: Rows::new(of.head_width, of.token_blocks()),
        }
    }

    /// Takes up a window's head, and finds its weights.
    #[inline(always)]
    pub(super) fn look(
        &mut self,
        of: &WindowAttention,
        projected: &[f32],
        bias: &[f32],
        places: &[(usize, usize)],
        head: usize,
    ) {
        let channels = of.channels();
        for (token, (place, _)) in places.iter().enumerate() {
            let row = &projected[place * 3 * channels + head * of.head_width..];
            read(row, of.head_width, self.queries.row_mut(token));
            read(&row[channels..], of.head_width, self.keys.row_mut(token));
            read(&row[2 * channels..], of.head_width, self.values.row_mut(token));
        }
        let scale = of.scale();
        self.queries.blocks.as_flattened_mut().iter_mut().for_each(|query| *query *= scale);
        self.turned.transpose_from(&self.keys, of.head_width);
        self.weights.multiply(&self.queries, &self.turned, of.head_width);
        let tokens = of.tokens();
        for (token, (_, region)) in places.iter().enumerate() {
            let bias = &bias[(head * tokens + token) * tokens..][..tokens];
            let scores = self.weights.row_mut(token).as_flattened_mut();
            for (score, bias) in scores.iter_mut().zip(bias) {
                *score += bias;
            }
            if of.shift != [0, 0] {
                for (score, (_, other)) in scores.iter_mut().zip(places) {
                    *score += if region == other { 0.0 } else { BLOCKED };
                }
            }
            softmax(scores, tokens);
        }
    }
}

/// Shares that add up to 1, of the first `count` scores; nothing beyond.
#[inline(always)]
fn softmax(scores: &mut [f32], count: usize) {
    let mut highest = [f32::NEG_INFINITY; LANES];
    let (scores, beyond) = scores.split_at_mut(count);
    beyond.fill(0.0);
    let (whole, rest) = scores.as_chunks::<LANES>();
    for chunk in whole {
        highest.iter_mut().zip(chunk).for_each(|(highest, score)| *highest = highest.max(*score));
    }
    let highest = highest.iter().chain(rest).fold(f32::NEG_INFINITY, |highest, score| highest.max(*score));
    scores.iter_mut().for_each(|score| *score = share(*score - highest));
    let mut sums = [0.0f32; LANES];
    let (whole, rest) = scores.as_chunks::<LANES>();
    for chunk in whole {
        sums.iter_mut().zip(chunk).for_each(|(sum, share)| *sum += share);
    }
    let sum: f32 = sums.iter().sum::<f32>() + rest.iter().sum::<f32>();
    scores.iter_mut().for_each(|share| *share /= sum);
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

/// Numbers of one token into a row of blocks.
#[inline(always)]
pub(super) fn read(numbers: &[f32], width: usize, row: &mut [Block]) {
    for (index, block) in row.iter_mut().enumerate() {
        let start = index * LANES;
        *block = load(&numbers[start..], LANES.min(width - start));
    }
}
