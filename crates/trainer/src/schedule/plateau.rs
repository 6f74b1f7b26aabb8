use checkpoint::PlateauState;

/// PyTorch's `threshold`: a loss is better when it is below the best by more than this share.
const THRESHOLD: f64 = 1e-4;

/// PyTorch's `eps`: a reduction by less is none.
const LEAST_REDUCTION: f64 = 1e-8;

/// Linear warm-up, then the peak, and less by a factor whenever the validation loss has not improved for some epochs: PyTorch's
/// `ReduceLROnPlateau` with its defaults for all else. Epochs that end in warm-up do not count, as in timm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plateau {
    /// Highest learning rate.
    pub peak: f64,
    /// Lowest learning rate.
    pub minimum: f64,
    /// Optimizer steps of warm-up.
    pub warmup_steps: u64,
    /// Times the learning rate at each reduction.
    pub factor: f64,
    /// Epochs without improvement that are waited for; the one after them reduces.
    pub patience: u32,
}

impl Plateau {
    /// The learning rate of step `step`, counted from 0.
    pub fn at(&self, step: u64, state: &PlateauState) -> f64 {
        let reduced = |rate: f64, _| {
            let lower = (rate * self.factor).max(self.minimum);
            if rate - lower > LEAST_REDUCTION { lower } else { rate }
        };
        super::warming_up(self.peak, self.warmup_steps, step)
            .unwrap_or_else(|| (0..state.reductions).fold(self.peak, reduced))
    }

    /// Takes note of an epoch that ends after `steps` steps with that validation loss.
    pub fn observe(&self, state: &mut PlateauState, steps: u64, loss: f64) {
        if steps < self.warmup_steps {
            return;
        }
        // A loss that is no number is no improvement.
        if state.best.is_none_or(|best| loss < best * (1.0 - THRESHOLD)) && !loss.is_nan() {
            state.best = Some(loss);
            state.epochs_without = 0;
        } else {
            state.epochs_without += 1;
        }
        if state.epochs_without > self.patience {
            state.reductions += 1;
            state.epochs_without = 0;
        }
    }
}
