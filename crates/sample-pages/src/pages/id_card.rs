//! Identity cards: a portrait, a few lines of data, patterns and codes on a small card.

use tiny_skia::PathBuilder;

use super::{Page, SCALE, paper_colour, wear};
use crate::canvas::{Area, Canvas, Ink, rounded_rect};
use crate::dice::Dice;
use crate::handwriting::sign_name;
use crate::lettering::{Lettering, Setting, push_line};
use crate::ornaments::{draw_bar_code, draw_logo, draw_portrait};
use crate::scan::Staging;
use crate::words::{date, digits, pseudo_name};

/// Width and height of a card, in page units: ISO 7810 ID-1 is 85.6 x 54 mm.
const CARD: (f32, f32) = (240.0, 151.0);

pub(super) fn draw(dice: &mut Dice) -> Page {
    if dice.chance(0.3) {
        return draw_copy(dice);
    }
    let upright = dice.chance(0.15);
    let (width, height) = if upright { (CARD.1, CARD.0) } else { CARD };
    let mut canvas = Canvas::new(width, height, SCALE * 1.15, Ink::grey(255));
    let area = canvas.area();
    draw_card(&mut canvas, dice, area);
    Page { canvas, staging: Staging::loose(dice) }
}

/// A card copied onto an office sheet, somewhere on the white.
fn draw_copy(dice: &mut Dice) -> Page {
    let mut canvas = Canvas::new(300.0, dice.range(220.0, 380.0), SCALE, paper_colour(dice));
    let sheet = canvas.area();
    let share = dice.range(0.82, 1.1);
    let (width, height) = (CARD.0 * share, CARD.1 * share);
    let left = dice.range(8.0, (sheet.width - width - 8.0).max(9.0));
    let top = dice.range(8.0, (sheet.height - height - 8.0).max(9.0));
    let place = Area::new(left, top, width, height);
    if let Some(path) = rounded_rect(place.inset(-1.5), 8.0) {
        canvas.fill(&path, Ink::grey(120));
    }
    draw_card(&mut canvas, dice, place);
    if dice.chance(0.4) {
        wear(&mut canvas, dice);
    }
    Page { canvas, staging: Staging::sheet(dice) }
}

fn draw_card(canvas: &mut Canvas, dice: &mut Dice, area: Area) {
    let tints = [
        Ink::new(150, 190, 225),
        Ink::new(225, 170, 180),
        Ink::new(170, 215, 180),
        Ink::new(225, 210, 160),
        Ink::new(200, 180, 225),
        Ink::grey(215),
    ];
    let tint = tints[dice.whole(0, 5) as usize];
    let second = tints[dice.whole(0, 5) as usize].toward(Ink::grey(245), 0.6);
    let ink = Ink::grey(dice.whole(20, 60) as u8);
    let head = area.height * dice.range(0.13, 0.2);
    let dark = tint.toward(Ink::new(20, 30, 80), dice.range(0.35, 0.8));
    canvas.fill_gradient(area, tint, second, dice.range(0.0, 1.0));
    draw_guilloche(canvas, dice, area, dark.faded(0.25));
    draw_head(canvas, dice, Area::new(area.left, area.top, area.width, head), dark);
    let machine_lines = dice.chance(0.4) && area.width > area.height;
    let foot = if machine_lines { area.height * 0.24 } else { area.height * 0.05 };
    let middle = Area::new(area.left, area.top + head, area.width, area.height - head - foot).inset(area.height * 0.05);
    if area.width > area.height {
        draw_sides(canvas, dice, middle, ink);
    } else {
        draw_stack(canvas, dice, middle, ink);
    }
    if machine_lines {
        let strip = Area::new(area.left, area.bottom() - foot, area.width, foot);
        draw_machine_lines(canvas, dice, strip, ink);
    }
}

/// The fine waves that make a card hard to copy.
fn draw_guilloche(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) {
    let lines = dice.whole(4, 10);
    let swing = area.height * dice.range(0.04, 0.14);
    let mut path = PathBuilder::new();
    for line in 0..lines {
        let y = area.top + area.height * (line as f32 + 0.5) / lines as f32;
        let points: Vec<(f32, f32)> = (0..=12)
            .map(|step| {
                let side = if (step + line) % 2 == 0 { 1.0 } else { -1.0 };
                let y = (y + side * swing).clamp(area.top, area.bottom());
                (area.left + area.width * step as f32 / 12.0, y)
            })
            .collect();
        push_line(&mut path, &points, true);
    }
    if let Some(path) = path.finish() {
        canvas.stroke(&path, 0.7, ink);
    }
}

