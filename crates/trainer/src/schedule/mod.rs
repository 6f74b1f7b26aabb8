//! The learning rate of every optimizer step.

mod cosine;
mod one_cycle;
mod plateau;

use checkpoint::PlateauState;

pub use cosine::WarmupCosine;
pub use one_cycle::OneCycle;
pub use plateau::Plateau;

/// A learning rate for each optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Warm-up, then half a cosine.
    Cosine(WarmupCosine),
    /// Warm-up, then the same rate.
    Constant(Constant),
    /// Warm-up, then stairs.
    Step(StepDecay),
    /// Warm-up, then less whenever validation does not improve.
    Plateau(Plateau),
    /// Up and down by half cosines.
    OneCycle(OneCycle),
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0; `plateau` is what validation has led to so far.
    pub fn at(&self, step: u64, plateau: &PlateauState) -> f64 {
        match self {
            Self::Cosine(schedule) => schedule.at(step),
            Self::Constant(schedule) => schedule.at(step),
            Self::Step(schedule) => schedule.at(step),
            Self::Plateau(schedule) => schedule.at(step, plateau),
            Self::OneCycle(schedule) => schedule.at(step),
        }
    }

    /// Takes note of an epoch that ends after `steps` steps with that validation loss; only a plateau's schedule does.
    pub fn observe(&self, plateau: &mut PlateauState, steps: u64, loss: f64) {
        if let Self::Plateau(schedule) = self {
            schedule.observe(plateau, steps, loss);
        }
    }
}

impl From<WarmupCosine> for Schedule {
    fn from(schedule: WarmupCosine) -> Self {
        Self::Cosine(schedule)
    }
}

/// Linear warm-up, then the peak to the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constant {
    /// The learning rate.
    pub peak: f64,
    /// Optimizer steps of warm-up.
    pub warmup_steps: u64,
}

impl Constant {
    /// The learning rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        warming_up(self.peak, self.warmup_steps, step).unwrap_or(self.peak)
    }
}

/// Linear warm-up, then less by a factor every so many steps: timm's `StepLRScheduler` with `warmup_prefix`, per optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepDecay {
    /// Highest learning rate.
    pub peak: f64,
    /// Lowest learning rate.
    pub minimum: f64,
    /// Optimizer steps of warm-up.
    pub warmup_steps: u64,
    /// Optimizer steps of each stair, at least 1.
    pub every_steps: u64,
    /// Times the learning rate from one stair to the next.
    pub factor: f64,
}

impl StepDecay {
    /// The learning rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        warming_up(self.peak, self.warmup_steps, step).unwrap_or_else(|| {
            let stairs = (step - self.warmup_steps) / self.every_steps.max(1);
            (self.peak * self.factor.powf(stairs as f64)).max(self.minimum)
        })
    }
}

/// The rate of a step of warm-up, one step above zero at first; none behind it.
fn warming_up(peak: f64, warmup_steps: u64, step: u64) -> Option<f64> {
    (step < warmup_steps).then(|| peak * (step as f64 + 1.0) / (warmup_steps as f64 + 1.0))
}
