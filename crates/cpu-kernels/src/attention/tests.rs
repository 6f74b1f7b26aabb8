use super::*;
use crate::test_numbers::numbers;

fn cases() -> [WindowAttention; 5] {
    let of = |batch, grid, window, shift, heads, head_width| WindowAttention {
        batch,
        grid,
        window,
        shift,
        heads,
        head_width,
    };
    [
        of(2, [14, 14], [7, 7], [3, 3], 2, 32),
        of(1, [7, 7], [7, 7], [0, 0], 3, 32),
        of(3, [4, 6], [2, 3], [1, 1], 1, 5),
        of(1, [1, 2], [1, 1], [0, 0], 2, 17),
        of(2, [3, 10], [3, 5], [0, 2], 2, 20),
    ]
}

/// Output and gradients in f64, from the definition: `[B, H, W, C]`, `[B, H, W, 3 C]`, `[nH, N, N]`.
fn reference(of: &WindowAttention, projected: &[f32], bias: &[f32], gradient: &[f32]) -> [Vec<f64>; 3] {
    let (channels, tokens, width) = (of.channels(), of.tokens(), of.head_width);
    let mut found = [vec![0.0; projected.len() / 3], vec![0.0; projected.len()], vec![0.0; bias.len()]];
    let scale = (width as f64).powf(-0.5);
    for (window, head) in (0..of.windows()).flat_map(|window| (0..of.heads).map(move |head| (window, head))) {
        let places = places_by_hand(of, window);
        let at = |token: usize, part: usize, d: usize| {
            let (row, column) = places[token];
            ((row * of.grid[1] + column) * 3 + part) * channels + head * width + d
        };
        let value = |token: usize, part: usize, d: usize| f64::from(projected[at(token, part, d)]);
        let out = |token: usize, d: usize| (at(token, 0, 0) - head * width) / 3 + head * width + d;
        let dot = |one: &dyn Fn(usize) -> f64, other: &dyn Fn(usize) -> f64| {
            (0..width).map(|d| one(d) * other(d)).sum::<f64>()
        };
        for token in 0..tokens {
            let score = |other: usize| {
                let pair = f64::from(bias[(head * tokens + token) * tokens + other]);
                // Tokens further apart than a window is long were brought together by the roll.
                let (one, two) = (places[token], places[other]);
                let near = (one.0 % of.grid[0]).abs_diff(two.0 % of.grid[0]) < of.window[0]
                    && one.1.abs_diff(two.1) < of.window[1];
                let blocked = if near { 0.0 } else { -100.0 };
                scale * dot(&|d| value(token, 0, d), &|d| value(other, 1, d)) + pair + blocked
            };
            let shares: Vec<f64> = (0..tokens).map(|other| score(other).exp()).collect();
            let sum: f64 = shares.iter().sum();
            let shares: Vec<f64> = shares.iter().map(|share| share / sum).collect();
            let upstream = |d: usize| f64::from(gradient[out(token, d)]);
            let of_shares: Vec<f64> = (0..tokens).map(|other| dot(&upstream, &|d| value(other, 2, d))).collect();
            let mean: f64 = of_shares.iter().zip(&shares).map(|(of_share, share)| of_share * share).sum();
            for other in 0..tokens {
                let of_score = shares[other] * (of_shares[other] - mean);
                found[2][(head * tokens + token) * tokens + other] += of_score;
                for d in 0..width {
                    found[0][out(token, d)] += shares[other] * value(other, 2, d);
                    found[1][at(token, 0, d)] += scale * of_score * value(other, 1, d);
                    found[1][at(other, 1, d)] += scale * of_score * value(token, 0, d);
                    found[1][at(other, 2, d)] += shares[other] * upstream(d);
                }
            }
        }
    }
    found
}

/// Row, counted through all images, and column of each token: the map is rolled and cut.
fn places_by_hand(of: &WindowAttention, window: usize) -> Vec<(usize, usize)> {
    let [height, width] = of.grid;
    let rolled: Vec<(usize, usize)> = (0..of.batch * height * width)
        .map(|place| {
            let (row, column) = (place / width, place % width);
            (row / height * height + (row % height + of.shift[0]) % height, (column + of.shift[1]) % width)
        })
        .collect();
    let across = width / of.window[1];
    let (top, left) = (window / across * of.window[0], window % across * of.window[1]);
    let cells = (0..of.window[0]).flat_map(|row| (0..of.window[1]).map(move |column| (row, column)));
    cells.map(|(row, column)| rolled[(top + row) * width + left + column]).collect()
}

#[test]
fn output_and_gradients_follow_the_definition() {
    for of in cases() {
        let count = of.batch * of.grid[0] * of.grid[1] * of.channels();
        let projected: Vec<f32> = numbers(3 * count, 1).iter().map(|number| 2.0 * number).collect();
        let (bias, gradient) = (numbers(of.heads * of.tokens() * of.tokens(), 2), numbers(count, 3));
        let expected = reference(&of, &projected, &bias, &gradient);
        let WindowAttentionGradient { projected: of_projected, bias: of_bias } =
            of.gradient(&projected, &bias, &gradient);
        let found = [of.forward(&projected, &bias), of_projected, of_bias];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.len(), expected.len());
            let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            for (found, expected) in found.iter().zip(expected) {
                // Sums of at most some hundred products of order one, in f32.
                assert!(
                    (f64::from(*found) - expected).abs() < 3e-6 * largest.max(1.0),
                    "{found} is not {expected}: {of:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let of = cases()[2];
    let count = of.batch * of.grid[0] * of.grid[1] * of.channels();
    let bias = vec![0.0; of.heads * of.tokens() * of.tokens()];
    let mut projected = numbers(3 * count, 1);
    projected[0] = f32::NAN;
    assert!(of.forward(&projected, &bias).iter().any(|value| value.is_nan()));
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let of = cases()[0];
    let count = of.batch * of.grid[0] * of.grid[1] * of.channels();
    let (projected, bias) = (numbers(3 * count, 1), numbers(of.heads * of.tokens() * of.tokens(), 2));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| of.gradient(&projected, &bias, &projected[..count]))
    };
    assert_eq!(run(1), run(3));
}
