//! Handwriting: the stroke alphabet leaned, shaken and joined, and signatures.

use tiny_skia::PathBuilder;

use crate::canvas::{Area, Canvas, Ink};
use crate::dice::Dice;
use crate::glyphs::{CAPITAL_HEIGHT, glyph_strokes, glyph_width};
use crate::lettering::push_line;
use crate::words::{capitalized, pseudo_word};

/// One person's hand with one pen. Lengths are page units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hand {
    /// Height of a capital.
    pub(crate) height: f32,
    pub(crate) thickness: f32,
    /// How far the top leans right, as a share of the height.
    slant: f32,
    stretch: f32,
    /// How far points stray, in grid units.
    shake: f32,
    script: Script,
    /// How much lines climb or fall, in units of height a unit of width.
    climb: f32,
    pub(crate) ink: Ink,
}

/// How letters follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Script {
    /// Each letter by itself.
    Printed,
    /// Strokes run from letter to letter.
    Joined,
    /// One running line of humps, loops and tails that only the writer can read.
    Scrawled,
}

impl Hand {
    /// A random hand with a random pen.
    pub(crate) fn roll(dice: &mut Dice, height: f32) -> Self {
        let inks = [
            Ink::new(22, 36, 110),
            Ink::new(30, 60, 170),
            Ink::grey(25),
            Ink::grey(70),
            Ink::new(15, 20, 60),
            Ink::new(150, 25, 30),
            Ink::new(20, 90, 60),
        ];
        // Red and green pens are rare, so the index is the smaller of two throws.
        let ink = dice.whole(0, 6).min(dice.whole(0, 6));
        Self {
            height,
            thickness: dice.range(0.7, 1.9) * (height / 9.0).clamp(0.6, 1.5),
            slant: dice.range(-0.12, 0.5),
            stretch: dice.range(0.75, 1.35),
            shake: dice.range(0.15, 0.5),
            script: [Script::Printed, Script::Joined, Script::Scrawled][dice.whole(0, 2) as usize],
            climb: dice.range(-0.03, 0.03),
            ink: inks[ink as usize],
        }
    }

    /// The same hand at another height.
    pub(crate) fn sized(self, height: f32) -> Self {
        Self { height, ..self }
    }

    /// Writes from `left` along a wavering baseline; returns where the line ends.
    pub(crate) fn write(&self, canvas: &mut Canvas, dice: &mut Dice, left: f32, baseline: f32, text: &str) -> f32 {
        let mut path = PathBuilder::new();
        let mut pen = left;
        let mut link_from: Option<(f32, f32)> = None;
        for letter in text.chars() {
            let unit = self.height / CAPITAL_HEIGHT * dice.range(0.85, 1.15);
            let waver = dice.normal() * self.shake * unit * 0.6;
            let origin = (pen, baseline + self.climb * (pen - left) + waver);
            let strokes = if self.script == Script::Scrawled && letter.is_alphabetic() {
                vec![scrawl_strokes(letter)]
            } else {
                glyph_strokes(letter).into_iter().map(|stroke| stroke.points).collect()
            };
            for (index, stroke) in strokes.iter().enumerate() {
                let points = self.place_stroke(dice, stroke, origin, unit);
                if let (0, Some(from), Some(&to)) = (index, link_from, points.first()) {
                    let low = ((from.0 + to.0) / 2.0, from.1.max(to.1));
                    push_line(&mut path, &[from, low, to], true);
                }
                push_line(&mut path, &points, true);
                link_from = points.last().copied();
            }
            if letter == ' ' || self.script == Script::Printed {
                link_from = None;
            }
            let gap = if self.script == Script::Printed { 1.4 } else { 0.9 };
            pen += unit * self.stretch * (glyph_width(letter) + gap);
        }
        if let Some(path) = path.finish() {
            canvas.stroke(&path, self.thickness, self.ink);
        }
        pen
    }

    /// From grid units to the page: shaken, stretched and leaned.
    fn place_stroke(&self, dice: &mut Dice, stroke: &[(f32, f32)], origin: (f32, f32), unit: f32) -> Vec<(f32, f32)> {
        stroke
            .iter()
            .map(|&(x, y)| {
                let x = x + dice.normal() * self.shake;
                let y = y + dice.normal() * self.shake;
                (origin.0 + unit * (x * self.stretch - y * self.slant), origin.1 + unit * y)
            })
            .collect()
    }

