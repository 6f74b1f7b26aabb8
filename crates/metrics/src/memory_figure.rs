//! Memory over the epochs, beside what was planned.

use serde::{Deserialize, Serialize};

use crate::EpochRecord;
use crate::axis::Range;
use crate::panel::{Frame, Panel, Series};
use crate::svg::{Anchor, Drawing, MUTED, Text};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 280.0;
const MARGIN: f64 = 24.0;

const BLUE: &str = "#4477aa";
const ORANGE: &str = "#d9622b";
const RED: &str = "#aa3377";

const MEBIBYTE: f64 = 1_048_576.0;

/// A budget that is this many times the peak would press everything else onto the axis: it is told in words instead.
const FARTHEST_BUDGET: f64 = 2.5;

/// What was planned for a run, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMemory {
    /// Highest use that the plan predicts.
    pub predicted_peak_bytes: u64,
    /// What the run may take.
    pub budget_bytes: u64,
}

/// The highest memory use so far at the end of each epoch, with the plan's prediction and the budget, as an SVG of 960 x 280 px on white.
///
/// Epochs whose memory was not measured are bridged. Says so when none was.
#[must_use]
pub fn memory_svg(records: &[EpochRecord], planned: PlannedMemory) -> String {
    let mut drawing = Drawing::new(WIDTH, HEIGHT, "Memory over the run");
    let peaks: Vec<(u32, f64)> = records
        .iter()
        .filter_map(|record| record.run.peak_memory_bytes.map(|peak| (record.epoch, mebibytes(peak))))
        .collect();
    let (Some(&(first, _)), Some(&(last, highest))) = (peaks.first(), peaks.last()) else {
        let message = Text::new(WIDTH / 2.0, HEIGHT / 2.0, "memory was not measured");
        drawing.text(message.size(15.0).fill(MUTED).anchor(Anchor::Middle));
        return drawing.finish();
    };
    let level = |bytes| vec![(first, mebibytes(bytes)), (last, mebibytes(bytes))];
    let mut series = vec![
        line("measured peak", BLUE, false, peaks),
        line("predicted", ORANGE, true, level(planned.predicted_peak_bytes)),
    ];
    let budget = mebibytes(planned.budget_bytes);
    let mut note = String::new();
    if budget <= FARTHEST_BUDGET * highest.max(mebibytes(planned.predicted_peak_bytes)) {
        series.push(line("budget", RED, true, level(planned.budget_bytes)));
    } else {
        note = format!("the budget, {budget:.0} MiB, lies above the picture");
    }
    let panel = Panel { title: "Memory", unit: "MiB, highest so far", note, range: Range::FromZero, series };
    let frame = Frame { x: MARGIN, y: MARGIN, width: WIDTH - 2.0 * MARGIN, height: HEIGHT - 2.0 * MARGIN };
    panel.draw(&mut drawing, frame, first, last);
    drawing.finish()
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MEBIBYTE
}

fn line(name: &'static str, colour: &'static str, dashed: bool, points: Vec<(u32, f64)>) -> Series {
    Series { name, colour, dashed, points, best: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    fn records() -> Vec<EpochRecord> {
        (1..=3).map(record).collect() // each with a peak of 512 MiB
    }

    #[test]
    fn a_near_budget_is_drawn_and_a_far_one_is_told() {
        let near = memory_svg(&records(), PlannedMemory { predicted_peak_bytes: 500 << 20, budget_bytes: 600 << 20 });
        assert!(near.contains(">budget<") && near.contains(">predicted<") && !near.contains("above the picture"));
        let far = memory_svg(&records(), PlannedMemory { predicted_peak_bytes: 500 << 20, budget_bytes: 100 << 30 });
        assert!(!far.contains(">budget<") && far.contains("the budget, 102400 MiB, lies above the picture"), "{far}");
    }

    #[test]
    fn memory_that_was_not_measured_is_said_to_be_so() {
        let mut records = records();
        records.iter_mut().for_each(|record| record.run.peak_memory_bytes = None);
        let planned = PlannedMemory { predicted_peak_bytes: 1, budget_bytes: 2 };
        assert!(memory_svg(&records, planned).contains("memory was not measured"));
    }
}
