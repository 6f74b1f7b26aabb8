//! What is minimised. Every loss is a sum over samples, to be divided once by what the whole effective batch counts for: so
//! micro-batches add up exactly.

mod binary;
mod cross_entropy;
mod focal;

use burn::tensor::{DType, Device, Tensor, TensorData};
use data_pipeline::Partner;
use vision_nn::stored_as;

pub(crate) use cross_entropy::cross_entropy_of_row;
pub use cross_entropy::cross_entropy_sum;

use cross_entropy::log_probabilities;

/// A loss with its constants.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LossOptions {
    /// Which loss.
    pub kind: LossKind,
    /// Share of a label's target spread evenly over all classes, in `[0, 1)`.
    pub label_smoothing: f32,
    /// What each class counts for, one number a class; all the same without.
    pub class_weights: Option<Vec<f32>>,
}

/// Which loss is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum LossKind {
    /// PyTorch's `CrossEntropyLoss`. With class weights its mean over labels is divided by their weights, as there.
    #[default]
    CrossEntropy,
    /// timm's `BinaryCrossEntropy`: each class by itself, averaged over samples and classes.
    BinaryCrossEntropy,
    /// Cross-entropy times a power of the missing probability, averaged over samples. Class weights are its α.
    Focal {
        /// The power γ, at least 1, where its gradient is finite everywhere.
        gamma: f64,
    },
}

impl LossOptions {
    /// Target distributions of labels, row after row: `B * K` numbers. Every class gets `smoothing / K`, the label `1 - smoothing` more, as PyTorch's
    /// `CrossEntropyLoss(label_smoothing)` and timm's `BinaryCrossEntropy(smoothing)` define it.
    ///
    /// Mixtures of such rows are targets, too.
    pub fn targets(&self, labels: &[u32], num_classes: usize) -> Vec<f32> {
        let mut targets = vec![self.label_smoothing / num_classes as f32; labels.len() * num_classes];
        for (row, &label) in labels.iter().enumerate() {
            targets[row * num_classes + label as usize] += 1.0 - self.label_smoothing;
        }
        targets
    }

    /// The same where each sample was mixed with a partner: both targets by their shares. No partners, no mixing; a partner without a label counts
    /// as the class 0, and a batch that is trained on has none.
    pub fn mixed_targets(&self, labels: &[u32], partners: &[Partner], num_classes: usize) -> Vec<f32> {
        let mut own = self.targets(labels, num_classes);
        let others: Vec<u32> = partners.iter().map(|partner| partner.label.unwrap_or_default()).collect();
        let others = self.targets(&others, num_classes);
        let rows = own.chunks_exact_mut(num_classes).zip(others.chunks_exact(num_classes));
        for ((own, other), partner) in rows.zip(partners) {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += (other - *own) * partner.share);
        }
        own
    }

    /// The loss, summed over the batch. Reads nothing from the device.
    ///
    /// # Shapes
    /// - `logits`, `targets`: `[B, K]`, of a row of targets no number below 0 and none above 1; logits in f32 or in half precision. Where the
    ///   loss is not one operation they are taken out of it here, where nobody else holds on to them: Burn 0.22.0-pre.3 cannot fuse the softmax's sums with a
    ///   cast whose result must be written
    /// - output: `[1]`, f32
    pub fn sum(&self, logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        let weights = self.class_weights.as_ref().map(|weights| {
            Tensor::<2>::from_data(TensorData::new(weights.clone(), [1, weights.len()]), &logits.device())
        });
        let weighted = |targets: Tensor<2>, weights: Option<Tensor<2>>| match weights {
            Some(weights) => targets * weights,
            None => targets,
        };
        match self.kind {
            LossKind::CrossEntropy => cross_entropy_sum(logits, weighted(targets, weights)),
            LossKind::BinaryCrossEntropy => {
                binary::binary_cross_entropy_sum(stored_as(logits, DType::F32), targets, weights)
            }
            LossKind::Focal { gamma } => {
                focal::focal_sum(stored_as(logits, DType::F32), weighted(targets, weights), gamma)
            }
        }
    }

    /// What [`sum`](Self::sum) over a whole effective batch is divided by when its targets are those of `labels`.
    pub fn divisor(&self, labels: &[u32], num_classes: usize) -> f64 {
        match (self.kind, &self.class_weights) {
            (LossKind::CrossEntropy, Some(weights)) => {
                labels.iter().map(|&label| f64::from(weights[label as usize])).sum()
            }
            _ => self.soft_divisor(labels.len(), num_classes),
        }
    }

    /// The same for soft targets, as mixtures of samples have them: PyTorch does not divide by their weights.
    pub fn soft_divisor(&self, samples: usize, num_classes: usize) -> f64 {
        match self.kind {
            LossKind::BinaryCrossEntropy => (samples * num_classes) as f64,
            LossKind::CrossEntropy | LossKind::Focal { .. } => samples as f64,
        }
    }

    /// The loss of one row of logits on the host, in double precision, for the record.
    pub(crate) fn of_label(&self, logits: &[f32], label: u32) -> f64 {
        if let (LossKind::CrossEntropy, None) = (self.kind, &self.class_weights) {
            return cross_entropy_of_row(logits, label as usize, self.label_smoothing);
        }
        self.of_row(logits, &self.targets(&[label], logits.len()))
    }

    /// The same against a row of targets.
    pub(crate) fn of_row(&self, logits: &[f32], targets: &[f32]) -> f64 {
        let weight = |class: usize| self.class_weights.as_ref().map_or(1.0, |weights| f64::from(weights[class]));
        let weighted = |class: usize| weight(class) * f64::from(targets[class]);
        match self.kind {
            LossKind::CrossEntropy => {
                let logarithms = log_probabilities(logits).into_iter().enumerate();
                logarithms.map(|(class, logarithm)| -weighted(class) * logarithm).sum()
            }
            LossKind::BinaryCrossEntropy => binary::binary_cross_entropy_of_row(logits, targets, weight),
            LossKind::Focal { gamma } => focal::focal_of_row(logits, weighted, gamma),
        }
    }
}

