//! An object a line, with a key for each column.

use std::io::{self, Write};

use super::{Cell, Kind};

pub(super) struct JsonLines<W> {
    /// As JSON has them.
    keys: Vec<String>,
    writer: W,
}

impl<W: Write> JsonLines<W> {
    pub(super) fn new(columns: Vec<(String, Kind)>, writer: W) -> Self {
        Self { keys: columns.iter().map(|(name, _)| quoted(name)).collect(), writer }
    }

    pub(super) fn push(&mut self, row: &[Cell]) -> io::Result<()> {
        let mut separator = '{';
        for (key, cell) in self.keys.iter().zip(row) {
            write!(self.writer, "{separator}{key}:")?;
            match cell {
                Cell::None => self.writer.write_all(b"null")?,
                Cell::Text(text) => self.writer.write_all(quoted(text).as_bytes())?,
                // Finite, as probabilities are, and in the fewest digits that read back as the same `f32`.
                Cell::Number(number) => serde_json::to_writer(&mut self.writer, number)?,
                Cell::Whole(number) => write!(self.writer, "{number}")?,
            }
            separator = ',';
        }
        self.writer.write_all(b"}\n")
    }

    pub(super) fn finish(self) -> W {
        self.writer
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}
