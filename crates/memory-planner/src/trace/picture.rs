//! Memory over one optimizer step, as one SVG.

use super::byte_axis::ByteAxis;
use super::palette::colour;
use super::svg::{Anchor, Drawing, GRID, INK, MUTED, Style, fitted, text_width};
use super::{Liveness, Phase, Role, TimelinePoint, timeline};
use crate::format_bytes;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 470.0;
const MARGIN: f64 = 24.0;
/// The plotted area; the legend may push its top down.
const LEFT: f64 = MARGIN + 62.0;
const RIGHT: f64 = WIDTH - MARGIN;
const BOTTOM: f64 = HEIGHT - MARGIN - 52.0;
const LEGEND_TOP: f64 = MARGIN + 36.0;
const LEGEND_ROW: f64 = 20.0;

/// Above the peak there is room for its label.
const HEADROOM: f64 = 1.12;
/// A budget this many times the peak would flatten the picture: it is told, not drawn.
const DRAWN_BUDGET: f64 = 2.5;

const BUDGET_COLOUR: &str = "#b3261e";

/// Memory over the step by role, as an SVG of 960 x 470 px on white: stacked steps, one an operation (or the highest of
/// those that share a pixel), the phases along the axis, the peak with its size and layer.
///
/// `subject` says what is shown (`convnext_tiny, batch 64, cuda:0`) and may be empty. A budget is a dashed line; one far
/// above the peak is only told in the title line.
#[must_use]
pub fn memory_timeline_svg(liveness: &Liveness<'_>, subject: &str, budget_bytes: Option<u64>) -> String {
    let roles = shown_roles(liveness);
    let mut drawing = Drawing::new();
    draw_title(&mut drawing, liveness, subject, budget_bytes);
    let legend_bottom = draw_legend(&mut drawing, &roles);
    let peak = liveness.peak_bytes as f64;
    let drawn_budget = budget_bytes.filter(|&budget| budget as f64 <= DRAWN_BUDGET * peak);
    let highest = (HEADROOM * peak).max(drawn_budget.map_or(0.0, |budget| 1.08 * budget as f64));
    let plot = Plot {
        top: legend_bottom + 14.0,
        bytes: ByteAxis::up_to(highest as u64),
        operations: liveness.timeline().len(),
        budget: drawn_budget,
    };
    plot.draw_grid(&mut drawing);
    plot.draw_areas(&mut drawing, liveness, &roles);
    plot.draw_phases(&mut drawing, liveness.timeline());
    let peak_is_left = liveness.peak_operation * 2 < plot.operations;
    plot.draw_budget(&mut drawing, peak_is_left);
    plot.draw_peak(&mut drawing, liveness, peak_is_left);
    drawing.finish(WIDTH, HEIGHT, "Memory over one optimizer step")
}

/// Roles that hold something at any operation, from the bottom up.
fn shown_roles(liveness: &Liveness<'_>) -> Vec<Role> {
    let holds = |role: &Role| liveness.timeline().iter().any(|point| point.bytes_by_role[role.index()] > 0);
    Role::ALL.into_iter().filter(holds).collect()
}

fn draw_title(drawing: &mut Drawing, liveness: &Liveness<'_>, subject: &str, budget_bytes: Option<u64>) {
    const TITLE: &str = "Memory over one optimizer step";
    let baseline = MARGIN + 14.0;
    let peak = format_bytes(liveness.peak_bytes);
    let note = match budget_bytes {
        Some(budget) if budget > 0 => {
            let percent = 100.0 * liveness.peak_bytes as f64 / budget as f64;
            format!("peak {peak}, {percent:.1} % of the budget of {}", format_bytes(budget))
        }
        _ => format!("peak {peak}"),
    };
    drawing.text((RIGHT, baseline), &note, Style::MUTED.anchored(Anchor::End));
    let room = RIGHT - text_width(&note, 12.0) - 34.0 - MARGIN - text_width(TITLE, 15.0);
    let style = Style { size: 15.0, bold: true, ..Style::PLAIN };
    drawing.text_and_remark((MARGIN, baseline), TITLE, style, &fitted(subject, 12.0, room));
}

/// Returns where it ends.
fn draw_legend(drawing: &mut Drawing, roles: &[Role]) -> f64 {
    let (mut x, mut y) = (MARGIN, LEGEND_TOP);
    for &role in roles {
        let width = 18.0 + text_width(role.describe(), 12.0);
        if x + width > RIGHT {
            (x, y) = (MARGIN, y + LEGEND_ROW);
        }
        drawing.rectangle((x, y - 10.0), (12.0, 12.0), colour(role), 1.0);
        drawing.text((x + 18.0, y), role.describe(), Style::PLAIN);
        x += width + 14.0;
    }
    y
}

