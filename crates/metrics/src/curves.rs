//! The training curves of a run, as one SVG of four panels.

use crate::axis::{Range, is_drawable, with_thousands};
use crate::panel::{Frame, Panel, Series};
use crate::svg::{Anchor, Drawing, MUTED, Text};
use crate::{EpochRecord, ValidationScores};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
const GUTTER: f64 = 40.0;
const UPPER_HEIGHT: f64 = 290.0;
const LOWER_HEIGHT: f64 = 230.0;

const BLUE: &str = "#4477aa";
const ORANGE: &str = "#d9622b";
const GREEN: &str = "#228833";
const PURPLE: &str = "#7b5aa6";

/// Loss, accuracy with macro-F1, learning rate and throughput over the epochs, as an SVG of 960 x 624 px on white.
///
/// An epoch that was not validated is bridged; a number that is not finite leaves a gap and a cross on the axis. Works
/// with one epoch, and says so when there is none.
#[must_use]
pub fn curves_svg(records: &[EpochRecord]) -> String {
    let height = 2.0 * MARGIN + UPPER_HEIGHT + GUTTER + LOWER_HEIGHT;
    let mut drawing = Drawing::new(WIDTH, height, "Training curves");
    let epochs = || records.iter().map(|record| record.epoch);
    let (Some(first), Some(last)) = (epochs().min(), epochs().max()) else {
        let message = Text::new(WIDTH / 2.0, height / 2.0, "no epoch has ended yet");
        drawing.text(message.size(15.0).fill(MUTED).anchor(Anchor::Middle));
        return drawing.finish();
    };
    let width = (WIDTH - 2.0 * MARGIN - GUTTER) / 2.0;
    let lower_y = MARGIN + UPPER_HEIGHT + GUTTER;
    let panels = [loss_panel(records), accuracy_panel(records), learning_rate_panel(records), speed_panel(records)];
    for (index, panel) in panels.iter().enumerate() {
        let x = if index % 2 == 0 { MARGIN } else { MARGIN + width + GUTTER };
        let (y, height) = if index < 2 { (MARGIN, UPPER_HEIGHT) } else { (lower_y, LOWER_HEIGHT) };
        panel.draw(&mut drawing, Frame { x, y, width, height }, first, last);
    }
    drawing.finish()
}

fn loss_panel(records: &[EpochRecord]) -> Panel {
    let validation = of_validation(records, |scores| scores.loss);
    let lowest = best(&validation, |left, right| left < right);
    Panel {
        title: "Loss",
        unit: "cross-entropy, nats",
        note: lowest.map_or_else(String::new, |(epoch, loss)| format!("lowest {loss:.3}, epoch {epoch}")),
        range: Range::NearZero,
        series: vec![
            line("train", BLUE, of_records(records, |record| record.train.loss)),
            Series { best: lowest.map(|(epoch, _)| epoch), ..line("validation", ORANGE, validation) },
        ],
    }
}

fn accuracy_panel(records: &[EpochRecord]) -> Panel {
    let macro_f1 = of_validation(records, |scores| scores.macro_f1);
    let highest = best(&macro_f1, |left, right| left > right);
    Panel {
        title: "Accuracy and macro-F1",
        unit: "share",
        note: highest.map_or_else(String::new, |(epoch, f1)| format!("best F1 {f1:.3}, epoch {epoch}")),
        range: Range::Share,
        series: vec![
            line("train", BLUE, of_records(records, |record| record.train.accuracy)),
            line("validation", ORANGE, of_validation(records, |scores| scores.accuracy)),
            Series {
                best: highest.map(|(epoch, _)| epoch),
                dashed: true,
                ..line("validation macro-F1", GREEN, macro_f1)
            },
        ],
    }
}

fn learning_rate_panel(records: &[EpochRecord]) -> Panel {
    Panel {
        title: "Learning rate",
        unit: "at the epoch's end",
        note: String::new(),
        range: Range::FromZero,
        series: vec![line("learning rate", PURPLE, of_records(records, |record| record.learning_rate))],
    }
}

fn speed_panel(records: &[EpochRecord]) -> Panel {
    let images_per_second = of_records(records, |record| record.run.images_per_second);
    let waits = of_records(records, |record| record.run.data_wait_share);
    let note = match (mean(&images_per_second), mean(&waits)) {
        (Some(speed), Some(wait)) => {
            format!("mean {}, data wait {:.1} %", with_thousands(&format!("{speed:.0}")), 100.0 * wait)
        }
        _ => String::new(),
    };
    Panel {
        title: "Training speed",
        unit: "images/s",
        note,
        range: Range::FromZero,
        series: vec![line("images/s", PURPLE, images_per_second)],
    }
}

fn line(name: &'static str, colour: &'static str, points: Vec<(u32, f64)>) -> Series {
    Series { name, colour, dashed: false, points, best: None }
}

fn of_records(records: &[EpochRecord], number: impl Fn(&EpochRecord) -> f64) -> Vec<(u32, f64)> {
    records.iter().map(|record| (record.epoch, number(record))).collect()
}

fn of_validation(records: &[EpochRecord], number: impl Fn(&ValidationScores) -> f64) -> Vec<(u32, f64)> {
    let point = |record: &EpochRecord| record.validation.as_ref().map(|scores| (record.epoch, number(scores)));
    records.iter().filter_map(point).collect()
}

/// The first point that no other beats.
fn best(points: &[(u32, f64)], beats: impl Fn(f64, f64) -> bool) -> Option<(u32, f64)> {
    let drawable = points.iter().copied().filter(|&(_, value)| is_drawable(value));
    drawable.reduce(|champion, other| if beats(other.1, champion.1) { other } else { champion })
}

fn mean(points: &[(u32, f64)]) -> Option<f64> {
    let numbers: Vec<f64> = points.iter().map(|&(_, value)| value).filter(|&value| is_drawable(value)).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn one_epoch_draws_dots_and_no_nan() {
        let svg = curves_svg(&[record(1)]);
        assert!(svg.contains("<circle") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_number_that_is_not_finite_leaves_a_gap_and_a_cross() {
        let mut records: Vec<EpochRecord> = (1..=5).map(record).collect();
        records[2].train.loss = f64::NAN;
        records[3].run.images_per_second = f64::INFINITY;
        let svg = curves_svg(&records);
        assert!(svg.contains("not finite") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn epochs_without_validation_are_bridged_without_crosses() {
        let mut records: Vec<EpochRecord> = (1..=6).map(record).collect();
        records.iter_mut().step_by(2).for_each(|record| record.validation = None);
        assert!(!curves_svg(&records).contains("not finite"));
    }

    #[test]
    fn a_run_without_an_epoch_says_so() {
        assert!(curves_svg(&[]).contains("no epoch has ended yet"));
    }

    #[test]
    fn the_best_epoch_is_the_first_of_equals() {
        assert_eq!(best(&[(1, 0.5), (2, 0.9), (3, 0.9), (4, f64::NAN)], |left, right| left > right), Some((2, 0.9)));
    }
}
