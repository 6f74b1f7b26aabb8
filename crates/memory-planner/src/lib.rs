//! Turns the memory footprint of one optimizer step and a memory budget into a batch plan: the micro-batch, the
//! accumulation steps that keep the effective batch exact, the predicted peak, and the reason of each choice.
//!
//! It touches no tensor, no device, no file and no clock: numbers come in, a plan comes out, the same on any machine.
//!
//! ```
//! use memory_planner::*;
//!
//! let known = FixedMemory { weights: 14 << 20, gradients: 14 << 20, optimizer: 28 << 20, ..FixedMemory::default() };
//! let observations = [
//!     Observation { batch: 4, peak_bytes: 96 << 20 },
//!     Observation { batch: 8, peak_bytes: 124 << 20 },
//! ];
//! let footprint = Footprint::from_measurements(known, 12_288 * 4, &observations)?;
//! let reading = MemoryReading { total_bytes: 8 << 30, free_bytes: 6 << 30, own_bytes: 0 };
//! let budget = Budget::for_host(reading, &BudgetRequest { limit_bytes: Some(512 << 20), ..Default::default() })?;
//! let request = PlanRequest { effective_batch: Some(100), ..PlanRequest::default() };
//! let plan = plan_batch_size(&footprint, &budget, &request)?;
//!
//! assert_eq!(plan.micro_batch, 60);
//! assert_eq!(plan.micro_batches, [60, 40]);
//! assert!(plan.predicted_peak_bytes <= budget.budget_bytes);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

// What a step takes.
mod bytes;
mod footprint;

mod breakdown;
mod exact;
mod fit;

// What it holds at each moment.
mod trace;

// What it may take.
mod budget;
mod budget_change;

// How it is cut.
mod plan;

mod cards;
mod inference_plan;
mod ladder;
mod learning_rate;
mod levels;
mod micro_batch;
mod observe;
mod plan_error;
mod precision;
mod rounding;
mod search;
mod throughput;

// How all that is told.
mod recommend;
mod report;
mod table;
mod team_settings;

// What came of it.
mod check;

#[cfg(test)]
mod properties;

pub use breakdown::MemoryBreakdown;
pub use budget::{Budget, BudgetError, BudgetRequest, MemoryReading, Tier};
pub use budget_change::BudgetChange;
pub use bytes::{ParseBytesError, format_bytes, parse_bytes};
pub use cards::{
    CardPlan, CardToPlan, CardsError, CardsLadderError, MultiCardPlan, SharedRung, plan_for_cards,
    plan_for_cards_with_ladder,
};
pub use check::PlanCheck;
pub use exact::ExactSource;
pub use fit::FootprintError;
pub use footprint::{Allowance, FixedMemory, Footprint, FootprintSource, Observation, PerSample};
pub use inference_plan::{InferencePlan, plan_inference};
pub use ladder::{LadderError, NothingFits, Rung, RungNeed, plan_with_ladder, plan_with_ladder_past};
pub use learning_rate::{LearningRateError, LearningRateRule, LearningRateScaling};
pub use levels::{BatchLevels, Level, Verdict};
pub use observe::{SearchBounds, observe};
pub use plan::{
    Choice, LARGEST_BATCH, LARGEST_EFFECTIVE_BATCH, Plan, PlanRequest, plan_batch_size, split_effective_batch,
};
pub use plan_error::{PlanError, WayOut};
pub use precision::{Checkpointing, PRECISION_CHOICE, ParseCheckpointingError, ParsePrecisionError, Precision};
pub use recommend::{analyze_memory, recommend_batch_size};
pub use report::MemoryAnalysis;
pub use rounding::{ParseRoundingError, Rounding};
pub use search::{largest_fitting_batch, largest_fitting_batch_from};
pub use team_settings::{TeamIdentity, TeamOutcome, TeamPlan, TeamRow, TeamSettings, TeamSettingsError};
pub use throughput::{ThroughputSample, prefer_throughput, throughput_candidates};
pub use trace::{
    AllocationEvent, Born, LargeTensor, LayerBytes, Liveness, PeakProfile, Phase, Profile, ROLES, Role, RoleBytes,
    TimelinePoint, Trace, TraceError, TracedOperation, TracedTensor, memory_timeline_svg, render_peak,
};
