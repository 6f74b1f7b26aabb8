//! A run that goes on where less, or other, memory is: what was planned for the old place is planned anew.

use memory_planner::{MemoryAnalysis, format_bytes};

use super::Request;
use crate::config::{AutoCount, Checkpointing};
use crate::ui;

impl Request {
    /// Leaves the micro-batch of a resumed run open again, and what is computed twice, when a plan chose them for another device, or for more memory than
    /// there is now. What the user had set stays, and so does the effective batch: the same images in the same order make each step.
    pub(super) fn reopen_elsewhere(&mut self, device: &str, budget_bytes: u64) {
        let Some(before) = self.plan_before() else { return };
        let peak_bytes = before.plan.predicted_peak_bytes;
        let reason = if before.device != device {
            format!("it was for {}", before.device)
        } else if peak_bytes > budget_bytes {
            format!("it takes {}, and there are {}", format_bytes(peak_bytes), format_bytes(budget_bytes))
        } else {
            return;
        };
        ui::note(format_args!("micro-batch {} is planned anew: {reason}", before.plan.micro_batch));
        self.resolved.config.train.micro_batch_size = AutoCount::Auto;
        if self.was_chosen("memory.checkpointing") {
            self.resolved.config.memory.checkpointing = Checkpointing::Auto;
        }
    }

    /// The plan that a resumed run began with; none where the user has set the micro-batch, then or now.
    fn plan_before(&self) -> Option<MemoryAnalysis> {
        let folder = self.resumed.as_ref()?;
        let before: MemoryAnalysis = serde_json::from_slice(&std::fs::read(folder.plan()).ok()?).ok()?;
        let is_as_planned = self.resolved.config.train.micro_batch_size.exactly() == Some(before.plan.micro_batch);
        (is_as_planned && self.was_chosen("micro-batch")).then_some(before)
    }

    /// Whether the head of the resumed run's configuration has this among the choices that were left to the program.
    fn was_chosen(&self, name: &str) -> bool {
        let config = self.resumed.as_ref().and_then(|folder| std::fs::read_to_string(folder.resolved_config()).ok());
        config.is_some_and(|text| text.lines().any(|line| line.starts_with(&format!("# {name} "))))
    }
}
