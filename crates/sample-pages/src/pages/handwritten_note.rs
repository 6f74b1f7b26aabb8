//! Handwritten notes: running text, lists and sketches on ruled, squared, plain or coloured paper.

use super::{Page, SCALE};
use crate::canvas::{Area, Canvas, Ink};
use crate::dice::Dice;
use crate::handwriting::{Hand, sign_name};
use crate::ornaments::{punch_holes, stain};
use crate::scan::Staging;
use crate::words::{amount, pseudo_name, pseudo_phrase};

pub(super) fn draw(dice: &mut Dice) -> Page {
    let papers = [
        Ink::grey(252),
        Ink::grey(240),
        Ink::new(252, 248, 232),
        Ink::new(252, 236, 140),
        Ink::new(250, 205, 215),
        Ink::new(205, 232, 245),
        Ink::new(236, 220, 190),
    ];
    // White paper is the commonest.
    let paper = papers[dice.whole(0, 6).min(dice.whole(0, 6)) as usize];
    let height = [300.0, 390.0, 424.0, 210.0][dice.whole(0, 3) as usize] * dice.range(0.95, 1.05);
    let mut canvas = Canvas::new(300.0, height, SCALE, paper);
    let pitch = dice.range(16.0, 27.0);
    let ruled = draw_ruling(&mut canvas, dice, pitch);
    let height_share = dice.range(0.45, 0.62);
    let hand = Hand::roll(dice, pitch * height_share);
    let left = dice.range(14.0, 42.0);
    let inside = Area::new(left, dice.range(10.0, 34.0), 300.0 - left - dice.range(6.0, 30.0), height - 30.0);
    let pitch = if ruled { pitch } else { pitch * dice.range(0.9, 1.15) };
    let bottom = draw_text(&mut canvas, dice, &hand, inside, pitch);
    draw_extras(&mut canvas, dice, &hand, inside.below(bottom));
    Page { canvas, staging: if dice.chance(0.5) { Staging::loose(dice) } else { Staging::sheet(dice) } }
}

/// Lines, squares, a margin rule or nothing; true when there are lines to write on.
fn draw_ruling(canvas: &mut Canvas, dice: &mut Dice, pitch: f32) -> bool {
    let sheet = canvas.area();
    let ink = Ink::new(120, 150, 200).faded(dice.range(0.3, 0.9));
    let kind = dice.whole(0, 4);
    let step = if kind == 1 { pitch / 2.0 } else { pitch };
    if kind <= 2 {
        let mut y = step;
        while y < sheet.height {
            canvas.line((0.0, y), (sheet.width, y), 0.5, ink);
            y += step;
        }
    }
    if kind == 1 {
        let mut x = step;
        while x < sheet.width {
            canvas.line((x, 0.0), (x, sheet.height), 0.5, ink);
            x += step;
        }
    }
    if kind == 2 {
        canvas.line((38.0, 0.0), (38.0, sheet.height), 0.8, Ink::new(210, 90, 100).faded(0.7));
    }
    kind == 0 || kind == 2
}

/// A heading perhaps, then paragraphs or a list; returns the y below.
fn draw_text(canvas: &mut Canvas, dice: &mut Dice, hand: &Hand, area: Area, pitch: f32) -> f32 {
    let mut baseline = area.top + pitch;
    if dice.chance(0.5) {
        let words = dice.whole(1, 3);
        let title = pseudo_phrase(dice, words);
        let large = hand.sized(hand.height * 1.3);
        let end = large.write(canvas, dice, area.left, baseline, &title);
        if dice.chance(0.6) {
            let below = baseline + 4.0;
            canvas.line((area.left, below + dice.normal()), (end, below + dice.normal()), hand.thickness, hand.ink);
        }
        baseline += pitch * 1.5;
    }
    let list = dice.chance(0.35);
    let fullness = dice.range(0.45, 1.0);
    let end = area.top + area.height * fullness;
    while baseline < end {
        let wander = area.left + dice.normal() * 3.0;
        if list {
            draw_list_item(canvas, dice, hand, Area::new(area.left, baseline, area.width, pitch));
        } else {
            let right = if dice.chance(0.2) { area.left + area.width * dice.range(0.3, 0.8) } else { area.right() };
            let line_end = hand.write_words(canvas, dice, wander, right, baseline);
            if dice.chance(0.06) {
                strike_out(canvas, dice, hand, (wander, line_end), baseline);
            }
        }
        baseline += pitch * if dice.chance(0.1) { 1.8 } else { 1.0 };
    }
    baseline - pitch * 0.5
}

