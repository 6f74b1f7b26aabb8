//! Why there is no plan, and the way out.

use thiserror::Error;

use crate::plan::largest_of;
use crate::{Budget, BudgetChange, Footprint, FootprintSource, MemoryBreakdown, format_bytes};

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The smallest micro-batch that the request admits is above the budget.
    #[error(
        "batch size {batch} needs {}, but the budget is {} ({budget_reason})",
        format_bytes(.breakdown.total),
        format_bytes(*.budget_bytes)
    )]
    DoesNotFit {
        /// Samples per forward pass.
        batch: usize,
        /// What a step may hold.
        budget_bytes: u64,
        /// Where that comes from.
        budget_reason: String,
        /// What would help.
        way_out: WayOut,
        /// What the step would hold, part by part.
        #[source]
        breakdown: Box<MemoryBreakdown>,
    },
    /// A batch of nothing.
    #[error("`{setting}` is 0, but a batch has at least one sample")]
    ZeroBatch {
        /// Which setting.
        setting: &'static str,
    },
    /// More than any step could want.
    #[error("`{setting}` is {value}, but the largest batch size is {}", largest_of(setting))]
    AbsurdBatch {
        /// Which setting.
        setting: &'static str,
        /// What was given.
        value: usize,
    },
    /// Bounds that leave nothing between them.
    #[error("the minimum batch size {minimum} is above the maximum {maximum}")]
    MinimumAboveMaximum {
        /// No smaller micro-batch was admitted.
        minimum: usize,
        /// No larger micro-batch was admitted.
        maximum: usize,
    },
    /// A batch asked for and excluded in the same request.
    #[error("`{setting}` is {value}, but batch sizes are held to {minimum} to {maximum}")]
    OutsideBounds {
        /// Which setting.
        setting: &'static str,
        /// What was given.
        value: usize,
        /// The lower bound.
        minimum: usize,
        /// The upper bound.
        maximum: usize,
    },
}

/// The smallest change that lets a step fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WayOut {
    /// This batch size fits.
    SmallerBatch(usize),
    /// Memory is there; these settings of the user's must change.
    HigherBudget(BudgetChange),
    /// What was asked for at least is too much at once.
    LowerMinimum {
        /// The smallest micro-batch that was admitted.
        minimum: usize,
        /// What does fit; 0 where that is not known, or nothing does.
        fitting: usize,
    },
    /// Not one sample fits, and most of the step is its activations.
    SmallerImage,
    /// Not one sample fits, and most of the step is there at any image size.
    SmallerModel {
        /// Whether it would fit if other processes held nothing.
        or_free_memory: bool,
    },
}

impl PlanError {
    pub(crate) fn does_not_fit(footprint: &Footprint, budget: &Budget, batch: usize, largest_fitting: usize) -> Self {
        let breakdown = footprint.breakdown(batch);
        Self::DoesNotFit {
            batch,
            budget_bytes: budget.budget_bytes,
            budget_reason: budget.reason.clone(),
            way_out: WayOut::find(&breakdown, budget, largest_fitting, again(footprint, breakdown.total)),
            breakdown: Box::new(breakdown),
        }
    }

    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::DoesNotFit { way_out, .. } => way_out.hint(),
            Self::ZeroBatch { .. } => "set it to 1 or more, or leave it out".to_owned(),
            Self::AbsurdBatch { .. } => "set it to the number of images per optimizer step, such as 128".to_owned(),
            Self::MinimumAboveMaximum { minimum, maximum } => {
                format!("swap them: minimum {maximum}, maximum {minimum}")
            }
            Self::OutsideBounds { setting, minimum, maximum, value } => {
                let nearest = (*value).clamp(*minimum, *maximum);
                format!("set `{setting}: {nearest}`, or widen the bounds to hold {value}")
            }
        })
    }
}

impl WayOut {
    /// `enough_bytes` holds the step when it is planned again.
    fn find(breakdown: &MemoryBreakdown, budget: &Budget, largest_fitting: usize, enough_bytes: u64) -> Self {
        if largest_fitting > 0 {
            return Self::SmallerBatch(largest_fitting);
        }
        if let Some(change) = budget.change_for(enough_bytes) {
            return Self::HigherBudget(change);
        }
        match breakdown.activations > breakdown.total / 2 {
            true => Self::SmallerImage,
            false => Self::SmallerModel { or_free_memory: budget.would_hold(breakdown.total) },
        }
    }

