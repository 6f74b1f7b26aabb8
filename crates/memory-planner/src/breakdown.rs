//! A predicted peak, part by part.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{FixedMemory, Footprint, Liveness, Role, format_bytes};

/// The peak of one step of a given batch size, part by part.
///
/// Parts sum exactly: `fixed + input + activations + workspace + slack - not_alive_at_peak = total`, in bytes.
///
/// It is also the cause inside [`PlanError::DoesNotFit`](crate::PlanError::DoesNotFit), and thus an
/// [`Error`](std::error::Error): it displays as its parts, largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryBreakdown {
    /// Samples in the step.
    pub batch: usize,
    /// What is held whatever the batch size.
    pub fixed: FixedMemory,
    /// The batch itself.
    pub input: u64,
    /// Saved for the backward pass, and transient at the peak.
    pub activations: u64,
    /// Scratch of kernels; of a footprint alone, with what the allocator holds unused.
    pub workspace: u64,
    /// What the allocator holds unused: gaps, and pages that are not full. 0 where it is not told from the workspace.
    #[serde(default)]
    pub slack: u64,
    /// Bytes of the other parts that are not alive at the peak, because another phase sets it.
    pub not_alive_at_peak: u64,
    /// The peak.
    pub total: u64,
}

impl MemoryBreakdown {
    pub(crate) fn new(footprint: &Footprint, batch: usize) -> Self {
        let count = batch as u64;
        let input = footprint.per_sample.input.saturating_mul(count);
        let activations = footprint.per_sample.activations.saturating_mul(count);
        let parts = footprint.fixed.total().saturating_add(input).saturating_add(activations);
        let total = footprint.peak_bytes(batch);
        Self {
            batch,
            fixed: footprint.fixed,
            input,
            activations,
            workspace: total.saturating_sub(parts),
            slack: 0,
            not_alive_at_peak: parts.saturating_sub(total),
            total,
        }
    }

    /// What is alive at the peak of a step of `batch` samples, for which `total` bytes are reserved: the rest is the allocator's. `overhead` is what the
    /// step does not show.
    pub fn at_peak(liveness: &Liveness<'_>, batch: usize, overhead: u64, total: u64) -> Self {
        let rows = liveness.peak_by_role();
        let of = |role| rows.iter().find(|row| row.role == role).map_or(0, |row| row.bytes);
        let fixed = FixedMemory {
            weights: of(Role::Weight),
            buffers: of(Role::Buffer),
            gradients: of(Role::Gradient),
            optimizer: of(Role::OptimizerState),
            ema: of(Role::Ema),
            overhead,
        };
        let alive = liveness.peak_bytes.saturating_add(overhead);
        Self {
            batch,
            fixed,
            input: of(Role::Input),
            activations: of(Role::SavedActivation) + of(Role::Transient),
            workspace: of(Role::Workspace),
            slack: total.saturating_sub(alive),
            // A dry run may reserve a little less than the recorded step holds.
            not_alive_at_peak: alive.saturating_sub(total),
            total,
        }
    }

    /// Every part with its name, in the order of a memory report.
    pub fn parts(&self) -> [(&'static str, u64); 10] {
        [
            ("weights", self.fixed.weights),
            ("buffers", self.fixed.buffers),
            ("gradients", self.fixed.gradients),
            ("optimizer", self.fixed.optimizer),
            ("EMA", self.fixed.ema),
            ("overhead", self.fixed.overhead),
            ("input", self.input),
            ("activations", self.activations),
            ("workspace", self.workspace),
            ("allocator slack", self.slack),
        ]
    }
}

impl fmt::Display for MemoryBreakdown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<_> = self.parts().into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let parts: Vec<String> = parts.iter().map(|(name, bytes)| format!("{name} {}", format_bytes(*bytes))).collect();
        write!(formatter, "{}", parts.join(", "))
    }
}

impl std::error::Error for MemoryBreakdown {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Observation;

    fn footprint() -> Footprint {
        let known = FixedMemory { weights: 10 << 20, gradients: 10 << 20, optimizer: 20 << 20, ..Default::default() };
        let observations = [(1, 41), (4, 45), (8, 61)].map(|(batch, mib)| Observation { batch, peak_bytes: mib << 20 });
        Footprint::from_measurements(known, 4096, &observations).unwrap()
    }

    #[test]
    fn parts_sum_to_the_peak_at_every_batch_size() {
        let footprint = footprint();
        for batch in [0, 1, 3, 8, 100, 5000] {
            let breakdown = footprint.breakdown(batch);
            let parts: u64 = breakdown.parts().iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(parts - breakdown.not_alive_at_peak, breakdown.total);
            assert_eq!(breakdown.total, footprint.peak_bytes(batch));
        }
    }

    #[test]
    fn what_is_alive_at_the_peak_and_the_allocators_rest_make_up_the_total() {
        let trace = crate::trace::synthetic::training_step(4, 8);
        let liveness = Liveness::of(&trace).unwrap();
        for (total, slack) in [(liveness.peak_bytes + 2_000, 1_000), (liveness.peak_bytes - 7, 0)] {
            let breakdown = MemoryBreakdown::at_peak(&liveness, 8, 1_000, total);
            let parts: u64 = breakdown.parts().iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(parts - breakdown.not_alive_at_peak, total);
            assert_eq!(breakdown.slack, slack);
            assert!(breakdown.activations > 100 << 20 && breakdown.workspace == 6 << 20, "{breakdown:?}");
        }
    }

    #[test]
    fn a_breakdown_lists_its_parts_largest_first_without_empty_ones() {
        let text = footprint().breakdown(100).to_string();
        assert!(text.starts_with("activations 399.6 MiB, optimizer 20.0 MiB, "), "{text}");
        assert!(!text.contains("EMA"), "{text}");
    }
}
