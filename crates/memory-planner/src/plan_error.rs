//! Why there is no plan, and the way out.

use thiserror::Error;

use crate::{Budget, Footprint, LARGEST_BATCH, MemoryBreakdown, format_bytes};

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
    #[error("`{setting}` is {value}, but the largest batch size is {LARGEST_BATCH}")]
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
    /// Memory is there; the user's limit must be at least this many bytes.
    HigherLimit(u64),
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
            way_out: WayOut::find(&breakdown, budget, largest_fitting),
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
    fn find(breakdown: &MemoryBreakdown, budget: &Budget, largest_fitting: usize) -> Self {
        if largest_fitting > 0 {
            return Self::SmallerBatch(largest_fitting);
        }
        let room_bytes = budget.free_bytes as f64 * (1.0 - budget.margin_share);
        if let Some(limit) = budget.user_limit_bytes.filter(|_| breakdown.total as f64 <= room_bytes) {
            // A margin that the user asked for is taken off the limit, so the limit must rise by as much more.
            let limit_per_budget = limit as f64 / budget.budget_bytes.max(1) as f64;
            return Self::HigherLimit((breakdown.total as f64 * limit_per_budget).ceil() as u64);
        }
        match breakdown.activations > breakdown.total / 2 {
            true => Self::SmallerImage,
            false => Self::SmallerModel { or_free_memory: budget.would_hold(breakdown.total) },
        }
    }

    pub(crate) fn hint(self) -> String {
        match self {
            Self::SmallerBatch(batch) => format!("set `train.micro_batch_size: {batch}`, or `auto`"),
            Self::HigherLimit(bytes) => format!("set `memory.limit: {}MiB`", bytes.div_ceil(1 << 20)),
            Self::SmallerImage => "lower `model.image_size`, or choose a smaller `model.name`".to_owned(),
            Self::SmallerModel { or_free_memory: true } => {
                "choose a smaller `model.name`, or free memory and run again".to_owned()
            }
            Self::SmallerModel { or_free_memory: false } => "choose a smaller `model.name`".to_owned(),
        }
    }
}
