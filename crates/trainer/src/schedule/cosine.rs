use std::f64::consts::PI;

use super::warming_up;

/// Linear warm-up, then half a cosine down to the minimum at the last step; per optimizer step.
///
/// Equals timm's `CosineLRScheduler` with `warmup_prefix` and a warm-up that starts one step above zero: with W warm-up steps of T,
/// `peak (t + 1) / (W + 1)` for t < W, then `min + (peak - min) (1 + cos(pi (t - W) / (T - 1 - W))) / 2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmupCosine {
    /// Highest learning rate, reached right after warm-up.
    pub peak: f64,
    /// Learning rate of the last step.
    pub minimum: f64,
    /// Optimizer steps of warm-up.
    pub warmup_steps: u64,
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
}

impl WarmupCosine {
    /// The learning rate of step `step`, counted from 0. Past the end it stays at the minimum; a warm-up that fills the whole run ends below the peak.
    pub fn at(&self, step: u64) -> f64 {
        if let Some(rate) = warming_up(self.peak, self.warmup_steps, step) {
            return rate;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).saturating_sub(1);
        if decay_steps == 0 {
            return self.peak;
        }
        let progress = ((step - self.warmup_steps) as f64 / decay_steps as f64).min(1.0);
        between(self.peak, self.minimum, progress)
    }
}

/// On half a cosine from `start` to `end`.
pub(super) fn between(start: f64, end: f64, progress: f64) -> f64 {
    end + (start - end) * (1.0 + (PI * progress).cos()) / 2.0
}
