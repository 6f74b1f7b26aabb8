use super::cosine::between;

/// PyTorch's `div_factor`: the first rate is the peak over this.
const FIRST_BELOW_PEAK: f64 = 25.0;

/// PyTorch's `final_div_factor`: the last rate is the first over this.
const LAST_BELOW_FIRST: f64 = 1e4;

/// Up by half a cosine from a 25th of the peak, and down by another to a 250,000th of it: PyTorch's `OneCycleLR`, per optimizer step, but
/// for the momentum, which stays.
///
/// Smith and Topin, "Super-Convergence", 2018. The rise is its warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneCycle {
    /// Highest learning rate.
    pub peak: f64,
    /// Share of the run until then: PyTorch's `pct_start`, 0.3 by default.
    pub rise: f64,
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
}

impl OneCycle {
    /// The learning rate of step `step`, counted from 0; past the end it stays at the last.
    pub fn at(&self, step: u64) -> f64 {
        let first = self.peak / FIRST_BELOW_PEAK;
        let last = first / LAST_BELOW_FIRST;
        let top = self.rise * self.total_steps as f64 - 1.0;
        let end = self.total_steps.saturating_sub(1) as f64;
        let step = (step as f64).min(end);
        let share = |from: f64, to: f64| if to > from { (step - from) / (to - from) } else { 1.0 };
        if step <= top { between(first, self.peak, share(0.0, top)) } else { between(self.peak, last, share(top, end)) }
    }
}
