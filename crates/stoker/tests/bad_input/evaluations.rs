//! `evaluate`: all that it prints and writes, and what it refuses.

use insta::assert_snapshot;

use crate::pictures;
use crate::stage::Stage;

const EVALUATE: &str = "evaluate --run runs/latest --device cpu --input";

#[test]
fn an_evaluation_counts_every_image_and_writes_all_its_files() {
    let stage = Stage::trained()
        .file("photos/dog/half.jpg", pictures::truncated_jpeg())
        .file("photos/bird/0.png", pictures::photo(90, 1));
    assert_snapshot!(stage.run(&format!("{EVALUATE} photos --tta legacy --output found/here")));

    let read = |name: &str| stage.read(&format!("found/here/{name}"));
    let scores: serde_json::Value = serde_json::from_str(&read("scores.json")).expect("it is JSON");
    assert_eq!((&scores["images"], &scores["not_evaluated"]), (&14.into(), &2.into()));
    let [plain, merged] = [&scores["without_tta"], &scores["with_tta"]];
    assert_eq!((&plain["images"], &merged["images"]), (&12.into(), &12.into()));
    assert_eq!(
        (scores["views"].as_array().expect("names").len(), &scores["per_class"][1]["class"]),
        (3, &"dog".into())
    );
    let not_evaluated = "\
file,label,reason
bird/0.png,,no label
dog/half.jpg,dog,the jpeg is cut off: it has no end marker
";
    assert_eq!(read("not_evaluated.csv"), not_evaluated);
    let classes: Vec<String> = read("per_class.csv").lines().map(|line| first_fields(line, 2)).collect();
    assert_eq!(classes, ["class,images", "cat,6", "dog,6"]);

    // Every change that the table lists moved an image from one side of the count to the other.
    let right = |scores: &serde_json::Value| scores["accuracy"].as_f64().expect("a share") * 12.0;
    let changes = &scores["tta_changes"];
    let count = |name: &str| changes[name].as_f64().expect("a count");
    assert!((right(merged) - right(plain) - (count("helped") - count("hurt"))).abs() < 1e-9, "{scores}");
    let rows = read("tta_changes.csv").lines().count() - 1;
    assert_eq!(rows as f64, count("helped") + count("hurt") + count("still_wrong"));

    assert!(read("confusion_matrix.svg").contains("12 samples"));
    let sheet = read("worst_mistakes.svg");
    let wrong = (12.0 - right(merged)).round() as usize;
    assert_eq!(sheet.matches("data:image/jpeg;base64,").count(), wrong, "a picture of each mistake");
}

/// The first fields of a line of CSV without quotes.
fn first_fields(line: &str, count: usize) -> String {
    line.split(',').take(count).collect::<Vec<_>>().join(",")
}

#[test]
fn an_evaluation_goes_into_the_run_folder_unless_told_otherwise() {
    let stage = Stage::trained();
    let printed = stage.run(&format!("{EVALUATE} photos"));
    assert!(printed.contains("exit code 0"), "{printed}");
    let folder = format!("{}/evaluation", stage.run_path("pets"));
    assert!(stage.read(&format!("{folder}/scores.json")).contains("\"with_tta\": null"));
    assert_eq!(stage.read(&format!("{folder}/tta_changes.csv")).lines().count(), 1, "one view changes nothing");
}

#[test]
fn images_without_labels_are_for_predict() {
    let stage =
        Stage::trained().file("loose/1.png", pictures::photo(90, 1)).file("loose/2.png", pictures::photo(20, 2));
    assert_snapshot!(stage.refuse(&format!("{EVALUATE} loose")));
}

#[test]
fn an_output_folder_that_is_a_file_is_refused_before_predicting() {
    assert_snapshot!(Stage::trained().refuse(&format!("{EVALUATE} photos --output x.yaml/found")));
}

#[test]
fn labels_of_unreadable_images_alone_are_no_evaluation() {
    let stage = Stage::trained().file("junk/cat/1.jpg", "text").file("junk/dog/2.png", "");
    assert_snapshot!(stage.run(&format!("{EVALUATE} junk --output found")));
    assert_eq!(stage.read("found/not_evaluated.csv").lines().count(), 3);
}

#[test]
fn a_calibrated_evaluation_shows_its_own_row() {
    let stage = Stage::trained();
    stage.run("calibrate --run runs/latest");
    let printed = stage.run(&format!("{EVALUATE} photos --use-calibration --output found"));
    assert!(printed.contains("\ncalibrated ") && printed.contains("the last row is at temperature "), "{printed}");
    assert!(!stage.read("found/scores.json").contains("\"with_tta\": null"));
}
