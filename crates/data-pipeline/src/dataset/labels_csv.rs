//! A data set as a CSV with the columns `file` and `label`, and perhaps `group`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use csv::StringRecord;

use super::{Dataset, DatasetError, Labels, Sample, UnknownLabels, is_image_path, natural_order};

/// How many missing files an error names before it only counts.
const MAX_MISSING_SHOWN: usize = 5;

/// The labels in the file are the classes.
pub(super) fn open(path: &Path) -> Result<Dataset, DatasetError> {
    let table = Table::read(path, LabelColumn::Required)?;
    let names: BTreeSet<&str> = table.rows.iter().filter_map(|row| row.label.as_deref()).collect();
    let mut classes: Vec<String> = names.into_iter().map(str::to_owned).collect();
    classes.sort_by(|left, right| natural_order(left, right));
    Ok(table.into_dataset(&classes))
}

/// Every label must be a known class.
pub(super) fn open_for_classes(path: &Path, classes: &[String]) -> Result<Dataset, DatasetError> {
    let table = Table::read(path, LabelColumn::Required)?;
    let labels = Labels::new(classes);
    let unknown = table.unknown_labels(&labels).next();
    match unknown {
        Some((example, class)) => Err(DatasetError::UnknownClass { class, example, known: classes.to_vec() }),
        None => Ok(table.into_dataset(classes)),
    }
}

/// Labels may be absent, empty or unknown.
pub(super) fn open_for_prediction(path: &Path, classes: &[String]) -> Result<(Dataset, UnknownLabels), DatasetError> {
    let table = Table::read(path, LabelColumn::Optional)?;
    let unknown: UnknownLabels = table.unknown_labels(&Labels::new(classes)).collect();
    Ok((table.into_dataset(classes), unknown))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LabelColumn {
    Required,
    Optional,
}

struct Table {
    folder: PathBuf,
    rows: Vec<Row>,
}

struct Row {
    line: u64,
    file: PathBuf,
    label: Option<String>,
    group: Option<String>,
}

impl Table {
    fn read(path: &Path, label_column: LabelColumn) -> Result<Self, DatasetError> {
        let bytes = fs::read(path).map_err(|error| DatasetError::unreadable(path, error))?;
        let folder = without_dots(path.parent().unwrap_or(Path::new("")));
        let rows = Parser::new(path, &folder, label_column, &bytes)?.rows()?;
        if rows.is_empty() {
            return Err(DatasetError::NoImages { path: path.to_owned(), ignored_files: 0 });
        }
        refuse_duplicates(path, &rows)?;
        refuse_missing(path, &rows)?;
        Ok(Self { folder, rows })
    }

    /// The files whose label is no class, each with the label.
    fn unknown_labels(&self, labels: &Labels<'_>) -> impl Iterator<Item = (PathBuf, String)> {
        self.rows.iter().filter_map(move |row| {
            let label = row.label.as_deref().filter(|label| labels.of(label).is_none())?;
            Some((row.file.clone(), label.to_owned()))
        })
    }

    fn into_dataset(self, classes: &[String]) -> Dataset {
        let labels = Labels::new(classes);
        let samples = self.rows.into_iter().map(|row| {
            let label = row.label.as_deref().and_then(|label| labels.of(label));
            Sample { path: row.file, label, group: row.group }
        });
        let samples = samples.collect();
        Dataset { root: self.folder, classes: classes.to_vec(), samples, ignored_files: 0 }
    }
}

/// Spreadsheets begin UTF-8 files with this mark.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

struct Parser<'a> {
    path: &'a Path,
    folder: &'a Path,
    label_column: LabelColumn,
    reader: csv::Reader<&'a [u8]>,
    file_index: usize,
    label_index: Option<usize>,
    group_index: Option<usize>,
}

