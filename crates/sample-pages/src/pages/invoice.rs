//! Invoices: who sells to whom, items with prices, and what is due.

use super::{Page, Style, office_sheet, wear};
use crate::canvas::{Area, Canvas, Ink};
use crate::dice::Dice;
use crate::handwriting::{Hand, sign_name};
use crate::lettering::{Lettering, Setting};
use crate::ornaments::{draw_bar_code, draw_logo, draw_square_code};
use crate::scan::Staging;
use crate::words::{address_line, amount, company, date, digits, pseudo_name, pseudo_phrase};

pub(super) fn draw(dice: &mut Dice) -> Page {
    let style = Style::roll(dice);
    let (mut canvas, inside) = office_sheet(dice, style.paper);
    let top = draw_head(&mut canvas, dice, &style, inside);
    let top = draw_parties(&mut canvas, dice, &style, inside.below(top));
    let top = draw_items(&mut canvas, dice, &style, inside.below(top));
    let top = draw_totals(&mut canvas, dice, &style, inside.below(top));
    draw_payment(&mut canvas, dice, &style, inside.below(top));
    wear(&mut canvas, dice);
    Page { canvas, staging: Staging::sheet(dice) }
}

fn draw_head(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) -> f32 {
    let height = dice.range(24.0, 44.0);
    let title = dice.pick(&["INVOICE", "Invoice", "BILL", "INVOICE", "Tax Invoice"]);
    let name = company(dice);
    let logo = dice.range(0.7, 1.0) * height;
    let banner = dice.chance(0.2);
    let (ink, logo_ink) = if banner {
        canvas.fill_rect(Area::new(0.0, 0.0, canvas.area().width, area.top + height + 5.0), style.accent);
        (Ink::grey(250), style.accent.toward(Ink::grey(255), 0.7))
    } else {
        (style.heading.ink, style.accent)
    };
    let (heading, small) = (style.heading.inked(ink), style.body.sized(4.2).inked(ink));
    let middle = area.top + height * 0.55;
    if dice.chance(0.55) {
        draw_logo(canvas, dice, Area::new(area.left, area.top, logo, logo), logo_ink);
        small.bold().write(canvas, area.left + logo + 5.0, middle, &name);
        heading.sized(height * 0.4).write_right(canvas, area.right(), middle, title);
    } else {
        heading.sized(height * 0.4).write(canvas, area.left, middle, title);
        small.bold().write(canvas, area.left, area.top + height, &name);
        draw_logo(canvas, dice, Area::new(area.right() - logo, area.top, logo, logo), logo_ink);
    }
    area.top + height + dice.range(10.0, 20.0)
}

/// Two or three blocks side by side: seller, buyer, numbers and dates.
fn draw_parties(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) -> f32 {
    let body = style.body.sized(style.body.height.min(4.8));
    let pitch = body.height * 1.8;
    let blocks = dice.whole(2, 3);
    let lines = dice.whole(3, 5);
    for (index, block) in area.columns(blocks, 8.0).into_iter().enumerate() {
        let last = index as u32 + 1 == blocks;
        let title = if last {
            "Details"
        } else if index == 0 {
            "Bill to"
        } else {
            "Ship to"
        };
        body.bold().inked(style.accent).write(canvas, block.left, block.top + body.height, title);
        for line in 1..=lines {
            let baseline = block.top + body.height + pitch * line as f32;
            if last {
                let label = ["No", "Date", "Due", "Ref", "VAT"][(line as usize - 1) % 5];
                body.write(canvas, block.left, baseline, label);
                let value = if line == 2 || line == 3 { date(dice) } else { digits(dice, 6) };
                body.write_right(canvas, block.right(), baseline, &value);
            } else {
                let text = if line == 1 { pseudo_name(dice) } else { address_line(dice) };
                let text: String = text.chars().take(18).collect();
                body.write(canvas, block.left, baseline, &text);
            }
        }
    }
    area.top + pitch * (lines as f32 + 1.0) + dice.range(8.0, 18.0)
}

