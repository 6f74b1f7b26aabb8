//! The little SVG that the picture of a step needs: numbers rounded to a tenth of a pixel, text escaped.

use std::fmt::Write;

/// Text that matters.
pub(super) const INK: &str = "#1f2933";
/// Text that explains.
pub(super) const MUTED: &str = "#5b6775";
/// Lines that guide the eye.
pub(super) const GRID: &str = "#e4e8ed";

const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif";

/// A drawing on white, so that it reads on a dark page too.
pub(super) struct Drawing {
    body: String,
}

/// Which part of a text is at its position.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line of text looks.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) size: f64,
    pub(super) fill: &'static str,
    pub(super) anchor: Anchor,
    pub(super) bold: bool,
}

impl Style {
    pub(super) const PLAIN: Self = Self { size: 12.0, fill: INK, anchor: Anchor::Start, bold: false };
    pub(super) const MUTED: Self = Self { fill: MUTED, ..Self::PLAIN };

    pub(super) const fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }
}

impl Drawing {
    pub(super) fn new() -> Self {
        Self { body: String::new() }
    }

    pub(super) fn rectangle(&mut self, corner: (f64, f64), size: (f64, f64), fill: &str, opacity: f64) {
        let [x, y, width, height] = [corner.0, corner.1, size.0, size.1].map(tenths);
        let opacity = if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() };
        self.push(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"{opacity}/>\n"
        ));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(tenths);
        self.push(format_args!("<path d=\"M{x1} {y1}L{x2} {y2}\" stroke=\"{stroke}\" fill=\"none\"/>\n"));
    }

    pub(super) fn dashed(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(tenths);
        self.push(format_args!(
            "<path d=\"M{x1} {y1}L{x2} {y2}\" stroke=\"{stroke}\" stroke-width=\"{width}\" \
             stroke-dasharray=\"6 4\" fill=\"none\"/>\n"
        ));
    }

    /// An area of steps over a bottom line, each step given by its left end and its top; the last one ends at `right`.
    /// Its edges are crisp, lest what lies under it shines through them.
    pub(super) fn steps(&mut self, steps: &[(f64, f64)], right: f64, bottom: f64, fill: &str, tooltip: &str) {
        let Some(&(left, _)) = steps.first() else { return };
        let bottom = tenths(bottom);
        let mut data = format!("M{} {bottom}", tenths(left));
        let mut height = bottom.clone();
        for &(x, y) in steps {
            let top = tenths(y);
            if top != height {
                let _ = write!(data, "H{}V{top}", tenths(x)); // a String takes every write
                height = top;
            }
        }
        let (right, tooltip) = (tenths(right), escaped(tooltip));
        self.push(format_args!(
            "<path d=\"{data}H{right}V{bottom}Z\" fill=\"{fill}\" \
             shape-rendering=\"crispEdges\"><title>{tooltip}</title></path>\n"
        ));
    }

    pub(super) fn ring(&mut self, centre: (f64, f64), radius: f64, stroke: &str) {
        let [x, y, radius] = [centre.0, centre.1, radius].map(tenths);
        self.push(format_args!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" stroke=\"{stroke}\" stroke-width=\"2\" fill=\"#fff\"/>\n"
        ));
    }

    /// A line of text with its baseline at the position.
    pub(super) fn text(&mut self, position: (f64, f64), content: &str, style: Style) {
        self.text_and_remark(position, content, style, "");
    }

    /// As `text`, with a smaller, muted remark after it, wherever its font makes it end.
    pub(super) fn text_and_remark(&mut self, position: (f64, f64), content: &str, style: Style, remark: &str) {
        let [x, y, size] = [position.0, position.1, style.size].map(tenths);
        let anchor = match style.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if style.bold { " font-weight=\"600\"" } else { "" };
        let (fill, content) = (style.fill, escaped(content));
        let remark = match escaped(remark) {
            none if none.is_empty() => none,
            some => format!("<tspan dx=\"10\" font-size=\"12\" font-weight=\"400\" fill=\"{MUTED}\">{some}</tspan>"),
        };
        self.push(format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{fill}\"{anchor}{weight}>{content}{remark}</text>\n"
        ));
    }

    pub(super) fn finish(self, width: f64, height: f64, title: &str) -> String {
        let ([width, height], title) = ([width, height].map(tenths), escaped(title));
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

/// Width of a text in px, rather too large than too small: by groups of letters of a wide font (DejaVu Sans).
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let ems = |character: char| match character {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ' ' => 0.32,
        'f' | 't' | 'r' | '(' | ')' | '-' => 0.41,
        'm' | 'w' | 'M' | 'W' | '%' => 0.96,
        'A'..='Z' => 0.72,
        '\0'..='\u{2fff}' => 0.64,
        _ => 1.05,
    };
    size * text.chars().map(ems).sum::<f64>()
}

/// A text of at most `width` px: the middle gives way, as names of layers differ at both ends.
pub(super) fn fitted(text: &str, size: f64, width: f64) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut result = text.to_owned();
    let mut kept = characters.len();
    while text_width(&result, size) > width && kept > 0 {
        kept -= 1;
        let (start, end) = (&characters[..kept.div_ceil(2)], &characters[characters.len() - kept / 2..]);
        result = start.iter().chain(&['…']).chain(end).collect();
    }
    result
}

fn tenths(number: f64) -> String {
    let rounded = (number * 10.0).round() / 10.0 + 0.0; // adding zero: no `-0`
    rounded.to_string()
}

/// Text as XML content; characters that XML cannot hold become `U+FFFD`.
fn escaped(text: &str) -> String {
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
        let short = fitted("backbone.stages.2.blocks.17.attention.projection", 12.0, 140.0);
        assert!(short.starts_with("backbone") && short.ends_with("jection"), "{short}");
        assert!(text_width(&short, 12.0) <= 140.0, "{short}");
        assert_eq!([fitted("head", 12.0, 140.0), fitted("head", 12.0, 1.0)], ["head", "…"]);
    }

    #[test]
    fn steps_of_one_height_are_one_line() {
        let mut drawing = Drawing::new();
        drawing.steps(&[(0.0, 5.0), (1.0, 5.0), (2.0, 3.0), (3.0, 3.0)], 4.0, 9.0, "red", "");
        assert!(drawing.body.contains("M0 9H0V5H2V3H4V9Z"), "{}", drawing.body);
    }
}
