//! Memory over the epochs, beside what was planned.

use serde::{Deserialize, Serialize};

use crate::axis::Range;
use crate::panel::{Frame, Panel, Series};
use crate::svg::{Anchor, Drawing, MUTED, Text};
use crate::{EpochRecord, RunCosts};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 280.0;
const MARGIN: f64 = 24.0;

// Training and validation as in the training curves.
const BLUE: &str = "#4477aa";
const ORANGE: &str = "#d9622b";
const GREEN: &str = "#228833";
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

/// The highest memory use in the training and in the validation of each epoch, with the plan's prediction and the budget, as an SVG of 960 x 280 px on
/// white.
///
/// Epochs of an older version show the highest use so far. Those whose memory was not measured are bridged. Says so when none was.
#[must_use]
pub fn memory_svg(records: &[EpochRecord], planned: PlannedMemory) -> String {
    let mut drawing = Drawing::new(WIDTH, HEIGHT, "Memory over the run");
    let mut series = measured(records);
    let points = || series.iter().flat_map(|line| &line.points);
    let epochs = || points().map(|&(epoch, _)| epoch);
    let (Some(first), Some(last)) = (epochs().min(), epochs().max()) else {
        let message = Text::new(WIDTH / 2.0, HEIGHT / 2.0, "memory was not measured");
        drawing.text(message.size(15.0).fill(MUTED).anchor(Anchor::Middle));
        return drawing.finish();
    };
    let highest = points().map(|&(_, value)| value).fold(0.0, f64::max);
    let level = |bytes| vec![(first, mebibytes(bytes)), (last, mebibytes(bytes))];
    series.push(line("predicted", GREEN, true, level(planned.predicted_peak_bytes)));
    let budget = mebibytes(planned.budget_bytes);
    let mut note = String::new();
    if budget <= FARTHEST_BUDGET * highest.max(mebibytes(planned.predicted_peak_bytes)) {
        series.push(line("budget", RED, true, level(planned.budget_bytes)));
    } else {
        note = format!("the budget, {budget:.0} MiB, lies above the picture");
    }
    let panel = Panel { title: "Memory", unit: "MiB, highest use", note, range: Range::FromZero, series };
    let frame = Frame { x: MARGIN, y: MARGIN, width: WIDTH - 2.0 * MARGIN, height: HEIGHT - 2.0 * MARGIN };
    panel.draw(&mut drawing, frame, first, last);
    drawing.finish()
}

/// What was measured of each stretch; of epochs that do not tell of stretches, the highest so far.
fn measured(records: &[EpochRecord]) -> Vec<Series> {
    let train = points_of(records, |run| run.train_peak_memory_bytes);
    let validation = points_of(records, |run| run.validation_peak_memory_bytes);
    let older = points_of(records, |run| run.peak_memory_bytes.filter(|_| run.train_peak_memory_bytes.is_none()));
    let mut series = match train == validation {
        // A card's pools hold in validation what they have grown to in training: one line would hide the other.
        true => vec![line("train and validation", BLUE, false, train)],
        false => vec![line("train", BLUE, false, train), line("validation", ORANGE, false, validation)],
    };
    series.push(line("highest so far", MUTED, false, older));
    series
}

fn points_of(records: &[EpochRecord], bytes: impl Fn(&RunCosts) -> Option<u64>) -> Vec<(u32, f64)> {
    records.iter().filter_map(|record| bytes(&record.run).map(|bytes| (record.epoch, mebibytes(bytes)))).collect()
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
        (1..=3).map(record).collect() // each with a peak of 500 MiB in training and of 300 MiB in validation
    }

    fn svg_of(change: impl Fn(&mut RunCosts)) -> String {
        let mut records = records();
        records.iter_mut().for_each(|record| change(&mut record.run));
        memory_svg(&records, PlannedMemory { predicted_peak_bytes: 520 << 20, budget_bytes: 600 << 20 })
    }

    #[test]
    fn each_stretch_has_a_line_of_its_own() {
        let svg = svg_of(|_| ());
        assert!(svg.contains(">train<") && svg.contains(">validation<") && !svg.contains(">highest so far<"), "{svg}");
    }

    #[test]
    fn pools_that_only_grow_have_one_line() {
        let svg = svg_of(|run| run.validation_peak_memory_bytes = run.train_peak_memory_bytes);
        assert!(svg.contains(">train and validation<") && !svg.contains(">validation<"), "{svg}");
    }

    #[test]
    fn epochs_of_an_older_version_show_the_highest_so_far() {
        let svg = svg_of(|run| (run.train_peak_memory_bytes, run.validation_peak_memory_bytes) = (None, None));
        assert!(svg.contains(">highest so far<") && !svg.contains(">train"), "{svg}");
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
        let svg = svg_of(|run| {
            run.peak_memory_bytes = None;
            run.train_peak_memory_bytes = None;
            run.validation_peak_memory_bytes = None;
        });
        assert!(svg.contains("memory was not measured"), "{svg}");
    }
}
