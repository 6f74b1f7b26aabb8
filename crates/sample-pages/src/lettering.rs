//! Printed text: a typeface made of the stroke alphabet, set in lines and paragraphs.

use tiny_skia::PathBuilder;

use crate::canvas::{Area, Canvas, Ink};
use crate::dice::Dice;
use crate::glyphs::{CAPITAL_HEIGHT, GlyphStroke, glyph_strokes, glyph_width};
use crate::words::pseudo_word;

/// Width of every letter of a monospaced typeface, in grid units; M and W stand out a little.
const MONOSPACED_WIDTH: f32 = 3.4;

/// A typeface at one size. Lengths are page units unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lettering {
    /// Height of a capital.
    pub(crate) height: f32,
    /// Thickness of a stroke, as a share of the height: 0.1 is light, 0.2 is bold.
    pub(crate) weight: f32,
    /// Width of a letter against the alphabet's own: 0.7 is condensed, 1.2 is wide.
    pub(crate) stretch: f32,
    /// How far the top leans right, as a share of the height.
    pub(crate) slant: f32,
    /// Small feet on straight strokes.
    pub(crate) serifs: bool,
    /// All letters equally wide, as a printer or typewriter sets them.
    pub(crate) monospaced: bool,
    pub(crate) ink: Ink,
}

/// How the lines of a paragraph end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Setting {
    Ragged,
    Justified,
    Centred,
}

impl Lettering {
    /// A random body typeface.
    pub(crate) fn roll(dice: &mut Dice, height: f32, ink: Ink) -> Self {
        Self {
            height,
            weight: dice.range(0.12, 0.19),
            stretch: dice.range(0.72, 1.05),
            slant: if dice.chance(0.1) { 0.2 } else { 0.0 },
            serifs: dice.chance(0.45),
            monospaced: dice.chance(0.15),
            ink,
        }
    }

    /// The same typeface at another height.
    pub(crate) fn sized(self, height: f32) -> Self {
        Self { height, ..self }
    }

    /// The same typeface, bold.
    pub(crate) fn bold(self) -> Self {
        Self { weight: (self.weight * 1.6).min(0.3), ..self }
    }

    /// The same typeface in another colour.
    pub(crate) fn inked(self, ink: Ink) -> Self {
        Self { ink, ..self }
    }

    /// Width of a line of text.
    pub(crate) fn width_of(&self, text: &str) -> f32 {
        text.chars().map(|letter| self.advance(letter)).sum()
    }

    /// Writes a line that starts at `left`; returns where it ends.
    pub(crate) fn write(&self, canvas: &mut Canvas, left: f32, baseline: f32, text: &str) -> f32 {
        let mut path = PathBuilder::new();
        let mut pen = left;
        for letter in text.chars() {
            for stroke in glyph_strokes(letter) {
                self.push_stroke(&mut path, &stroke, pen + self.indent(letter), baseline);
            }
            pen += self.advance(letter);
        }
        if let Some(path) = path.finish() {
            canvas.stroke(&path, self.height * self.weight, self.ink);
        }
        pen
    }

    /// Writes a line that ends at `right`; returns where it starts.
    pub(crate) fn write_right(&self, canvas: &mut Canvas, right: f32, baseline: f32, text: &str) -> f32 {
        let left = right - self.width_of(text);
        self.write(canvas, left, baseline, text);
        left
    }

    /// Writes a line around `centre`.
    pub(crate) fn write_centred(&self, canvas: &mut Canvas, centre: f32, baseline: f32, text: &str) {
        let left = centre - self.width_of(text) / 2.0;
        self.write(canvas, left, baseline, text);
    }

    /// Writes a line inside `area`, shrunk until it fits the width, vertically centred.
    pub(crate) fn write_fitted(&self, canvas: &mut Canvas, area: Area, text: &str, setting: Setting) {
        let width = self.width_of(text);
        let fitted = self.sized(self.height * (area.width / width.max(1e-3)).min(1.0));
        let (middle, centre) = area.centre();
        let baseline = centre + fitted.height / 2.0;
        match setting {
            Setting::Centred => fitted.write_centred(canvas, middle, baseline, text),
            _ => {
                fitted.write(canvas, area.left, baseline, text);
            }
        }
    }

    /// Fills `area` from its top with up to `lines` lines of pseudo-text, `pitch` apart; the last one is short.
    /// Returns the y below the last line.
    pub(crate) fn write_paragraph(
        &self,
        canvas: &mut Canvas,
        dice: &mut Dice,
        area: Area,
        (lines, pitch): (u32, f32),
        setting: Setting,
    ) -> f32 {
        let mut baseline = area.top + self.height;
        for line in 0..lines {
            if baseline > area.bottom() {
                break;
            }
            let last = line + 1 == lines;
            let share = if last { dice.range(0.25, 0.9) } else { 1.0 };
            self.write_words(
                canvas,
                dice,
                (area, share),
                baseline,
                if last && setting == Setting::Justified { Setting::Ragged } else { setting },
            );
            baseline += pitch;
        }
        baseline - self.height
    }

