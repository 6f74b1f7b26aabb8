//! One small chart: lines over epochs, with a title, its unit and a legend.

use crate::axis::{Axis, Range, is_drawable};
use crate::svg::{Anchor, Drawing, GRID, INK, MUTED, Text, text_width};

const AXIS_LABELS_WIDTH: f64 = 52.0;
const AXIS_LABELS_HEIGHT: f64 = 40.0;
const TITLE_HEIGHT: f64 = 30.0;
const LEGEND_HEIGHT: f64 = 28.0;
/// With more epochs than this the dots of a line would touch.
const MOST_DOTTED_EPOCHS: usize = 30;

/// A line: numbers by epoch. An epoch that is missing is bridged, a number that is not finite leaves a gap.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(u32, f64)>,
    /// The epoch to ring.
    pub(crate) best: Option<u32>,
}

pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    /// At the right of the title.
    pub(crate) note: String,
    pub(crate) range: Range,
    pub(crate) series: Vec<Series>,
}

/// A rectangle in px.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// The plotted area and its axes.
struct Plot {
    area: Frame,
    epochs: Axis,
    values: Axis,
}

impl Panel {
    /// Draws into `frame`, over epochs `first` to `last`.
    pub(crate) fn draw(&self, drawing: &mut Drawing, frame: Frame, first: u32, last: u32) {
        let plot = self.plot(frame, first, last);
        self.draw_title(drawing, frame, plot.values.factor());
        if self.has_legend() {
            self.draw_legend(drawing, (frame.x, frame.y + TITLE_HEIGHT + 7.0));
        }
        plot.draw_axes(drawing);
        for series in &self.series {
            plot.draw_series(drawing, series);
        }
    }

    fn plot(&self, frame: Frame, first: u32, last: u32) -> Plot {
        let top = TITLE_HEIGHT + if self.has_legend() { LEGEND_HEIGHT } else { 0.0 };
        let numbers = self.series.iter().flat_map(|series| series.points.iter().map(|&(_, value)| value));
        Plot {
            area: Frame {
                x: frame.x + AXIS_LABELS_WIDTH,
                y: frame.y + top,
                width: frame.width - AXIS_LABELS_WIDTH,
                height: frame.height - top - AXIS_LABELS_HEIGHT,
            },
            epochs: Axis::of_epochs(first, last),
            values: Axis::of_values(numbers, self.range),
        }
    }

    fn has_legend(&self) -> bool {
        self.series.len() > 1 || self.has_gap()
    }

    fn has_gap(&self) -> bool {
        self.series.iter().flat_map(|series| &series.points).any(|&(_, value)| !is_drawable(value))
    }

    fn draw_title(&self, drawing: &mut Drawing, frame: Frame, factor: Option<String>) {
        let baseline = frame.y + 14.0;
        let unit = match factor {
            Some(factor) if self.unit.is_empty() => factor,
            Some(factor) => format!("{factor}, {}", self.unit),
            None => self.unit.to_owned(),
        };
        drawing.text(Text::new(frame.x, baseline, self.title).size(15.0).bold().followed_by(&unit));
        drawing.text(Text::new(frame.x + frame.width, baseline, &self.note).fill(MUTED).anchor(Anchor::End));
    }

    fn draw_legend(&self, drawing: &mut Drawing, start: (f64, f64)) {
        let (mut x, y) = start;
        for series in self.series.iter().filter(|series| !series.points.is_empty()) {
            drawing.curve(&[(x, y), (x + 18.0, y)], series.colour, series.dashed);
            drawing.text(Text::new(x + 24.0, y, series.name).centred());
            x += 24.0 + text_width(series.name, 12.0) + 16.0;
        }
        if self.has_gap() {
            drawing.cross((x + 5.0, y), 4.0, INK);
            drawing.text(Text::new(x + 15.0, y, "not finite").centred());
        }
    }
}

impl Plot {
    fn draw_axes(&self, drawing: &mut Drawing) {
        let Frame { x, y, width, height } = self.area;
        for &tick in &self.values.ticks {
            let tick_y = self.y_of(tick);
            drawing.line((x, tick_y), (x + width, tick_y), GRID);
            let label = self.values.label(tick);
            drawing.text(Text::new(x - 8.0, tick_y, &label).fill(MUTED).anchor(Anchor::End).centred());
        }
        let bottom = y + height;
        drawing.line((x, bottom), (x + width, bottom), MUTED);
        for &tick in &self.epochs.ticks {
            let tick_x = self.x_of(tick);
            drawing.line((tick_x, bottom), (tick_x, bottom + 4.0), MUTED);
            let label = self.epochs.label(tick);
            drawing.text(Text::new(tick_x, bottom + 17.0, &label).fill(MUTED).anchor(Anchor::Middle));
        }
        drawing.text(Text::new(x + width / 2.0, bottom + 34.0, "epoch").fill(MUTED).anchor(Anchor::Middle));
    }

    fn draw_series(&self, drawing: &mut Drawing, series: &Series) {
        let dotted = series.points.len() <= MOST_DOTTED_EPOCHS;
        for run in series.points.split(|&(_, value)| !is_drawable(value)) {
            let places: Vec<(f64, f64)> = run.iter().map(|&point| self.place(point)).collect();
            if places.len() > 1 {
                drawing.curve(&places, series.colour, series.dashed);
            }
            if dotted || places.len() == 1 {
                places.iter().for_each(|&place| drawing.dot(place, 2.6, series.colour));
            }
        }
        let bottom = self.area.y + self.area.height;
        for &(epoch, _) in series.points.iter().filter(|&&(_, value)| !is_drawable(value)) {
            drawing.cross((self.x_of(f64::from(epoch)), bottom), 4.0, series.colour);
        }
        let best = series.points.iter().find(|&&(epoch, _)| Some(epoch) == series.best);
        if let Some(&point) = best {
            drawing.ring(self.place(point), 4.5, series.colour);
        }
    }

    fn place(&self, (epoch, value): (u32, f64)) -> (f64, f64) {
        (self.x_of(f64::from(epoch)), self.y_of(value))
    }

    fn x_of(&self, epoch: f64) -> f64 {
        self.area.x + self.epochs.position(epoch) * self.area.width
    }

    fn y_of(&self, value: f64) -> f64 {
        self.area.y + (1.0 - self.values.position(value)) * self.area.height
    }
}
