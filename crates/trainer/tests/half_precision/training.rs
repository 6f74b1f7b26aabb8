//! A training run in half precision beside the same run in f32.

use memory_planner::Precision;

use crate::stage::{batch, convnext, step};

const STEPS: usize = 40;
/// Micro-batches of 5, 5 and 2.
const MICRO_BATCH: usize = 5;
const EFFECTIVE_BATCH: usize = 12;

/// Mean loss of every step.
fn curve(precision: Precision) -> Vec<f64> {
    let mut step = step(convnext, precision, MICRO_BATCH);
    (0..STEPS)
        .map(|turn| {
            let (gradients, scores) = step.gradients(&batch(EFFECTIVE_BATCH, turn), turn as u64);
            step.apply(gradients, scores.gradient_norm, 1e-3, turn as u64 + 1);
            scores.loss_sum / scores.samples as f64
        })
        .collect()
}

#[test]
fn the_loss_curve_follows_that_of_f32_within_two_percent_at_every_step() {
    let expected = curve(Precision::Fp32);
    assert!(expected[STEPS - 1] < 0.7 * expected[0], "nothing was learnt: {expected:?}");
    for precision in [Precision::Bf16, Precision::Fp16] {
        let found = curve(precision);
        let worst =
            found.iter().zip(&expected).map(|(found, expected)| (found / expected - 1.0).abs()).fold(0.0, f64::max);
        // The bound.
        assert!(worst <= 0.02, "{precision}: off by {worst:.4}\n{expected:?}\n{found:?}");
        assert_ne!(found, expected);
    }
}