/// [`LossOptions::targets`] as a tensor of `device`, `[B, K]`.
pub fn target_tensor(rows: Vec<f32>, num_classes: usize, device: &Device) -> Tensor<2> {
    let batch = rows.len() / num_classes.max(1);
    Tensor::from_data(TensorData::new(rows, [batch, num_classes]), device)
}

/// Weights that let every class count the same, whatever its number of samples: `samples / (classes * samples of the class)`, scikit-learn's
/// `balanced`. A class without samples counts as if it had one.
pub fn balanced_class_weights(class_counts: &[usize]) -> Vec<f32> {
    let samples: usize = class_counts.iter().sum();
    let of_class = |&count: &usize| samples as f64 / (class_counts.len() * count.max(1)) as f64;
    class_counts.iter().map(|count| of_class(count) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_weights_let_classes_weigh_the_same() {
        // scikit-learn: compute_class_weight("balanced", ..) of 6, 3 and 1 samples.
        assert_eq!(balanced_class_weights(&[6, 3, 1]), [0.555_555_6, 1.111_111_2, 3.333_333_3]);
        assert_eq!(balanced_class_weights(&[4, 4]), [1.0, 1.0]);
        assert!(balanced_class_weights(&[4, 0]).iter().all(|weight| weight.is_finite()));
    }

    #[test]
    fn the_record_of_a_label_is_the_record_of_its_targets() {
        let logits = [0.3, -2.0, 1.5, 90.0];
        for kind in [LossKind::CrossEntropy, LossKind::BinaryCrossEntropy, LossKind::Focal { gamma: 2.0 }] {
            let loss = LossOptions { kind, label_smoothing: 0.1, class_weights: None };
            let (by_label, by_row) = (loss.of_label(&logits, 2), loss.of_row(&logits, &loss.targets(&[2], 4)));
            // The targets are f32.
            assert!((by_label - by_row).abs() < 1e-6 * by_row, "{kind:?}: {by_label} and {by_row}");
        }
    }

    #[test]
    fn targets_of_mixed_samples_are_mixed_by_share_after_smoothing() {
        let loss = LossOptions { label_smoothing: 0.2, ..LossOptions::default() };
        let partners = [Partner { label: Some(2), share: 0.25 }, Partner { label: Some(0), share: 0.0 }];
        let targets = loss.mixed_targets(&[0, 1], &partners, 4);
        // Smoothing leaves 0.05 everywhere and 0.8 more for the label.
        let expected = [0.65, 0.05, 0.25, 0.05, 0.05, 0.85, 0.05, 0.05];
        assert!(targets.iter().zip(expected).all(|(target, expected)| (target - expected).abs() < 1e-6), "{targets:?}");
        assert_eq!(loss.mixed_targets(&[1], &[], 3), loss.targets(&[1], 3), "without partners targets are plain");
    }
}
