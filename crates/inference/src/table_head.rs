//! Whether a file is a table that another may take the place of: what can be told by how it begins.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::{TableFormat, TableLayout};

/// How a Parquet file begins.
const PARQUET: [u8; 4] = *b"PAR1";

/// Whether the file at `path` is a table in this format with the columns of `layout`, as an earlier prediction would have left it. Of a Parquet
/// file the columns are not read. A file that cannot be read is none, and one without a byte has nothing to lose.
#[must_use]
pub fn is_table_of(path: &Path, format: TableFormat, layout: &TableLayout) -> bool {
    let is_empty = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0);
    is_empty
        || match format {
            TableFormat::Csv => has_header(path, layout).unwrap_or(false),
            TableFormat::JsonLines => has_keys(path, layout).unwrap_or(false),
            TableFormat::Parquet => is_parquet(path).unwrap_or(false),
        }
}

fn has_header(path: &Path, layout: &TableLayout) -> Result<bool, csv::Error> {
    let mut reader = csv::Reader::from_path(path)?;
    Ok(reader.headers()?.iter().eq(layout.names()))
}

/// In the first line; the others have the same.
fn has_keys(path: &Path, layout: &TableLayout) -> io::Result<bool> {
    let mut line = String::new();
    BufReader::new(File::open(path)?).read_line(&mut line)?;
    let row: Map<String, Value> = serde_json::from_str(&line)?;
    Ok(row.len() == layout.names().count() && layout.names().all(|name| row.contains_key(name)))
}

fn is_parquet(path: &Path) -> io::Result<bool> {
    let mut start = [0; PARQUET.len()];
    File::open(path)?.read_exact(&mut start)?;
    Ok(start == PARQUET)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use data_pipeline::{Dataset, Sample};

    use super::*;
    use crate::{Column, Outcome, Prediction, PredictionTable};

    const FORMATS: [TableFormat; 3] = [TableFormat::Csv, TableFormat::JsonLines, TableFormat::Parquet];

    fn layout(columns: &[&str]) -> TableLayout {
        let columns: Vec<Column> = columns.iter().map(|name| name.parse().unwrap()).collect();
        TableLayout::new(&columns, &["cat".to_owned(), "big,\ndog".to_owned()]).unwrap()
    }

    /// A table of one image at `path`.
    fn write(path: &Path, format: TableFormat, layout: &TableLayout) {
        let sample = Sample { path: PathBuf::from("1.png"), label: None, group: None };
        let classes = layout.classes.clone();
        let dataset = Dataset { root: PathBuf::new(), classes, samples: vec![sample], ignored_files: 0 };
        let mut table = PredictionTable::create(path, format, layout, &dataset).unwrap();
        let outcome = Outcome::Scored { plain: vec![0.5, 0.5], merged: vec![0.25, 0.75] };
        table.push(&Prediction { sample: 0, outcome }).unwrap();
        table.finish().unwrap();
    }

    #[test]
    fn a_table_is_known_again_by_its_columns_and_no_other_file_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        let (own, other) = (layout(&["file", "class", "probabilities", "error"]), layout(&["file", "label"]));
        for format in FORMATS {
            assert!(!is_table_of(&path, format, &own), "there is none");
            write(&path, format, &own);
            assert!(is_table_of(&path, format, &own), "{format}");
            for another in FORMATS.into_iter().filter(|another| *another != format) {
                assert!(!is_table_of(&path, another, &own), "{format} is no {another}");
            }
            write(&path, format, &other);
            assert_eq!(is_table_of(&path, format, &own), format == TableFormat::Parquet, "{format}");
            std::fs::write(&path, "{}").unwrap();
            assert!(!is_table_of(&path, format, &own), "{format}");
            std::fs::write(&path, "").unwrap();
            assert!(is_table_of(&path, format, &own), "{format}: nothing is lost");
            std::fs::remove_file(&path).unwrap();
        }
    }
}
