use burn::tensor::{Tensor, activation};

/// Binary cross-entropy of every class by itself against targets in 0 to 1, times `weights`, summed, in nats: PyTorch's
/// `binary_cross_entropy_with_logits`.
///
/// # Shapes
/// - `logits`, `targets`: `[B, K]`
/// - `weights`: `[1, K]`
/// - output: `[1]`
pub(super) fn binary_cross_entropy_sum(logits: Tensor<2>, targets: Tensor<2>, weights: Option<Tensor<2>>) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    // ln σ(x) and ln σ(-x) are the two sides of a softmax over x and 0, which neither overflows nor has a kink at 0.
    let pairs = Tensor::<2>::stack::<3>(vec![logits.zeros_like(), logits], 2); // [B, K, 2]
    let logarithms = activation::log_softmax(pairs, 2); // [B, K, 2]
    let sides = Tensor::<2>::stack::<3>(vec![targets.clone().neg().add_scalar(1.0), targets], 2); // [B, K, 2]
    let losses = (logarithms * sides).sum_dim(2).neg().reshape([batch, classes]); // [B, K]
    weights.map_or(losses.clone(), |weights| losses * weights).sum()
}

/// The same loss of one row on the host, in double precision.
pub(super) fn binary_cross_entropy_of_row(logits: &[f32], targets: &[f32], weight: impl Fn(usize) -> f64) -> f64 {
    let of_class = |(class, (&logit, &target)): (usize, (&f32, &f32))| {
        let (logit, target) = (f64::from(logit), f64::from(target));
        weight(class) * (logit.max(0.0) - logit * target + (-logit.abs()).exp().ln_1p())
    };
    logits.iter().zip(targets).enumerate().map(of_class).sum()
}
