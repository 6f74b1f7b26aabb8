//! Forms: titled sections of labelled fields to fill in: boxes, lines, letter cells and tick boxes.

use super::{Page, Style, office_sheet, wear};
use crate::canvas::{Area, Canvas, Ink};
use crate::dice::Dice;
use crate::handwriting::{Hand, sign_name};
use crate::lettering::Setting;
use crate::ornaments::{draw_bar_code, draw_logo};
use crate::scan::Staging;
use crate::words::{date, pseudo_name, pseudo_phrase, pseudo_word};

/// How one form looks and whether it has been filled in.
struct Design {
    style: Style,
    /// Fields are boxes rather than lines to write on.
    boxed: bool,
    /// Paper shows white in the fields of a tinted form.
    tinted: bool,
    line: f32,
    hand: Option<Hand>,
}

pub(super) fn draw(dice: &mut Dice) -> Page {
    let style = Style::roll(dice);
    let (mut canvas, inside) = office_sheet(dice, style.paper);
    let filled = dice.chance(0.6);
    let design = Design {
        boxed: dice.chance(0.65),
        tinted: dice.chance(0.3),
        line: dice.range(0.6, 1.3),
        hand: filled.then(|| Hand::roll(dice, 7.5)),
        style,
    };
    if design.tinted {
        canvas.fill_rect(inside.inset(-5.0), design.style.accent.faded(0.16));
    }
    let mut top = draw_title(&mut canvas, dice, &design, inside);
    while inside.bottom() - top > 70.0 {
        top = draw_section(&mut canvas, dice, &design, inside.below(top));
    }
    draw_signature_line(&mut canvas, dice, &design, inside.below(top));
    wear(&mut canvas, dice);
    Page { canvas, staging: Staging::sheet(dice) }
}

fn draw_title(canvas: &mut Canvas, dice: &mut Dice, design: &Design, area: Area) -> f32 {
    let style = &design.style;
    let kind = dice.pick(&["Application", "Registration", "Claim", "Request", "Declaration", "Order"]);
    let title = format!("{kind} form");
    let size = dice.range(8.0, 13.0);
    let heading = style.heading.sized(size);
    if dice.chance(0.5) {
        heading.write(canvas, area.left, area.top + size, &title);
        if dice.chance(0.6) {
            let corner = Area::new(area.right() - 24.0, area.top - 3.0, 22.0, 22.0);
            draw_logo(canvas, dice, corner, style.accent);
        } else {
            let corner = Area::new(area.right() - 62.0, area.top, 60.0, 14.0);
            draw_bar_code(canvas, dice, corner, style.ink);
        }
    } else {
        heading.write_centred(canvas, area.centre().0, area.top + size, &title);
    }
    let text = Area::new(area.left, area.top + size + 7.0, area.width, 20.0);
    let lines = dice.whole(1, 2);
    style.body.sized(3.8).write_paragraph(canvas, dice, text, (lines, 7.0), Setting::Ragged) + 4.0
}

/// A heading bar and rows of fields. Returns the y below.
fn draw_section(canvas: &mut Canvas, dice: &mut Dice, design: &Design, area: Area) -> f32 {
    let style = &design.style;
    let number = dice.whole(1, 9);
    let heading = format!("{number}. {} {}", pseudo_name(dice), pseudo_word(dice, 1, 3));
    let bar = Area::new(area.left, area.top, area.width, 11.0);
    let mut face = style.body.bold();
    if dice.chance(0.6) {
        canvas.fill_rect(bar, style.accent);
        face = face.inked(Ink::grey(250));
    } else {
        canvas.line((bar.left, bar.bottom()), (bar.right(), bar.bottom()), 1.2, style.ink);
    }
    face.write(canvas, bar.left + 4.0, bar.top + 8.0, &heading);
    let mut top = bar.bottom() + 5.0;
    for _ in 0..dice.whole(2, 5) {
        if area.bottom() - top < 45.0 {
            break;
        }
        let row = area.below(top);
        top = match dice.whole(0, 9) {
            0..=5 => draw_fields(canvas, dice, design, row),
            6..=7 => draw_tick_boxes(canvas, dice, design, row),
            _ => draw_letter_cells(canvas, dice, design, row),
        };
    }
    top + dice.range(2.0, 7.0)
}

