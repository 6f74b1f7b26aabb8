use std::str::FromStr;

/// Prefix of the entries that count batches which are only scored.
const SCORING: &str = "eval:";

/// Prefix of the entries whose loss is to be no number.
const NOT_FINITE: &str = "nan:";

/// Prefix of the entries whose loss is to stay a number, beside a gradient that is infinite.
const NOT_FINITE_GRADIENT: &str = "gradient:";

/// Out-of-memory, and losses and gradients that are not finite, at chosen moments, so that tests can see what comes of it. A testing aid: without
/// entries, which is the default, nothing happens.
///
/// As text, entries separated by commas: `7` is optimizer step 7 (from 0) in its first micro-batch, `7:2` in its third, and `eval:3` is the
/// fourth batch that is validated, tested or predicted. `nan:5` gives optimizer step 5 a loss that is no number, and `gradient:5` leaves its loss alone
/// and has one of its gradients infinite. Each entry strikes once, so that the smaller micro-batch passes; the same entry twice strikes that one as
/// well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Optimizer steps (from 0) and micro-batches in them (from 0).
    pub steps: Vec<(u64, usize)>,
    /// Batches that are scored without training, from 0.
    pub scored_batches: Vec<u64>,
    /// Optimizer steps (from 0) whose loss is no number.
    pub nonfinite_steps: Vec<u64>,
    /// Optimizer steps (from 0) whose loss is a number, and of whose gradients one is infinite.
    pub nonfinite_gradients: Vec<u64>,
}

impl FaultPlan {
    /// Whether nothing will happen.
    pub fn is_empty(&self) -> bool {
        let nonfinite = [&self.nonfinite_steps, &self.nonfinite_gradients];
        self.steps.is_empty() && self.scored_batches.is_empty() && nonfinite.into_iter().all(Vec::is_empty)
    }

    /// Whether this micro-batch is to fail now. It will not be the next time, unless it is listed once more.
    pub(crate) fn strikes_step(&mut self, step: u64, micro_batch: usize) -> bool {
        take(&mut self.steps, (step, micro_batch))
    }

    /// The same for the loss of a step, which is to be no number.
    pub(crate) fn strikes_loss(&mut self, step: u64) -> bool {
        take(&mut self.nonfinite_steps, step)
    }

    /// The same for a gradient of a step, which is to be infinite.
    pub(crate) fn strikes_gradient(&mut self, step: u64) -> bool {
        take(&mut self.nonfinite_gradients, step)
    }

    /// The same for a batch that is scored.
    pub(crate) fn strikes_scoring(&mut self, batch: u64) -> bool {
        take(&mut self.scored_batches, batch)
    }
}

fn take<T: PartialEq>(list: &mut Vec<T>, entry: T) -> bool {
    let found = list.iter().position(|listed| *listed == entry);
    found.map(|index| list.swap_remove(index)).is_some()
}

/// An entry that says no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is no moment for a fault: expected `STEP`, `STEP:MICRO_BATCH`, `eval:BATCH`, `nan:STEP` or `gradient:STEP`, each from 0"
)]
pub struct FaultPlanError {
    /// As it was given.
    pub entry: String,
}

impl FromStr for FaultPlan {
    type Err = FaultPlanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut plan = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            plan.add(entry).ok_or_else(|| FaultPlanError { entry: entry.to_owned() })?;
        }
        Ok(plan)
    }
}

impl FaultPlan {
    fn add(&mut self, entry: &str) -> Option<()> {
        if let Some(batch) = entry.strip_prefix(SCORING) {
            self.scored_batches.push(batch.parse().ok()?);
            return Some(());
        }
        if let Some(step) = entry.strip_prefix(NOT_FINITE) {
            self.nonfinite_steps.push(step.parse().ok()?);
            return Some(());
        }
        if let Some(step) = entry.strip_prefix(NOT_FINITE_GRADIENT) {
            self.nonfinite_gradients.push(step.parse().ok()?);
            return Some(());
        }
        let (step, micro_batch) = entry.split_once(':').unwrap_or((entry, "0"));
        self.steps.push((step.parse().ok()?, micro_batch.parse().ok()?));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_others_refused_by_name() {
        let plan: FaultPlan = "3, 7:2,eval:1,3,nan:5,gradient:6,".parse().unwrap();
        let expected = FaultPlan {
            steps: vec![(3, 0), (7, 2), (3, 0)],
            scored_batches: vec![1],
            nonfinite_steps: vec![5],
            nonfinite_gradients: vec![6],
        };
        assert_eq!(plan, expected);
        assert!("".parse::<FaultPlan>().unwrap().is_empty());
        for entry in ["x", "-1", "3:", "3:x", "eval:", "eval:x", "nan:", "gradient:x", "3:1:1"] {
            assert_eq!(format!("1,{entry}").parse::<FaultPlan>().unwrap_err().entry, entry);
        }
    }

    #[test]
    fn an_entry_strikes_as_often_as_it_is_listed() {
        let mut plan: FaultPlan = "3,3,eval:1,gradient:2".parse().unwrap();
        assert!(!plan.strikes_step(3, 1) && !plan.strikes_step(2, 0));
        assert!(plan.strikes_step(3, 0) && plan.strikes_step(3, 0) && !plan.strikes_step(3, 0));
        assert!(plan.strikes_scoring(1) && !plan.strikes_scoring(1));
        assert!(!plan.is_empty() && !plan.strikes_loss(2));
        assert!(plan.strikes_gradient(2) && !plan.strikes_gradient(2));
        assert!(plan.is_empty());
    }
}
