use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use crate::Pass;
use crate::kernels::{BranchScale, residual};

/// Stochastic depth: in training, drops a sample's whole residual branch and scales the kept ones by `1 / (1 - probability)`.
///
/// Huang et al., "Deep Networks with Stochastic Depth", 2016; timm's `DropPath` with `scale_by_keep`.
#[derive(Module, Debug)]
pub struct DropPath {
    probability: f32,
}

impl DropPath {
    /// A layer that drops with `probability`, in `[0, 1)`.
    pub fn new(probability: f32) -> Self {
        Self { probability }
    }

    /// Drops samples of a residual branch.
    ///
    /// # Shapes
    /// - `branch` and output: `[B, ..]`
    pub fn forward<const D: usize>(&self, branch: Tensor<D>, pass: &mut Pass) -> Tensor<D> {
        let batch = branch.dims()[0];
        let Some(factors) = self.factors(batch, pass) else {
            return branch;
        };
        let mut shape = [1; D];
        shape[0] = batch;
        let (device, dtype) = (branch.device(), branch.dtype());
        branch * Tensor::from_data(TensorData::new(factors, shape), (&device, dtype))
    }

    /// `map + (branch + bias) * scale`, the branch dropped for some samples: what [`forward`](Self::forward) and three operations more would give.
    ///
    /// # Shapes
    /// - `map`, `branch` and output: `[B, .., C]`
    /// - bias and scale of `scale`: `[C]`
    pub fn add<const D: usize>(
        &self,
        map: Tensor<D>,
        branch: Tensor<D>,
        scale: Option<BranchScale>,
        pass: &mut Pass,
    ) -> Tensor<D> {
        let factors = self.factors(branch.dims()[0], pass);
        residual(map, branch, scale, factors.map(Arc::from))
    }

    /// What each sample's branch is multiplied by; none where all are kept as they are.
    fn factors(&self, batch: usize, pass: &mut Pass) -> Option<Vec<f32>> {
        let kept = pass.draw_kept(batch, self.probability)?;
        let scale = 1.0 / (1.0 - self.probability);
        Some(kept.into_iter().map(|kept| if kept { scale } else { 0.0 }).collect())
    }
}

/// Drop probabilities that rise linearly with depth, from 0 to `last`.
pub fn drop_path_schedule(last: f32, depth: usize) -> Vec<f32> {
    (0..depth).map(|block| last * block as f32 / (depth.max(2) - 1) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_path_rises_from_zero_to_the_last() {
        assert_eq!(drop_path_schedule(0.3, 4), [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(drop_path_schedule(0.3, 1), [0.0]);
    }
}
