//! Apache Parquet, the plain part of it: optional columns of text, `f32` and `i32` values, one page a column in each group of rows, not
//! compressed. A crate would bring a reader, compression and nested types, and change features of crates that Burn is built with.
//!
//! Source: <https://github.com/apache/parquet-format>, `README.md`, `Encodings.md` and `src/main/thrift/parquet.thrift`.

use std::io::{self, Write};

use super::thrift::{Value, write_varint};
use super::{Cell, Kind};

const MAGIC: &[u8] = b"PAR1";

/// A group is written once it holds this many bytes: what the writer keeps in memory.
const GROUP_BYTES: usize = 4 << 20;

/// Or this many rows, whose definition levels take no bytes of their own until then.
const GROUP_ROWS: usize = 1 << 17;

/// Numbers of the format's enumerations.
mod number {
    pub(super) const INT32: i32 = 1;
    pub(super) const FLOAT: i32 = 4;
    pub(super) const BYTE_ARRAY: i32 = 6;
    pub(super) const OPTIONAL: i32 = 1;
    pub(super) const UTF8: i32 = 0;
    pub(super) const PLAIN: i32 = 0;
    pub(super) const RLE: i32 = 3;
    pub(super) const DATA_PAGE: i32 = 0;
    pub(super) const UNCOMPRESSED: i32 = 0;
}

pub(super) struct Parquet<W> {
    columns: Vec<Column>,
    rows_in_group: usize,
    rows: usize,
    groups: Vec<Value>,
    /// Bytes written so far.
    position: u64,
    writer: W,
}

/// A column's share of the group at hand.
struct Column {
    name: String,
    kind: Kind,
    /// Whether each row has a value, as runs of equal ones.
    runs: Vec<(bool, usize)>,
    values: Vec<u8>,
}

impl<W: Write> Parquet<W> {
    pub(super) fn new(columns: Vec<(String, Kind)>, mut writer: W) -> io::Result<Self> {
        writer.write_all(MAGIC)?;
        let column = |(name, kind)| Column { name, kind, runs: Vec::new(), values: Vec::new() };
        let columns = columns.into_iter().map(column).collect();
        Ok(Self { columns, rows_in_group: 0, rows: 0, groups: Vec::new(), position: MAGIC.len() as u64, writer })
    }

    pub(super) fn push(&mut self, row: Vec<Cell>) -> io::Result<()> {
        self.columns.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
        self.rows_in_group += 1;
        self.rows += 1;
        let bytes: usize = self.columns.iter().map(Column::bytes).sum();
        if bytes >= GROUP_BYTES || self.rows_in_group >= GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.rows_in_group > 0 {
            self.write_group()?;
        }
        let mut footer = Vec::new();
        self.file_metadata().write(&mut footer);
        let length =
            u32::try_from(footer.len()).map_err(|_| io::Error::other("too many columns for a Parquet file"))?;
        self.writer.write_all(&footer)?;
        self.writer.write_all(&length.to_le_bytes())?;
        self.writer.write_all(MAGIC)?;
        Ok(self.writer)
    }

    fn write_group(&mut self) -> io::Result<()> {
        let (rows, begin) = (self.rows_in_group, self.position);
        let mut chunks = Vec::with_capacity(self.columns.len());
        for column in &mut self.columns {
            let page = column.take_page(rows);
            let (offset, bytes) = (self.position as i64, page.len() as i64);
            self.writer.write_all(&page)?;
            self.position += page.len() as u64;
            chunks.push(column.chunk(rows, offset, bytes));
        }
        let bytes = (self.position - begin) as i64;
        let group = vec![(1, Value::List(chunks)), (2, Value::I64(bytes)), (3, Value::I64(rows as i64))];
        self.groups.push(Value::Struct(group));
        self.rows_in_group = 0;
        Ok(())
    }

    fn file_metadata(&mut self) -> Value {
        let root = vec![(4, Value::Text("predictions".to_owned())), (5, Value::I32(self.columns.len() as i32))];
        let schema = std::iter::once(Value::Struct(root)).chain(self.columns.iter().map(Column::schema));
        Value::Struct(vec![
            (1, Value::I32(1)),
            (2, Value::List(schema.collect())),
            (3, Value::I64(self.rows as i64)),
            (4, Value::List(std::mem::take(&mut self.groups))),
            (6, Value::Text("stoker".to_owned())),
        ])
    }
}

