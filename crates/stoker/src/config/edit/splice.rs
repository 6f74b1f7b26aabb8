//! Where in a text a value goes, and the text with it.
//!
//! Sections are one level deep, as everywhere in the configuration: `train.epochs`, never `train.optimizer.name`.

use serde_yaml::{Mapping, Value};

use super::error::Obstacle;
use super::scalar::Scalar;
use crate::config::position::{Part, find_offset};

/// The text with one key set; `root` is what it reads as.
pub(super) fn set(text: &str, root: &Mapping, names: &[String], scalar: &Scalar) -> Result<String, Obstacle> {
    let document = Document { text, root };
    let (name, section) = names.split_last().expect("a path has at least one part");
    for depth in 0..names.len() {
        if depth == 0 || document.value(&names[..depth]).is_some() {
            document.start(&names[..depth])?;
        }
    }
    let mapping = if section.is_empty() { Some(root) } else { document.value(section).and_then(Value::as_mapping) };
    match (document.value(names), mapping, document.value(section)) {
        (Some(_), ..) => document.replace(names, scalar),
        (None, Some(mapping), _) => document.add(section, mapping, name, &scalar.render("")),
        (None, None, Some(_)) => document.fill_section(section, name, &scalar.render("")),
        (None, None, None) => document.add_section(section, name, &scalar.render("")),
    }
}

/// A text and what it reads as.
struct Document<'a> {
    text: &'a str,
    root: &'a Mapping,
}

