//! What is written to a file about the memory of a step.

use serde::{Deserialize, Serialize};

use super::{LargeTensor, LayerBytes, Liveness, Phase, ROLES, Role, RoleBytes, TimelinePoint};
use crate::{Footprint, Plan};

/// The memory of one optimizer step on one device, for a file that other programs read.
///
/// ```
/// use memory_planner::*;
///
/// let trace = Trace {
///     tensors: vec![TracedTensor {
///         bytes: 4096,
///         role: Role::Weight,
///         layer: 1,
///         born: Born::BeforeStep,
///         dies: None,
///         shape: vec![32, 32],
///         element_bytes: 4,
///     }],
///     operations: vec![TracedOperation {
///         kind: "matmul".to_owned(),
///         phase: Phase::Forward,
///         layer: 1,
///         workspace_bytes: 512,
///     }],
///     layers: vec![String::new(), "head".to_owned()],
/// };
/// let liveness = Liveness::of(&trace)?;
/// let profile = Profile::of(&liveness, "cuda:0", "one linear layer at 32", 8);
/// assert_eq!(profile.peak.bytes, 4608);
/// assert_eq!(profile.peak.layer, "head");
/// # Ok::<(), TraceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// [`Profile::VERSION`] when it was written.
    pub version: u32,
    /// The device that it is about: `cuda:0`, `rtx3060`.
    pub device: String,
    /// The model and what decides its size, in words: `convnext_tiny, 224 px, bf16`.
    pub model: String,
    /// Samples in the step that was traced.
    pub batch: usize,
    /// How many operations the step has.
    pub operations: usize,
    /// What is alive at the peak.
    pub peak: PeakProfile,
    /// Bytes alive before the first operation.
    pub before_bytes: u64,
    /// Bytes that outlive the step.
    pub after_bytes: u64,
    /// What the columns of `timeline[].bytes_by_role` are.
    pub roles: [Role; ROLES],
    /// The bytes alive over the step, at no more than [`Profile::MOST_POINTS`] operations, the peak among them.
    pub timeline: Vec<TimelinePoint>,
    /// The footprint for any batch size, if one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footprint: Option<Footprint>,
    /// The plan, if one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// What is alive at the peak of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakProfile {
    /// All of it, in bytes.
    pub bytes: u64,
    /// The index of the operation that runs.
    pub operation: usize,
    /// What it computes: `matmul`.
    pub kind: String,
    /// The part of the step that it belongs to.
    pub phase: Phase,
    /// The layer that it belongs to, by the name that people read.
    pub layer: String,
    /// By role; their sum is `bytes`.
    pub by_role: Vec<RoleBytes>,
    /// By layer, largest first, all of them; their sum is `bytes`.
    pub by_layer: Vec<LayerBytes>,
    /// The [`Profile::MOST_TENSORS`] largest tensors, largest first.
    pub largest_tensors: Vec<LargeTensor>,
}

impl Profile {
    /// The version of the format that this crate writes.
    pub const VERSION: u32 = 1;
    /// No timeline has more points: enough for a picture of a screen's width.
    pub const MOST_POINTS: usize = 2_000;
    /// No list of tensors is longer.
    pub const MOST_TENSORS: usize = 50;

    /// The profile of a step; `model` says in words what decides its size, `batch` how many samples it has.
    #[must_use]
    pub fn of(liveness: &Liveness<'_>, device: impl Into<String>, model: impl Into<String>, batch: usize) -> Self {
        Self {
            version: Self::VERSION,
            device: device.into(),
            model: model.into(),
            batch,
            operations: liveness.trace().operations.len(),
            peak: PeakProfile::of(liveness),
            before_bytes: liveness.before_bytes,
            after_bytes: liveness.after_bytes,
            roles: Role::ALL,
            timeline: liveness.downsampled(Self::MOST_POINTS),
            footprint: None,
            plan: None,
        }
    }

    /// Adds the footprint for any batch size.
    #[must_use]
    pub fn with_footprint(self, footprint: Footprint) -> Self {
        Self { footprint: Some(footprint), ..self }
    }

    /// Adds the plan.
    #[must_use]
    pub fn with_plan(self, plan: Plan) -> Self {
        Self { plan: Some(plan), ..self }
    }
}

impl PeakProfile {
    fn of(liveness: &Liveness<'_>) -> Self {
        Self {
            bytes: liveness.peak_bytes,
            operation: liveness.peak_operation,
            kind: liveness.trace().operations[liveness.peak_operation].kind.clone(),
            phase: liveness.peak_phase(),
            layer: liveness.peak_layer().to_owned(),
            by_role: liveness.peak_by_role(),
            by_layer: liveness.peak_by_layer(usize::MAX),
            largest_tensors: liveness.largest_tensors(Profile::MOST_TENSORS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::synthetic;

    #[test]
    fn a_profile_survives_json_and_says_what_its_columns_are() {
        let trace = synthetic::training_step(18, 8);
        let liveness = Liveness::of(&trace).unwrap();
        let profile = Profile::of(&liveness, "cpu", "convnext, 224 px", 8);
        let text = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<Profile>(&text).unwrap(), profile);
        assert!(text.contains(r#""roles":["weight","buffer","ema","optimizer_state""#), "{text}");
        assert!(text.contains(r#""phase":"forward""#) && !text.contains("footprint"), "{text}");
    }

    #[test]
    fn the_parts_of_the_peak_sum_to_it_and_a_long_timeline_is_cut() {
        let trace = synthetic::training_step(200, 8);
        let liveness = Liveness::of(&trace).unwrap();
        let profile = Profile::of(&liveness, "cpu", "convnext, 224 px", 8);
        assert!(profile.operations > Profile::MOST_POINTS && profile.timeline.len() <= Profile::MOST_POINTS);
        assert_eq!(profile.peak.by_role.iter().map(|row| row.bytes).sum::<u64>(), profile.peak.bytes);
        assert_eq!(profile.peak.by_layer.iter().map(|row| row.bytes).sum::<u64>(), profile.peak.bytes);
        assert_eq!(profile.peak.largest_tensors.len(), Profile::MOST_TENSORS);
        let highest = profile.timeline.iter().map(TimelinePoint::total_bytes).max();
        assert_eq!(highest, Some(profile.peak.bytes));
    }
}
