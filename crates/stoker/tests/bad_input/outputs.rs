//! Tables that cannot be written, and models that cannot be averaged.

use std::fs;

use insta::assert_snapshot;

use crate::stage::Stage;

const PREDICT: &str = "predict --run runs/latest --device cpu --input photos";

#[test]
fn a_name_that_says_no_format_is_refused() {
    assert_snapshot!(Stage::trained().refuse(&format!("{PREDICT} --output rows.csv.gz")));
}

/// Below `/proc` even the superuser can make no file.
#[cfg(target_os = "linux")]
#[test]
fn a_place_where_nothing_can_be_written_is_refused_before_anything_is_predicted() {
    let stage = Stage::trained();
    for (command, place, what) in [
        ("predict --input photos", "/proc/rows.csv", "FILE"),
        ("calibrate", "/proc/mine.json", "FILE"),
        ("evaluate --input photos", "/proc/scores", "FOLDER"),
    ] {
        let printed = stage.refuse(&format!("{command} --run runs/latest --device cpu --output {place}"));
        assert!(printed.contains(&format!("`{place}`: nothing can be written into `/proc`\n")), "{printed}");
        assert!(printed.contains(&format!("hint: choose another place with `--output {what}`")), "{printed}");
        assert!(!printed.contains(" images at once"), "it had begun: {printed}");
    }
}

#[test]
fn columns_that_make_no_table_are_refused() {
    let stage = Stage::trained();
    assert_snapshot!("an_unknown_column", stage.refuse(&format!("{PREDICT} --output rows.csv --columns file,score")));
    assert_snapshot!("a_column_twice", stage.refuse(&format!("{PREDICT} --output rows.csv --columns file,class,file")));
    assert_snapshot!("more_ranks_than_classes", stage.refuse(&format!("{PREDICT} --output rows.csv --columns top3")));
}

#[test]
fn an_unknown_column_of_the_configuration_is_refused_before_training() {
    let stage = Stage::new();
    assert_snapshot!(stage.refuse("train --config x.yaml --set predict.columns=[file,score]"));
}

#[test]
fn a_file_of_something_else_in_the_place_of_kept_predictions_is_left_alone() {
    let stage = Stage::trained().file("rows.csv.part", "a list of car parts\n");
    assert_snapshot!(stage.refuse(&format!("{PREDICT} --output rows.csv")));
}

#[test]
fn files_that_are_no_images_are_passed_over_and_unreadable_ones_have_rows() {
    let stage = Stage::trained()
        .file("photos/notes.txt", "text")
        .file("photos/cat/Thumbs.db", "a thumbnail")
        .file("photos/cat/6.png", "text in a picture's clothes")
        .file("photos/dog/7.jpg", "");
    assert_snapshot!(stage.run(&format!("{PREDICT} --output rows.jsonl --columns file,label,error")));
    assert_snapshot!("rows_among_other_files", stage.read("rows.jsonl"));
}

#[test]
fn an_unreadable_image_without_a_column_for_it_is_told() {
    let stage = Stage::trained().file("photos/cat/6.png", "text");
    assert_snapshot!(stage.run(&format!("{PREDICT} --output rows.csv --columns file,confidence")));
    assert!(stage.read("rows.csv").contains("\ncat/6.png,\n"), "{}", stage.read("rows.csv"));
}

#[test]
fn images_of_one_name_in_two_folders_are_two_rows() {
    let stage = Stage::trained();
    assert!(stage.run(&format!("{PREDICT} --output rows.csv")).contains("exit code 0"));
    let rows = stage.read("rows.csv");
    assert!(rows.contains("\ncat/1.png,") && rows.contains("\ndog/1.png,"), "{rows}");
}

#[test]
fn folds_of_other_classes_or_without_their_files_are_refused() {
    let stage = Stage::new().photos("birds/cat", 200).photos("birds/owl", 20);
    let of_folds = |photos: &str, name: &str| {
        let config = format!(
            "name: {name}\ndevice: cpu\noutput: runs\ndata: {{train: {photos}, folds: 2, workers: 1}}\n\
             model: {{name: convnext_atto, image_size: 32}}\n\
             train: {{epochs: 1, effective_batch_size: 4, warmup_epochs: 0, top_k: 1}}\n"
        );
        fs::write(stage.path("folds.yaml"), config).expect("writable");
        let printed = stage.run("train --config folds.yaml");
        assert!(printed.contains("exit code 0"), "{printed}");
        stage.run_path(name)
    };
    let (pets, birds) = (of_folds("photos", "pets"), of_folds("birds", "birds"));
    let best = |run: &str| stage.path(&format!("{run}/fold_1/checkpoints/best.safetensors"));
    fs::copy(best(&birds), best(&pets)).expect("both folds are done");
    let predict = format!("predict --fold-results {pets} --device cpu --input photos --output rows.csv");
    assert_snapshot!("folds_of_other_classes", stage.refuse(&predict));
    fs::remove_dir_all(stage.path(&format!("{pets}/fold_1"))).expect("it is there");
    assert_snapshot!("a_fold_without_its_run", stage.refuse(&predict));
    fs::remove_file(stage.path(&format!("{pets}/fold_results.yaml"))).expect("it is there");
    assert_snapshot!("folds_without_results", stage.refuse(&predict));
}
