use burn::tensor::{Tensor, activation};

use super::cross_entropy::log_probabilities;

/// `-Σ t (1 - p)^γ ln p`, summed over the batch: cross-entropy in which what is right already counts for little.
///
/// Lin and others, "Focal Loss for Dense Object Detection", 2017, over the probabilities of a softmax instead of single sigmoids.
///
/// # Shapes
/// - `logits`, `targets`: `[B, K]`
/// - output: `[1]`
pub(super) fn focal_sum(logits: Tensor<2>, targets: Tensor<2>, gamma: f64) -> Tensor<1> {
    let logarithms = activation::log_softmax(logits, 1); // [B, K]
    // Rounding must not make a probability more than 1.
    let missing = logarithms.clone().exp().neg().add_scalar(1.0).clamp_min(0.0); // [B, K]
    (missing.powf_scalar(gamma) * logarithms * targets).sum().neg()
}

/// The same loss of one row on the host, in double precision.
pub(super) fn focal_of_row(logits: &[f32], targets: impl Fn(usize) -> f64, gamma: f64) -> f64 {
    let of_class =
        |(class, logarithm): (usize, f64)| -targets(class) * (-logarithm.exp_m1()).max(0.0).powf(gamma) * logarithm;
    log_probabilities(logits).into_iter().enumerate().map(of_class).sum()
}
