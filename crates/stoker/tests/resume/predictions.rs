//! What a run is trained for.

use std::fs;

use crate::stage::{RUN, Stage};

#[test]
fn every_image_gets_a_row_whose_probabilities_sum_to_one_and_twice_the_same() {
    let stage = Stage::finished();
    let tables = ["once.csv", "again.csv"].map(|file| {
        let arguments = format!("predict --run {RUN} --input data/test --tta essential --output {file}");
        (stage.succeed(&arguments).stdout.replace(file, "FILE"), fs::read_to_string(stage.path(file)).unwrap())
    });
    assert_eq!(tables[0], tables[1]);
    let (table, csv) = &tables[0];
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["file", "class", "dots", "stripes", "waves", "error"]);
    let files: Vec<&str> = rows[1..].iter().map(|row| row[0]).collect();
    assert_eq!(files, ["dots/0.png", "dots/1.png", "stripes/0.png", "stripes/1.png", "waves/0.png", "waves/1.png"]);
    for row in &rows[1..] {
        let probabilities: Vec<f64> = row[2..5].iter().map(|cell| cell.parse().expect("a number")).collect();
        // Three f32 numbers below 1, each rounded once.
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{row:?}");
        let highest = probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("three of them").0;
        assert_eq!((row[1], row[5]), (rows[0][2 + highest], ""));
    }
    let lines: Vec<&str> = table.lines().collect();
    let starts = ["", "without TTA ", "with TTA, 5 views ", "6 rows written to FILE"];
    assert!(lines.len() == 4 && lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{table}");
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["macro-F1", "accuracy", "images"]);
}
