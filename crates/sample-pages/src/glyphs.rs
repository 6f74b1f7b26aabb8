//! The stroke alphabet: each letter is a few pen strokes on a grid, so that pages need no font files.
//!
//! A stroke is a list of grid points, two digits each: x from 0 to 4, y from 0 (top of capitals) over 2 (top of small
//! letters) and 6 (baseline) to 8 (descenders). A stroke that begins with `~` is a curve: its inner points are
//! control points. Strokes are parted by `|`.

/// Height of a capital letter, in grid units.
pub(crate) const CAPITAL_HEIGHT: f32 = 6.0;

/// One stroke of a letter, in grid units with the baseline at y = 0, y down.
pub(crate) struct GlyphStroke {
    pub(crate) curved: bool,
    pub(crate) points: Vec<(f32, f32)>,
}

/// The strokes of a letter; none for a space, a small box for letters that the alphabet lacks.
pub(crate) fn glyph_strokes(letter: char) -> Vec<GlyphStroke> {
    glyph_code(letter).split('|').filter(|stroke| !stroke.is_empty()).map(parse_stroke).collect()
}

/// How far right the strokes of a letter reach, in grid units.
pub(crate) fn glyph_width(letter: char) -> f32 {
    if letter == ' ' {
        return 1.6;
    }
    let rightmost = glyph_code(letter).split(['|', ' ', '~']).filter_map(|point| point.bytes().next()).max();
    f32::from(rightmost.unwrap_or(b'0') - b'0')
}

fn parse_stroke(code: &str) -> GlyphStroke {
    let curved = code.starts_with('~');
    let points = code
        .trim_start_matches('~')
        .split(' ')
        .map(|point| {
            let digits = point.as_bytes();
            let x = f32::from(digits[0] - b'0');
            let y = f32::from(digits[1] - b'0');
            (x, y - CAPITAL_HEIGHT)
        })
        .collect();
    GlyphStroke { curved, points }
}

fn glyph_code(letter: char) -> &'static str {
    match letter {
        'A'..='Z' => capital(letter),
        'a'..='z' => small(letter),
        '0'..='9' => digit(letter),
        _ => sign(letter),
    }
}

fn capital(letter: char) -> &'static str {
    match letter {
        'A' => "06 20 46|14 34",
        'B' => "00 06|~00 40 43 03|~03 43 46 06",
        'C' => "~41 40 00 06 46 45",
        'D' => "00 06|~00 40 46 06",
        'E' => "40 00 06 46|03 33",
        'F' => "40 00 06|03 33",
        'G' => "~41 40 00 06 46 43|43 23",
        'H' => "00 06|40 46|03 43",
        'I' => "00 06",
        'J' => "30 34|~34 36 06 04",
        'K' => "00 06|40 03 46",
        'L' => "00 06 36",
        'M' => "06 00 24 40 46",
        'N' => "06 00 46 40",
        'O' => "~20 40 46 06 00 20",
        'P' => "06 00|~00 40 43 03",
        'Q' => "~20 40 46 06 00 20|24 46",
        'R' => "06 00|~00 40 43 03|23 46",
        'S' => "~41 40 00 03 43 46 06 05",
        'T' => "00 40|20 26",
        'U' => "00 04|~04 06 46 44|44 40",
        'V' => "00 26 40",
        'W' => "00 16 22 36 40",
        'X' => "00 46|40 06",
        'Y' => "00 23 40|23 26",
        _ => "00 40 06 46",
    }
}

fn small(letter: char) -> &'static str {
    match letter {
        'a' => "~33 32 02 06 36 34|32 36",
        'b' => "00 06|~03 02 32 36 06 05",
        'c' => "~33 32 02 06 36 35",
        'd' => "~33 32 02 06 36 35|30 36",
        'e' => "04 34|~34 32 02 06 36 35",
        'f' => "02 22|~20 10 11 12|11 16",
        'g' => "~33 32 02 06 36 34|32 36|~36 38 08 07",
        'h' => "00 06|~03 02 32 34|34 36",
        'i' => "00 00|02 06",
        'j' => "10 10|12 16|~16 18 08",
        'k' => "00 06|32 04 36",
        'l' => "00 06",
        'm' => "02 06|~03 02 22 24|24 26|~23 22 42 44|44 46",
        'n' => "02 06|~03 02 32 34|34 36",
        'o' => "~04 02 32 36 06 04",
        'p' => "02 08|~03 02 32 36 06 05",
        'q' => "~33 32 02 06 36 35|32 38",
        'r' => "02 06|~04 02 22",
        's' => "~33 32 02 04 34 36 06 05",
        't' => "02 22|10 15|~15 16 26",
        'u' => "02 04|~04 06 36 34|32 36",
        'v' => "02 16 32",
        'w' => "02 16 23 36 42",
        'x' => "02 36|32 06",
        'y' => "02 16|32 08",
        _ => "02 32 06 36",
    }
}

fn digit(letter: char) -> &'static str {
    match letter {
        '0' => "~03 00 30 36 06 03",
        '1' => "01 10 16",
        '2' => "~01 00 30 33 06|06 36",
        '3' => "~00 30 33 13|~13 33 36 06",
        '4' => "26 20 04 34",
        '5' => "30 00 02|~02 32 36 06",
        '6' => "~30 00 06 36 33 03",
        '7' => "00 30 16",
        '8' => "~13 03 00 30 33 13|~13 03 06 36 33 13",
        _ => "~33 03 00 30 36 06",
    }
}

fn sign(letter: char) -> &'static str {
    match letter {
        ' ' => "",
        '.' => "06 06",
        ',' => "15 07",
        ':' => "03 03|06 06",
        '-' => "04 24",
        '/' => "30 06",
        '+' => "04 44|22 26",
        '*' => "01 33|31 03|04 30",
        '#' => "10 06|30 26|02 42|04 44",
        '%' => "40 06|00 01|45 46",
        '<' => "31 03 35",
        '&' => "46 01 20 32 04 26 43",
        '$' => "~41 40 00 03 43 46 06 05|20 26",
        '?' => "~01 00 40 43 24|26 26",
        '!' => "00 04|06 06",
        _ => "02 32 36 06 02",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_stays_on_its_grid() {
        for letter in (' '..='~').chain(['é', '漢']) {
            for stroke in glyph_strokes(letter) {
                for (x, y) in stroke.points {
                    assert!((0.0..=4.0).contains(&x), "{letter}: x {x}");
                    assert!((-6.0..=2.0).contains(&y), "{letter}: y {y}");
                }
            }
        }
    }

    #[test]
    fn no_two_letters_or_digits_share_their_strokes_but_look_alikes() {
        let letters: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').collect();
        for (index, &first) in letters.iter().enumerate() {
            for &second in &letters[index + 1..] {
                let alike = matches!((first, second), ('I', 'l'));
                assert_eq!(glyph_code(first) == glyph_code(second), alike, "{first} {second}");
            }
        }
    }
}
