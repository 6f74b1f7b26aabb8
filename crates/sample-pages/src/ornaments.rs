//! Things that stand on several kinds of page: logos, stamps, bar codes, photographs, punch holes, stains.

use crate::canvas::{Area, Canvas, Ink, rounded_rect};
use crate::dice::Dice;
use crate::lettering::{Lettering, Setting};

/// A company's mark: a few shapes in one or two colours, filling the height of `area` at its left.
pub(crate) fn draw_logo(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) {
    let size = area.height.min(area.width);
    let mark = Area::new(area.left, area.top, size, size);
    let (x, y) = mark.centre();
    let second = ink.toward(Ink::grey(255), dice.range(0.3, 0.7));
    match dice.whole(0, 5) {
        0 => {
            canvas.fill_circle((x, y), size / 2.0, ink);
            canvas.fill_circle((x + size * 0.12, y), size * 0.27, second);
        }
        1 => {
            canvas.fill_rect(mark, ink);
            canvas.fill_polygon(&[(mark.left, mark.bottom()), (x, mark.top), (mark.right(), mark.bottom())], second);
        }
        2 => {
            canvas.fill_polygon(&[(x, mark.top), (mark.right(), y), (x, mark.bottom()), (mark.left, y)], ink);
            canvas.fill_circle((x, y), size * 0.18, second);
        }
        3 => {
            for bar in mark.columns(3, size * 0.08) {
                let height = size * dice.range(0.4, 1.0);
                canvas.fill_rect(Area::new(bar.left, mark.bottom() - height, bar.width, height), ink);
            }
        }
        4 => {
            canvas.outline_circle((x, y), size * 0.42, size * 0.14, ink);
            canvas.line((mark.left, mark.bottom()), (mark.right(), mark.top), size * 0.1, second);
        }
        _ => {
            if let Some(path) = rounded_rect(mark, size * 0.25) {
                canvas.fill(&path, ink);
            }
            let letter = char::from(b'A' + dice.whole(0, 25) as u8).to_string();
            let face = Lettering::roll(dice, size * 0.55, Ink::grey(250)).bold();
            face.write_fitted(canvas, mark.inset(size * 0.2), &letter, Setting::Centred);
        }
    }
}

/// A rubber stamp, half see-through: a ring or a box with a word.
pub(crate) fn draw_stamp(canvas: &mut Canvas, dice: &mut Dice, centre: (f32, f32)) {
    let inks = [Ink::new(190, 30, 40), Ink::new(40, 60, 170), Ink::new(90, 40, 140), Ink::new(30, 120, 70)];
    let ink = inks[dice.whole(0, 3) as usize].faded(dice.range(0.35, 0.8));
    let radius = dice.range(14.0, 26.0);
    let word = dice.pick(&["PAID", "RECEIVED", "COPY", "FILED", "URGENT", "CHECKED"]);
    let face = Lettering::roll(dice, radius * 0.5, ink).bold();
    let text = Area::new(centre.0 - radius * 0.8, centre.1 - radius * 0.4, radius * 1.6, radius * 0.8);
    if dice.chance(0.5) {
        canvas.outline_circle(centre, radius, 2.0, ink);
        canvas.outline_circle(centre, radius * 0.82, 0.8, ink);
        face.write_fitted(canvas, text.inset(radius * 0.1), word, Setting::Centred);
    } else {
        canvas.outline_rect(text, 1.8, ink);
        face.write_fitted(canvas, text.inset(3.0), word, Setting::Centred);
    }
}

/// A bar code over the whole of `area`.
pub(crate) fn draw_bar_code(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) {
    let mut left = area.left;
    while left < area.right() {
        let width = dice.range(0.8, 3.0).min(area.right() - left);
        canvas.fill_rect(Area::new(left, area.top, width, area.height), ink);
        left += width + dice.range(0.8, 2.6);
    }
}

/// A square code of modules with three finder squares.
pub(crate) fn draw_square_code(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) {
    const MODULES: u32 = 21;
    const FINDER: u32 = 7;
    let module = area.width.min(area.height) / MODULES as f32;
    for row in 0..MODULES {
        for column in 0..MODULES {
            let (near_left, near_top) = (column < FINDER, row < FINDER);
            let (near_right, near_bottom) = (column >= MODULES - FINDER, row >= MODULES - FINDER);
            let in_finder = (near_top && (near_left || near_right)) || (near_bottom && near_left);
            let dark = if in_finder {
                let (x, y) = (column % (MODULES - FINDER), row % (MODULES - FINDER));
                let ring = x.min(y).min(6 - x.min(6)).min(6 - y.min(6));
                ring != 1
            } else {
                dice.chance(0.5)
            };
            if dark {
                let (x, y) = (column as f32 * module, row as f32 * module);
                canvas.fill_rect(Area::new(area.left + x, area.top + y, module, module), ink);
            }
        }
    }
}

