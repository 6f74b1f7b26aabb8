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
fn weights_in_the_place_of_a_run_are_told_how_a_run_starts_from_them() {
    let stage = Stage::new().file("w.safetensors", "");
    let printed = stage.refuse("predict --run w.safetensors --input photos --output x.csv");
    assert!(printed.ends_with(": `stoker train --config FILE --set model.weights=w.safetensors`"), "{printed}");
}

#[test]
fn a_file_of_calibration_that_is_not_there_is_told_as_that() {
    let printed = Stage::trained().refuse(&format!("{PREDICT} photos --output x.csv --calibration nowhere.json"));
    assert!(printed.contains("error: `nowhere.json` does not exist\n"), "{printed}");
    assert!(printed.ends_with(": stoker calibrate --run runs/DATE/pets --output nowhere.json"), "{printed}");
}

/// As many steps, another seed: what differs is the weights.
#[test]
fn a_temperature_and_weights_of_views_serve_the_weights_that_they_were_fitted_to() {
    let stage = Stage::trained();
    let run = stage.run_path("pets");
    for rule in ["weighted", "mean"] {
        let printed = stage.run(&format!("calibrate --run {run} --device cpu --merge {rule}"));
        assert!(printed.contains("exit code 0"), "{printed}");
    }
    let predict = format!("predict --run {run} --device cpu --input photos --output x.csv");
    assert!(stage.run(&format!("{predict} --use-calibration")).contains("exit code 0"));
    let printed = stage.run("train --config x.yaml --set name=others --set seed=3");
    assert!(printed.contains("exit code 0"), "{printed}");
    let best = |run: &str| stage.path(&format!("{run}/checkpoints/best.safetensors"));
    std::fs::copy(best(&stage.run_path("others")), best(&run)).expect("both runs are done");
    let refused = |flags: &str, file: &str, command: &str| {
        let printed = stage.refuse(&format!("{predict} {flags}"));
        assert!(printed.contains(&format!("/{file}` was fitted with weights ")), "{printed}");
        assert!(!printed.contains("weights of step") && printed.ends_with(command), "{printed}");
    };
    refused("--use-calibration", "calibration.json", ": stoker calibrate --run runs/DATE/pets");
    let learn = "learn them: stoker calibrate --run runs/DATE/pets --merge weighted";
    refused("--merge weighted", "view_weights.json", learn);

    let path = format!("{run}/calibration.json");
    let mut older: serde_json::Value = serde_json::from_str(&stage.read(&path)).expect("it is JSON");
    older.as_object_mut().expect("an object").remove("weights").expect("a fingerprint");
    let stage = stage.file(&path, older.to_string());
    let printed = stage.run(&format!("{predict} --use-calibration"));
    assert!(printed.contains("exit code 0") && printed.contains("does not name the weights"), "{printed}");
}

#[test]
fn one_row_is_told_in_the_singular() {
    let printed = Stage::trained().run(&format!("{PREDICT} photos/cat/0.png --output one.csv"));
    assert!(printed.contains("\n1 row written to one.csv\n"), "{printed}");
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
