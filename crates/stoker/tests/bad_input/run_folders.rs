//! Places where a run cannot go, or where it must not.

use insta::assert_snapshot;

use crate::stage::Stage;

#[test]
fn an_output_that_is_a_file_is_refused() {
    assert_snapshot!(Stage::new().file("results", "taken").refuse("train --config x.yaml --set output=results"));
}

#[test]
fn an_output_below_a_file_is_refused() {
    assert_snapshot!(Stage::new().refuse("train --config x.yaml --set output=x.yaml/deeper"));
}

/// Below `/proc` even the superuser can make no file. Sample data is asked for, and must not be drawn before that is known.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_refused_before_anything_is_drawn_or_measured() {
    let settings =
        "--set sample_data=document-pages --set data.train=pages/train --set data.validation=pages/validation";
    let settings = format!("{settings} --set data.validation_share=null");
    assert_snapshot!(Stage::new().refuse(&format!("train --config x.yaml --set output=/proc/runs {settings}")));
}

#[test]
fn a_run_folder_that_exists_is_kept() {
    assert_snapshot!(Stage::trained().refuse("train --config x.yaml"));
}

#[test]
fn a_run_is_replaced_on_request() {
    let stage = Stage::trained();
    let leftover = format!("{}/leftover.txt", stage.run_path("pets"));
    let stage = stage.file(&leftover, "of the old run");
    assert_snapshot!(stage.run("train --config x.yaml --overwrite"));
    assert!(!stage.path(&leftover).exists());
    assert!(stage.path(&format!("{}/checkpoints/last.safetensors", stage.run_path("pets"))).exists());
}

/// Photos whose class is not what they look like: whatever the model learns, some of them are mistakes.
#[test]
fn a_finished_run_is_on_one_page_with_every_mistake() {
    let stage = Stage::with_validation().photos("held/cat/odd", 10).photos("held/dog/odd", 210);
    let printed = stage.run("train --config x.yaml");
    assert!(printed.contains("exit code 0"), "{printed}");
    let run = stage.run_path("pets");
    let page = stage.read(&format!("{run}/report.html"));
    let matrix = page.split("<h2>").find(|section| section.starts_with("Scores by class")).expect("it has one");
    assert!(matrix.contains("<td>cat</td>") && matrix.contains("<td>24</td>"), "12 cats and 12 dogs: {matrix}");
    let records = stage.read(&format!("{run}/metrics.jsonl"));
    let epochs = records.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON line"));
    let accuracies: Vec<f64> =
        epochs.map(|epoch| epoch["validation"]["accuracy"].as_f64().expect("validated")).collect();
    let mistakes = page.matches("<li>").count();
    // The page shows the best epoch, which is one of these.
    let possible: Vec<usize> = accuracies.iter().map(|accuracy| (24.0 * (1.0 - accuracy)).round() as usize).collect();
    assert!(mistakes > 0 && possible.contains(&mistakes), "{mistakes} of {possible:?}");
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), mistakes, "each is shown");
}

#[test]
fn a_folder_that_is_no_run_is_never_replaced() {
    let stage = Stage::trained();
    let letters = stage.run_path("pets").replace("pets", "letters");
    let stage = stage.file(&format!("{letters}/letter.txt"), "dear reader");
    assert_snapshot!(stage.refuse("train --config x.yaml --overwrite --set name=letters"));
}

#[test]
fn a_wrong_request_does_not_replace_the_old_run() {
    let stage = Stage::trained();
    let wrong = "train --config x.yaml --overwrite --set model.weights=missing.safetensors";
    assert_snapshot!(stage.refuse(wrong));
}

/// The folder of all folds is made with that of the first. Were an old one gone before that, its folds would be lost for nothing.
#[test]
fn a_refused_request_for_folds_leaves_no_folder_and_an_old_one_whole() {
    const FOLDS: &str = "train --config x.yaml --set data.validation_share=null --set data.folds=2";
    let stage = Stage::new();
    for refused in ["model.weights=missing.safetensors", "data.train=nowhere", "memory.limit=1MiB", "data.folds=20"] {
        stage.refuse(&format!("{FOLDS} --set {refused}"));
    }
    let printed = stage.run(FOLDS);
    assert!(printed.contains("exit code 0"), "{printed}");
    let leftover = format!("{}/leftover.txt", stage.run_path("pets"));
    // Images that the old folds were not dealt from: they are about to go.
    let stage = stage.file(&leftover, "of the old run").photos("photos/cat/more", 210);
    stage.refuse(&format!("{FOLDS} --overwrite --set model.weights=missing.safetensors"));
    let printed = stage.run(&format!("{FOLDS} --overwrite"));
    assert!(printed.contains("exit code 0") && !stage.path(&leftover).exists(), "{printed}");
}

#[test]
fn a_missing_run_cannot_be_resumed() {
    assert_snapshot!(Stage::new().refuse("train --resume runs/nowhere"));
}

#[test]
fn a_folder_that_is_no_run_cannot_be_resumed() {
    assert_snapshot!(Stage::new().refuse("train --resume photos"));
}
