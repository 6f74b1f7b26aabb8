//! A small SVG writer: shapes and text, numbers rounded to a tenth of a pixel.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Text that matters.
pub(crate) const INK: &str = "#1f2933";
/// Text that explains.
pub(crate) const MUTED: &str = "#5b6775";
/// Lines that guide the eye.
pub(crate) const GRID: &str = "#e4e8ed";

const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif";

/// A drawing on white, so that it reads on a dark page too.
pub(crate) struct Drawing {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

/// Which part of a text is at its position.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text at a position; its baseline there, unless centred.
pub(crate) struct Text<'a> {
    x: f64,
    y: f64,
    content: &'a str,
    size: f64,
    fill: &'a str,
    anchor: Anchor,
    bold: bool,
    centred: bool,
    degrees: f64,
    tooltip: Option<&'a str>,
    remark: Option<&'a str>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(x: f64, y: f64, content: &'a str) -> Self {
        Self {
            x,
            y,
            content,
            size: 12.0,
            fill: INK,
            anchor: Anchor::Start,
            bold: false,
            centred: false,
            degrees: 0.0,
            tooltip: None,
            remark: None,
        }
    }

    pub(crate) fn size(self, size: f64) -> Self {
        Self { size, ..self }
    }

    pub(crate) fn fill(self, fill: &'a str) -> Self {
        Self { fill, ..self }
    }

    pub(crate) fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    pub(crate) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The middle of the line at `y`, not its baseline.
    pub(crate) fn centred(self) -> Self {
        Self { centred: true, ..self }
    }

    pub(crate) fn turned(self, degrees: f64) -> Self {
        Self { degrees, ..self }
    }

    /// A smaller, muted remark after the text, wherever its font makes it end.
    pub(crate) fn followed_by(self, remark: &'a str) -> Self {
        Self { remark: Some(remark), ..self }
    }

    /// Shown by a browser under the pointer.
    pub(crate) fn tooltip(self, tooltip: &'a str) -> Self {
        Self { tooltip: Some(tooltip), ..self }
    }
}

impl Drawing {
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        Self { width, height, title: title.to_owned(), body: String::new() }
    }

    pub(crate) fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        let [x, y, width, height] = [x, y, width, height].map(tenths);
        self.push(format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>\n"));
    }

    /// A square JPEG, whole in the file.
    pub(crate) fn jpeg(&mut self, x: f64, y: f64, side: f64, jpeg: &[u8]) {
        let [x, y, side] = [x, y, side].map(tenths);
        let data = jpeg_uri(jpeg);
        self.push(format_args!("<image x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" href=\"{data}\"/>\n"));
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(tenths);
        self.push(format_args!("<path d=\"M{x1} {y1}L{x2} {y2}\" stroke=\"{stroke}\" fill=\"none\"/>\n"));
    }

    /// A line through points, 2 px wide.
    pub(crate) fn curve(&mut self, points: &[(f64, f64)], stroke: &str, dashed: bool) {
        let mut data = String::new();
        for (index, &(x, y)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(data, "{command}{} {}", tenths(x), tenths(y)); // a String takes every write
        }
        let dashes = if dashed { " stroke-dasharray=\"5 3\"" } else { "" };
        self.push(format_args!(
            "<path d=\"{data}\" stroke=\"{stroke}\" stroke-width=\"2\"{dashes} stroke-linejoin=\"round\" \
             stroke-linecap=\"round\" fill=\"none\"/>\n"
        ));
    }

    pub(crate) fn dot(&mut self, centre: (f64, f64), radius: f64, fill: &str) {
        let [x, y, radius] = [centre.0, centre.1, radius].map(tenths);
        self.push(format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{fill}\"/>\n"));
    }

    pub(crate) fn ring(&mut self, centre: (f64, f64), radius: f64, stroke: &str) {
        let [x, y, radius] = [centre.0, centre.1, radius].map(tenths);
        self.push(format_args!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" stroke=\"{stroke}\" stroke-width=\"2\" fill=\"#fff\"/>\n"
        ));
    }

    pub(crate) fn cross(&mut self, centre: (f64, f64), arm: f64, stroke: &str) {
        let [left, top] = [centre.0 - arm, centre.1 - arm].map(tenths);
        let [right, bottom] = [centre.0 + arm, centre.1 + arm].map(tenths);
        self.push(format_args!(
            "<path d=\"M{left} {top}L{right} {bottom}M{left} {bottom}L{right} {top}\" stroke=\"{stroke}\" \
             stroke-width=\"2\"/>\n"
        ));
    }

    pub(crate) fn text(&mut self, text: Text<'_>) {
        let [x, y, size] = [text.x, text.y, text.size].map(tenths);
        let anchor = match text.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if text.bold { " font-weight=\"600\"" } else { "" };
        let shift = if text.centred { " dy=\".35em\"" } else { "" };
        let turn = match text.degrees {
            0.0 => String::new(),
            degrees => format!(" transform=\"rotate({} {x} {y})\"", tenths(degrees)),
        };
        let remark = text.remark.map_or_else(String::new, |remark| {
            let remark = escaped(remark);
            format!("<tspan dx=\"10\" font-size=\"12\" font-weight=\"400\" fill=\"{MUTED}\">{remark}</tspan>")
        });
        let tooltip = text.tooltip.map_or_else(String::new, |tooltip| format!("<title>{}</title>", escaped(tooltip)));
        self.push(format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{}\"{anchor}{weight}{shift}{turn}>{}{remark}{tooltip}</text>\n",
            text.fill,
            escaped(text.content),
        ));
    }

    pub(crate) fn finish(self) -> String {
        let [width, height] = [self.width, self.height].map(tenths);
        let title = escaped(&self.title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"{FONTS}\" role=\"img\" aria-label=\"{title}\">\n\
             <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
            self.body
        )
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = self.body.write_fmt(element); // a String takes every write
    }
}