    pub(crate) fn hint(self) -> String {
        match self {
            Self::SmallerBatch(batch) => format!("set `train.micro_batch_size: {batch}`, or `auto`"),
            Self::HigherBudget(change) => change.hint(),
            Self::LowerMinimum { minimum, fitting: 0 } => {
                format!("ask for fewer than `--min-batch-size {minimum}` images at once")
            }
            Self::LowerMinimum { minimum, fitting } => {
                format!("ask for fewer than `--min-batch-size {minimum}` images at once: {fitting} fit")
            }
            Self::SmallerImage => "lower `model.image_size`, or choose a smaller `model.name`".to_owned(),
            Self::SmallerModel { or_free_memory: true } => {
                "choose a smaller `model.name`, or free memory and run again".to_owned()
            }
            Self::SmallerModel { or_free_memory: false } => "choose a smaller `model.name`".to_owned(),
        }
    }
}

/// What holds a step that is planned again, by the shares that measurements are raised by: what was measured is not the same to the byte the next time,
/// and with more room larger steps are measured first, which leave more behind than those did that were.
fn again(footprint: &Footprint, bytes: u64) -> u64 {
    let spread = match &footprint.source {
        FootprintSource::Measured { allowance, .. } => allowance.everywhere + allowance.beyond,
        _ => 0.0,
    };
    bytes.saturating_add((bytes as f64 * spread).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Allowance, BudgetRequest, FixedMemory, MemoryReading, Observation};

    const MIB: u64 = 1 << 20;

    /// 900 MiB fixed and 50 a sample, of 4000 MiB.
    fn way_out(request: &BudgetRequest, allowance: Allowance) -> WayOut {
        let known = FixedMemory { weights: 900 * MIB, ..FixedMemory::default() };
        let observations = [1, 2].map(|batch| Observation { batch, peak_bytes: (900 + 50 * batch as u64) * MIB });
        let footprint = Footprint::from_measurements(known, 1, &observations).unwrap().with_allowance(allowance);
        let reading = MemoryReading { total_bytes: 4_000 * MIB, free_bytes: 4_000 * MIB, own_bytes: 0 };
        let budget = Budget::for_host(reading, request).unwrap();
        let PlanError::DoesNotFit { way_out, .. } = PlanError::does_not_fit(&footprint, &budget, 1, 0) else {
            panic!("another error");
        };
        way_out
    }

    #[test]
    fn the_setting_that_is_in_the_way_is_the_one_to_change() {
        let hint = |request| way_out(&request, Allowance::default()).hint();
        let fraction = BudgetRequest { memory_fraction: Some(0.1), ..BudgetRequest::default() };
        assert_eq!(hint(fraction), "raise `memory.fraction` to 0.238");
        let both = BudgetRequest { limit_bytes: Some(MIB), ..fraction };
        assert_eq!(hint(both), "set `memory.limit: 950MiB` and raise `memory.fraction` to 0.238");
        let limit = BudgetRequest { limit_bytes: Some(MIB), ..BudgetRequest::default() };
        assert_eq!(hint(limit), "set `memory.limit: 950MiB`");
    }

    #[test]
    fn a_limit_that_rests_on_a_measurement_has_room_for_the_next_one() {
        let limit = BudgetRequest { limit_bytes: Some(MIB), ..BudgetRequest::default() };
        let allowance = Allowance { everywhere: 0.01, beyond: 0.03 };
        let WayOut::HigherBudget(change) = way_out(&limit, allowance) else { panic!("another way out") };
        let bytes = change.limit_bytes.expect("the limit is in the way");
        assert_eq!(change, BudgetChange { limit_bytes: Some(bytes), ..BudgetChange::default() }, "and nothing else");
        assert!(bytes >= 950 * MIB / 100 * 105, "the share everywhere once, and then both: {bytes}");
    }
}