impl Document<'_> {
    /// What is written for a path; `None` for the top level and for what is not there.
    fn value(&self, names: &[String]) -> Option<&Value> {
        let (first, deeper) = names.split_first()?;
        let value = self.root.get(first.as_str())?;
        deeper.iter().try_fold(value, |value, name| value.as_mapping()?.get(name.as_str()))
    }

    /// Where a value begins. What is shared or typed by other means than its place is refused.
    fn start(&self, names: &[String]) -> Result<usize, Obstacle> {
        let offset = find_offset(self.text, names, Part::Value).ok_or(Obstacle::Anchor)?;
        match self.text.as_bytes().get(offset) {
            Some(b'&' | b'*') => Err(Obstacle::Anchor),
            Some(b'!') => Err(Obstacle::Tag),
            _ => Ok(offset),
        }
    }

    /// Whether a section, or the top level, is written between braces.
    fn is_flow(&self, names: &[String]) -> bool {
        self.start(names).is_ok_and(|start| self.text[start..].starts_with('{'))
    }

    fn replace(&self, names: &[String], scalar: &Scalar) -> Result<String, Obstacle> {
        let is_in_braces = (0..names.len()).any(|depth| self.is_flow(&names[..depth]));
        let (start, end) = self.span(names, is_in_braces)?;
        let old = &self.text[start..end];
        Ok(self.put(start, end, &scalar.render(old)))
    }

    /// A section that is there and says nothing: `train:` or `train: null`.
    fn fill_section(&self, section: &[String], name: &str, value: &str) -> Result<String, Obstacle> {
        let is_in_braces = self.is_flow(&[]);
        let (start, end) = self.span(section, is_in_braces)?;
        if start < end || is_in_braces {
            return Ok(self.put(start, end, &format!("{{{name}: {value}}}")));
        }
        let indent = self.indent_of(&[]) + self.indent_step();
        let place = self.end_of_block(section, indent);
        Ok(self.put_line(place, indent, &format!("{name}: {value}")))
    }

    /// First and last byte of a value on one line; the same when nothing is written.
    fn span(&self, names: &[String], is_in_braces: bool) -> Result<(usize, usize), Obstacle> {
        let start = self.start(names)?;
        let end = value_end(self.text, start, is_in_braces)?;
        let written: Option<Value> = serde_yaml::from_str(&self.text[start..end]).ok();
        match written.as_ref() == self.value(names) {
            true => Ok((start, end)),
            false => Err(Obstacle::SeveralLines),
        }
    }

    fn add(&self, section: &[String], mapping: &Mapping, name: &str, value: &str) -> Result<String, Obstacle> {
        let entry = format!("{name}: {value}");
        if self.is_flow(section) {
            return self.add_in_braces(section, &entry);
        }
        let indent = self.indent_of(section);
        let place = self.end_of_block(section, indent);
        // At the top level, a key right below a section would look like one of its own.
        let follows_a_section = section.is_empty() && mapping.values().last().is_some_and(Value::is_mapping);
        match follows_a_section && self.has_blank_lines() {
            true => Ok(self.put_line(place, indent, &format!("{}{}{entry}", self.line_end(), " ".repeat(indent)))),
            false => Ok(self.put_line(place, indent, &entry)),
        }
    }

    fn add_section(&self, section: &[String], name: &str, value: &str) -> Result<String, Obstacle> {
        let section = section.join(".");
        if self.is_flow(&[]) {
            return self.add_in_braces(&[], &format!("{section}: {{{name}: {value}}}"));
        }
        let (indent, line_end) = (self.indent_of(&[]), self.line_end());
        let (outer, inner) = (" ".repeat(indent), " ".repeat(indent + self.indent_step()));
        let place = self.end_of_block(&[], indent);
        let blank = if self.has_blank_lines() { line_end } else { "" };
        Ok(self.put(place, place, &format!("{line_end}{blank}{outer}{section}:{line_end}{inner}{name}: {value}")))
    }

    fn add_in_braces(&self, section: &[String], entry: &str) -> Result<String, Obstacle> {
        let start = self.start(section)?;
        let place = scan_flow(self.text, start)?.content_end;
        let before = match self.text.as_bytes()[place - 1] {
            _ if place == start + 1 => "",
            b',' => " ",
            _ => ", ",
        };
        Ok(self.put(place, place, &format!("{before}{entry}")))
    }

    /// The text with `new` for a part of it. Where nothing was written, the key ends right before.
    fn put(&self, start: usize, end: usize, new: &str) -> String {
        let (before, after) = (&self.text[..start], &self.text[end..]);
        let space = if start == end && before.ends_with(':') { " " } else { "" };
        format!("{before}{space}{new}{after}")
    }

    /// The text with a line of its own after the one that ends at `place`.
    fn put_line(&self, place: usize, indent: usize, line: &str) -> String {
        let (before, after) = (&self.text[..place], &self.text[place..]);
        format!("{before}{}{}{line}{after}", self.line_end(), " ".repeat(indent))
    }

    /// Spaces before the keys of a section.
    fn indent_of(&self, section: &[String]) -> usize {
        let mapping =
            if section.is_empty() { Some(self.root) } else { self.value(section).and_then(Value::as_mapping) };
        let first = mapping.and_then(|mapping| mapping.keys().next()?.as_str());
        let names: Vec<String> = section.iter().cloned().chain(first.map(str::to_owned)).collect();
        find_offset(self.text, &names, Part::Key).map_or(0, |offset| {
            let line = &self.text[line_start(self.text, offset)..];
            line.len() - line.trim_start_matches(' ').len()
        })
    }

    /// By how much the sections of this text are indented.
    fn indent_step(&self) -> usize {
        let is_block = |name: &String| {
            let names = std::slice::from_ref(name);
            self.value(names).is_some_and(Value::is_mapping) && !self.is_flow(names)
        };
        let mut names = self.root.keys().filter_map(Value::as_str).map(str::to_owned);
        let first = names.find(is_block);
        first.map_or(2, |name| self.indent_of(&[name]).saturating_sub(self.indent_of(&[])))
    }

    /// The end of the last line that belongs to a section, comments at its indentation included.
    fn end_of_block(&self, section: &[String], indent: usize) -> usize {
        let mut end = self.end_of_lines(section);
        while end > 0 {
            let before = &self.text[..end];
            let start = line_start(before, before.strip_suffix('\n').unwrap_or(before).len());
            let line = &before[start..];
            let content = line.trim_start_matches(' ');
            let is_less_indented = line.len() - content.len() < indent;
            let is_foreign = content.trim().is_empty() || (content.starts_with('#') && is_less_indented);
            if !is_foreign {
                break;
            }
            end = start;
        }
        self.text[..end].trim_end_matches(['\n', '\r']).len()
    }

    /// The start of the line after a section: the next one's key, or the end of the document.
    fn end_of_lines(&self, section: &[String]) -> usize {
        let place = |name: &str| find_offset(self.text, &[name.to_owned()], Part::Key);
        let names = self.root.keys().filter_map(Value::as_str);
        let after = section.first().and_then(|section| place(section)).map(|own| {
            let later = names.filter_map(place).filter(|other| *other > own).min();
            later.map(|other| line_start(self.text, other))
        });
        after.flatten().unwrap_or_else(|| self.end_of_document())
    }

    /// Where `...` ends the document, or the end of the text.
    fn end_of_document(&self) -> usize {
        let first = find_offset(self.text, &[], Part::Value).unwrap_or(0);
        self.text[first..].find("\n...").map_or(self.text.len(), |place| first + place + 1)
    }

    fn line_end(&self) -> &'static str {
        match self.text.find('\n') {
            Some(place) if self.text[..place].ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }

    fn has_blank_lines(&self) -> bool {
        self.text.lines().any(|line| line.trim().is_empty())
    }
}