impl Column {
    fn push(&mut self, cell: Cell) {
        let is_there = cell != Cell::None;
        match self.runs.last_mut() {
            Some((same, count)) if *same == is_there => *count += 1,
            _ => self.runs.push((is_there, 1)),
        }
        match cell {
            Cell::None => {}
            Cell::Text(text) => {
                self.values.extend((text.len() as u32).to_le_bytes());
                self.values.extend(text.as_bytes());
            }
            Cell::Number(number) => self.values.extend(number.to_le_bytes()),
            Cell::Whole(number) => self.values.extend(number.to_le_bytes()),
        }
    }

    /// What the column keeps in memory.
    fn bytes(&self) -> usize {
        self.values.len() + self.runs.len() * size_of::<(bool, usize)>()
    }

    /// The page of a group, header included; the column is empty then.
    fn take_page(&mut self, rows: usize) -> Vec<u8> {
        let mut levels = Vec::new();
        for (is_there, count) in self.runs.drain(..) {
            // A run of the hybrid encoding: its length with a zero bit below it, and the value in whole bytes.
            write_varint((count as u64) << 1, &mut levels);
            levels.push(u8::from(is_there));
        }
        let size = (4 + levels.len() + self.values.len()) as i32;
        let data = vec![
            (1, Value::I32(rows as i32)),
            (2, Value::I32(number::PLAIN)),
            (3, Value::I32(number::RLE)),
            (4, Value::I32(number::RLE)),
        ];
        let header = [
            (1, Value::I32(number::DATA_PAGE)),
            (2, Value::I32(size)),
            (3, Value::I32(size)),
            (5, Value::Struct(data)),
        ];
        let mut page = Vec::with_capacity(64 + size as usize);
        Value::Struct(header.into()).write(&mut page);
        page.extend((levels.len() as u32).to_le_bytes());
        page.append(&mut levels);
        page.append(&mut self.values);
        page
    }

    fn chunk(&self, rows: usize, offset: i64, bytes: i64) -> Value {
        let encodings = [number::PLAIN, number::RLE].map(Value::I32);
        let metadata = vec![
            (1, Value::I32(self.physical_type())),
            (2, Value::List(encodings.into())),
            (3, Value::List(vec![Value::Text(self.name.clone())])),
            (4, Value::I32(number::UNCOMPRESSED)),
            (5, Value::I64(rows as i64)),
            (6, Value::I64(bytes)),
            (7, Value::I64(bytes)),
            (9, Value::I64(offset)),
        ];
        Value::Struct(vec![(2, Value::I64(offset)), (3, Value::Struct(metadata))])
    }

    fn schema(&self) -> Value {
        let mut element = vec![
            (1, Value::I32(self.physical_type())),
            (3, Value::I32(number::OPTIONAL)),
            (4, Value::Text(self.name.clone())),
        ];
        if self.kind == Kind::Text {
            element.push((6, Value::I32(number::UTF8)));
        }
        Value::Struct(element)
    }

    fn physical_type(&self) -> i32 {
        match self.kind {
            Kind::Text => number::BYTE_ARRAY,
            Kind::Number => number::FLOAT,
            Kind::Whole => number::INT32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_written_as_they_fill_so_that_memory_does_not_grow() {
        let mut parquet = Parquet::new(vec![("text".to_owned(), Kind::Text)], Vec::new()).unwrap();
        let text = "x".repeat(GROUP_BYTES / 4);
        for (row, groups) in [0, 0, 0, 1, 1, 1, 1, 2, 2].into_iter().enumerate() {
            parquet.push(vec![Cell::Text(text.clone())]).unwrap();
            assert_eq!(parquet.groups.len(), groups, "row {row}");
            assert!(parquet.columns[0].bytes() < GROUP_BYTES);
        }
        let written = parquet.finish().unwrap();
        assert!(written.starts_with(MAGIC) && written.ends_with(MAGIC) && written.len() > 9 * text.len());
    }
}
