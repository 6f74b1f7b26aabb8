//! Letters: a letterhead or none, an address, paragraphs, a signature.

use super::{Page, Style, office_sheet, wear};
use crate::canvas::{Area, Canvas};
use crate::dice::Dice;
use crate::handwriting::{Hand, sign_name};
use crate::lettering::Setting;
use crate::ornaments::draw_logo;
use crate::scan::Staging;
use crate::words::{address_line, company, date, digits, pseudo_name, pseudo_phrase};

pub(super) fn draw(dice: &mut Dice) -> Page {
    let style = Style::roll(dice);
    let (mut canvas, inside) = office_sheet(dice, style.paper);
    let inside = Area::new(inside.left + 6.0, inside.top, inside.width - 12.0, inside.height);
    let top = draw_letterhead(&mut canvas, dice, &style, inside);
    let top = draw_addresses(&mut canvas, dice, &style, inside.below(top));
    let top = draw_body(&mut canvas, dice, &style, inside.below(top));
    draw_close(&mut canvas, dice, &style, inside.below(top));
    if dice.chance(0.5) {
        draw_footer(&mut canvas, dice, &style, inside);
    }
    wear(&mut canvas, dice);
    Page { canvas, staging: Staging::sheet(dice) }
}

/// Returns the y below it.
fn draw_letterhead(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) -> f32 {
    if dice.chance(0.25) {
        return area.top + dice.range(0.0, 20.0);
    }
    let height = dice.range(16.0, 34.0);
    let name = company(dice);
    let heading = style.heading.sized(height * 0.42);
    let text_middle = area.top + height * 0.7;
    match dice.whole(0, 2) {
        0 => {
            draw_logo(canvas, dice, Area::new(area.left, area.top, height, height), style.accent);
            heading.write(canvas, area.left + height + 6.0, text_middle, &name);
        }
        1 => {
            heading.write_centred(canvas, area.centre().0, text_middle, &name);
            let line = address_line(dice);
            style.body.sized(3.6).write_centred(canvas, area.centre().0, area.top + height + 2.0, &line);
        }
        _ => {
            draw_logo(canvas, dice, Area::new(area.right() - height, area.top, height, height), style.accent);
            heading.sized(height * 0.3).write(canvas, area.left, text_middle, &name);
        }
    }
    let bottom = area.top + height + 7.0;
    if dice.chance(0.4) {
        canvas.line((area.left, bottom), (area.right(), bottom), dice.range(0.6, 2.0), style.accent);
    }
    bottom + dice.range(4.0, 14.0)
}

fn draw_addresses(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) -> f32 {
    let (body, pitch) = (style.body, style.pitch());
    let mut baseline = area.top + body.height;
    for line in 0..dice.whole(3, 5) {
        let text = if line == 0 { format!("{} {}", pseudo_name(dice), pseudo_name(dice)) } else { address_line(dice) };
        body.write(canvas, area.left, baseline, &text);
        baseline += pitch;
    }
    baseline += dice.range(2.0, 18.0);
    let when = format!("{}, {}", pseudo_name(dice), date(dice));
    if dice.chance(0.6) {
        body.write_right(canvas, area.right(), baseline, &when);
    } else {
        body.write(canvas, area.left, baseline, &when);
    }
    baseline + dice.range(6.0, 16.0)
}

fn draw_body(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) -> f32 {
    let (body, pitch) = (style.body, style.pitch());
    let mut top = area.top;
    if dice.chance(0.6) {
        let words = dice.whole(3, 6);
        let subject = pseudo_phrase(dice, words);
        body.bold().write(canvas, area.left, top + body.height, &subject);
        top += pitch * 1.7;
    }
    let salutation = format!("Dear {},", pseudo_name(dice));
    body.write(canvas, area.left, top + body.height, &salutation);
    top += pitch * 1.5;
    let setting = if dice.chance(0.3) { Setting::Justified } else { Setting::Ragged };
    // Room for the close and the footer.
    let room = Area::new(area.left, area.top, area.width, area.height - 62.0);
    for _ in 0..dice.whole(2, 5) {
        let left = room.below(top);
        if left.height < pitch * 2.0 {
            break;
        }
        let lines = dice.whole(2, 8);
        top = body.write_paragraph(canvas, dice, left, (lines, pitch), setting) + pitch * 0.7;
        if dice.chance(0.03) {
            top = draw_small_table(canvas, dice, style, room.below(top)) + pitch * 0.5;
        }
    }
    top
}

/// A few figures between paragraphs, so that rules alone do not tell a letter from a table.
fn draw_small_table(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) -> f32 {
    let pitch = style.pitch();
    let rows = dice.whole(2, 3);
    let height = pitch * rows as f32;
    if area.height < height + 4.0 {
        return area.top;
    }
    for row in 0..rows {
        let top = area.top + pitch * row as f32;
        for cell in area.columns(3, 0.0) {
            canvas.outline_rect(Area::new(cell.left, top, cell.width, pitch), 0.6, style.ink);
            let text = digits(dice, 4);
            style.body.write(canvas, cell.left + 4.0, top + pitch * 0.75, &text);
        }
    }
    area.top + height + 4.0
}

fn draw_close(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) {
    let left = if dice.chance(0.3) { area.left + area.width * 0.55 } else { area.left };
    let words = ["Yours sincerely,", "With kind regards", "Best wishes,", "Respectfully,"];
    let close = words[dice.whole(0, 3) as usize];
    style.body.write(canvas, left, area.top + style.body.height, close);
    let size = (dice.range(45.0, 90.0), dice.range(16.0, 28.0));
    let place = Area::new(left + 2.0, area.top + style.body.height + 4.0, size.0, size.1);
    let hand = Hand::roll(dice, 10.0);
    sign_name(canvas, dice, place, hand.ink);
    let name = format!("{} {}", pseudo_name(dice), pseudo_name(dice));
    style.body.write(canvas, left, place.bottom() + style.body.height + 3.0, &name);
}

fn draw_footer(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) {
    let small = style.body.sized(3.2).inked(style.ink.toward(style.paper, 0.35));
    let top = area.bottom() - 2.0;
    canvas.line((area.left, top), (area.right(), top), 0.5, small.ink);
    for column in area.columns(dice.whole(2, 4), 6.0) {
        for line in 0..dice.whole(1, 2) {
            let text = address_line(dice);
            small.write(canvas, column.left, top + 6.0 + 5.5 * line as f32, &text);
        }
    }
}