/// The plotted area and its axes.
struct Plot {
    top: f64,
    bytes: ByteAxis,
    operations: usize,
    /// The budget, if it is drawn.
    budget: Option<u64>,
}

impl Plot {
    fn draw_grid(&self, drawing: &mut Drawing) {
        for &tick in &self.bytes.ticks {
            let y = BOTTOM - tick / self.bytes.high * (BOTTOM - self.top);
            drawing.line((LEFT, y), (RIGHT, y), GRID);
            drawing.text((LEFT - 8.0, y + 4.2), &self.bytes.label(tick), Style::MUTED.anchored(Anchor::End));
        }
    }

    /// Each area reaches down to the axis, under those that are painted after it: no seams.
    fn draw_areas(&self, drawing: &mut Drawing, liveness: &Liveness<'_>, roles: &[Role]) {
        let columns = timeline::highest_of_stretches(liveness.timeline(), (RIGHT - LEFT) as usize);
        let peak = &liveness.timeline()[liveness.peak_operation];
        for (index, role) in roles.iter().enumerate().rev() {
            let step = |(column, point): (usize, &&TimelinePoint)| {
                let bytes: u64 = roles[..=index].iter().map(|role| point.bytes_by_role[role.index()]).sum();
                (LEFT + (RIGHT - LEFT) * column as f64 / columns.len() as f64, self.y_of(bytes))
            };
            let steps: Vec<(f64, f64)> = columns.iter().enumerate().map(step).collect();
            let at_peak = format_bytes(peak.bytes_by_role[role.index()]);
            let tooltip = format!("{}: {at_peak} at the peak", role.describe());
            drawing.steps(&steps, RIGHT, BOTTOM, colour(*role), &tooltip);
        }
        drawing.line((LEFT, BOTTOM), (RIGHT, BOTTOM), MUTED);
    }

    /// A tick where a phase begins, its name below; a name wider than its phase goes to a second row if there is room.
    fn draw_phases(&self, drawing: &mut Drawing, points: &[TimelinePoint]) {
        let mut second_row_end = LEFT;
        for (phase, first, end) in phase_runs(points) {
            let (start, stop) = (self.x_of(first), self.x_of(end));
            if first > 0 {
                drawing.dashed((start, self.top), (start, BOTTOM), MUTED, 0.6);
            }
            drawing.line((start, BOTTOM), (start, BOTTOM + 5.0), MUTED);
            let (name, middle) = (phase.describe(), f64::midpoint(start, stop));
            let half = text_width(name, 12.0) / 2.0;
            let style = Style::PLAIN.anchored(Anchor::Middle);
            if 2.0 * half + 4.0 <= stop - start {
                drawing.text((middle, BOTTOM + 18.0), name, style);
                continue;
            }
            let centre = middle.clamp(LEFT + half, RIGHT - half);
            if centre - half >= second_row_end {
                drawing.line((middle, BOTTOM + 5.0), (middle, BOTTOM + 23.0), GRID);
                drawing.text((centre, BOTTOM + 35.0), name, style);
                second_row_end = centre + half + 6.0;
            }
        }
        drawing.line((RIGHT, BOTTOM), (RIGHT, BOTTOM + 5.0), MUTED);
        let caption = format!("{} operations, in the order in which they run", self.operations);
        drawing.text((LEFT, HEIGHT - MARGIN + 4.0), &caption, Style::MUTED);
    }

    /// The label is on the side where the peak is not.
    fn draw_budget(&self, drawing: &mut Drawing, peak_is_left: bool) {
        let Some(budget) = self.budget else { return };
        let y = self.y_of(budget);
        drawing.rectangle((LEFT, y - 1.5), (RIGHT - LEFT, 3.0), "#fff", 0.8); // it may cross areas of any colour
        drawing.dashed((LEFT, y), (RIGHT, y), BUDGET_COLOUR, 1.6);
        let (x, anchor) = if peak_is_left { (RIGHT - 4.0, Anchor::End) } else { (LEFT + 6.0, Anchor::Start) };
        let style = Style { fill: BUDGET_COLOUR, ..Style::PLAIN.anchored(anchor) };
        draw_on_white(drawing, (x, y - 6.0), &format!("budget {}", format_bytes(budget)), style);
    }

