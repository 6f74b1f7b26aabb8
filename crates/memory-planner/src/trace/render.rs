//! The peak of a step as text.

use super::{LargeTensor, Liveness};
use crate::format_bytes;
use crate::table::Table;

/// Tells what is alive at the peak: by role, by layer (the `count` largest, then the rest), and the `count` largest
/// tensors, in aligned columns.
///
/// ```text
/// peak of the step
///   total                 1.2 GiB  at operation 310 of 912 (gelu, backward), stages.2.blocks.8
///
/// by role
///   weights             109.1 MiB    8.7 %
///   saved activations     1.1 GiB   91.3 %
/// ```
#[must_use]
pub fn render_peak(liveness: &Liveness<'_>, count: usize) -> String {
    let operations = &liveness.trace().operations;
    let operation = &operations[liveness.peak_operation];
    let place = format!(
        "at operation {} of {} ({}, {}), {}",
        liveness.peak_operation + 1,
        operations.len(),
        operation.kind,
        operation.phase.describe(),
        liveness.peak_layer()
    );
    let share = |bytes: u64| format!("{:>5.1} %", percent(bytes, liveness.peak_bytes));
    let mut table = Table::default();
    table.heading("peak of the step");
    table.row("total", format_bytes(liveness.peak_bytes), place);
    table.heading("by role");
    for row in liveness.peak_by_role() {
        table.row(row.role.describe(), format_bytes(row.bytes), share(row.bytes));
    }
    table.heading("by layer");
    for row in liveness.peak_by_layer(count) {
        let label = if row.layers > 1 { format!("{} ({} layers)", row.layer, row.layers) } else { row.layer };
        table.row(label, format_bytes(row.bytes), share(row.bytes));
    }
    let largest = liveness.largest_tensors(count);
    if !largest.is_empty() {
        table.heading("largest tensors");
    }
    for tensor in largest {
        let note = format!("{}  {}", share(tensor.bytes), tensor.describe());
        table.row(tensor.layer, format_bytes(tensor.bytes), note);
    }
    table.render()
}

impl LargeTensor {
    /// What it is, without its layer and size: `gelu [8, 96, 56, 56] x 4 B, saved activations`.
    #[must_use]
    pub fn describe(&self) -> String {
        let made_by = self.made_by.as_ref().map_or_else(String::new, |kind| format!("{kind} "));
        format!("{made_by}{:?} x {} B, {}", self.shape, self.element_bytes, self.role.describe())
    }
}

/// A part of a whole in percent; 0 of nothing.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::synthetic;

    const TOLD: &str = "\
peak of the step
  total              305.7 MiB  at operation 36 of 104 (convolution, backward), stages.3.blocks.3

by role
  weights             24.2 MiB    7.9 %
  moving average      24.2 MiB    7.9 %
  optimizer state     48.4 MiB   15.8 %
  gradients           18.1 MiB    5.9 %
  input                4.6 MiB    1.5 %
  saved activations  179.2 MiB   58.6 %
  transient            1.1 MiB    0.4 %
  workspace            6.0 MiB    2.0 %

by layer
  stages.0.blocks.0  102.3 MiB   33.4 %
  stages.3.blocks.3  100.2 MiB   32.8 %
  stages.1.blocks.1   55.2 MiB   18.0 %
  others (2 layers)   48.1 MiB   15.7 %

largest tensors
  stages.0.blocks.0   36.8 MiB   12.0 %  matmul [8, 56, 56, 384] x 4 B, saved activations
  stages.0.blocks.0   36.8 MiB   12.0 %  gelu [8, 56, 56, 384] x 4 B, saved activations
  stages.1.blocks.1   18.4 MiB    6.0 %  matmul [8, 28, 28, 768] x 4 B, saved activations
";

    #[test]
    fn the_peak_is_told_by_role_by_layer_and_by_tensor() {
        let trace = synthetic::training_step(4, 8);
        let text = render_peak(&Liveness::of(&trace).unwrap(), 3);
        assert_eq!(text, TOLD);
    }

    #[test]
    fn a_step_that_holds_nothing_is_told_without_dividing_by_it() {
        let mut trace = synthetic::training_step(1, 1);
        trace.tensors.clear();
        trace.operations.iter_mut().for_each(|operation| operation.workspace_bytes = 0);
        let text = render_peak(&Liveness::of(&trace).unwrap(), 3);
        assert!(text.contains("0 B") && !text.contains("NaN") && !text.contains("largest"), "{text}");
    }
}
