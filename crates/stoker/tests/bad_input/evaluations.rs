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
bird/0.png,bird,label `bird` is no class
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

/// Three of the photos, two of them under labels that are no classes, in `labels.csv`.
fn labelled_otherwise() -> Stage {
    let rows = "photos/cat/0.png,cat\nphotos/cat/1.png,Cat\nphotos/dog/2.png,xyz\n";
    Stage::trained().file("labels.csv", format!("file,label\n{rows}"))
}

#[test]
fn labels_that_are_no_classes_are_told_and_kept() {
    let stage = labelled_otherwise();
    assert_snapshot!("printed_for_labels_of_no_class", stage.run(&format!("{EVALUATE} labels.csv --output found")));
    let not_evaluated = "\
file,label,reason
photos/cat/1.png,Cat,label `Cat` is no class
photos/dog/2.png,xyz,label `xyz` is no class
";
    assert_eq!(stage.read("found/not_evaluated.csv"), not_evaluated);
}

#[test]
fn a_prediction_tells_of_labels_that_are_no_classes() {
    let stage = labelled_otherwise()
        .file("mixed/cat/0.png", pictures::photo(200, 0))
        .file("mixed/hen/0.png", pictures::photo(90, 1))
        .file("sorted/2024/0.png", pictures::photo(90, 1));
    let predict = |input: &str| {
        let printed = stage.run(&format!("predict --run runs/latest --device cpu --input {input} --output rows.csv"));
        assert!(printed.contains("exit code 0"), "{printed}");
        printed
    };
    assert_snapshot!("predicted_with_labels_of_no_class", predict("labels.csv"));
    let of_classes = predict("mixed");
    let note = "\nnote: 1 image is labelled `hen`: no class of the run; no score counts it\n";
    assert!(of_classes.contains(note), "{of_classes}");
    let of_years = predict("sorted");
    assert!(!of_years.contains("labelled"), "no folder is a class: {of_years}");
}

#[test]
fn an_evaluation_by_other_spellings_alone_is_refused_with_the_classes() {
    let stage = Stage::trained().file("labels.csv", "file,label\nphotos/cat/0.png,Cat\nphotos/dog/1.png,D og\n");
    assert_snapshot!("labels_of_another_spelling", stage.refuse(&format!("{EVALUATE} labels.csv")));
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