/// The table of items: a heading row, then a row an item, its figures set right.
fn draw_items(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) -> f32 {
    let body = style.body.sized(style.body.height.min(4.8));
    let row_height = dice.range(10.0, 16.0);
    // Room for the totals and the footer.
    let room = ((area.height - 95.0) / row_height).max(2.0) as u32;
    let rows = dice.whole(3, 12).min(room);
    let edges = column_edges(dice, area);
    let (filled_head, striped, gridded) = (dice.chance(0.65), dice.chance(0.3), dice.chance(0.3));
    for row in 0..=rows {
        let line = Area::new(area.left, area.top + row_height * row as f32, area.width, row_height);
        let mut face = body;
        if row == 0 && filled_head {
            let dark = dice.chance(0.6);
            canvas.fill_rect(line, if dark { style.accent } else { style.accent.faded(0.25) });
            face = if dark { body.bold().inked(Ink::grey(250)) } else { body.bold() };
        } else if striped && row % 2 == 0 {
            canvas.fill_rect(line, style.accent.faded(0.1));
        }
        draw_item(canvas, dice, (face, row == 0), line, &edges);
        if row == 0 || !striped {
            canvas.line((line.left, line.bottom()), (line.right(), line.bottom()), 0.5, style.ink.faded(0.6));
        }
    }
    let table = Area::new(area.left, area.top, area.width, row_height * (rows as f32 + 1.0));
    if gridded {
        canvas.outline_rect(table, 0.8, style.ink);
        for &edge in &edges {
            canvas.line((edge, table.top), (edge, table.bottom()), 0.5, style.ink);
        }
    }
    table.bottom() + 6.0
}

/// Right edges of the description and of each column of figures.
fn column_edges(dice: &mut Dice, area: Area) -> Vec<f32> {
    let figures = dice.whole(2, 4);
    let description = dice.range(0.4, 0.55);
    let width = area.width * (1.0 - description) / figures as f32;
    let first = area.left + area.width * description;
    (0..=figures).map(|column| first + width * column as f32).collect()
}

fn draw_item(canvas: &mut Canvas, dice: &mut Dice, (face, is_heading): (Lettering, bool), line: Area, edges: &[f32]) {
    let baseline = line.top + (line.height + face.height) / 2.0;
    let words = dice.whole(1, 3);
    let name = if is_heading { "Description".to_owned() } else { pseudo_phrase(dice, words) };
    let room = edges[0] - line.left;
    let fitting = name.chars().take((room / (face.height * 0.75)) as usize);
    face.write(canvas, line.left + 3.0, baseline, &fitting.collect::<String>());
    for (index, &edge) in edges.iter().enumerate().skip(1) {
        let text = if is_heading {
            ["Qty", "Price", "Tax", "Total"][(index - 1) % 4].to_owned()
        } else if index == 1 {
            dice.whole(1, 40).to_string()
        } else {
            amount(dice, 999)
        };
        face.write_right(canvas, edge - 2.0, baseline, &text);
    }
}

/// Subtotal, tax and the amount due, at the right.
fn draw_totals(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) -> f32 {
    let body = style.body;
    let pitch = style.pitch() * 1.1;
    let left = area.left + area.width * dice.range(0.52, 0.64);
    let block = Area::new(left, area.top, area.right() - left, pitch);
    for (index, label) in ["Subtotal", "Tax", "Shipping"].iter().take(dice.whole(1, 3) as usize).enumerate() {
        let baseline = block.top + pitch * index as f32 + body.height;
        body.write(canvas, block.left, baseline, label);
        let text = amount(dice, 4000);
        body.write_right(canvas, block.right() - 2.0, baseline, &text);
    }
    let total = Area::new(block.left - 3.0, block.top + pitch * 3.0, block.width + 3.0, pitch * 1.35);
    let boxed = dice.chance(0.5);
    if boxed {
        canvas.fill_rect(total, style.accent);
    } else {
        canvas.line((total.left, total.top), (total.right(), total.top), 1.2, style.ink);
    }
    let face = body.bold().inked(if boxed { Ink::grey(250) } else { style.ink });
    let baseline = total.top + (total.height + face.height) / 2.0;
    face.write(canvas, block.left, baseline, "TOTAL");
    let text = amount(dice, 9000);
    face.write_right(canvas, block.right() - 2.0, baseline, &text);
    total.bottom() + 10.0
}

fn draw_payment(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) {
    if area.height < 24.0 {
        return;
    }
    let small = style.body.sized(4.0);
    let text = Area::new(area.left, area.bottom() - 26.0, area.width * 0.6, 26.0);
    let lines = dice.whole(1, 3);
    small.write_paragraph(canvas, dice, text, (lines, 7.5), Setting::Ragged);
    let corner = Area::new(area.right() - 30.0, area.bottom() - 30.0, 30.0, 30.0);
    match dice.whole(0, 4) {
        0 => draw_square_code(canvas, dice, corner, style.ink),
        1 => draw_bar_code(canvas, dice, Area::new(area.right() - 80.0, area.bottom() - 20.0, 80.0, 20.0), style.ink),
        2 => {
            let ink = Hand::roll(dice, 8.0).ink;
            sign_name(canvas, dice, Area::new(area.right() - 70.0, area.bottom() - 30.0, 60.0, 22.0), ink);
        }
        _ => {}
    }
}