/// One to three labelled fields side by side.
fn draw_fields(canvas: &mut Canvas, dice: &mut Dice, design: &Design, area: Area) -> f32 {
    let label = design.style.body.sized(4.0);
    let height = dice.range(12.0, 16.0);
    for column in area.columns(dice.whole(1, 3), 7.0) {
        let words = dice.whole(1, 2);
        let text = pseudo_phrase(dice, words);
        let field = if design.boxed || dice.chance(0.4) {
            label.write(canvas, column.left, column.top + label.height, &text);
            Area::new(column.left, column.top + label.height + 2.5, column.width, height)
        } else {
            let end = label.write(canvas, column.left, column.top + height - 2.0, &text);
            let left = (end + 3.0).min(column.right() - 10.0);
            Area::new(left, column.top, column.right() - left, height)
        };
        draw_field(canvas, dice, design, field);
    }
    area.top + height + label.height + 7.0
}

fn draw_field(canvas: &mut Canvas, dice: &mut Dice, design: &Design, field: Area) {
    let ink = design.style.ink;
    if design.tinted {
        canvas.fill_rect(field, design.style.paper);
    }
    if design.boxed {
        canvas.outline_rect(field, design.line, ink);
    } else {
        canvas.line((field.left, field.bottom()), (field.right(), field.bottom()), design.line, ink);
    }
    if let Some(hand) = design.hand
        && dice.chance(0.8)
    {
        let right = field.left + field.width * dice.range(0.3, 0.8);
        hand.write_words(canvas, dice, field.left + 4.0, right, field.bottom() - 3.5);
    }
}

/// A question with boxes to tick.
fn draw_tick_boxes(canvas: &mut Canvas, dice: &mut Dice, design: &Design, area: Area) -> f32 {
    let style = &design.style;
    let size = dice.range(6.0, 8.5);
    let label = style.body.sized(4.2);
    let rows = dice.whole(1, 3);
    for row in 0..rows {
        let top = area.top + row as f32 * (size + 5.0);
        for column in area.columns(dice.whole(2, 4), 4.0) {
            let tick_box = Area::new(column.left, top, size, size);
            if design.tinted {
                canvas.fill_rect(tick_box, style.paper);
            }
            canvas.outline_rect(tick_box, design.line.max(0.8), style.ink);
            let text = pseudo_word(dice, 1, 3);
            label.write(canvas, tick_box.right() + 3.0, top + size - 1.5, &text);
            if let Some(hand) = design.hand
                && dice.chance(0.4)
            {
                let (x, y) = tick_box.centre();
                let tick = [(x - size * 0.4, y), (x, y + size * 0.4), (x + size * 0.8, y - size * 0.8)];
                canvas.polyline(&tick, 1.3, hand.ink);
            }
        }
    }
    area.top + rows as f32 * (size + 5.0) + 3.0
}

/// A row of cells, one a letter, as machine-read forms have.
fn draw_letter_cells(canvas: &mut Canvas, dice: &mut Dice, design: &Design, area: Area) -> f32 {
    let style = &design.style;
    let label = style.body.sized(4.0);
    let text = pseudo_phrase(dice, 2);
    label.write(canvas, area.left, area.top + label.height, &text);
    let cells = dice.whole(12, 24);
    let width = (area.width / cells as f32).min(12.0);
    let top = area.top + label.height + 2.5;
    let written = dice.whole(0, cells);
    for cell in 0..cells {
        let place = Area::new(area.left + cell as f32 * width, top, width, 13.0);
        if design.tinted {
            canvas.fill_rect(place, style.paper);
        }
        canvas.outline_rect(place, design.line * 0.8, style.ink);
        if let Some(hand) = design.hand
            && cell < written
        {
            let letter = char::from(b'A' + dice.whole(0, 25) as u8).to_string();
            hand.write(canvas, dice, place.left + 2.5, place.bottom() - 3.0, &letter);
        }
    }
    top + 13.0 + 6.0
}

fn draw_signature_line(canvas: &mut Canvas, dice: &mut Dice, design: &Design, area: Area) {
    let style = &design.style;
    let line = area.bottom() - 10.0;
    for (column, label) in area.columns(2, 20.0).into_iter().zip(["Date", "Signature"]) {
        canvas.line((column.left, line), (column.right(), line), design.line, style.ink);
        style.body.sized(3.8).write(canvas, column.left, line + 6.5, label);
        if let Some(hand) = design.hand {
            let place = Area::new(column.left + 10.0, line - 18.0, column.width * 0.6, 18.0);
            if label == "Signature" {
                sign_name(canvas, dice, place, hand.ink);
            } else {
                let text = date(dice);
                hand.write(canvas, dice, place.left, line - 3.0, &text);
            }
        }
    }
}
