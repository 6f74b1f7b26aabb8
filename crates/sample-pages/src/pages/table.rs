//! Tables: a title and one table over most of the page, ruled, striped or shaded by value.

use super::{Page, SCALE, Style, wear};
use crate::canvas::{Area, Canvas, Ink};
use crate::dice::Dice;
use crate::lettering::{Lettering, Setting};
use crate::scan::Staging;
use crate::words::{amount, digits, pseudo_name, pseudo_phrase};

/// How one table is ruled.
struct Design {
    rows: u32,
    row_height: f32,
    /// Right edges of the columns; the first column names the row.
    edges: Vec<f32>,
    vertical_rules: bool,
    horizontal_rules: bool,
    striped: bool,
    /// Cells are shaded by value, as a heat map.
    shaded: bool,
    filled_head: bool,
}

pub(super) fn draw(dice: &mut Dice) -> Page {
    let style = Style::roll(dice);
    let (width, height) = match dice.whole(0, 3) {
        0 | 1 => (300.0, dice.range(390.0, 425.0)),
        2 => (dice.range(390.0, 425.0), 300.0),
        _ => (300.0, dice.range(260.0, 330.0)),
    };
    let mut canvas = Canvas::new(width, height, SCALE, style.paper);
    let inside = canvas.area().inset(dice.range(12.0, 28.0));
    let top = draw_title(&mut canvas, dice, &style, inside);
    let notes = if dice.chance(0.35) { dice.range(16.0, 50.0) } else { 2.0 };
    let room = Area::new(inside.left, top, inside.width, inside.bottom() - top - notes);
    let design = roll_design(dice, room);
    let bottom = draw_rows(&mut canvas, dice, (&style, &design), room);
    if notes > 10.0 {
        let small = style.body.sized(3.8);
        small.write_paragraph(&mut canvas, dice, inside.below(bottom + 6.0), (5, 7.0), Setting::Ragged);
    }
    wear(&mut canvas, dice);
    Page { canvas, staging: Staging::sheet(dice) }
}

fn draw_title(canvas: &mut Canvas, dice: &mut Dice, style: &Style, area: Area) -> f32 {
    if dice.chance(0.15) {
        return area.top;
    }
    let words = dice.whole(2, 5);
    let title = pseudo_phrase(dice, words);
    let size = dice.range(6.0, 10.0);
    let line = Area::new(area.left, area.top, area.width, size * 1.3);
    let setting = if dice.chance(0.4) { Setting::Centred } else { Setting::Ragged };
    style.heading.sized(size).write_fitted(canvas, line, &title, setting);
    let mut bottom = line.bottom() + 6.0;
    if dice.chance(0.3) {
        let text = area.below(bottom);
        bottom = style.body.sized(4.0).write_paragraph(canvas, dice, text, (2, 7.5), Setting::Ragged) + 5.0;
    }
    bottom
}

fn roll_design(dice: &mut Dice, room: Area) -> Design {
    let row_height = dice.range(9.5, 20.0);
    let columns = dice.whole(4, 10);
    let name_share = dice.range(0.12, 0.3);
    let width = room.width * (1.0 - name_share) / (columns - 1) as f32;
    let first = room.left + room.width * name_share;
    let ruling = dice.whole(0, 5);
    let full = (room.height / row_height).max(3.0) as u32;
    Design {
        rows: if dice.chance(0.75) { full } else { dice.whole(full * 6 / 10, full).max(3) },
        row_height,
        edges: (0..columns).map(|column| first + width * column as f32).collect(),
        vertical_rules: ruling <= 3,
        horizontal_rules: ruling != 4,
        striped: ruling == 4 || dice.chance(0.25),
        shaded: dice.chance(0.15),
        filled_head: dice.chance(0.6),
    }
}

fn draw_rows(canvas: &mut Canvas, dice: &mut Dice, (style, design): (&Style, &Design), room: Area) -> f32 {
    let body = style.body.sized(style.body.height.min(design.row_height * 0.42));
    let rule = dice.range(0.5, 1.2);
    let money = dice.chance(0.5);
    for row in 0..design.rows {
        let top = room.top + design.row_height * row as f32;
        let line = Area::new(room.left, top, room.width, design.row_height);
        let mut face = body;
        if row == 0 && design.filled_head {
            canvas.fill_rect(line, style.accent);
            face = body.bold().inked(Ink::grey(250));
        } else if design.striped && row % 2 == 0 {
            canvas.fill_rect(line, style.accent.faded(0.15));
        }
        draw_cells(canvas, dice, (style, design), (face, row == 0, money), line);
        if design.horizontal_rules {
            canvas.line((line.left, line.bottom()), (line.right(), line.bottom()), rule, style.ink);
        }
    }
    let height = design.row_height * design.rows as f32;
    let table = Area::new(room.left, room.top, room.width, height);
    if design.vertical_rules {
        canvas.outline_rect(table, rule * 1.4, style.ink);
        for &edge in &design.edges {
            canvas.line((edge, table.top), (edge, table.bottom()), rule, style.ink);
        }
    } else {
        canvas.line((table.left, table.top), (table.right(), table.top), rule * 1.4, style.ink);
        canvas.line((table.left, table.bottom()), (table.right(), table.bottom()), rule * 1.4, style.ink);
    }
    table.bottom()
}

fn draw_cells(
    canvas: &mut Canvas,
    dice: &mut Dice,
    (style, design): (&Style, &Design),
    (face, is_heading, money): (Lettering, bool, bool),
    line: Area,
) {
    let mut left = line.left;
    for (column, &edge) in design.edges.iter().enumerate() {
        let cell = Area::new(left, line.top, edge - left, line.height);
        if design.shaded && column > 0 && !is_heading {
            canvas.fill_rect(cell, style.accent.faded(dice.range(0.0, 0.7)));
        }
        let text = match (column, is_heading) {
            (0, _) | (_, true) => pseudo_name(dice),
            _ if dice.chance(0.06) => "-".to_owned(),
            _ if money => amount(dice, 900),
            _ => {
                let count = dice.whole(1, 5);
                digits(dice, count)
            }
        };
        let inner = Area::new(cell.left + 2.0, cell.top, cell.width - 4.0, cell.height);
        let setting = if column == 0 { Setting::Ragged } else { Setting::Centred };
        face.write_fitted(canvas, inner, &text, setting);
        left = edge;
    }
}