fn line_start(text: &str, offset: usize) -> usize {
    text[..offset].rfind('\n').map_or(0, |line_end| line_end + 1)
}

/// Where a value on one line ends; where it begins when nothing is written.
fn value_end(text: &str, start: usize, is_in_braces: bool) -> Result<usize, Obstacle> {
    match text.as_bytes().get(start) {
        Some(b'"' | b'\'') => quote_end(text, start),
        Some(b'[' | b'{') => Ok(scan_flow(text, start)?.close + 1),
        Some(b'|' | b'>') => Err(Obstacle::SeveralLines),
        _ => Ok(plain_end(text, start, is_in_braces)),
    }
}

/// A plain value ends with its line, at a comment, and in braces at a comma or bracket.
fn plain_end(text: &str, start: usize, is_in_braces: bool) -> usize {
    let bytes = text.as_bytes();
    let ends = |place: &usize| match bytes[*place] {
        b'\n' | b'\r' => true,
        b'#' => *place == start || matches!(bytes[*place - 1], b' ' | b'\t'),
        b',' | b'[' | b']' | b'{' | b'}' => is_in_braces,
        _ => false,
    };
    let end = (start..bytes.len()).find(ends).unwrap_or(bytes.len());
    start + text[start..end].trim_end().len()
}

/// The byte after the closing quote. Single quotes are written twice inside, double ones after a backslash.
fn quote_end(text: &str, start: usize) -> Result<usize, Obstacle> {
    let bytes = text.as_bytes();
    let quote = bytes[start];
    let mut place = start + 1;
    while let Some(byte) = bytes.get(place) {
        let is_escape = match quote {
            b'"' => *byte == b'\\',
            _ => *byte == quote && bytes.get(place + 1) == Some(&quote),
        };
        match is_escape {
            true => place += 2,
            false if *byte == quote => return Ok(place + 1),
            false => place += 1,
        }
    }
    Err(Obstacle::NoEnd)
}

/// The closing bracket, and where the last thing before it ends.
struct FlowSpan {
    close: usize,
    content_end: usize,
}

/// Goes over what is between brackets; a quote inside a word and a bracket inside a quote or a comment mean nothing.
fn scan_flow(text: &str, start: usize) -> Result<FlowSpan, Obstacle> {
    let bytes = text.as_bytes();
    let (mut place, mut depth, mut content_end) = (start, 0_usize, start);
    while let Some(byte) = bytes.get(place) {
        let opens_a_value = place == start || matches!(bytes[content_end - 1], b'{' | b'[' | b',' | b':');
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => place += 1,
            b'#' if bytes[place - 1].is_ascii_whitespace() => {
                place += text[place..].find('\n').ok_or(Obstacle::NoEnd)?;
            }
            b'"' | b'\'' if opens_a_value => {
                place = quote_end(text, place)?;
                content_end = place;
            }
            b'}' | b']' if depth == 1 => return Ok(FlowSpan { close: place, content_end }),
            other => {
                depth = match other {
                    b'{' | b'[' => depth + 1,
                    b'}' | b']' => depth - 1,
                    _ => depth,
                };
                place += 1;
                content_end = place;
            }
        }
    }
    Err(Obstacle::NoEnd)
}
