//! `predict` on what is not there or cannot be read.

use insta::assert_snapshot;

use crate::pictures;
use crate::stage::Stage;

const PREDICT: &str = "predict --run runs/latest --device cpu --input";

#[test]
fn a_missing_run_is_named() {
    assert_snapshot!(Stage::new().refuse("predict --run runs/nowhere --input photos --device cpu"));
}

#[test]
fn a_folder_that_is_no_run_is_refused() {
    assert_snapshot!(Stage::new().refuse("predict --run photos --input photos --device cpu"));
}

#[test]
fn a_missing_input_lists_what_is_there() {
    assert_snapshot!(Stage::trained().refuse(&format!("{PREDICT} photos/test")));
}

#[test]
fn an_empty_folder_has_nothing_to_predict() {
    assert_snapshot!(Stage::trained().folder("nothing").refuse(&format!("{PREDICT} nothing")));
}

#[test]
fn a_corrupt_image_is_a_row_with_its_error() {
    let stage = Stage::trained().file("photos/dog/half.jpg", pictures::truncated_jpeg());
    assert_snapshot!(stage.run(&format!("{PREDICT} photos --output rows.csv")));
    let rows = stage.read("rows.csv");
    assert_eq!(rows.lines().count(), 1 + 13, "a row for each image");
    assert!(rows.contains("\ndog/half.jpg,,,,the jpeg is cut off: it has no end marker\n"), "{rows}");
}

#[cfg(unix)]
#[test]
fn a_link_to_an_image_that_is_gone_is_a_row_with_its_error() {
    let stage = Stage::trained();
    std::os::unix::fs::symlink("/nowhere/at/all.png", stage.path("photos/dog/gone.png")).expect("writable");
    let printed = stage.run(&format!("{PREDICT} photos --output rows.csv"));
    assert!(printed.contains("exit code 0"), "{printed}");
    let rows = stage.read("rows.csv");
    assert_eq!(rows.lines().count(), 1 + 13, "a row for each image");
    assert!(rows.contains("\ndog/gone.png,,,,"), "{rows}");
}

#[test]
fn a_folder_without_one_readable_image_fails_with_its_rows_written() {
    let stage = Stage::trained().file("junk/1.jpg", "text").file("junk/2.png", "");
    assert_snapshot!(stage.run(&format!("{PREDICT} junk --output rows.csv")));
    assert_snapshot!("rows_of_unreadable_images", stage.read("rows.csv"));
}

#[test]
fn an_output_that_is_a_folder_is_refused_before_predicting() {
    assert_snapshot!(Stage::trained().refuse(&format!("{PREDICT} photos --output photos")));
}

#[test]
fn an_output_in_a_missing_folder_is_refused_before_predicting() {
    assert_snapshot!(Stage::trained().refuse(&format!("{PREDICT} photos --output no/such/rows.csv")));
}

#[test]
fn a_calibration_that_was_never_fitted_is_named() {
    assert_snapshot!(Stage::trained().refuse("predict --run runs/latest --input photos --use-calibration"));
}

#[test]
fn a_calibration_serves_the_views_that_it_was_fitted_with() {
    let stage = Stage::trained();
    let fitted = stage.run("calibrate --run runs/latest --tta legacy");
    assert!(fitted.contains("exit code 0") && fitted.contains("in 3 views each"), "{fitted}");
    let run = stage.run_path("pets");
    assert!(stage.read(&format!("{run}/reliability.svg")).contains("as trained"));
    assert_snapshot!(stage.refuse("predict --run runs/latest --input photos --use-calibration"));

    let predict = "predict --run runs/latest --input photos --tta legacy --output";
    let classes = |csv: &str| csv.lines().map(|line| line.split(',').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    stage.run(&format!("{predict} plain.csv"));
    let printed = stage.run(&format!("{predict} calibrated.csv --use-calibration"));
    assert!(printed.contains("exit code 0"), "{printed}");
    let (plain, calibrated) = (stage.read("plain.csv"), stage.read("calibrated.csv"));
    assert_eq!(classes(&plain), classes(&calibrated));
    assert_ne!(plain, calibrated, "twelve photos leave a model of one epoch neither perfect nor perfectly calibrated");
}

#[test]
fn a_run_whose_validation_images_are_gone_cannot_be_calibrated() {
    let stage = Stage::trained();
    std::fs::remove_dir_all(stage.path("photos")).expect("it is there");
    assert_snapshot!(stage.run("calibrate --run runs/latest"));
}

/// One image more deals the split anew: some of what would be validated on now was trained on.
#[test]
fn a_run_is_not_calibrated_on_other_images_than_it_was_validated_on() {
    let stage = Stage::trained().file("photos/dog/a_new_one.png", pictures::photo(120, 3));
    assert_snapshot!(stage.refuse("calibrate --run runs/latest --device cpu"));
}

#[test]
fn the_command_after_a_calibration_names_the_weights_that_it_is_of() {
    let printed = Stage::trained().run("calibrate --run runs/latest --checkpoint last");
    assert!(printed.contains("--input FOLDER --checkpoint last --use-calibration"), "{printed}");
}
