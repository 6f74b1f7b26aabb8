//! The forms that a table is written in.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use super::json_lines::JsonLines;
use super::parquet::Parquet;
use super::{Cell, Kind};
use crate::predictions_csv::number;

/// What kind of file a table is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TableFormat {
    /// Comma-separated, with a header.
    #[default]
    Csv,
    /// An object a line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

impl TableFormat {
    /// The format that a file's name asks for, in any case: `.csv`, `.jsonl`, `.ndjson` or `.parquet`.
    #[must_use]
    pub fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// The ending of such files.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

impl fmt::Display for TableFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.extension())
    }
}

/// Writes rows in one of the formats.
pub(super) enum TableWriter<W: Write> {
    Csv(Box<csv::Writer<W>>),
    JsonLines(JsonLines<W>),
    Parquet(Parquet<W>),
}

impl<W: Write> TableWriter<W> {
    pub(super) fn new(format: TableFormat, columns: Vec<(String, Kind)>, writer: W) -> io::Result<Self> {
        Ok(match format {
            TableFormat::Csv => {
                let mut writer = csv::Writer::from_writer(writer);
                writer.write_record(columns.iter().map(|(name, _)| name))?;
                Self::Csv(Box::new(writer))
            }
            TableFormat::JsonLines => Self::JsonLines(JsonLines::new(columns, writer)),
            TableFormat::Parquet => Self::Parquet(Parquet::new(columns, writer)?),
        })
    }

    /// One value for each column, each of its column's kind or none.
    pub(super) fn push(&mut self, row: Vec<Cell>) -> io::Result<()> {
        match self {
            Self::Csv(writer) => Ok(writer.write_record(row.into_iter().map(to_text))?),
            Self::JsonLines(lines) => lines.push(&row),
            Self::Parquet(parquet) => parquet.push(row),
        }
    }

    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Csv(writer) => writer.into_inner().map_err(csv::IntoInnerError::into_error),
            Self::JsonLines(lines) => Ok(lines.finish()),
            Self::Parquet(parquet) => parquet.finish(),
        }
    }
}

fn to_text(cell: Cell) -> String {
    match cell {
        Cell::None => String::new(),
        Cell::Text(text) => text,
        Cell::Number(value) => number(value),
        Cell::Whole(value) => value.to_string(),
    }
}