/// Width of a text in px: by groups of letters, of a wide font (DejaVu Sans), so that other fonts need less.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    let ems: f64 = text
        .chars()
        .map(|character| match character {
            'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.32,
            'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | '-' => 0.41,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.96,
            'A'..='Z' => 0.72,
            '\0'..='\u{7f}' => 0.63,
            '\u{1100}'.. => 1.05,
            _ => 0.68,
        })
        .sum();
    ems * size
}

/// A text of at most `width` px: the middle gives way, as long names mostly differ at their ends.
pub(crate) fn shortened(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let characters: Vec<char> = text.chars().collect();
    let with_kept = |kept: usize| -> String {
        let tail = kept / 2;
        let (start, end) = (&characters[..kept - tail], &characters[characters.len() - tail..]);
        start.iter().chain(&['…']).chain(end).collect()
    };
    (1..characters.len())
        .rev()
        .map(with_kept)
        .find(|candidate| text_width(candidate, size) <= width)
        .unwrap_or_else(|| "…".to_owned())
}

/// A JPEG as an address that holds all of it.
pub(crate) fn jpeg_uri(jpeg: &[u8]) -> String {
    format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg))
}

fn tenths(number: f64) -> String {
    let rounded = (number * 10.0).round() / 10.0 + 0.0; // adding zero: no `-0`
    rounded.to_string()
}

/// Text as XML content; characters that XML cannot hold become `U+FFFD`.
pub(crate) fn escaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => result.push_str("&amp;"),
            '<' => result.push_str("&lt;"),
            '>' => result.push_str("&gt;"),
            '"' => result.push_str("&quot;"),
            '\0'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => result.push('\u{fffd}'),
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_control_characters_do_not_break_the_file() {
        assert_eq!(escaped("a<b & \"c\"\u{1}"), "a&lt;b &amp; &quot;c&quot;\u{fffd}");
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        let name = "scanned_document_page_with_signature_front";
        let short = shortened(name, 12.0, 120.0);
        assert!(
            short.starts_with("scanned") && short.ends_with("front") && text_width(&short, 12.0) <= 120.0,
            "{short}"
        );
        assert_eq!(shortened("receipt", 12.0, 120.0), "receipt");
        assert_eq!(shortened("receipt", 12.0, 1.0), "…");
    }

    #[test]
    fn numbers_are_rounded_to_a_tenth() {
        assert_eq!([tenths(3.0), tenths(2.26), tenths(-0.04)], ["3", "2.3", "0"]);
    }
}
