use burn::tensor::Tensor;
use vision_nn::cross_entropy;

/// Cross-entropy against target distributions, summed over the batch, in nats. No gradient goes to the targets.
///
/// The sum, not the mean: micro-batches of one effective batch add up, and the caller divides once by the whole.
///
/// # Shapes
/// - `logits`: `[B, K]`, in f32 or in half precision
/// - `targets`: `[B, K]`, f32
/// - output: `[1]`, f32
pub fn cross_entropy_sum(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    cross_entropy(logits, targets)
}

/// The same loss of one row on the host, in double precision, for the record.
pub(crate) fn cross_entropy_of_row(logits: &[f32], label: usize, smoothing: f32) -> f64 {
    let shifted = shifted(logits);
    let log_sum = shifted.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    let smoothing = f64::from(smoothing);
    let mean_loss = shifted.iter().map(|logit| log_sum - logit).sum::<f64>() / logits.len() as f64;
    let label_loss = log_sum - shifted[label];
    smoothing * mean_loss + (1.0 - smoothing) * label_loss
}

/// Logarithms of the probabilities of one row.
pub(super) fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let shifted = shifted(logits);
    let log_sum = shifted.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    shifted.into_iter().map(|logit| logit - log_sum).collect()
}

/// Less the highest, so that no exponential overflows.
fn shifted(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().map(|&logit| f64::from(logit) - f64::from(highest)).collect()
}
