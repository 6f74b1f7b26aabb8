use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use vision_nn::stored_as;

/// Target distributions for label smoothing, as PyTorch's `CrossEntropyLoss(label_smoothing)` defines them: every class gets
/// `smoothing / K`, the label `1 - smoothing` more.
///
/// # Shapes
/// - output: `[B, K]`, rows sum to 1
pub fn smoothed_targets(labels: &[u32], num_classes: usize, smoothing: f32, device: &Device) -> Tensor<2> {
    let mut targets = vec![smoothing / num_classes as f32; labels.len() * num_classes];
    for (row, &label) in labels.iter().enumerate() {
        targets[row * num_classes + label as usize] += 1.0 - smoothing;
    }
    Tensor::from_data(TensorData::new(targets, [labels.len(), num_classes]), device)
}

/// Cross-entropy against target distributions, summed over the batch, in nats.
///
/// The sum, not the mean: micro-batches of one effective batch add up, and the caller divides once by the whole.
///
/// # Shapes
/// - `logits`, `targets`: `[B, K]`; logits in f32 or in half precision, out of which they are taken here, where nobody else holds on to them: Burn
///   0.22.0-pre.3 cannot fuse the softmax's sums with a cast whose result must be written
/// - output: `[1]`, f32
pub fn cross_entropy_sum(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let logits = stored_as(logits, DType::F32);
    (activation::log_softmax(logits, 1) * targets).sum().neg()
}

/// The same loss of one row on the host, in double precision, for the record.
pub(crate) fn cross_entropy_of_row(logits: &[f32], label: usize, smoothing: f32) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = || logits.iter().map(|&logit| f64::from(logit) - f64::from(highest));
    let log_sum = shifted().map(f64::exp).sum::<f64>().ln();
    let smoothing = f64::from(smoothing);
    let mean_loss = shifted().map(|logit| log_sum - logit).sum::<f64>() / logits.len() as f64;
    let label_loss = log_sum - (f64::from(logits[label]) - f64::from(highest));
    smoothing * mean_loss + (1.0 - smoothing) * label_loss
}
