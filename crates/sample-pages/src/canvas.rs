//! A sheet of paper to draw on, in page units (an A4 page is 300 units wide), over a `tiny-skia` pixmap.

use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Paint, Path, PathBuilder, Pixmap, Point, Rect,
    Shader, SpreadMode, Stroke, Transform,
};

/// A colour with opacity, 0 to 255 each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ink {
    pub(crate) red: u8,
    pub(crate) green: u8,
    pub(crate) blue: u8,
    pub(crate) alpha: u8,
}

impl Ink {
    pub(crate) const fn new(red: u8, green: u8, blue: u8) -> Self {
        Self { red, green, blue, alpha: 255 }
    }

    pub(crate) const fn grey(level: u8) -> Self {
        Self::new(level, level, level)
    }

    /// The same colour, see-through: 0.0 is invisible, 1.0 covers.
    pub(crate) fn faded(self, opacity: f32) -> Self {
        Self { alpha: (f32::from(self.alpha) * opacity).clamp(0.0, 255.0) as u8, ..self }
    }

    /// A mix with another colour: 0.0 is this one, 1.0 the other.
    pub(crate) fn toward(self, other: Self, share: f32) -> Self {
        let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * share) as u8;
        Self {
            red: mix(self.red, other.red),
            green: mix(self.green, other.green),
            blue: mix(self.blue, other.blue),
            alpha: self.alpha,
        }
    }

    fn color(self) -> Color {
        Color::from_rgba8(self.red, self.green, self.blue, self.alpha)
    }
}

/// A rectangle on the page, in page units, y down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) left: f32,
    pub(crate) top: f32,
    pub(crate) width: f32,
    pub(crate) height: f32,
}

impl Area {
    pub(crate) const fn new(left: f32, top: f32, width: f32, height: f32) -> Self {
        Self { left, top, width, height }
    }

    pub(crate) fn right(&self) -> f32 {
        self.left + self.width
    }

    pub(crate) fn bottom(&self) -> f32 {
        self.top + self.height
    }

    pub(crate) fn centre(&self) -> (f32, f32) {
        (self.left + self.width / 2.0, self.top + self.height / 2.0)
    }

    /// Smaller by `by` on each side.
    pub(crate) fn inset(&self, by: f32) -> Self {
        Self::new(self.left + by, self.top + by, self.width - 2.0 * by, self.height - 2.0 * by)
    }

    /// The part from `top` down.
    pub(crate) fn below(&self, top: f32) -> Self {
        Self::new(self.left, top, self.width, self.bottom() - top)
    }

    /// `columns` equal parts side by side, `gap` apart.
    pub(crate) fn columns(&self, columns: u32, gap: f32) -> Vec<Self> {
        let width = (self.width - gap * (columns as f32 - 1.0)) / columns as f32;
        (0..columns)
            .map(|column| {
                let left = self.left + column as f32 * (width + gap);
                Self::new(left, self.top, width, self.height)
            })
            .collect()
    }
}

/// The paper and what is drawn on it. Drawing outside is cut off; degenerate shapes draw nothing.
pub(crate) struct Canvas {
    pixmap: Pixmap,
    scale: f32,
    width: f32,
    height: f32,
}

impl Canvas {
    /// An empty sheet of `width` x `height` page units at `scale` pixels a unit.
    pub(crate) fn new(width: f32, height: f32, scale: f32, paper: Ink) -> Self {
        let pixels = |units: f32| ((units * scale).round() as u32).max(1);
        let mut pixmap = Pixmap::new(pixels(width), pixels(height)).expect("a sheet has at least one pixel");
        pixmap.fill(paper.color());
        Self { pixmap, scale, width, height }
    }

    /// The whole sheet.
    pub(crate) fn area(&self) -> Area {
        Area::new(0.0, 0.0, self.width, self.height)
    }

    /// Size in pixels: width, height.
    pub(crate) fn pixel_size(&self) -> (usize, usize) {
        (self.pixmap.width() as usize, self.pixmap.height() as usize)
    }

    /// The pixels, row by row, four bytes each (red, green, blue, 255).
    pub(crate) fn pixels(&self) -> &[u8] {
        self.pixmap.data()
    }

    pub(crate) fn fill_rect(&mut self, area: Area, ink: Ink) {
        if let Some(rect) = Rect::from_xywh(area.left, area.top, area.width, area.height) {
            let transform = self.transform();
            self.pixmap.fill_rect(rect, &paint(ink), transform, None);
        }
    }

    /// A rectangle that fades from one colour to another, along its width and a little down.
    pub(crate) fn fill_gradient(&mut self, area: Area, from: Ink, to: Ink, steep: f32) {
        let Some(rect) = Rect::from_xywh(area.left, area.top, area.width, area.height) else {
            return;
        };
        let shader = LinearGradient::new(
            Point::from_xy(area.left, area.top),
            Point::from_xy(area.right(), area.top + area.height * steep),
            vec![GradientStop::new(0.0, from.color()), GradientStop::new(1.0, to.color())],
            SpreadMode::Pad,
            Transform::identity(),
        );
        let mut gradient = paint(from);
        gradient.shader = shader.unwrap_or(Shader::SolidColor(from.color()));
        let transform = self.transform();
        self.pixmap.fill_rect(rect, &gradient, transform, None);
    }

