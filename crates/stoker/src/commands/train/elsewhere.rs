//! A run that goes on where less, or other, memory is: what was planned for the old place is planned anew.

use memory_planner::{MemoryAnalysis, format_bytes};

use super::Request;
use crate::config::{AutoCount, Checkpointing, DeviceRequest, Precision};
use crate::ui;

impl Request {
    /// Leaves the device of a resumed run open again when it was found and not asked for, then or now: it may be on another machine.
    pub(super) fn reopen_device(&mut self) {
        if self.was_chosen("device") {
            self.resolved.config.device = DeviceRequest::Auto;
        }
    }

    /// Leaves the micro-batch of a resumed run open again, and what is computed twice, when a plan chose them for another device, or for more memory than
    /// there is now; on another device the precision as well. What the user had set stays, and so does the effective batch: the same images in the same
    /// order make each step. So they are where cards share the batch now, of which each is to have at most `share`.
    pub(super) fn reopen_elsewhere(&mut self, device: &str, budget_bytes: u64, share: Option<usize>) {
        let Some(before) = self.plan_before() else { return };
        let is_elsewhere = before.device != device;
        // What suits a card may be refused by another; on the same one there is no reason to compute in something else.
        if is_elsewhere && self.was_chosen("train.precision") {
            self.resolved.config.train.precision = Precision::Auto;
        }
        let peak_bytes = before.plan.predicted_peak_bytes;
        let shared = share.filter(|&share| before.plan.micro_batch > share);
        let reason = match (is_elsewhere, shared) {
            (true, _) => format!("it was for {}", before.device),
            (false, Some(share)) => format!("cards share the batch, and have at most {share} each"),
            (false, None) => {
                format!("it takes {}, and there are {}", format_bytes(peak_bytes), format_bytes(budget_bytes))
            }
        };
        if self.is_as_planned(&before) && (is_elsewhere || shared.is_some() || peak_bytes > budget_bytes) {
            ui::note(format_args!("micro-batch {} is planned anew: {reason}", before.plan.micro_batch));
            self.resolved.config.train.micro_batch_size = AutoCount::Auto;
            if self.was_chosen("memory.checkpointing") {
                self.resolved.config.memory.checkpointing = Checkpointing::Auto;
            }
        }
    }

    /// Says of what a resumed run was planned with that it is kept. Its configuration has all of it decided, as if the user had set it.
    pub(super) fn tell_what_is_kept(&self, analysis: &mut MemoryAnalysis) {
        for key in ["train.micro_batch_size", "memory.checkpointing", "train.precision"] {
            let name = if key == "train.micro_batch_size" { "micro-batch" } else { key };
            if !self.was_chosen(name) {
                continue;
            }
            for choice in &mut analysis.plan.choices {
                choice.reason = choice.reason.replace(&format!("set by `{key}`"), "as planned when the run began");
            }
        }
    }

    /// The plan that a resumed run began with.
    fn plan_before(&self) -> Option<MemoryAnalysis> {
        let folder = self.resumed.as_ref()?;
        serde_json::from_slice(&std::fs::read(folder.plan()).ok()?).ok()
    }

    /// Whether the micro-batch is the plan's, and the user has set none, then or now.
    fn is_as_planned(&self, before: &MemoryAnalysis) -> bool {
        let size = self.resolved.config.train.micro_batch_size.exactly();
        size == Some(before.plan.micro_batch) && self.was_chosen("micro-batch")
    }

    /// Whether the head of the resumed run's configuration has this among the choices that were left to the program, and no flag sets it now.
    fn was_chosen(&self, name: &str) -> bool {
        let key = if name == "micro-batch" { "train.micro_batch_size" } else { name };
        if self.is_given(key) {
            return false;
        }
        let config = self.resumed.as_ref().and_then(|folder| std::fs::read_to_string(folder.resolved_config()).ok());
        config.is_some_and(|text| text.lines().any(|line| line.starts_with(&format!("# {name} "))))
    }
}
