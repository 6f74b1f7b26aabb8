//! One file a document type; each draws a flat sheet and says how it is likely to be captured.

mod form;
mod handwritten_note;
mod id_card;
mod invoice;
mod letter;
mod newspaper;
mod receipt;
mod table;

use crate::canvas::{Area, Canvas, Ink};
use crate::dice::Dice;
use crate::lettering::Lettering;
use crate::ornaments::{draw_stamp, punch_holes, stain};
use crate::scan::Staging;

/// Pixels a page unit: about twice the resolution of the final image, which is sampled down when it is captured.
const SCALE: f32 = 1.15;

/// Height of a heading against body text, before a page sets its own.
const HEADING_RATIO: f32 = 1.7;

/// A drawn sheet that lies ready for the scanner or the camera.
pub(crate) struct Page {
    pub(crate) canvas: Canvas,
    pub(crate) staging: Staging,
}

/// Draws a page of a class, given as its index in [`crate::CLASSES`]; larger numbers wrap around.
pub(crate) fn draw(class: usize, dice: &mut Dice) -> Page {
    let draw_class = [
        form::draw,
        handwritten_note::draw,
        id_card::draw,
        invoice::draw,
        letter::draw,
        newspaper::draw,
        receipt::draw,
        table::draw,
    ];
    draw_class[class % draw_class.len()](dice)
}

/// What the printed pages of one office have in common: colours and typefaces.
struct Style {
    paper: Ink,
    ink: Ink,
    accent: Ink,
    body: Lettering,
    heading: Lettering,
}

impl Style {
    fn roll(dice: &mut Dice) -> Self {
        let ink = Ink::grey(dice.whole(10, 75) as u8);
        let accents = [
            Ink::new(30, 70, 150),
            Ink::new(170, 40, 40),
            Ink::new(30, 120, 90),
            Ink::new(210, 120, 20),
            Ink::new(90, 50, 130),
            Ink::grey(60),
            Ink::grey(120),
        ];
        let accent = accents[dice.whole(0, 6) as usize];
        let height = dice.range(4.2, 5.8);
        let heading_ink = if dice.chance(0.4) { accent } else { ink };
        Self {
            paper: paper_colour(dice),
            ink,
            accent,
            body: Lettering::roll(dice, height, ink),
            heading: Lettering::roll(dice, height * HEADING_RATIO, heading_ink).bold(),
        }
    }

    /// The distance between the baselines of body text.
    fn pitch(&self) -> f32 {
        self.body.height * 1.95
    }
}

fn paper_colour(dice: &mut Dice) -> Ink {
    let white = dice.whole(236, 255) as u8;
    match dice.whole(0, 9) {
        0 => Ink::new(white, white - 6, white - 26),
        1 => Ink::new(white - 18, white - 8, white),
        2 => Ink::new(white, white - 20, white - 22),
        3 => Ink::grey(white - 22),
        _ => Ink::grey(white),
    }
}

/// An empty upright sheet between A4 and US letter, and its area inside the margins.
fn office_sheet(dice: &mut Dice, paper: Ink) -> (Canvas, Area) {
    let canvas = Canvas::new(300.0, dice.range(384.0, 426.0), SCALE, paper);
    let margin = dice.range(16.0, 32.0);
    let inside = canvas.area().inset(margin);
    (canvas, inside)
}

/// What happens to any sheet on its way: stamps, holes, stains, notes in the margin.
fn wear(canvas: &mut Canvas, dice: &mut Dice) {
    let sheet = canvas.area();
    if dice.chance(0.14) {
        let centre = (sheet.width * dice.range(0.2, 0.85), sheet.height * dice.range(0.15, 0.9));
        draw_stamp(canvas, dice, centre);
    }
    if dice.chance(0.18) {
        punch_holes(canvas, dice);
    }
    if dice.chance(0.08) {
        stain(canvas, dice);
    }
}
