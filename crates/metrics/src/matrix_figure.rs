//! The confusion matrix as one SVG.

use crate::axis::with_thousands;
use crate::svg::{Anchor, Drawing, INK, MUTED, Text, shortened, text_width};
use crate::{ClassScores, Confusion, ConfusionMatrix};

const MARGIN: f64 = 24.0;
const HEADER_HEIGHT: f64 = 82.0;
/// Room for the words `predicted class` and `true class` along the sides.
const SIDE_TITLE: f64 = 22.0;
/// Longest class name in px before its middle gives way; the tooltip has all of it.
const LONGEST_NAME: f64 = 190.0;
const SCORE_COLUMN: f64 = 70.0;
const LEGEND_WIDTH: f64 = 60.0;

type Colour = [f64; 3];
const EMPTY: Colour = [246.0, 247.0, 249.0];
/// From a light to a dark blue: predicted right.
const RIGHT: [Colour; 3] = [[222.0, 234.0, 246.0], [91.0, 151.0, 204.0], [16.0, 66.0, 126.0]];
/// From a light to a dark orange: mistakes.
const WRONG: [Colour; 3] = [[253.0, 232.0, 217.0], [239.0, 138.0, 84.0], [158.0, 50.0, 10.0]];

/// A confusion matrix as an SVG on white: true classes down, predicted classes across; a cell's colour is its share of
/// the row (blue where right, orange where wrong), its text the count. Recall and the number of samples stand at the
/// right of each row, precision below each column; `–` where there is nothing to divide by.
///
/// Cells shrink with the number of classes, from 92 px (two) to 22 px (a hundred); beyond 200 classes counts are left
/// out.
#[must_use]
pub fn confusion_matrix_svg(matrix: &ConfusionMatrix) -> String {
    let figure = Figure::new(matrix);
    let mut drawing = Drawing::new(figure.width, figure.height, &figure.subtitle());
    figure.draw_header(&mut drawing);
    figure.draw_class_names(&mut drawing);
    figure.draw_cells(&mut drawing);
    figure.draw_scores(&mut drawing);
    drawing.finish()
}

