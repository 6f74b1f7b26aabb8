use checkpoint::PatienceState;

/// When to stop before the last epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStopping {
    /// Epochs without a better macro-F1 after which training stops.
    pub patience: u32,
    /// By how much macro-F1 must be above the best to be better.
    pub min_delta: f64,
}

impl EarlyStopping {
    /// Takes note of an epoch's macro-F1. A score that is no number is no improvement.
    pub(crate) fn observe(&self, state: &mut PatienceState, macro_f1: f64) {
        if state.best.is_none_or(|best| macro_f1 > best + self.min_delta) && !macro_f1.is_nan() {
            *state = PatienceState { best: Some(macro_f1), epochs_without: 0 };
        } else {
            state.epochs_without += 1;
        }
    }

    /// Whether there is no patience left.
    pub(crate) fn is_over(&self, state: &PatienceState) -> bool {
        state.epochs_without >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_spent_on_epochs_in_a_row_and_regained_by_enough_of_an_improvement() {
        let stopping = EarlyStopping { patience: 2, min_delta: 0.01 };
        let mut state = PatienceState::default();
        let mut after = |macro_f1| {
            stopping.observe(&mut state, macro_f1);
            (state.epochs_without, stopping.is_over(&state))
        };
        assert_eq!(after(0.5), (0, false));
        assert_eq!(after(0.505), (1, false), "not enough");
        assert_eq!(after(0.52), (0, false), "measured from the best that was enough");
        assert_eq!(after(f64::NAN), (1, false));
        assert_eq!(after(0.1), (2, true));
    }
}