impl<'a> Parser<'a> {
    fn new(path: &'a Path, folder: &'a Path, label_column: LabelColumn, bytes: &'a [u8]) -> Result<Self, DatasetError> {
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        let reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
        let mut parser =
            Self { path, folder, label_column, reader, file_index: 0, label_index: None, group_index: None };
        let header = parser.reader.headers().cloned().map_err(|error| malformed_by(path, &error))?;
        parser.file_index =
            column(&header, "file").ok_or_else(|| malformed(path, 1, missing_column("file", &header)))?;
        parser.label_index = column(&header, "label");
        parser.group_index = column(&header, "group");
        if parser.label_index.is_none() && label_column == LabelColumn::Required {
            return Err(malformed(path, 1, missing_column("label", &header)));
        }
        Ok(parser)
    }

    fn rows(mut self) -> Result<Vec<Row>, DatasetError> {
        let mut rows = Vec::new();
        let mut record = StringRecord::new();
        while self.reader.read_record(&mut record).map_err(|error| malformed_by(self.path, &error))? {
            rows.push(self.row(&record)?);
        }
        Ok(rows)
    }

    fn row(&self, record: &StringRecord) -> Result<Row, DatasetError> {
        let line = record.position().map_or(0, csv::Position::line);
        let name = record.get(self.file_index).unwrap_or_default();
        let cell = |index: Option<usize>| index.and_then(|index| record.get(index)).filter(|text| !text.is_empty());
        let label = cell(self.label_index);
        if name.is_empty() {
            return Err(malformed(self.path, line, "the column `file` is empty".into()));
        }
        if !is_image_path(Path::new(name)) {
            let reason = format!("`{name}` does not end in .jpg, .jpeg, .png, .bmp or .webp");
            return Err(malformed(self.path, line, reason));
        }
        if label.is_none() && self.label_column == LabelColumn::Required {
            return Err(malformed(self.path, line, format!("`{name}` has no label")));
        }
        let [label, group] = [label, cell(self.group_index)].map(|text| text.map(str::to_owned));
        Ok(Row { line, file: without_dots(&self.folder.join(name)), label, group })
    }
}

/// `./a.png` and `a.png` are one file.
fn without_dots(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

fn column(header: &StringRecord, name: &str) -> Option<usize> {
    header.iter().position(|found| found.eq_ignore_ascii_case(name))
}

fn missing_column(wanted: &str, header: &StringRecord) -> String {
    let found: Vec<String> = header.iter().map(|name| format!("`{name}`")).collect();
    let found = if found.is_empty() { "nothing".into() } else { found.join(", ") };
    let semicolons = header.len() == 1 && header.get(0).is_some_and(|name| name.contains(';'));
    let note = if semicolons { "; fields are separated by commas" } else { "" };
    format!("expected a column `{wanted}`, found {found}{note}")
}

fn malformed(path: &Path, line: u64, reason: String) -> DatasetError {
    DatasetError::MalformedCsv { path: path.to_owned(), line, reason }
}

fn malformed_by(path: &Path, error: &csv::Error) -> DatasetError {
    let line = error.position().map_or(1, csv::Position::line);
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("expected {expected_len} fields as in the first line, found {len}")
        }
        csv::ErrorKind::Utf8 { .. } => "the text is not valid UTF-8".into(),
        _ => error.to_string(),
    };
    malformed(path, line, reason)
}

fn refuse_duplicates(path: &Path, rows: &[Row]) -> Result<(), DatasetError> {
    let mut seen: BTreeMap<&PathBuf, &Row> = BTreeMap::new();
    for row in rows {
        if let Some(first) = seen.insert(&row.file, row) {
            let (path, file) = (path.to_owned(), row.file.clone());
            let labels = [first, row].map(|row| row.label.clone().unwrap_or_default());
            let labels = Some(labels).filter(|[first, second]| first != second);
            return Err(DatasetError::DuplicateFile { path, line: row.line, first_line: first.line, file, labels });
        }
    }
    Ok(())
}

fn refuse_missing(path: &Path, rows: &[Row]) -> Result<(), DatasetError> {
    let missing: Vec<&Row> = rows.iter().filter(|row| !row.file.is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let shown = missing.iter().take(MAX_MISSING_SHOWN).map(|row| (row.line, row.file.clone())).collect();
    Err(DatasetError::MissingFiles { path: path.to_owned(), missing: shown, count: missing.len(), rows: rows.len() })
}