    fn draw_peak(&self, drawing: &mut Drawing, liveness: &Liveness<'_>, peak_is_left: bool) {
        let x = f64::midpoint(self.x_of(liveness.peak_operation), self.x_of(liveness.peak_operation + 1));
        let y = self.y_of(liveness.peak_bytes);
        let place = format!("{}, {}", format_bytes(liveness.peak_bytes), liveness.peak_layer());
        let (label_x, anchor) = if peak_is_left { (x - 4.0, Anchor::Start) } else { (x + 4.0, Anchor::End) };
        let style = Style { bold: true, ..Style::PLAIN.anchored(anchor) };
        let label_y = self.free_of_budget(y - 11.0);
        drawing.line((x, y), (x, label_y + 3.0), INK);
        draw_on_white(drawing, (label_x, label_y), &fitted(&place, 12.0, 0.45 * WIDTH), style);
        drawing.ring((x, y), 4.5, INK);
    }

    /// A baseline at `y`, or above the budget's line when that would run through the text.
    fn free_of_budget(&self, y: f64) -> f64 {
        match self.budget.map(|budget| self.y_of(budget)) {
            Some(line) if (y - 12.0..y + 6.0).contains(&line) => line - 6.0,
            _ => y,
        }
    }

    fn x_of(&self, operation: usize) -> f64 {
        LEFT + (RIGHT - LEFT) * operation as f64 / self.operations as f64
    }

    fn y_of(&self, bytes: u64) -> f64 {
        BOTTOM - self.bytes.position(bytes) * (BOTTOM - self.top)
    }
}

/// Text over lines and areas.
fn draw_on_white(drawing: &mut Drawing, (x, baseline): (f64, f64), content: &str, style: Style) {
    let width = text_width(content, style.size);
    let left = if style.anchor == Anchor::End { x - width } else { x };
    drawing.rectangle((left - 2.0, baseline - 11.0), (width + 4.0, 14.0), "#fff", 0.8);
    drawing.text((x, baseline), content, style);
}

/// Stretches of one phase: the phase, its first operation, and the one after its last.
fn phase_runs(points: &[TimelinePoint]) -> Vec<(Phase, usize, usize)> {
    let mut end = 0;
    let run = |run: &[TimelinePoint]| {
        let first = end;
        end += run.len();
        (run[0].phase, first, end)
    };
    points.chunk_by(|left, right| left.phase == right.phase).map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::synthetic;

    const BUDGET: u64 = 330 << 20;

    fn picture(blocks: usize, batch: usize, budget: Option<u64>) -> String {
        let trace = synthetic::training_step(blocks, batch);
        memory_timeline_svg(&Liveness::of(&trace).unwrap(), "convnext, batch 8 <cpu>", budget)
    }

    #[test]
    fn the_picture_names_phases_roles_peak_and_budget() {
        let svg = picture(4, 8, Some(BUDGET));
        for text in [">forward<", ">backward<", ">optimizer<", ">saved activations<", ">budget 330.0 MiB<"] {
            assert!(svg.contains(text), "{text} {svg}");
        }
        assert!(svg.contains(">305.7 MiB, stages.3.blocks.3<") && svg.contains("&lt;cpu&gt;"), "{svg}");
        assert!(!svg.contains(">buffers<"), "there are none in this step");
    }

    #[test]
    fn a_budget_far_above_the_peak_is_told_and_not_drawn() {
        let svg = picture(4, 8, Some(80 << 30));
        assert!(svg.contains("of the budget of 80.0 GiB") && !svg.contains(BUDGET_COLOUR), "{svg}");
    }

    #[test]
    fn a_long_step_makes_no_larger_picture_than_its_pixels() {
        let size = picture(1_000, 1, None).len();
        assert!(size < 160_000, "{size}");
    }

    #[test]
    fn a_step_of_one_operation_that_holds_nothing_is_drawn() {
        let mut trace = synthetic::training_step(1, 1);
        trace.tensors.clear();
        trace.operations.truncate(1);
        trace.operations[0].workspace_bytes = 0;
        let svg = memory_timeline_svg(&Liveness::of(&trace).unwrap(), "", Some(0));
        assert!(svg.contains(">0 B, ") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn phases_are_cut_where_they_change() {
        let phases = [Phase::Forward, Phase::Forward, Phase::Loss, Phase::Forward];
        let points: Vec<TimelinePoint> = phases
            .into_iter()
            .enumerate()
            .map(|(operation, phase)| TimelinePoint { operation, phase, bytes_by_role: [0; super::super::ROLES] })
            .collect();
        assert_eq!(phase_runs(&points), [(Phase::Forward, 0, 2), (Phase::Loss, 2, 3), (Phase::Forward, 3, 4)]);
    }
}
