//! The memory report that a run prints before it starts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::{BUDGET_CHOICE, split_in_words};
use crate::table::Table;
use crate::{Budget, Choice, Footprint, Liveness, MemoryBreakdown, Plan, format_bytes};

/// Everything known about the memory of a run, before it starts. Displays as the memory report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryAnalysis {
    /// The device in words: `cpu, 2 threads`, `cuda:0, NVIDIA H200`.
    pub device: String,
    /// The model in words: `convnext_atto at 64x64`.
    pub model: String,
    /// What a step takes.
    pub footprint: Footprint,
    /// What it may take.
    pub budget: Budget,
    /// How it is cut.
    pub plan: Plan,
    /// What is alive at the peak of a planned micro-batch, where the step was recorded; otherwise the parts are those of the footprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_peak: Option<MemoryBreakdown>,
}

impl MemoryAnalysis {
    /// The report: lines of aligned columns, closed by a line break.
    pub fn render(&self) -> String {
        let mut table = Table::default();
        table.heading(format!("memory of {} on {}", self.model, self.device));
        self.device_rows(&mut table);
        self.model_rows(&mut table);
        self.step_rows(&mut table, &self.planned_breakdown());
        self.level_rows(&mut table);
        self.plan_rows(&mut table);
        table.render()
    }

    /// Puts choices made before the plan (precision, checkpointing, what they save) at the head of its reasons.
    #[must_use]
    pub fn with_choices(mut self, choices: impl IntoIterator<Item = Choice>) -> Self {
        self.plan.choices.splice(0..0, choices);
        self
    }

    /// Has the parts of the peak told by what is alive then in the recorded step, planned micro-batch and all.
    #[must_use]
    pub fn with_recorded_peak(mut self, liveness: &Liveness<'_>) -> Self {
        let (batch, overhead) = (self.plan.micro_batch, self.footprint.fixed.overhead);
        self.at_peak = Some(MemoryBreakdown::at_peak(liveness, batch, overhead, self.plan.predicted_peak_bytes));
        self
    }

    /// The parts of the predicted peak.
    pub fn planned_breakdown(&self) -> MemoryBreakdown {
        if let Some(at_peak) = self.at_peak {
            return at_peak;
        }
        let (footprint, batch) = self.footprint.largest_pass(self.plan.effective_batch, self.plan.micro_batch);
        footprint.breakdown(batch)
    }

    /// What the plan's step keeps over its micro-batches.
    fn sums(&self) -> u64 {
        if self.plan.accumulation_steps > 1 { self.footprint.accumulation_extra } else { 0 }
    }

    fn device_rows(&self, table: &mut Table) {
        let budget = &self.budget;
        table.row("in all", format_bytes(budget.total_bytes), "");
        table.row("in use by others", format_bytes(budget.in_use_by_others_bytes), "");
        table.row("free", format_bytes(budget.free_bytes), "");
        table.row("budget", format_bytes(budget.budget_bytes), &budget.reason);
    }

    fn model_rows(&self, table: &mut Table) {
        table.heading("fixed, whatever the batch");
        let (sums, fixed) = (self.sums(), self.footprint.fixed);
        let note = if sums > 0 { "with their sums, kept over the micro-batches" } else { "" };
        table.row("weights", format_bytes(fixed.weights), "");
        optional_row(table, "buffers", fixed.buffers, "");
        table.row("gradients", format_bytes(fixed.gradients.saturating_add(sums)), note);
        table.row("optimizer", format_bytes(fixed.optimizer), "");
        optional_row(table, "EMA", fixed.ema, "");
        optional_row(table, "overhead", fixed.overhead, "process, device context, image loading");
    }

    fn step_rows(&self, table: &mut Table, breakdown: &MemoryBreakdown) {
        table.heading(format!("one micro-batch of {}", breakdown.batch));
        match self.at_peak {
            Some(_) => recorded_rows(table, breakdown),
            None => self.fitted_rows(table, breakdown),
        }
        let share = format!("{} of the budget", self.budget.percent(breakdown.total));
        table.row("predicted peak", format_bytes(breakdown.total), share);
        let remaining = self.budget.budget_bytes.saturating_sub(breakdown.total);
        table.row("remaining", format_bytes(remaining), "");
        let total_bytes = self.budget.total_bytes;
        let share = format!("{:.1} %", 100.0 * breakdown.total as f64 / total_bytes.max(1) as f64);
        table.row("share of memory", share, format!("predicted peak of {} in all", format_bytes(total_bytes)));
    }