/// Where everything goes, in px.
struct Figure<'a> {
    matrix: &'a ConfusionMatrix,
    scores: Vec<ClassScores>,
    name_size: f64,
    names: Vec<String>,
    /// How far the column names are turned.
    name_degrees: f64,
    cell: f64,
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl<'a> Figure<'a> {
    fn new(matrix: &'a ConfusionMatrix) -> Self {
        let num_classes = matrix.classes().len();
        let cell = cell_size(num_classes);
        let name_size = (cell * 0.55).clamp(4.0, 13.0);
        let names: Vec<String> = matrix.classes().iter().map(|name| shortened(name, name_size, LONGEST_NAME)).collect();
        let longest = names.iter().map(|name| text_width(name, name_size)).fold(0.0, f64::max);
        let name_degrees = match () {
            () if longest <= cell - 6.0 => 0.0,
            () if num_classes <= 20 => -45.0,
            () => -90.0,
        };
        let turn = f64::to_radians(-name_degrees);
        let names_height = longest * turn.sin() + name_size * (1.0 + turn.cos());
        let overhang = if name_degrees == -45.0 { longest * turn.cos() - 2.0 * SCORE_COLUMN } else { 0.0 };
        let left = MARGIN + (SIDE_TITLE + longest).max(text_width("precision", 13.0)) + 8.0;
        let top = MARGIN + HEADER_HEIGHT + SIDE_TITLE + names_height;
        let grid = cell * num_classes as f64;
        let mut figure = Self {
            scores: matrix.per_class(),
            width: left + grid + 2.0 * SCORE_COLUMN + overhang.max(0.0) + MARGIN,
            height: top + grid + 44.0 + MARGIN,
            matrix,
            name_size,
            names,
            name_degrees,
            cell,
            left,
            top,
        };
        let header_width = text_width(&figure.subtitle(), 13.0).max(figure.legend_width()) + 2.0 * MARGIN;
        figure.width = figure.width.max(header_width);
        figure
    }

    fn subtitle(&self) -> String {
        let total = self.matrix.total();
        if total == 0 {
            return "Confusion matrix: no sample was scored".to_owned();
        }
        format!(
            "{} samples, accuracy {:.3}, macro-F1 {:.3}",
            with_thousands(&total.to_string()),
            self.matrix.accuracy(),
            self.matrix.macro_f1()
        )
    }

    fn draw_header(&self, drawing: &mut Drawing) {
        drawing.text(Text::new(MARGIN, MARGIN + 15.0, "Confusion matrix").size(18.0).bold());
        drawing.text(Text::new(MARGIN, MARGIN + 37.0, &self.subtitle()).size(13.0).fill(MUTED));
        let y = MARGIN + 58.0;
        let mut x = MARGIN;
        for (name, ramp) in LEGEND {
            drawing.text(Text::new(x, y, name).centred());
            x += text_width(name, 12.0) + 4.0;
            let steps = 30;
            for step in 0..steps {
                let share = f64::from(step) / f64::from(steps - 1);
                let step_width = LEGEND_WIDTH / f64::from(steps);
                let step_x = x + f64::from(step) * step_width;
                let rest = x + LEGEND_WIDTH - step_x; // to the end: steps side by side would show seams
                drawing.rectangle(step_x, y - 6.0, rest, 12.0, &hex(at(ramp, share)));
            }
            x += LEGEND_WIDTH + 18.0;
        }
        drawing.text(Text::new(x, y, LEGEND_NOTE).fill(MUTED).centred());
    }

    fn legend_width(&self) -> f64 {
        let bars: f64 = LEGEND.iter().map(|(name, _)| text_width(name, 12.0) + 4.0 + LEGEND_WIDTH + 18.0).sum();
        bars + text_width(LEGEND_NOTE, 12.0)
    }

    fn draw_class_names(&self, drawing: &mut Drawing) {
        let middle = self.cell * self.names.len() as f64 / 2.0;
        let across = Text::new(self.left + middle, MARGIN + HEADER_HEIGHT + 10.0, "predicted class");
        drawing.text(across.size(13.0).fill(MUTED).anchor(Anchor::Middle));
        let down = Text::new(MARGIN + 10.0, self.top + middle, "true class");
        drawing.text(down.size(13.0).fill(MUTED).anchor(Anchor::Middle).turned(-90.0));
        for (class, (name, full_name)) in self.names.iter().zip(self.matrix.classes()).enumerate() {
            let row = Text::new(self.left - 8.0, self.middle_of_row(class), name).size(self.name_size);
            drawing.text(row.anchor(Anchor::End).centred().tooltip(full_name));
            let x = self.middle_of_column(class);
            let column = match self.name_degrees {
                0.0 => Text::new(x, self.top - 8.0, name).anchor(Anchor::Middle),
                -45.0 => Text::new(x + self.name_size * 0.2, self.top - 6.0, name).turned(-45.0),
                degrees => Text::new(x, self.top - 6.0, name).turned(degrees).centred(),
            };
            drawing.text(column.size(self.name_size).tooltip(full_name));
        }
    }

    fn draw_cells(&self, drawing: &mut Drawing) {
        let grid = self.cell * self.names.len() as f64;
        drawing.rectangle(self.left, self.top, grid, grid, &hex(EMPTY));
        let (size, compact) = (self.count_size(), self.compact());
        for cell in self.matrix.cells().filter(|cell| cell.count > 0) {
            let background = self.cell_colour(&cell);
            let (x, y) = (self.middle_of_column(cell.predicted), self.middle_of_row(cell.label));
            let half = self.cell / 2.0;
            drawing.rectangle(x - half, y - half, self.cell, self.cell, &hex(background));
            if let Some(size) = size {
                let fill = if luminance(background) < 125.0 { "#fff" } else { INK };
                let text = count_text(cell.count, compact);
                drawing.text(Text::new(x, y, &text).size(size).fill(fill).anchor(Anchor::Middle).centred());
            }
        }
        for index in 0..=self.names.len() {
            let offset = index as f64 * self.cell;
            drawing.line((self.left + offset, self.top), (self.left + offset, self.top + grid), "#fff");
            drawing.line((self.left, self.top + offset), (self.left + grid, self.top + offset), "#fff");
        }
    }

    fn draw_scores(&self, drawing: &mut Drawing) {
        let grid = self.cell * self.names.len() as f64;
        let (right, bottom) = (self.left + grid, self.top + grid);
        let size = self.name_size;
        let heading_size = size.max(11.0);
        let heading_y = bottom + 8.0 + heading_size;
        for (column, heading) in ["recall", "samples"].into_iter().enumerate() {
            let x = right + (column + 1) as f64 * SCORE_COLUMN - 6.0;
            drawing.text(Text::new(x, heading_y, heading).size(heading_size).fill(MUTED).anchor(Anchor::End));
        }
        let heading = Text::new(self.left - 8.0, heading_y, "precision").size(heading_size);
        drawing.text(heading.fill(MUTED).anchor(Anchor::End));
        for (class, scores) in self.scores.iter().enumerate() {
            let recall = score_text(scores.recall, scores.support);
            let samples = with_thousands(&scores.support.to_string());
            for (column, text) in [recall, samples].iter().enumerate() {
                let x = right + (column + 1) as f64 * SCORE_COLUMN - 6.0;
                let text = Text::new(x, self.middle_of_row(class), text).size(size);
                drawing.text(text.fill(MUTED).anchor(Anchor::End).centred());
            }
            let precision = score_text(scores.precision, self.matrix.predicted_count(class));
            let x = self.middle_of_column(class);
            let text = if text_width(&precision, size) <= self.cell - 2.0 {
                Text::new(x, heading_y, &precision).anchor(Anchor::Middle)
            } else {
                Text::new(x, bottom + 6.0, &precision).turned(-90.0).anchor(Anchor::End).centred()
            };
            drawing.text(text.size(size).fill(MUTED));
        }
    }

    fn cell_colour(&self, cell: &Confusion) -> Colour {
        let share = cell.count as f64 / self.scores[cell.label].support as f64;
        at(if cell.label == cell.predicted { RIGHT } else { WRONG }, share)
    }

    /// Font size of the counts: one for all cells, so that the widest fits. None where it could not be read.
    fn count_size(&self) -> Option<f64> {
        let compact = self.compact();
        let widths = self.matrix.cells().map(|cell| text_width(&count_text(cell.count, compact), 1.0));
        let size = (0.88 * self.cell / widths.fold(0.0, f64::max)).min(self.cell * 0.38).min(17.0);
        (self.matrix.classes().len() <= 200).then_some(size)
    }

    /// Whether counts are written as `12k`: where they would need a font under 8 px.
    fn compact(&self) -> bool {
        let largest = self.matrix.cells().map(|cell| cell.count).max().unwrap_or(0);
        largest >= 1000 && 0.88 * self.cell / text_width(&largest.to_string(), 1.0) < 8.0
    }

    fn middle_of_column(&self, class: usize) -> f64 {
        self.left + (class as f64 + 0.5) * self.cell
    }

    fn middle_of_row(&self, class: usize) -> f64 {
        self.top + (class as f64 + 0.5) * self.cell
    }
}

