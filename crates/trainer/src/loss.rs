use burn::tensor::{Device, Tensor, TensorData, activation};
use data_pipeline::Partner;

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

/// As [`smoothed_targets`], where each sample was mixed with a partner: both targets by their shares. No partners, no
/// mixing.
///
/// # Shapes
/// - `labels`: `[B]`
/// - `partners`: `[B]` or empty; each has a label below K
/// - output: `[B, K]`, rows sum to 1
pub fn mixed_targets(
    labels: &[u32],
    partners: &[Partner],
    num_classes: usize,
    smoothing: f32,
    device: &Device,
) -> Tensor<2> {
    let own = smoothed_targets(labels, num_classes, smoothing, device);
    if partners.is_empty() {
        return own;
    }
    let others: Vec<u32> = partners.iter().map(|partner| partner.label.unwrap_or_default()).collect();
    let shares: Vec<f32> = partners.iter().map(|partner| partner.share).collect();
    let shares: Tensor<2> = Tensor::from_data(TensorData::new(shares, [labels.len(), 1]), device);
    let others = smoothed_targets(&others, num_classes, smoothing, device);
    own.clone() + (others - own) * shares
}

/// Cross-entropy against target distributions, summed over the batch, in nats.
///
/// The sum, not the mean: micro-batches of one effective batch add up, and the caller divides once by the whole.
///
/// # Shapes
/// - `logits`, `targets`: `[B, K]`
/// - output: `[1]`
pub fn cross_entropy_sum(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_mixed_samples_are_mixed_by_share_after_smoothing() {
        let partners = [Partner { label: Some(2), share: 0.25 }, Partner { label: Some(0), share: 0.0 }];
        let targets = mixed_targets(&[0, 1], &partners, 4, 0.2, &Device::flex());
        let targets: Vec<f32> = targets.into_data().iter().collect();
        // Smoothing leaves 0.05 everywhere and 0.8 more for the label.
        let expected = [0.65, 0.05, 0.25, 0.05, 0.05, 0.85, 0.05, 0.05];
        assert!(targets.iter().zip(expected).all(|(target, expected)| (target - expected).abs() < 1e-6), "{targets:?}");
    }

    #[test]
    fn without_partners_targets_are_plain() {
        let plain = smoothed_targets(&[1], 3, 0.1, &Device::flex()).into_data();
        assert_eq!(mixed_targets(&[1], &[], 3, 0.1, &Device::flex()).into_data(), plain);
    }
}
