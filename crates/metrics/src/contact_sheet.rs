//! Wrong predictions side by side, as one SVG.

use crate::Mistake;
use crate::svg::{Anchor, Drawing, GRID, MUTED, Text, shortened};

const MARGIN: f64 = 24.0;
const HEADER_HEIGHT: f64 = 56.0;
/// Side of a picture, px.
const SIDE: f64 = 160.0;
const GUTTER: f64 = 20.0;
/// Three lines under a picture.
const CAPTION_HEIGHT: f64 = 58.0;
const COLUMNS: usize = 6;
/// Fewer pictures leave room for the header.
const LEAST_COLUMNS: usize = 3;
/// Of a class that was predicted wrongly: the darkest orange of the confusion matrix.
const WRONG: &str = "#9e320a";

/// A contact sheet as an SVG on white: each mistake's picture over the class that it was taken for with that class's probability, its true class, and
/// its file. `remark` stands below the title. Long names give way in the middle; their tooltips have all of them.
#[must_use]
pub fn contact_sheet_svg(mistakes: &[Mistake], remark: &str) -> String {
    let columns = mistakes.len().clamp(LEAST_COLUMNS, COLUMNS);
    let rows = mistakes.len().div_ceil(columns);
    let width = 2.0 * MARGIN + columns as f64 * (SIDE + GUTTER) - GUTTER;
    let row_height = SIDE + CAPTION_HEIGHT + GUTTER;
    let mut drawing = Drawing::new(width, 2.0 * MARGIN + HEADER_HEIGHT + rows as f64 * row_height, "Worst mistakes");
    drawing.text(Text::new(MARGIN, MARGIN + 16.0, "Worst mistakes").size(18.0).bold());
    let shown = shortened(remark, 12.0, width - 2.0 * MARGIN);
    drawing.text(Text::new(MARGIN, MARGIN + 36.0, &shown).fill(MUTED).tooltip(remark));
    for (index, mistake) in mistakes.iter().enumerate() {
        let left = MARGIN + (index % columns) as f64 * (SIDE + GUTTER);
        let top = MARGIN + HEADER_HEIGHT + (index / columns) as f64 * row_height;
        draw(&mut drawing, (left, top), mistake);
    }
    drawing.finish()
}

fn draw(drawing: &mut Drawing, (left, top): (f64, f64), mistake: &Mistake) {
    match &mistake.thumbnail_jpeg {
        Some(jpeg) => drawing.jpeg(left, top, SIDE, jpeg),
        None => {
            drawing.rectangle(left, top, SIDE, SIDE, GRID);
            let middle = Text::new(left + SIDE / 2.0, top + SIDE / 2.0, "no picture").fill(MUTED);
            drawing.text(middle.anchor(Anchor::Middle).centred());
        }
    }
    let predicted = format!("{}, {:.1} %", mistake.predicted, 100.0 * mistake.probability);
    let label = format!("is {}", mistake.label);
    let mut line = |below: f64, content: &str, size: f64, style: fn(Text<'_>) -> Text<'_>| {
        let shown = shortened(content, size, SIDE);
        drawing.text(style(Text::new(left, top + SIDE + below, &shown).size(size)).tooltip(content));
    };
    line(18.0, &predicted, 12.0, |text| text.bold().fill(WRONG));
    line(35.0, &label, 12.0, |text| text);
    line(50.0, &mistake.file, 10.0, |text| text.fill(MUTED));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(file: &str) -> Mistake {
        Mistake {
            file: file.to_owned(),
            label: "cat".to_owned(),
            predicted: "<dog>".to_owned(),
            probability: 0.987,
            thumbnail_jpeg: Some(vec![0xff, 0xd8, 0xff]),
        }
    }

    #[test]
    fn every_mistake_is_there_with_its_picture_and_nothing_is_loaded_from_elsewhere() {
        let unread = Mistake { thumbnail_jpeg: None, ..mistake("cats/2.jpg") };
        let svg = contact_sheet_svg(&[mistake("cats/1.jpg"), unread], "2 of 9 & more");
        assert!(svg.contains("&lt;dog&gt;, 98.7 %") && svg.contains(">is cat<") && svg.contains("2 of 9 &amp; more"));
        assert!(svg.contains(">cats/1.jpg<") && svg.contains(">cats/2.jpg<") && svg.contains("no picture"));
        assert_eq!((svg.matches("href=").count(), svg.matches("href=\"data:image/jpeg;base64,/9j/\"").count()), (1, 1));
    }

    #[test]
    fn the_sheet_grows_by_rows_and_an_empty_one_has_its_remark() {
        let height = |count: usize| {
            let svg = contact_sheet_svg(&vec![mistake("1.jpg"); count], "of nine");
            let rest = svg.split_once(" height=\"").unwrap().1;
            rest.split_once('"').unwrap().0.parse::<f64>().unwrap()
        };
        assert!(height(6) < height(7) && height(7) == height(12) && height(1) == height(6));
        assert!(contact_sheet_svg(&[], "no mistakes").contains("no mistakes"));
    }

    #[test]
    fn a_long_name_is_shortened_and_kept_as_tooltip() {
        let file = "scans/2024/".to_owned() + &"page_".repeat(12) + "final.png";
        let svg = contact_sheet_svg(&[mistake(&file)], "");
        assert!(svg.contains(&format!("<title>{file}</title>")) && svg.contains('…'), "{svg}");
    }
}