    pub(crate) fn outline_rect(&mut self, area: Area, thickness: f32, ink: Ink) {
        if let Some(rect) = Rect::from_xywh(area.left, area.top, area.width, area.height) {
            self.stroke(&PathBuilder::from_rect(rect), thickness, ink);
        }
    }

    pub(crate) fn fill_circle(&mut self, centre: (f32, f32), radius: f32, ink: Ink) {
        if let Some(path) = PathBuilder::from_circle(centre.0, centre.1, radius) {
            self.fill(&path, ink);
        }
    }

    pub(crate) fn outline_circle(&mut self, centre: (f32, f32), radius: f32, thickness: f32, ink: Ink) {
        if let Some(path) = PathBuilder::from_circle(centre.0, centre.1, radius) {
            self.stroke(&path, thickness, ink);
        }
    }

    pub(crate) fn fill_polygon(&mut self, corners: &[(f32, f32)], ink: Ink) {
        if let Some(path) = polyline(corners, true) {
            self.fill(&path, ink);
        }
    }

    pub(crate) fn line(&mut self, from: (f32, f32), to: (f32, f32), thickness: f32, ink: Ink) {
        self.polyline(&[from, to], thickness, ink);
    }

    pub(crate) fn polyline(&mut self, points: &[(f32, f32)], thickness: f32, ink: Ink) {
        if let Some(path) = polyline(points, false) {
            self.stroke(&path, thickness, ink);
        }
    }

    /// A horizontal line of dashes, as on a receipt or a tear-off form.
    pub(crate) fn dashes(&mut self, area: Area, dash: f32, gap: f32, ink: Ink) {
        let mut left = area.left;
        while left < area.right() {
            let width = dash.min(area.right() - left);
            self.fill_rect(Area::new(left, area.top, width, area.height), ink);
            left += dash + gap;
        }
    }

    pub(crate) fn fill(&mut self, path: &Path, ink: Ink) {
        let transform = self.transform();
        self.pixmap.fill_path(path, &paint(ink), FillRule::Winding, transform, None);
    }

    pub(crate) fn stroke(&mut self, path: &Path, thickness: f32, ink: Ink) {
        let stroke =
            Stroke { width: thickness, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        let transform = self.transform();
        self.pixmap.stroke_path(path, &paint(ink), &stroke, transform, None);
    }

    fn transform(&self) -> Transform {
        Transform::from_scale(self.scale, self.scale)
    }
}

/// A rectangle with round corners, as a path.
pub(crate) fn rounded_rect(area: Area, radius: f32) -> Option<Path> {
    let (left, top, right, bottom) = (area.left, area.top, area.right(), area.bottom());
    let mut path = PathBuilder::new();
    path.move_to(left + radius, top);
    path.line_to(right - radius, top);
    path.quad_to(right, top, right, top + radius);
    path.line_to(right, bottom - radius);
    path.quad_to(right, bottom, right - radius, bottom);
    path.line_to(left + radius, bottom);
    path.quad_to(left, bottom, left, bottom - radius);
    path.line_to(left, top + radius);
    path.quad_to(left, top, left + radius, top);
    path.close();
    path.finish()
}

fn polyline(points: &[(f32, f32)], closed: bool) -> Option<Path> {
    let (first, rest) = points.split_first()?;
    let mut path = PathBuilder::new();
    path.move_to(first.0, first.1);
    for point in rest {
        path.line_to(point.0, point.1);
    }
    if closed {
        path.close();
    }
    path.finish()
}

fn paint(ink: Ink) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(ink.color());
    paint.anti_alias = true;
    paint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_off_the_sheet_or_with_no_size_is_ignored() {
        let mut canvas = Canvas::new(20.0, 20.0, 1.0, Ink::grey(255));
        canvas.fill_rect(Area::new(50.0, 50.0, 10.0, 10.0), Ink::grey(0));
        canvas.fill_rect(Area::new(1.0, 1.0, -3.0, 2.0), Ink::grey(0));
        canvas.polyline(&[], 1.0, Ink::grey(0));
        canvas.fill_circle((5.0, 5.0), -1.0, Ink::grey(0));
        assert!(canvas.pixels().iter().all(|&level| level == 255));
    }

    #[test]
    fn columns_fill_the_width_with_their_gaps() {
        let columns = Area::new(10.0, 0.0, 100.0, 5.0).columns(3, 5.0);
        assert_eq!(columns.len(), 3);
        assert!((columns[2].right() - 110.0).abs() < 1e-4);
        assert!((columns[1].left - columns[0].right() - 5.0).abs() < 1e-4);
    }
}