    /// The parts as a line through peaks tells them: what a sample adds, times the samples.
    fn fitted_rows(&self, table: &mut Table, breakdown: &MemoryBreakdown) {
        let per_sample = &self.footprint.per_sample;
        let of_each = |bytes| format!("{} a sample", format_bytes(bytes));
        let gradients = breakdown.fixed.gradients;
        let sums_come_later = self.sums() > 0 && gradients == self.footprint.fixed.gradients;
        let note = if sums_come_later { "in the first pass, before there are sums" } else { "" };
        table.row("fixed", format_bytes(breakdown.fixed.total()), note);
        table.row("input", format_bytes(breakdown.input), of_each(per_sample.input));
        table.row("activations", format_bytes(breakdown.activations), of_each(per_sample.activations));
        optional_row(table, "workspace", breakdown.workspace, "scratch, allocator slack");
        if breakdown.not_alive_at_peak > 0 {
            let freed = format!("-{}", format_bytes(breakdown.not_alive_at_peak));
            table.row("not alive at peak", freed, "the parts above do not all live at once");
        }
    }

    fn level_rows(&self, table: &mut Table) {
        let levels = &self.plan.levels;
        table.heading("batch sizes in one forward pass");
        let rows = [
            ("maximum", levels.maximum, "fits the budget"),
            ("recommended", levels.recommended, "fits, rounded"),
            ("safe", levels.safe, "within 85 % of the budget, rounded"),
        ];
        for (name, level, meaning) in rows {
            // A batch of none has no peak.
            let peak = if level.batch == 0 { String::new() } else { format_bytes(level.peak_bytes) };
            table.row(name, level.batch.to_string(), format!("{peak:>10}  {meaning}"));
        }
        if let Some((level, verdict)) = levels.current {
            let note = format!("{:>10}  {}", format_bytes(level.peak_bytes), verdict.describe());
            table.row("current", level.batch.to_string(), note);
        }
    }

    fn plan_rows(&self, table: &mut Table) {
        let plan = &self.plan;
        table.heading(format!("plan: {} samples a step", split_in_words(&plan.micro_batches)));
        // The budget stands with the device.
        for choice in plan.choices.iter().filter(|choice| choice.name != BUDGET_CHOICE) {
            table.row(&choice.name, &choice.value, &choice.reason);
        }
    }
}

impl fmt::Display for MemoryAnalysis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render())
    }
}

/// The parts that are alive at the peak of the recorded step.
fn recorded_rows(table: &mut Table, breakdown: &MemoryBreakdown) {
    let of_each = |bytes: u64| format!("{} a sample", format_bytes(bytes / breakdown.batch.max(1) as u64));
    let fixed = breakdown.fixed;
    let gradients = match fixed.gradients {
        0 => "no gradient is there yet at the peak".to_owned(),
        bytes => format!("{} of them gradients, at the peak", format_bytes(bytes)),
    };
    let input = match breakdown.input {
        0 => "gone at the peak".to_owned(),
        bytes => of_each(bytes),
    };
    table.row("fixed", format_bytes(fixed.total()), gradients);
    table.row("input", format_bytes(breakdown.input), input);
    table.row("activations", format_bytes(breakdown.activations), of_each(breakdown.activations));
    table.row("workspace", format_bytes(breakdown.workspace), "scratch of kernels");
    table.row("allocator slack", format_bytes(breakdown.slack), "gaps, and pages that are not full");
}

