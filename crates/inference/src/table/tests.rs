use std::fs;
use std::path::PathBuf;

use data_pipeline::Sample;

use super::*;
use crate::View;

fn classes() -> Vec<String> {
    ["cat", "dog", "owl"].map(str::to_owned).into()
}

/// Three images: one that is labelled, one without a label, one that cannot be read.
fn dataset() -> Dataset {
    let sample = |(name, label)| Sample { path: PathBuf::from("test").join(name), label, group: None };
    let samples = [("a/1.png", Some(1)), ("a/2 \"b\".png", None), ("b/3.png", Some(0))].map(sample);
    Dataset { root: "test".into(), classes: classes(), samples: samples.into(), ignored_files: 0 }
}

fn predictions() -> [Prediction; 3] {
    let scored = |sample, merged: [f32; 3]| Prediction {
        sample,
        outcome: Outcome::Scored { plain: vec![1.0, 0.0, 0.0], merged: merged.into() },
    };
    let unreadable = Outcome::Unreadable { reason: "cut short".to_owned() };
    [scored(0, [0.25, 0.5, 0.25]), scored(1, [0.0, 0.0, 1.0]), Prediction { sample: 2, outcome: unreadable }]
}

fn layout(columns: &str) -> TableLayout {
    let columns: Vec<Column> = columns.split(',').map(|name| name.parse().unwrap()).collect();
    TableLayout::new(&columns, &classes()).unwrap()
}

fn written(format: TableFormat, columns: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let (layout, dataset) = (layout(columns), dataset());
    let mut table = PredictionTable::create(&path, format, &layout, &dataset).unwrap();
    predictions().iter().for_each(|prediction| table.push(prediction).unwrap());
    assert!(!path.exists());
    table.finish().unwrap();
    fs::read(&path).unwrap()
}

const ALL: &str = "file,class,index,label,confidence,entropy,probabilities,top2,error";

#[test]
fn every_column_has_its_name_and_its_value() {
    let expected = "\
file,class,index,label,confidence,entropy,cat,dog,owl,top1,top1_probability,top2,top2_probability,error
a/1.png,dog,1,dog,0.5,1.0397208,0.25,0.5,0.25,dog,0.5,cat,0.25,
\"a/2 \"\"b\"\".png\",owl,2,,1,0,0,0,1,owl,1,cat,0,
b/3.png,,,cat,,,,,,,,,,cut short
";
    assert_eq!(String::from_utf8(written(TableFormat::Csv, ALL)).unwrap(), expected);
}

#[test]
fn json_lines_have_a_key_for_each_column_and_null_for_what_is_not_there() {
    let expected = r#"{"file":"a/1.png","label":"dog","cat":0.25,"dog":0.5,"owl":0.25,"index":1,"error":null}
{"file":"a/2 \"b\".png","label":null,"cat":0.0,"dog":0.0,"owl":1.0,"index":2,"error":null}
{"file":"b/3.png","label":"cat","cat":null,"dog":null,"owl":null,"index":null,"error":"cut short"}
"#;
    let lines = written(TableFormat::JsonLines, "file,label,probabilities,index,error");
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
}

#[test]
fn a_class_named_like_another_column_gets_a_name_of_its_own() {
    let classes = ["error", "fine"].map(str::to_owned);
    let names = |columns: &[Column]| TableLayout::new(columns, &classes).unwrap().names().collect::<Vec<_>>().join(",");
    assert_eq!(names(&Column::DEFAULT), "file,class,probability_error,probability_fine,error");
    assert_eq!(names(&[Column::File, Column::Probabilities]), "file,error,fine");
}

#[test]
fn columns_that_make_no_table_are_refused() {
    let refused = |columns: &[Column]| TableLayout::new(columns, &classes()).unwrap_err();
    assert_eq!(refused(&[]), ColumnError::None);
    assert_eq!(refused(&[Column::File, Column::File]), ColumnError::Twice { column: Column::File });
    assert_eq!(refused(&[Column::Top(1), Column::Top(3)]), ColumnError::Twice { column: Column::Top(3) });
    let error = refused(&[Column::Top(4)]);
    assert_eq!(error.to_string(), "column `top4` asks for more classes than there are: 3");
    assert_eq!(error.hint(), "ask for `top3`, or for `probabilities`");
    for name in ["top", "top0", "top03", "top-1", "File", "", "probability"] {
        assert!(matches!(name.parse::<Column>(), Err(ColumnError::Unknown { .. })), "{name}");
    }
    for column in Column::DEFAULT.into_iter().chain([Column::Top(12), Column::Entropy]) {
        assert_eq!(column.to_string().parse(), Ok(column));
        assert_eq!(format!(" {column} ").parse(), Ok(column), "as in `file, class`");
    }
}

#[test]
fn entropy_goes_from_certain_to_undecided() {
    assert_eq!(entropy(&[0.0, 1.0, 0.0]).to_bits(), 0.0f32.to_bits(), "not -0");
    assert!((entropy(&[0.25; 4]) - 4.0f32.ln()).abs() < 1e-6);
}

#[test]
fn a_table_that_is_given_up_or_lacks_images_leaves_what_stood_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    fs::write(&path, "old").unwrap();
    let (layout, dataset) = (layout("file"), dataset());
    let begin = || PredictionTable::create(&path, TableFormat::Csv, &layout, &dataset).unwrap();
    let [first, second, third] = predictions();
    let mut table = begin();
    table.push(&first).unwrap();
    assert!(matches!(table.push(&third), Err(PredictError::OtherPredictions { index: 1, .. })));
    table.push(&second).unwrap();
    assert!(matches!(table.finish(), Err(PredictError::OtherPredictions { index: 2, .. })));
    let not_finite = Prediction { sample: 0, outcome: Outcome::NotFinite { view: View::IDENTITY } };
    begin().push(&not_finite).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// The file of `written(Parquet, ALL)` as pyarrow 26 read it, with `scripts/check_parquet.py`: cell for cell what the CSV says.
#[test]
fn a_parquet_file_is_the_one_that_was_read_elsewhere() {
    let found = written(TableFormat::Parquet, ALL);
    let expected = include_bytes!("fixtures/all_columns.parquet");
    assert!(
        found == expected,
        "the bytes differ: check them with `scripts/check_parquet.py`, then replace the fixture"
    );
}
