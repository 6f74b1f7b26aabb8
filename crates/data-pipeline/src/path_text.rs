//! Paths as text, for tables and lists: names need not be text to the system.

use std::fmt::Write as _;
use std::path::Path;

/// A path with `/` between folders on every system. A byte that is no UTF-8 becomes `\x` and its two hexadecimal digits, so that names that differ
/// in such bytes alone stay apart.
#[must_use]
pub fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        match cfg!(windows) {
            true => text.push_str(&chunk.valid().replace('\\', "/")),
            false => text.push_str(chunk.valid()),
        }
        push_escaped(&mut text, chunk.invalid());
    }
    text
}

/// The text on one line: a control character in it, as the end of a line is, becomes bytes that are written as in [`path_text`].
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        match character.is_control() {
            true => push_escaped(&mut line, character.encode_utf8(&mut [0; 4]).as_bytes()),
            false => line.push(character),
        }
    }
    line
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("memory takes every character");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn names_that_differ_in_bytes_that_are_no_utf8_stay_apart() {
        use std::os::unix::ffi::OsStrExt;
        let name = |bytes: &[u8]| path_text(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(name(b"cat/x\xff.jpg"), "cat/x\\xff.jpg");
        assert_eq!(name(b"cat/x\xfe.jpg"), "cat/x\\xfe.jpg");
        assert_eq!(name(b"\xe4\x0a\xc3"), "\\xe4\n\\xc3", "the beginning of a letter is none");
        assert_eq!(name("größe/ñ.png".as_bytes()), "größe/ñ.png", "other names are as they are");
    }

    #[test]
    fn a_line_has_no_character_that_ends_it() {
        assert_eq!(one_line("cat/a\nb\r\tc.png"), "cat/a\\x0ab\\x0d\\x09c.png");
        assert_eq!(one_line("größe/ñ 1.png"), "größe/ñ 1.png", "other text is as it is");
    }
}
