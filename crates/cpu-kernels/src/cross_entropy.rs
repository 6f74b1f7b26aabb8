//! Cross-entropy of a softmax over rows of logits against rows of targets, keeping nothing for the backward pass but what goes in.
//!
//! Targets need not add up to one: classes may have weights. All is summed in f64, which costs nothing beside what makes the logits.

/// The loss `Σ t (ln Σ exp(x) - x)`, summed over all rows.
///
/// # Shapes
/// - `logits`, `targets`: `[B, K]`, `classes` is K
pub fn cross_entropy(logits: &[f32], targets: &[f32], classes: usize) -> f64 {
    let rows = logits.chunks_exact(classes.max(1)).zip(targets.chunks_exact(classes.max(1)));
    rows.map(|(logits, targets)| {
        let logarithm = log_of_sum(logits);
        let losses = logits.iter().zip(targets);
        losses.map(|(logit, target)| f64::from(*target) * (logarithm - f64::from(*logit))).sum::<f64>()
    })
    .sum()
}

/// The gradient of the logits, `upstream (Σ t exp(x) / Σ exp(x) - t)`, where the loss has the gradient `upstream`.
///
/// # Shapes
/// - `logits`, `targets` and result: `[B, K]`
pub fn cross_entropy_gradient(logits: &[f32], targets: &[f32], upstream: f32, classes: usize) -> Vec<f32> {
    let rows = logits.chunks_exact(classes.max(1)).zip(targets.chunks_exact(classes.max(1)));
    rows.flat_map(|(logits, targets)| {
        let logarithm = log_of_sum(logits);
        let whole: f64 = targets.iter().map(|target| f64::from(*target)).sum();
        logits.iter().zip(targets).map(move |(logit, target)| {
            let share = (f64::from(*logit) - logarithm).exp();
            (f64::from(upstream) * (whole * share - f64::from(*target))) as f32
        })
    })
    .collect()
}

/// `ln Σ exp(x)`, by way of the highest, so that no exponential overflows.
fn log_of_sum(logits: &[f32]) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    highest + logits.iter().map(|logit| (f64::from(*logit) - highest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    #[test]
    fn the_gradient_is_that_of_differences() {
        let (classes, upstream) = (5, 0.7f32);
        let logits: Vec<f32> = numbers(15, 1).iter().map(|logit| 4.0 * logit).collect();
        let targets: Vec<f32> = numbers(15, 2).iter().map(|target| target.abs()).collect();
        let found = cross_entropy_gradient(&logits, &targets, upstream, classes);
        for at in 0..logits.len() {
            let step = 1.0 / 512.0;
            let moved = |by: f32| {
                let mut logits = logits.clone();
                logits[at] += by;
                (cross_entropy(&logits, &targets, classes), f64::from(logits[at]))
            };
            let ((up, high), (down, low)) = (moved(step), moved(-step));
            let slope = f64::from(upstream) * (up - down) / (high - low);
            // The step's own error: its square times a sixth of the third derivative, which is below one.
            assert!((slope - f64::from(found[at])).abs() < 2e-6, "{slope} {}", found[at]);
        }
    }

    #[test]
    fn large_logits_overflow_nothing() {
        let loss = cross_entropy(&[1e30, -1e30, 0.0], &[1.0, 0.0, 0.0], 3);
        assert!(loss.abs() < 1e-6, "{loss}");
        let gradient = cross_entropy_gradient(&[1e30, -1e30, 0.0], &[0.0, 0.0, 1.0], 1.0, 3);
        assert_eq!(gradient, [1.0, 0.0, -1.0]);
    }
}
