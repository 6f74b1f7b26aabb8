//! Scaling of the loss in fp16, as PyTorch's `torch.amp.GradScaler` does it with its defaults: doubled after 2000 steps without overflow, halved
//! at each one.

use checkpoint::LossScale;
use memory_planner::Precision;

const INITIAL_FACTOR: f64 = 65_536.0;
const GROWTH: f64 = 2.0;
const BACKOFF: f64 = 0.5;
const GROWTH_INTERVAL: u32 = 2000;

/// The scale that a run begins with; none in a precision whose gradients do not vanish.
pub(crate) fn initial_scale(precision: Precision) -> Option<LossScale> {
    precision.needs_loss_scaling().then_some(LossScale { factor: INITIAL_FACTOR, quiet_steps: 0 })
}

/// The scale after a step.
pub(crate) fn scale_after_step(scale: LossScale, overflowed: bool) -> LossScale {
    let LossScale { factor, quiet_steps } = scale;
    if overflowed {
        return LossScale { factor: factor * BACKOFF, quiet_steps: 0 };
    }
    let grown = factor * GROWTH;
    match quiet_steps + 1 {
        // The loss is multiplied in f32.
        GROWTH_INTERVAL if grown <= f64::from(f32::MAX) => LossScale { factor: grown, quiet_steps: 0 },
        GROWTH_INTERVAL => LossScale { factor, quiet_steps: 0 },
        quiet_steps => LossScale { factor, quiet_steps },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fp16_is_scaled() {
        assert_eq!(initial_scale(Precision::Fp32), None);
        assert_eq!(initial_scale(Precision::Bf16), None);
        assert_eq!(initial_scale(Precision::Fp16), Some(LossScale { factor: 65_536.0, quiet_steps: 0 }));
    }

    #[test]
    fn an_overflow_halves_and_2000_steps_without_one_double() {
        let scale = LossScale { factor: 1024.0, quiet_steps: 1999 };
        assert_eq!(scale_after_step(scale, true), LossScale { factor: 512.0, quiet_steps: 0 });
        assert_eq!(scale_after_step(scale, false), LossScale { factor: 2048.0, quiet_steps: 0 });
        let early = LossScale { factor: 1024.0, quiet_steps: 7 };
        assert_eq!(scale_after_step(early, false), LossScale { factor: 1024.0, quiet_steps: 8 });
    }

    #[test]
    fn a_scale_never_leaves_f32() {
        let scale = LossScale { factor: 2f64.powi(127), quiet_steps: 1999 };
        assert_eq!(scale_after_step(scale, false), LossScale { factor: 2f64.powi(127), quiet_steps: 0 });
    }
}