fn draw_head(canvas: &mut Canvas, dice: &mut Dice, area: Area, dark: Ink) {
    let filled = dice.chance(0.65);
    if filled {
        canvas.fill_rect(area, dark);
    }
    let face = Lettering::roll(dice, area.height * 0.5, if filled { Ink::grey(250) } else { dark }).bold();
    let title =
        dice.pick(&["IDENTITY CARD", "DRIVING LICENCE", "RESIDENT CARD", "STUDENT CARD", "STAFF PASS", "HEALTH CARD"]);
    let logo = Area::new(area.left + 4.0, area.top + area.height * 0.12, area.height * 0.76, area.height * 0.76);
    draw_logo(canvas, dice, logo, face.ink);
    let text = Area::new(logo.right() + 6.0, area.top, area.right() - logo.right() - 12.0, area.height);
    face.write_fitted(canvas, text, title, Setting::Ragged);
}

/// Portrait at one side, lines of data at the other.
fn draw_sides(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) {
    let width = (area.height * dice.range(0.68, 0.82)).min(area.width * 0.36);
    let at_left = dice.chance(0.75);
    let left = if at_left { area.left } else { area.right() - width };
    let portrait = Area::new(left, area.top, width, (width * 1.3).min(area.height));
    draw_portrait(canvas, dice, portrait);
    let data_left = if at_left { portrait.right() + 8.0 } else { area.left };
    let data = Area::new(data_left, area.top, area.width - width - 8.0, area.height);
    let bottom = draw_data(canvas, dice, data, ink);
    if dice.chance(0.4) {
        let chip = Area::new(data.right() - 28.0, area.top + 2.0, 24.0, 19.0);
        draw_chip(canvas, chip);
    }
    if area.bottom() - bottom > 12.0 {
        let place = Area::new(data.left, bottom, data.width * 0.6, area.bottom() - bottom);
        if dice.chance(0.5) {
            sign_name(canvas, dice, place, Ink::grey(20));
        } else {
            draw_bar_code(canvas, dice, place, ink);
        }
    }
}

/// Portrait above, data below: a staff pass worn upright.
fn draw_stack(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) {
    let width = area.width * dice.range(0.5, 0.64);
    let left = area.centre().0 - width / 2.0;
    let portrait = Area::new(left, area.top, width, width * 1.2);
    draw_portrait(canvas, dice, portrait);
    let data = area.below(portrait.bottom() + 6.0);
    draw_data(canvas, dice, data, ink);
}

/// Small labels over larger values; returns the y below.
fn draw_data(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) -> f32 {
    let height = dice.range(5.6, 8.0);
    let value = Lettering::roll(dice, height, ink).bold();
    let label = value.sized(3.6).inked(ink.toward(Ink::grey(160), 0.4));
    let pitch = height + dice.range(8.5, 12.5);
    let mut top = area.top;
    for name in ["Surname", "Given names", "Born", "Number", "Valid until"].iter().take(dice.whole(3, 5) as usize) {
        if top + pitch > area.bottom() {
            break;
        }
        let text = match *name {
            "Born" | "Valid until" => date(dice),
            "Number" => digits(dice, 9),
            _ => pseudo_name(dice).to_uppercase(),
        };
        label.write(canvas, area.left, top + 3.6, name);
        let line = Area::new(area.left, top + 5.0, area.width, height * 1.2);
        value.write_fitted(canvas, line, &text, Setting::Ragged);
        top += pitch;
    }
    top
}

fn draw_chip(canvas: &mut Canvas, area: Area) {
    let gold = Ink::new(205, 170, 90);
    if let Some(path) = rounded_rect(area, 3.0) {
        canvas.fill(&path, gold);
    }
    let line = gold.toward(Ink::grey(40), 0.5);
    for share in [0.33, 0.66] {
        let (x, y) = (area.left + area.width * share, area.top + area.height * share);
        canvas.line((area.left, y), (area.right(), y), 0.6, line);
        canvas.line((x, area.top), (x, area.bottom()), 0.6, line);
    }
}

/// The lines for machines at the foot of travel documents.
fn draw_machine_lines(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) {
    canvas.fill_rect(area, Ink::grey(245).faded(0.8));
    let face = Lettering { monospaced: true, serifs: false, ..Lettering::roll(dice, area.height * 0.24, ink) };
    for line in 0..2 {
        let name = pseudo_name(dice).to_uppercase();
        let text = format!("ID<{name}<<{}<<<{}", digits(dice, 9), digits(dice, 7));
        let place = Area::new(
            area.left + 6.0,
            area.top + area.height * (0.08 + 0.44 * line as f32),
            area.width - 12.0,
            area.height * 0.4,
        );
        face.write_fitted(canvas, place, &text, Setting::Ragged);
    }
}
