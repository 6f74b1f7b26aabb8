//! Confidence against accuracy, before and after calibration, as one SVG.

use crate::svg::{Anchor, Drawing, GRID, INK, MUTED, Text};
use crate::{Calibration, CalibrationScores, ReliabilityBin};

const MARGIN: f64 = 24.0;
const SIDE: f64 = 320.0;
const GUTTER: f64 = 72.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 48.0;

const BAR: &str = "#91b9dd";
const GAP: &str = "#f3c3a8";

/// What the picture is called, in its file as well.
const TITLE: &str = "Reliability diagram";

/// Whether a text is a picture of [`reliability_svg`], by the title that it has.
#[must_use]
pub fn is_reliability_svg(text: &str) -> bool {
    text.contains(&format!("<title>{TITLE}</title>"))
}

/// Two reliability diagrams side by side, at temperature 1 and at the fitted one, as an SVG on white: a bar an interval of confidence, as
/// high as the share predicted right; the gap to the diagonal is filled in orange.
#[must_use]
pub fn reliability_svg(calibration: &Calibration, before: &[ReliabilityBin], after: &[ReliabilityBin]) -> String {
    let width = 2.0 * (MARGIN + LEFT + SIDE) + GUTTER - LEFT;
    let mut drawing = Drawing::new(width, TOP + SIDE + BOTTOM, TITLE);
    let right = MARGIN + LEFT + SIDE + GUTTER;
    let calibrated = format!("temperature {:.3}", calibration.temperature);
    draw(&mut drawing, MARGIN + LEFT, "as trained", &calibration.before, before);
    draw(&mut drawing, right, &calibrated, &calibration.after, after);
    drawing.finish()
}

fn draw(drawing: &mut Drawing, left: f64, title: &str, scores: &CalibrationScores, bins: &[ReliabilityBin]) {
    let samples: u64 = bins.iter().map(|bin| bin.samples).sum();
    let summary = format!(
        "ECE {:.4}, NLL {:.4} nats, Brier {:.4}; {samples} images",
        scores.expected_error, scores.negative_log_likelihood, scores.brier
    );
    drawing.text(Text::new(left, MARGIN + 14.0, title).size(15.0).bold());
    drawing.text(Text::new(left, MARGIN + 36.0, &summary).fill(MUTED));
    draw_grid(drawing, left);
    let width = SIDE / bins.len() as f64;
    for (index, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.samples > 0) {
        let x = left + index as f64 * width;
        let [low, high] = [bin.accuracy.min(bin.confidence), bin.accuracy.max(bin.confidence)];
        drawing.rectangle(x + 1.0, TOP + SIDE * (1.0 - bin.accuracy), width - 2.0, SIDE * bin.accuracy, BAR);
        drawing.rectangle(x + 1.0, TOP + SIDE * (1.0 - high), width - 2.0, SIDE * (high - low), GAP);
        let y = TOP + SIDE * (1.0 - bin.accuracy);
        drawing.line((x + 1.0, y), (x + width - 1.0, y), INK);
    }
    drawing.curve(&[(left, TOP + SIDE), (left + SIDE, TOP)], MUTED, true);
    let middle = left + SIDE / 2.0;
    drawing.text(Text::new(middle, TOP + SIDE + 36.0, "confidence").fill(MUTED).anchor(Anchor::Middle));
    let share = Text::new(left - 38.0, TOP + SIDE / 2.0, "share predicted right").fill(MUTED).anchor(Anchor::Middle);
    drawing.text(share.turned(-90.0));
}

fn draw_grid(drawing: &mut Drawing, left: f64) {
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (x, y) = (left + tick * SIDE, TOP + (1.0 - tick) * SIDE);
        let label = format!("{tick}");
        drawing.line((left, y), (left + SIDE, y), GRID);
        drawing.text(Text::new(left - 8.0, y, &label).fill(MUTED).anchor(Anchor::End).centred());
        drawing.text(Text::new(x, TOP + SIDE + 17.0, &label).fill(MUTED).anchor(Anchor::Middle));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LabelledProbabilities;

    #[test]
    fn a_model_without_gaps_fills_none() {
        let mut samples = LabelledProbabilities::default();
        samples.push(&[0.0, 1.0], 1).unwrap();
        let calibration = samples.fit_temperature().unwrap();
        let bins = samples.reliability(1.0);
        let svg = reliability_svg(&calibration, &bins, &bins);
        assert!(svg.contains("as trained") && svg.contains("1 images") && !svg.contains("NaN"), "{svg}");
        assert!(!svg.contains(&format!("height=\"{SIDE}\" fill=\"{GAP}\"")));
        assert!(is_reliability_svg(&svg) && !is_reliability_svg(&svg.replace("Reliability", "Another")));
    }
}
