//! Predictions as a table.

use std::path::{Path, PathBuf};

use data_pipeline::Dataset;

use crate::{Column, PredictError, Prediction, PredictionTable, TableFormat, TableLayout};

/// Writes `file,class,<a column a class>,error`: a row for each sample, in the data set's order (for a folder: of relative
/// paths). The file appears whole or not at all.
///
/// `file` is the relative path with `/` between folders on every system, `class` the most probable class over all views, and
/// the class columns hold the merged probabilities, in the fewest digits that read back as the same `f32`. An image
/// without probabilities has the reason in `error` and nothing in between.
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

/// Writes the rows of several files of predictions under one another, each with the name of its part in a column `column` before the others. The file
/// appears whole or not at all.
///
/// # Errors
/// [`PredictError::Table`] for a part that cannot be read or has other columns than the first; [`PredictError::Write`].
pub fn join_csv(path: &Path, column: &str, parts: &[(String, PathBuf)]) -> Result<(), PredictError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut header: Option<csv::StringRecord> = None;
    let mut write = |name: &str, record: &csv::StringRecord| {
        let fields = std::iter::once(name).chain(record);
        writer.write_record(fields).expect("memory takes every byte, and all rows have a field for each column");
    };
    for (name, part) in parts {
        let refused = |reason: String| PredictError::Table { path: part.clone(), reason };
        let mut reader = csv::Reader::from_path(part).map_err(|error| refused(error.to_string()))?;
        let columns = reader.headers().map_err(|error| refused(error.to_string()))?.clone();
        match &header {
            None => write(column, &columns),
            Some(first) if *first != columns => return Err(refused("its columns are not those of the others".into())),
            Some(_) => {}
        }
        for record in reader.records() {
            write(name, &record.map_err(|error| refused(error.to_string()))?);
        }
        header = Some(columns);
    }
    let content = writer.into_inner().expect("memory takes every byte");
    Ok(checkpoint::write_atomically(path, &content)?)
}

/// A path with `/` between folders on every system.
pub(crate) fn file_name(path: &Path) -> String {
    let text = path.to_string_lossy();
    if cfg!(windows) { text.replace('\\', "/") } else { text.into_owned() }
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

        let other = [parts[0].clone(), part("2", "file,label\nb.png,z\n")];
        assert!(matches!(join_csv(&joined, "fold", &other), Err(PredictError::Table { .. })));
        let missing = [("3".to_owned(), folder.path().join("3"))];
        assert!(matches!(join_csv(&joined, "fold", &missing), Err(PredictError::Table { .. })));
        assert_eq!(std::fs::read_to_string(&joined).unwrap(), expected, "what stood there is kept");
    }
}