fn optional_row(table: &mut Table, label: &str, bytes: u64, note: &str) {
    if bytes > 0 {
        table.row(label, format_bytes(bytes), note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BudgetRequest, Checkpointing, FixedMemory, MemoryReading, Observation, PlanRequest, Precision, Role,
        plan_batch_size,
    };

    fn analysis(effective: usize, ema: u64) -> MemoryAnalysis {
        let fixed = FixedMemory {
            weights: 13_500_000,
            gradients: 13_500_000,
            optimizer: 27_000_000,
            ema,
            overhead: 9 << 20,
            ..FixedMemory::default()
        };
        let observations =
            [(2, 92), (4, 103), (8, 124)].map(|(batch, mib)| Observation { batch, peak_bytes: mib << 20 });
        let footprint = Footprint::from_measurements(fixed, 49_152, &observations).unwrap();
        let footprint = footprint.with_accumulation_extra(13_500_000);
        let reading = MemoryReading { total_bytes: 24 << 30, free_bytes: 21 << 30, own_bytes: 9 << 20 };
        let request = BudgetRequest { limit_bytes: Some(512 << 20), ..BudgetRequest::default() };
        let budget = Budget::for_host(reading, &request).unwrap();
        let request =
            PlanRequest { effective_batch: Some(effective), current: Some(effective), ..PlanRequest::default() };
        let plan = plan_batch_size(&footprint, &budget, &request).unwrap();
        let (device, model) = ("cpu, 2 threads".to_owned(), "convnext_atto at 64x64".to_owned());
        MemoryAnalysis { device, model, footprint, budget, plan, at_peak: None }
    }

    #[test]
    fn the_report_shows_the_budget_the_parts_the_levels_and_the_reasons() {
        let expected = "\
memory of convnext_atto at 64x64 on cpu, 2 threads
  in all             24.0 GiB
  in use by others    3.0 GiB
  free               21.0 GiB
  budget            512.0 MiB  `memory.limit` 512.0 MiB

fixed, whatever the batch
  weights            12.9 MiB
  gradients          25.7 MiB  with their sums, kept over the micro-batches
  optimizer          25.7 MiB
  overhead            9.0 MiB  process, device context, image loading

one micro-batch of 80
  fixed              60.5 MiB  in the first pass, before there are sums
  input               3.8 MiB  48.0 KiB a sample
  activations       422.0 MiB  5.3 MiB a sample
  workspace          21.2 MiB  scratch, allocator slack
  predicted peak    507.4 MiB  99.1 % of the budget
  remaining           4.6 MiB
  share of memory       2.1 %  predicted peak of 24.0 GiB in all

batch sizes in one forward pass
  maximum                  80   507.4 MiB  fits the budget
  recommended              80   507.4 MiB  fits, rounded
  safe                     64   422.3 MiB  within 85 % of the budget, rounded
  current                 100   613.9 MiB  too large: more than is free or allowed

plan: 80 + 20 = 100 samples a step
  effective batch         100  set by `train.effective_batch_size`
  micro-batch              80  the largest that fits: 507.4 MiB of 512.0 MiB
  accumulation              2  80 + 20 = 100
  per sample          5.3 MiB  measured in 3 steps at batch 2, 4, 8; fitted within 0.4 %; 10.0 times beyond the largest batch run
";
        assert_eq!(analysis(100, 0).to_string(), expected);
    }

    #[test]
    fn the_parts_of_a_recorded_peak_are_what_lives_then_and_none_is_negative() {
        let trace = crate::trace::synthetic::training_step(4, 8);
        let liveness = Liveness::of(&trace).unwrap();
        let mut analysis = analysis(32, 0);
        analysis.plan.predicted_peak_bytes = liveness.peak_bytes + (9 << 20) + (3 << 20);
        let text = analysis.with_recorded_peak(&liveness).render();
        let expected = "
  fixed             123.8 MiB  18.1 MiB of them gradients, at the peak
  input               4.6 MiB  147.0 KiB a sample
  activations       180.3 MiB  5.6 MiB a sample
  workspace           6.0 MiB  scratch of kernels
  allocator slack     3.0 MiB  gaps, and pages that are not full
  predicted peak    317.7 MiB  62.1 % of the budget
";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn an_input_that_is_gone_at_the_peak_is_named_and_not_counted() {
        let mut trace = crate::trace::synthetic::training_step(4, 8);
        trace.tensors.iter_mut().filter(|tensor| tensor.role == Role::Input).for_each(|input| input.dies = Some(0));
        let liveness = Liveness::of(&trace).unwrap();
        let mut analysis = analysis(32, 0);
        analysis.plan.predicted_peak_bytes = liveness.peak_bytes + (9 << 20);
        let analysis = analysis.with_recorded_peak(&liveness);
        let breakdown = analysis.planned_breakdown();
        let parts: u64 = breakdown.parts().iter().map(|(_, bytes)| bytes).sum();
        assert_eq!((breakdown.input, parts), (0, breakdown.total));
        let text = analysis.render();
        assert!(text.contains("\n  input                   0 B  gone at the peak\n"), "{text}");
    }

    #[test]
    fn choices_made_before_the_plan_stand_at_its_head() {
        let precision = Precision::Bf16.choice("compute capability 8.6", Some((Precision::Fp32, 3 << 30)));
        let checkpointing = Checkpointing::None.choice("the step fits without", None);
        let text = analysis(100, 0).with_choices([precision, checkpointing]).render();
        let expected = "
plan: 80 + 20 = 100 samples a step
  precision              bf16  compute capability 8.6; saves 3.0 GiB against fp32
  checkpointing          none  the step fits without
  effective batch         100  set by `train.effective_batch_size`
";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn only_parts_that_exist_are_shown() {
        assert!(!analysis(32, 0).render().contains("EMA"));
        assert!(analysis(32, 13_500_000).render().contains("EMA"));
    }

    #[test]
    fn no_line_ends_in_blanks_or_runs_wide() {
        for effective in [1, 32, 128, 1000] {
            for line in analysis(effective, 13_500_000).render().lines() {
                assert_eq!(line, line.trim_end());
                assert!(line.chars().count() <= 140, "{line}");
            }
        }
    }

    #[test]
    fn an_analysis_survives_json() {
        let analysis = analysis(128, 0);
        let text = serde_json::to_string(&analysis).unwrap();
        assert_eq!(serde_json::from_str::<MemoryAnalysis>(&text).unwrap(), analysis);
    }
}