/// A portrait: head and shoulders before a plain wall.
pub(crate) fn draw_portrait(canvas: &mut Canvas, dice: &mut Dice, area: Area) {
    let wall = Ink::new(dice.whole(150, 230) as u8, dice.whole(160, 230) as u8, dice.whole(170, 235) as u8);
    let shade = dice.range(0.0, 0.8);
    let skin = Ink::new(236, 196, 164).toward(Ink::new(92, 58, 40), shade);
    let hair = Ink::new(200, 160, 90).toward(Ink::new(20, 14, 12), dice.range(0.2, 1.0));
    let coat = Ink::new(dice.whole(20, 160) as u8, dice.whole(20, 140) as u8, dice.whole(30, 160) as u8);
    canvas.fill_gradient(area, wall, wall.toward(Ink::grey(120), 0.25), 1.0);
    let (x, _) = area.centre();
    let head = area.width * dice.range(0.2, 0.25);
    let eyes = area.top + area.height * 0.42;
    let shoulders = area.width * dice.range(0.36, 0.47);
    let neck = eyes + head * 1.25;
    if dice.chance(0.45) {
        // Long hair falls behind the neck.
        canvas.fill_circle((x, eyes + head * 0.35), head * 1.35, hair);
    }
    canvas.fill_rect(Area::new(x - head * 0.4, eyes, head * 0.8, neck - eyes + 2.0), skin);
    canvas.fill_polygon(
        &[
            (x - shoulders, area.bottom()),
            (x - shoulders * 0.85, neck + head * 0.35),
            (x - head * 0.4, neck),
            (x + head * 0.4, neck),
            (x + shoulders * 0.85, neck + head * 0.35),
            (x + shoulders, area.bottom()),
        ],
        coat,
    );
    canvas.fill_circle((x, eyes - head * 0.3), head * 1.08, hair);
    canvas.fill_circle((x, eyes + head * 0.1), head, skin);
    for side in [-0.38, 0.38] {
        canvas.fill_circle((x + side * head, eyes), head * 0.1, Ink::grey(30));
    }
    let mouth = eyes + head * 0.6;
    canvas.line((x - head * 0.3, mouth), (x + head * 0.3, mouth), head * 0.1, skin.toward(Ink::new(120, 20, 20), 0.6));
}

/// A press photograph: a portrait, a landscape with hills, or a street of blocks, in shades of one ink.
pub(crate) fn draw_picture(canvas: &mut Canvas, dice: &mut Dice, area: Area, ink: Ink) {
    let shade = |share: f32| Ink::grey(245).toward(ink, share);
    canvas.fill_gradient(area, shade(dice.range(0.1, 0.4)), shade(dice.range(0.4, 0.7)), 1.0);
    match dice.whole(0, 2) {
        0 => {
            for layer in 1..=3 {
                let base = area.top + area.height * (0.25 + 0.2 * layer as f32);
                let mut outline = vec![(area.left, area.bottom())];
                for step in 0..=6 {
                    let x = area.left + area.width * step as f32 / 6.0;
                    let y = base + area.height * dice.range(-0.12, 0.12);
                    outline.push((x, y.min(area.bottom())));
                }
                outline.push((area.right(), area.bottom()));
                canvas.fill_polygon(&outline, shade(0.35 + 0.2 * layer as f32));
            }
        }
        1 => {
            for block in area.columns(dice.whole(3, 7), 0.0) {
                let height = area.height * dice.range(0.3, 0.9);
                let top = area.bottom() - height;
                canvas.fill_rect(Area::new(block.left, top, block.width + 0.3, height), shade(dice.range(0.45, 0.95)));
            }
        }
        _ => {
            let head = area.height * 0.2;
            for _ in 0..dice.whole(1, 4) {
                let x = area.left + area.width * dice.range(0.2, 0.8);
                let y = area.top + area.height * dice.range(0.35, 0.5);
                let body = shade(dice.range(0.6, 1.0));
                let side = (head * 1.3).min(x - area.left).min(area.right() - x);
                canvas.fill_rect(Area::new(x - side, y + head, side * 2.0, area.bottom() - y - head), body);
                canvas.fill_circle((x, y), head, shade(dice.range(0.15, 0.5)));
            }
        }
    }
}

/// Two or four holes along the left edge.
pub(crate) fn punch_holes(canvas: &mut Canvas, dice: &mut Dice) {
    let sheet = canvas.area();
    let distance = sheet.height * 0.19;
    let middle = sheet.height / 2.0;
    let offsets: &[f32] = if dice.chance(0.7) { &[-0.5, 0.5] } else { &[-1.5, -0.5, 0.5, 1.5] };
    for offset in offsets {
        let centre = (sheet.width * 0.035, middle + offset * distance);
        canvas.fill_circle(centre, sheet.width * 0.014, Ink::grey(70));
    }
}

/// The ring of a cup, or a few drops.
pub(crate) fn stain(canvas: &mut Canvas, dice: &mut Dice) {
    let sheet = canvas.area();
    let ink = Ink::new(140, 95, 50).faded(dice.range(0.12, 0.4));
    let centre = (sheet.width * dice.range(0.1, 0.9), sheet.height * dice.range(0.1, 0.9));
    if dice.chance(0.6) {
        let radius = dice.range(22.0, 38.0);
        canvas.outline_circle(centre, radius, dice.range(2.0, 4.5), ink);
        canvas.fill_circle(centre, radius, ink.faded(0.2));
    } else {
        for _ in 0..dice.whole(2, 6) {
            let drop = (centre.0 + dice.normal() * 18.0, centre.1 + dice.normal() * 18.0);
            canvas.fill_circle(drop, dice.range(1.0, 6.0), ink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_code_has_its_three_finders_and_not_a_fourth() {
        let mut canvas = Canvas::new(21.0, 21.0, 1.0, Ink::grey(255));
        let area = canvas.area();
        draw_square_code(&mut canvas, &mut Dice::new(8), area, Ink::grey(0));
        let dark = |x: usize, y: usize| canvas.pixels()[(y * 21 + x) * 4] < 128;
        for (left, top) in [(0, 0), (14, 0), (0, 14)] {
            assert!((0..7).all(|step| dark(left + step, top) && dark(left, top + step)));
            assert!(!dark(left + 1, top + 1) && dark(left + 3, top + 3));
        }
        assert!(!(14..21).all(|step| dark(step, 14)));
    }
}
