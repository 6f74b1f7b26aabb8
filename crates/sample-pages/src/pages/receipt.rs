//! Receipts: a narrow strip with a centred head, items and prices, a total, a code.

use super::{Page, SCALE};
use crate::canvas::{Area, Canvas, Ink};
use crate::dice::Dice;
use crate::lettering::{Lettering, Setting};
use crate::ornaments::{draw_bar_code, draw_logo, draw_square_code, stain};
use crate::scan::Staging;
use crate::words::{address_line, amount, date, digits, pseudo_name, pseudo_word};

pub(super) fn draw(dice: &mut Dice) -> Page {
    let width = dice.range(120.0, 175.0);
    let items = dice.whole(3, 20);
    let height = (150.0 + items as f32 * 10.0 + dice.range(0.0, 40.0)).clamp(width * 1.15, 430.0);
    let paper = Ink::grey(dice.whole(228, 254) as u8).toward(Ink::new(240, 232, 205), dice.range(0.0, 0.5));
    let mut canvas = Canvas::new(width, height, SCALE, paper);
    // Thermal paper fades to violet or blue grey.
    let inks = [Ink::grey(40), Ink::grey(85), Ink::new(75, 70, 105), Ink::grey(20)];
    let face = Lettering {
        height: dice.range(4.6, 5.6),
        weight: dice.range(0.14, 0.2),
        stretch: dice.range(0.75, 0.95),
        slant: 0.0,
        serifs: dice.chance(0.2),
        monospaced: dice.chance(0.7),
        ink: inks[dice.whole(0, 3) as usize],
    };
    let margin = dice.range(6.0, 12.0);
    let inside = canvas.area().inset(margin);
    let top = draw_head(&mut canvas, dice, &face, inside);
    let top = draw_items(&mut canvas, dice, &face, inside.below(top), items);
    let top = draw_total(&mut canvas, dice, &face, inside.below(top));
    draw_foot(&mut canvas, dice, &face, inside.below(top));
    if dice.chance(0.1) {
        stain(&mut canvas, dice);
    }
    Page { canvas, staging: Staging::loose(dice) }
}

fn draw_head(canvas: &mut Canvas, dice: &mut Dice, face: &Lettering, area: Area) -> f32 {
    let centre = area.centre().0;
    let mut top = area.top;
    if dice.chance(0.4) {
        let size = dice.range(18.0, 28.0);
        draw_logo(canvas, dice, Area::new(centre - size / 2.0, top, size, size), face.ink);
        top += size + 4.0;
    }
    let name = pseudo_name(dice).to_uppercase();
    let size = dice.range(8.0, 13.0);
    let line = Area::new(area.left, top, area.width, size * 1.2);
    face.bold().sized(size).write_fitted(canvas, line, &name, Setting::Centred);
    let mut baseline = line.bottom() + 8.0;
    for _ in 0..dice.whole(2, 4) {
        let text = if dice.chance(0.3) { date(dice) } else { address_line(dice) };
        face.write_centred(canvas, centre, baseline, &text);
        baseline += face.height * 1.8;
    }
    baseline
}

fn draw_items(canvas: &mut Canvas, dice: &mut Dice, face: &Lettering, area: Area, items: u32) -> f32 {
    let pitch = face.height * dice.range(1.75, 2.1);
    let mut baseline = separator(canvas, dice, face, area) + face.height;
    let shortest_foot = 62.0;
    for _ in 0..items {
        if baseline > area.bottom() - shortest_foot {
            break;
        }
        let name = format!("{} {}", pseudo_word(dice, 1, 2).to_uppercase(), pseudo_word(dice, 1, 2));
        let price = amount(dice, 40);
        let room = area.width - face.width_of(&price) - 10.0;
        let letters = (room / face.width_of("n").max(1.0)) as usize;
        let name: String = name.chars().take(letters).collect();
        face.write(canvas, area.left, baseline, &name);
        face.write_right(canvas, area.right(), baseline, &price);
        if dice.chance(0.15) {
            baseline += pitch;
            let detail = format!("{} * {}", dice.whole(2, 9), amount(dice, 9));
            face.write(canvas, area.left + 10.0, baseline, &detail);
        }
        baseline += pitch;
    }
    baseline - face.height
}

fn draw_total(canvas: &mut Canvas, dice: &mut Dice, face: &Lettering, area: Area) -> f32 {
    let top = separator(canvas, dice, face, area);
    let large = face.bold().sized(face.height * dice.range(1.2, 1.6));
    let baseline = top + large.height;
    large.write(canvas, area.left, baseline, "TOTAL");
    let text = amount(dice, 200);
    large.write_right(canvas, area.right(), baseline, &text);
    let mut below = baseline + face.height * 1.8;
    for label in ["CARD", "CHANGE", "TAX"].iter().take(dice.whole(0, 2) as usize) {
        face.write(canvas, area.left, below, label);
        let text = amount(dice, 60);
        face.write_right(canvas, area.right(), below, &text);
        below += face.height * 1.8;
    }
    below
}

fn draw_foot(canvas: &mut Canvas, dice: &mut Dice, face: &Lettering, area: Area) {
    let centre = area.centre().0;
    let thanks = dice.pick(&["THANK YOU", "Please come again", "Have a nice day", "* * * * *"]);
    face.write_centred(canvas, centre, area.top + face.height, thanks);
    let code = area.below(area.top + face.height + 6.0);
    if code.height < 12.0 {
        return;
    }
    match dice.whole(0, 3) {
        0 => {
            let size = code.height.min(46.0);
            let place = Area::new(centre - size / 2.0, code.top, size, size);
            draw_square_code(canvas, dice, place, face.ink);
        }
        1 | 2 => {
            let height = (code.height - 8.0).clamp(6.0, 22.0);
            let place = code.inset(area.width * 0.1);
            let bars = Area::new(place.left, code.top, place.width, height);
            draw_bar_code(canvas, dice, bars, face.ink);
            let number = digits(dice, 12);
            face.sized(4.0).write_centred(canvas, centre, bars.bottom() + 6.0, &number);
        }
        _ => {}
    }
}

/// A dashed or starred line; returns the y below.
fn separator(canvas: &mut Canvas, dice: &mut Dice, face: &Lettering, area: Area) -> f32 {
    let line = Area::new(area.left, area.top + 1.0, area.width, 0.9);
    match dice.whole(0, 2) {
        0 => canvas.dashes(line, 4.0, 2.5, face.ink),
        1 => canvas.dashes(line, 1.5, 1.5, face.ink),
        _ => canvas.fill_rect(line, face.ink),
    }
    area.top + 7.0
}