    /// One line of pseudo-words over `share` of the area's width.
    fn write_words(
        &self,
        canvas: &mut Canvas,
        dice: &mut Dice,
        (area, share): (Area, f32),
        baseline: f32,
        setting: Setting,
    ) {
        let space = self.advance(' ');
        let mut words: Vec<(String, f32)> = Vec::new();
        let mut filled = 0.0;
        loop {
            let word = pseudo_word(dice, 1, 4);
            let width = self.width_of(&word);
            if filled + width > area.width * share || words.len() > 40 {
                break;
            }
            filled += width + space;
            words.push((word, width));
        }
        let slack = (area.width - (filled - space)).max(0.0);
        let gaps = (words.len() as f32 - 1.0).max(1.0);
        let extra = if setting == Setting::Justified { slack / gaps } else { 0.0 };
        let indent = if setting == Setting::Centred { slack / 2.0 } else { 0.0 };
        let mut pen = area.left + indent;
        for (word, width) in words {
            self.write(canvas, pen, baseline, &word);
            pen += width + space + extra;
        }
    }

    fn advance(&self, letter: char) -> f32 {
        let width = if self.monospaced { MONOSPACED_WIDTH } else { glyph_width(letter) };
        // Half a stroke stands out on each side of a letter, so bold letters need the wider gap.
        let gap = 0.7 * self.stretch + self.weight * CAPITAL_HEIGHT;
        (width * self.stretch + gap) * self.height / CAPITAL_HEIGHT
    }

    /// How far a letter stands in from the left of its place.
    fn indent(&self, letter: char) -> f32 {
        if !self.monospaced {
            return 0.0;
        }
        (MONOSPACED_WIDTH - glyph_width(letter)) / 2.0 * self.stretch * self.height / CAPITAL_HEIGHT
    }

    fn push_stroke(&self, path: &mut PathBuilder, stroke: &GlyphStroke, left: f32, baseline: f32) {
        let unit = self.height / CAPITAL_HEIGHT;
        let place = |(x, y): (f32, f32)| (left + x * unit * self.stretch - y * unit * self.slant, baseline + y * unit);
        let points: Vec<(f32, f32)> = stroke.points.iter().map(|&point| place(point)).collect();
        push_line(path, &points, stroke.curved);
        if self.serifs && !stroke.curved {
            for &(x, y) in [stroke.points.first(), stroke.points.last()].into_iter().flatten() {
                let foot = [place((x - 0.7, y)), place((x + 0.7, y))];
                push_line(path, &foot, false);
            }
        }
    }
}

/// Adds a line through points to a path; when curved, the inner points are control points.
pub(crate) fn push_line(path: &mut PathBuilder, points: &[(f32, f32)], curved: bool) {
    let (Some(&first), Some(&last)) = (points.first(), points.last()) else {
        return;
    };
    path.move_to(first.0, first.1);
    if points.len() == 2 && first == last {
        // A dot: a line without length would draw nothing.
        path.line_to(first.0 + 0.05, first.1);
    } else if curved && points.len() > 2 {
        for index in 1..points.len() - 2 {
            let (control, next) = (points[index], points[index + 1]);
            path.quad_to(control.0, control.1, (control.0 + next.0) / 2.0, (control.1 + next.1) / 2.0);
        }
        let control = points[points.len() - 2];
        path.quad_to(control.0, control.1, last.0, last.1);
    } else {
        for point in &points[1..] {
            path.line_to(point.0, point.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face() -> Lettering {
        Lettering::roll(&mut Dice::new(3), 6.0, Ink::grey(0))
    }

    #[test]
    fn a_written_line_ends_where_its_width_says() {
        let mut canvas = Canvas::new(200.0, 20.0, 1.0, Ink::grey(255));
        let end = face().write(&mut canvas, 10.0, 15.0, "Seven gulls");
        assert!((end - 10.0 - face().width_of("Seven gulls")).abs() < 1e-3);
        assert!(canvas.pixels().iter().any(|&level| level < 128));
    }

    #[test]
    fn a_paragraph_stays_inside_its_area_however_many_lines_are_asked_for() {
        let mut canvas = Canvas::new(100.0, 100.0, 1.0, Ink::grey(255));
        let area = Area::new(10.0, 10.0, 80.0, 40.0);
        let setting = Setting::Justified;
        let bottom = face().write_paragraph(&mut canvas, &mut Dice::new(1), area, (500, 9.0), setting);
        assert!(bottom <= area.bottom() + 9.0, "{bottom}");
    }
}