    /// Writes pseudo-words until `right`; returns where the line ends.
    pub(crate) fn write_words(
        &self,
        canvas: &mut Canvas,
        dice: &mut Dice,
        left: f32,
        right: f32,
        baseline: f32,
    ) -> f32 {
        let mut text = String::new();
        let mean_letter = self.height / CAPITAL_HEIGHT * self.stretch * 3.9;
        let room = ((right - left) / mean_letter).max(1.0) as usize;
        while text.len() < 200 {
            let word = pseudo_word(dice, 1, 3);
            if !text.is_empty() && text.len() + word.len() > room {
                break;
            }
            let word = if dice.chance(0.1) { capitalized(&word) } else { word };
            text.push_str(&word);
            text.push(' ');
        }
        self.write(canvas, dice, left, baseline, &text)
    }
}

/// A hasty letter in grid units: a hump, or a loop up or down where the letter has a stem.
fn scrawl_strokes(letter: char) -> Vec<(f32, f32)> {
    match letter {
        'b' | 'd' | 'f' | 'h' | 'k' | 'l' | 't' | 'A'..='Z' => {
            vec![(0.0, -0.5), (2.6, -4.0), (1.6, -9.0), (0.4, -6.0), (0.8, 1.5), (3.0, -0.5)]
        }
        'g' | 'j' | 'p' | 'q' | 'y' => {
            vec![(0.0, -3.0), (2.4, -5.0), (2.4, 0.0), (1.6, 5.5), (-1.2, 3.5), (3.0, -0.5)]
        }
        'm' | 'w' => vec![(0.0, -0.5), (0.6, -6.0), (1.3, 0.8), (2.0, -6.0), (2.7, 0.8), (3.4, -6.0), (4.0, -0.3)],
        'e' | 'o' | 'a' | 'c' => {
            vec![(0.0, -1.0), (3.4, -3.5), (1.0, -6.5), (0.2, 1.8), (3.0, -0.5)]
        }
        _ => vec![(0.0, -0.5), (0.9, -6.5), (1.7, 1.5), (2.4, -3.0), (3.0, -0.5)],
    }
}

/// A signature inside `area`: a tall initial, a run of falling waves or loops, and perhaps a flourish beneath.
pub(crate) fn sign_name(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) {
    let middle = area.top + area.height * 0.55;
    let points = if dice.chance(0.5) { sign_waves(dice, area) } else { sign_loops(dice, area) };
    let mut path = PathBuilder::new();
    push_line(&mut path, &points, true);
    if dice.chance(0.6) {
        let below = area.bottom() - area.height * 0.1;
        let flourish = [
            (area.right(), middle),
            (area.right() - area.width * 0.2, below + 2.0),
            (area.left + area.width * 0.1, below),
            (area.right() + area.width * 0.1, below - area.height * 0.15),
        ];
        push_line(&mut path, &flourish, true);
    }
    if let Some(path) = path.finish() {
        canvas.stroke(&path, dice.range(0.8, 1.8), ink);
    }
}

fn sign_waves(dice: &mut Dice, area: Area) -> Vec<(f32, f32)> {
    let (waves, lean) = (dice.whole(4, 10), dice.range(0.1, 0.7));
    let middle = area.top + area.height * 0.55;
    (0..=waves * 2)
        .map(|step| {
            let along = step as f32 / (waves * 2) as f32;
            let tall = step < 3 || dice.chance(0.08);
            let swing = if tall { 0.6 } else { dice.range(0.03, 0.3) * (1.2 - along) };
            let side = if step % 2 == 0 { 1.0 } else { -1.0 };
            let y = middle + side * swing * area.height;
            (area.left + along * area.width + (middle - y) * lean + dice.normal(), y)
        })
        .collect()
}

fn sign_loops(dice: &mut Dice, area: Area) -> Vec<(f32, f32)> {
    let turns = dice.range(3.0, 6.5);
    let (first, last) = (area.height * dice.range(0.4, 0.6), area.height * dice.range(0.02, 0.15));
    let middle = area.top + area.height * 0.5;
    (0..40)
        .map(|step| {
            let along = step as f32 / 39.0;
            let angle = along * turns * std::f32::consts::TAU + 2.0;
            let radius = (first + (last - first) * along.sqrt()) * dice.range(0.8, 1.2);
            let lean = -0.4 * radius * angle.sin();
            (area.left + along * area.width + radius * 0.7 * angle.cos() + lean, middle + radius * angle.sin())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_words_reaches_most_of_its_width_and_leaves_ink() {
        let mut canvas = Canvas::new(300.0, 40.0, 1.0, Ink::grey(255));
        let mut dice = Dice::new(5);
        let hand = Hand::roll(&mut dice, 10.0);
        let end = hand.write_words(&mut canvas, &mut dice, 10.0, 280.0, 25.0);
        assert!((150.0..360.0).contains(&end), "{end}");
        assert!(canvas.pixels().iter().any(|&level| level < 128));
    }
}