const LEGEND: [(&str, [Colour; 3]); 2] = [("right", RIGHT), ("wrong", WRONG)];
const LEGEND_NOTE: &str = "0 to 100 % of the row";

fn cell_size(num_classes: usize) -> f64 {
    match num_classes {
        0..=4 => 92.0,
        5..=8 => 64.0,
        9..=12 => 54.0,
        13..=20 => 44.0,
        21..=40 => 32.0,
        41..=60 => 26.0,
        61..=100 => 22.0,
        _ => (2200.0 / num_classes as f64).max(4.0),
    }
}

fn count_text(count: u64, compact: bool) -> String {
    match count {
        _ if !compact => count.to_string(),
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

fn score_text(score: f64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{score:.2}") }
}

/// The colour at a share, 0 to 1, of a ramp of three.
fn at(ramp: [Colour; 3], share: f64) -> Colour {
    let position = share.clamp(0.0, 1.0) * 2.0;
    let (low, high, part) =
        if position < 1.0 { (ramp[0], ramp[1], position) } else { (ramp[1], ramp[2], position - 1.0) };
    std::array::from_fn(|channel| low[channel] + (high[channel] - low[channel]) * part)
}

/// Rec. 601 luma, 0 to 255.
fn luminance([red, green, blue]: Colour) -> f64 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

fn hex(colour: Colour) -> String {
    let [red, green, blue] = colour.map(|channel| channel.round() as u8);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(num_classes: usize) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new((0..num_classes).map(|class| format!("class {class}")).collect());
        for class in 0..num_classes {
            matrix.record(class, class).unwrap();
            matrix.record(class, (class * 7 + 1) % num_classes).unwrap();
        }
        matrix
    }

    #[test]
    fn two_to_a_thousand_classes_draw_without_nan() {
        for num_classes in [0, 1, 2, 8, 30, 100, 1000] {
            let svg = confusion_matrix_svg(&matrix(num_classes));
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{num_classes}");
        }
    }

    #[test]
    fn an_empty_matrix_says_so() {
        let matrix = ConfusionMatrix::new(vec!["a".into(), "b".into()]);
        assert!(confusion_matrix_svg(&matrix).contains("no sample was scored"));
    }

    #[test]
    fn class_names_are_escaped_and_a_shortened_one_keeps_its_full_name_as_tooltip() {
        let name = "<b>&\"quoted\" a name that is far too long to stand beside a row".to_owned();
        let svg = confusion_matrix_svg(&ConfusionMatrix::new(vec![name, "b".into()]));
        assert!(svg.contains("<title>&lt;b&gt;&amp;&quot;quoted&quot; a name that is far too long"), "{svg}");
        assert!(svg.contains('…'));
    }

    #[test]
    fn counts_shorten_only_where_they_would_not_fit() {
        let mut huge = matrix(100);
        huge.counts_mut()[0][0] = 123_456;
        assert!(confusion_matrix_svg(&huge).contains(">123k</text>"));
        let mut large = matrix(2);
        large.counts_mut()[0][0] = 123_456;
        assert!(confusion_matrix_svg(&large).contains(">123456</text>"));
    }
}
