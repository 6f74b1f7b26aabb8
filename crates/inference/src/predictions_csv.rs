//! Predictions as a table.

use std::path::{Path, PathBuf};

use data_pipeline::Dataset;
// As each table names a file.
pub(crate) use data_pipeline::path_text as file_name;

use crate::{Column, PredictError, Prediction, PredictionTable, TableFormat, TableLayout};

/// Writes `file,class,<a column a class>,error`: a row for each sample, in the data set's order (for a folder: of relative
/// paths). The file appears whole or not at all.
///
/// `file` is the relative path with `/` between folders on every system, and each byte that is no UTF-8 as `\xff`; `class`
/// is the most probable class over all views, and the class columns hold the merged probabilities, in the fewest digits
/// that read back as the same `f32`. An image without probabilities has the reason in `error` and nothing in between.
///
/// # Errors
/// [`PredictError::OtherPredictions`] where `predictions` are not one a sample, in order, with a probability for each of `classes`;
/// [`PredictError::Write`].
pub fn write_csv(
    path: &Path,
    dataset: &Dataset,
    classes: &[String],
    predictions: &[Prediction],
) -> Result<(), PredictError> {
    let layout = TableLayout::new(&Column::DEFAULT, classes).expect("the columns of every table are each there once");
    let mut table = PredictionTable::create(path, TableFormat::Csv, &layout, dataset)?;
    predictions.iter().try_for_each(|prediction| table.push(prediction))?;
    table.finish()
}

/// The bytes of a CSV file whose rows have a field for each column.
pub(crate) fn to_table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let complete = "memory takes every byte, and all rows have a field for each column";
    writer.write_record(header).expect(complete);
    rows.for_each(|row| writer.write_record(row).expect(complete));
    writer.into_inner().expect("memory takes every byte")
}

/// Writes the rows of several files of predictions under one another, each with the name of its part in a column `column` before the others. Columns go
/// by their names: a part may lack some, as those of older versions do, and has nothing there. The file appears whole or not at all.
///
/// # Errors
/// [`PredictError::Table`] for a part that cannot be read or has a column that the fullest one lacks; [`PredictError::Write`].
pub fn join_csv(path: &Path, column: &str, parts: &[(String, PathBuf)]) -> Result<(), PredictError> {
    let parts = parts.iter().map(Part::read).collect::<Result<Vec<_>, _>>()?;
    let columns = parts.iter().map(|part| part.header.clone()).max_by_key(csv::StringRecord::len).unwrap_or_default();
    let header: Vec<&str> = std::iter::once(column).chain(&columns).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for part in &parts {
        let places = part.places(&columns)?;
        rows.extend(part.rows.iter().map(|row| {
            let fields =
                places.iter().map(|place| place.and_then(|place| row.get(place)).unwrap_or_default().to_owned());
            std::iter::once(part.name.to_owned()).chain(fields).collect::<Vec<String>>()
        }));
    }
    Ok(checkpoint::write_atomically(path, &to_table(&header, rows.into_iter()))?)
}

/// A file of predictions that is joined with others.
struct Part<'p> {
    name: &'p str,
    path: &'p Path,
    header: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

impl<'p> Part<'p> {
    fn read((name, path): &'p (String, PathBuf)) -> Result<Self, PredictError> {
        let refused = |error: csv::Error| PredictError::Table { path: path.clone(), reason: error.to_string() };
        let mut reader = csv::Reader::from_path(path).map_err(refused)?;
        let header = reader.headers().map_err(refused)?.clone();
        let rows = reader.records().collect::<Result<Vec<_>, _>>().map_err(refused)?;
        Ok(Self { name, path, header, rows })
    }

    /// Where each of the columns stands in it; none for one that it lacks.
    fn places(&self, columns: &csv::StringRecord) -> Result<Vec<Option<usize>>, PredictError> {
        if self.header.iter().any(|own| columns.iter().all(|column| column != own)) {
            let reason = "its columns are not those of the others".to_owned();
            return Err(PredictError::Table { path: self.path.to_owned(), reason });
        }
        Ok(columns.iter().map(|column| self.header.iter().position(|own| own == column)).collect())
    }
}

/// Below this, zeros would outnumber digits. The exponent form is understood wherever CSV is read.
const SMALLEST_PLAIN: f32 = 1e-4;