fn draw_list_item(canvas: &mut Canvas, dice: &mut Dice, hand: &Hand, line: Area) {
    let (x, y) = (line.left + 3.0, line.top - hand.height * 0.4);
    match dice.whole(0, 2) {
        0 => canvas.fill_circle((x, y), hand.thickness * 1.2, hand.ink),
        1 => canvas.line((x - 2.0, y), (x + 5.0, y + dice.normal()), hand.thickness, hand.ink),
        _ => {
            let size = hand.height * 0.8;
            canvas.outline_rect(Area::new(x - 3.0, line.top - size, size, size), hand.thickness * 0.8, hand.ink);
        }
    }
    let left = line.left + 8.0 + hand.height * 0.5;
    let right = left + line.width * dice.range(0.2, 0.6);
    let end = hand.write_words(canvas, dice, left, right, line.top);
    if dice.chance(0.25) {
        let price = amount(dice, 90);
        hand.write(canvas, dice, line.left + line.width * 0.72, line.top, &price);
    }
    if dice.chance(0.2) {
        strike_out(canvas, dice, hand, (left, end), line.top);
    }
}

fn strike_out(canvas: &mut Canvas, dice: &mut Dice, hand: &Hand, (left, right): (f32, f32), baseline: f32) {
    let y = baseline - hand.height * 0.3;
    let points: Vec<(f32, f32)> =
        (0..=6).map(|step| (left + (right - left) * step as f32 / 6.0, y + dice.normal() * 1.5)).collect();
    canvas.polyline(&points, hand.thickness, hand.ink);
}

/// What people add: a name, a sketch with arrows, a circle around a word, holes and stains.
fn draw_extras(canvas: &mut Canvas, dice: &mut Dice, hand: &Hand, rest: Area) {
    if rest.height > 26.0 && dice.chance(0.4) {
        let place = Area::new(rest.left + rest.width * 0.5, rest.top, rest.width * 0.35, 24.0);
        sign_name(canvas, dice, place, hand.ink);
    }
    if rest.height > 60.0 && dice.chance(0.35) {
        draw_sketch(canvas, dice, hand, rest.below(rest.top + 20.0));
    }
    if dice.chance(0.15) {
        let centre = (dice.range(60.0, 240.0), dice.range(40.0, rest.bottom() - 20.0));
        canvas.outline_circle(centre, dice.range(14.0, 30.0), hand.thickness, Ink::new(190, 40, 40));
    }
    if dice.chance(0.15) {
        punch_holes(canvas, dice);
    }
    if dice.chance(0.15) {
        stain(canvas, dice);
    }
}

/// Boxes and arrows, or axes with a curve.
fn draw_sketch(canvas: &mut Canvas, dice: &mut Dice, hand: &Hand, area: Area) {
    let (ink, thickness) = (hand.ink, hand.thickness);
    let height = area.height.min(70.0);
    if dice.chance(0.5) {
        for (index, part) in area.columns(3, 24.0).into_iter().enumerate() {
            let block = Area::new(part.left, part.top + dice.range(0.0, 8.0), part.width, height * 0.5);
            canvas.outline_rect(block, thickness, ink);
            let name = pseudo_name(dice);
            let small = hand.sized(hand.height * 0.7);
            small.write(canvas, dice, block.left + 4.0, block.centre().1 + 3.0, &name);
            if index > 0 {
                let y = block.centre().1;
                let arrow = [(block.left - 22.0, y), (block.left - 2.0, y), (block.left - 8.0, y - 4.0)];
                canvas.polyline(&arrow, thickness, ink);
            }
        }
    } else {
        let corner = (area.left + 10.0, area.top + height);
        canvas.polyline(&[(corner.0, area.top), corner, (corner.0 + 100.0, corner.1)], thickness, ink);
        let curve: Vec<(f32, f32)> = (0..=8)
            .map(|step| {
                let along = step as f32 / 8.0;
                (corner.0 + 95.0 * along, corner.1 - height * along * along + dice.normal() * 2.0)
            })
            .collect();
        canvas.polyline(&curve, thickness, ink);
    }
}
