//! Newspapers: a masthead or a cutting without one, headlines, narrow columns of small text, pictures.

use super::{Page, SCALE};
use crate::canvas::{Area, Canvas, Ink};
use crate::dice::Dice;
use crate::lettering::{Lettering, Setting};
use crate::ornaments::{draw_picture, stain};
use crate::scan::Staging;
use crate::words::{date, pseudo_name, pseudo_phrase};

/// The typefaces of one paper.
struct Press {
    ink: Ink,
    body: Lettering,
    headline: Lettering,
    gap: f32,
    column_rules: bool,
}

pub(super) fn draw(dice: &mut Dice) -> Page {
    let paper = Ink::new(240, 236, 226).toward(Ink::new(214, 204, 180), dice.range(0.0, 1.0));
    let paper = if dice.chance(0.25) { Ink::grey(dice.whole(215, 248) as u8) } else { paper };
    let ink = Ink::grey(dice.whole(15, 70) as u8);
    let press = Press {
        ink,
        body: Lettering {
            height: dice.range(3.2, 4.0),
            weight: dice.range(0.15, 0.2),
            stretch: dice.range(0.7, 0.9),
            slant: 0.0,
            serifs: true,
            monospaced: false,
            ink,
        },
        headline: Lettering {
            serifs: dice.chance(0.7),
            stretch: dice.range(0.65, 0.95),
            ..Lettering::roll(dice, 14.0, ink).bold()
        },
        gap: dice.range(5.0, 8.0),
        column_rules: dice.chance(0.5),
    };
    let height = dice.range(330.0, 440.0);
    let mut canvas = Canvas::new(300.0, height, SCALE, paper);
    let inside = canvas.area().inset(dice.range(7.0, 14.0));
    let top = if dice.chance(0.65) { draw_masthead(&mut canvas, dice, &press, inside) } else { inside.top };
    draw_stories(&mut canvas, dice, &press, inside.below(top));
    if dice.chance(0.1) {
        stain(&mut canvas, dice);
    }
    Page { canvas, staging: Staging::sheet(dice) }
}

fn draw_masthead(canvas: &mut Canvas, dice: &mut Dice, press: &Press, area: Area) -> f32 {
    let article = dice.pick(&["The", "The Daily", "Evening", "Morning", "New"]);
    let noun = dice.pick(&["Herald", "Courier", "Ferry", "Observer", "Lantern", "Post", "Chronicle"]);
    let title = format!("{article} {noun}");
    let size = dice.range(20.0, 32.0);
    let line = Area::new(area.left, area.top + 2.0, area.width, size * 1.2);
    press.headline.sized(size).write_fitted(canvas, line, &title, Setting::Centred);
    let strip = Area::new(area.left, line.bottom() + 3.0, area.width, 9.0);
    for y in [strip.top, strip.bottom()] {
        canvas.line((strip.left, y), (strip.right(), y), dice.range(0.6, 1.4), press.ink);
    }
    let small = press.body.sized(4.0);
    let day = date(dice);
    small.write(canvas, strip.left + 2.0, strip.bottom() - 2.4, &day);
    let place = pseudo_name(dice);
    small.write_centred(canvas, strip.centre().0, strip.bottom() - 2.4, &place);
    small.write_right(canvas, strip.right() - 2.0, strip.bottom() - 2.4, "2.50");
    strip.bottom() + 6.0
}

/// A lead story over all columns, then stories of fewer columns below or beside.
fn draw_stories(canvas: &mut Canvas, dice: &mut Dice, press: &Press, area: Area) {
    let columns = dice.whole(3, 5);
    if dice.chance(0.3) {
        // A side column of its own beside the lead.
        let parts = area.columns(columns, press.gap);
        let side = parts[0];
        let rest_left = parts[1].left;
        let rest = Area::new(rest_left, area.top, area.right() - rest_left, area.height);
        draw_story(canvas, dice, press, (side, 1));
        draw_stack(canvas, dice, press, (rest, columns - 1));
    } else {
        draw_stack(canvas, dice, press, (area, columns));
    }
}

/// Stories one below the other.
fn draw_stack(canvas: &mut Canvas, dice: &mut Dice, press: &Press, (area, columns): (Area, u32)) {
    if dice.chance(0.25) {
        return draw_story(canvas, dice, press, (area, columns));
    }
    let lead_height = area.height * dice.range(0.42, 0.62);
    draw_story(canvas, dice, press, (Area::new(area.left, area.top, area.width, lead_height), columns));
    let line = area.top + lead_height + 2.0;
    canvas.line((area.left, line), (area.right(), line), 0.7, press.ink);
    let lower = area.below(line + 4.0);
    if columns >= 4 {
        for half in lower.columns(2, press.gap) {
            draw_story(canvas, dice, press, (half, columns / 2));
        }
    } else {
        draw_story(canvas, dice, press, (lower, columns));
    }
}

/// A headline, perhaps a picture, and text in columns that fills the area.
fn draw_story(canvas: &mut Canvas, dice: &mut Dice, press: &Press, (area, columns): (Area, u32)) {
    let mut top = area.top;
    let size = (area.width * dice.range(0.045, 0.085)).clamp(6.0, 19.0);
    for _ in 0..dice.whole(1, 2) {
        let line = Area::new(area.left, top, area.width, size * 1.25);
        let words = if columns == 1 { 2 } else { dice.whole(3, 6) };
        let text = pseudo_phrase(dice, words);
        press.headline.sized(size).write_fitted(canvas, line, &text, Setting::Ragged);
        top = line.bottom() + 2.0;
    }
    let parts = area.below(top + 2.0).columns(columns, press.gap);
    let picture_columns = if dice.chance(0.6) { dice.whole(1, columns) } else { 0 };
    let first = dice.whole(0, columns - picture_columns);
    let picture_height =
        (area.width * picture_columns as f32 / columns as f32 * dice.range(0.5, 0.8)).min(area.height * 0.5);
    if picture_columns > 0 {
        let (left, right) = (parts[first as usize].left, parts[(first + picture_columns - 1) as usize].right());
        let picture = Area::new(left, top + 2.0, right - left, picture_height);
        draw_picture(canvas, dice, picture, press.ink);
    }
    for (index, part) in (0..columns).zip(&parts) {
        let pictured = (first..first + picture_columns).contains(&index);
        let start = if pictured { part.top + picture_height + 5.0 } else { part.top };
        let pitch = press.body.height * 1.65;
        press.body.write_paragraph(canvas, dice, part.below(start), (400, pitch), Setting::Justified);
        if press.column_rules && index > 0 {
            let x = part.left - press.gap / 2.0;
            canvas.line((x, start), (x, part.bottom()), 0.4, press.ink);
        }
    }
}