/// The fewest digits that read back as the same number.
pub(crate) fn number(value: f32) -> String {
    if value != 0.0 && value.abs() < SMALLEST_PLAIN { format!("{value:e}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use data_pipeline::Sample;

    use super::*;
    use crate::{Outcome, View};

    fn dataset(files: &[&str], classes: &[&str]) -> Dataset {
        Dataset {
            root: PathBuf::from("test"),
            classes: classes.iter().map(|&class| class.to_owned()).collect(),
            samples: files
                .iter()
                .map(|file| Sample { path: Path::new("test").join(file), label: None, group: None })
                .collect(),
            ignored_files: 0,
        }
    }

    fn to_csv(dataset: &Dataset, classes: &[String], predictions: &[Prediction]) -> Result<Vec<u8>, PredictError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        write_csv(&path, dataset, classes, predictions).map(|()| std::fs::read(&path).unwrap())
    }

    fn scored(sample: usize, merged: &[f32]) -> Prediction {
        Prediction { sample, outcome: Outcome::Scored { plain: vec![9.0; merged.len()], merged: merged.to_vec() } }
    }

    fn unreadable(sample: usize, reason: &str) -> Prediction {
        Prediction { sample, outcome: Outcome::Unreadable { reason: reason.to_owned() } }
    }

    #[test]
    fn every_file_has_a_row_and_what_needs_quotes_gets_them() {
        let dataset = dataset(&["a/1.png", "a/2, \"copy\".png", "b/3.png", "b/4.png"], &["cat", "dog, big"]);
        let predictions = [
            scored(0, &[0.75, 0.25]),
            scored(1, &[3.0e-8, 1.0]),
            unreadable(2, "not an image, \"IEND\" is missing\nat byte 7"),
            Prediction { sample: 3, outcome: Outcome::NotFinite { view: View::IDENTITY } },
        ];
        let csv = to_csv(&dataset, &dataset.classes, &predictions).unwrap();
        let expected = "\
file,class,cat,\"dog, big\",error
a/1.png,cat,0.75,0.25,
\"a/2, \"\"copy\"\".png\",\"dog, big\",3e-8,1,
b/3.png,,,,\"not an image, \"\"IEND\"\" is missing
at byte 7\"
b/4.png,,,,the model's scores are not finite in view `identity`
";
        assert_eq!(String::from_utf8(csv).unwrap(), expected);
    }

    #[test]
    fn numbers_read_back_as_the_same_number() {
        for value in [0.0, 1.0, 0.1, 1.0 / 3.0, 1e-4, 9.999e-5, 1.17e-38, 1e-45, 0.999_999_94] {
            let text = number(value);
            assert_eq!(text.parse::<f32>(), Ok(value), "{text}");
            assert!(text.len() <= 14, "{text}");
        }
    }

    #[test]
    fn predictions_of_another_data_set_are_refused() {
        let dataset = dataset(&["1.png", "2.png"], &["cat", "dog"]);
        let classes = &dataset.classes;
        let good = [scored(0, &[0.5, 0.5]), scored(1, &[0.5, 0.5])];
        assert!(to_csv(&dataset, classes, &good).is_ok());
        let refused = |predictions: &[Prediction]| to_csv(&dataset, classes, predictions).unwrap_err().to_string();
        let expected = "prediction 1 does not belong to the data set of 2 images and 2 classes";
        assert_eq!(refused(&good[..1]), expected, "one too few");
        assert_eq!(refused(&[good[0].clone(), good[0].clone()]), expected, "one twice");
        assert_eq!(refused(&[good[0].clone(), scored(1, &[1.0])]), expected, "other width");
        let three = [&good[..], &[unreadable(2, "cut short")]].concat();
        assert!(refused(&three).starts_with("prediction 2 "), "one too many");
    }

    #[test]
    fn the_file_is_replaced_whole_and_a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions.csv");
        let dataset = dataset(&["1.png"], &["cat", "dog"]);
        for merged in [[0.25, 0.75], [1.0, 0.0]] {
            write_csv(&path, &dataset, &dataset.classes, &[scored(0, &merged)]).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, "file,class,cat,dog,error\n1.png,cat,1,0,\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        let nowhere = folder.path().join("missing/predictions.csv");
        let error = write_csv(&nowhere, &dataset, &dataset.classes, &[scored(0, &[1.0, 0.0])]).unwrap_err();
        assert!(matches!(error, PredictError::Write(_)), "{error}");
    }

    #[test]
    fn parts_are_joined_under_one_header_with_a_column_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let part = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            (name.to_owned(), path)
        };
        let parts = [part("0", "file,class\na.png,\"x,y\"\n"), part("1", "file,class\nb.png,z\n")];
        let joined = folder.path().join("all.csv");
        join_csv(&joined, "fold", &parts).unwrap();
        let expected = "fold,file,class\n0,a.png,\"x,y\"\n1,b.png,z\n";
        assert_eq!(std::fs::read_to_string(&joined).unwrap(), expected);

        // An older version had no labels: rows have nothing there, whichever part comes first.
        let labelled = part("3", "file,label,class\nc.png,z,y\n");
        join_csv(&joined, "fold", &[parts[1].clone(), labelled.clone()]).unwrap();
        assert_eq!(std::fs::read_to_string(&joined).unwrap(), "fold,file,label,class\n1,b.png,,z\n3,c.png,z,y\n");
        join_csv(&joined, "fold", &[labelled, parts[1].clone()]).unwrap();
        assert_eq!(std::fs::read_to_string(&joined).unwrap(), "fold,file,label,class\n3,c.png,z,y\n1,b.png,,z\n");
        join_csv(&joined, "fold", &parts).unwrap();

        let other = [parts[0].clone(), part("2", "file,label\nb.png,z\n")];
        assert!(matches!(join_csv(&joined, "fold", &other), Err(PredictError::Table { .. })));
        let missing = [("4".to_owned(), folder.path().join("4"))];
        assert!(matches!(join_csv(&joined, "fold", &missing), Err(PredictError::Table { .. })));
        assert_eq!(std::fs::read_to_string(&joined).unwrap(), expected, "what stood there is kept");
    }
}
