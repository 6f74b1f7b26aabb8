use std::f64::consts::PI;

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
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(1 + self.warmup_steps);
        if decay_steps == 0 {
            return self.peak;
        }
        let progress = ((step - self.warmup_steps) as f64 / decay_steps as f64).min(1.0);
        self.minimum + (self.peak - self.minimum) * (1.0 + (PI * progress).cos()) / 2.0
    }
}
