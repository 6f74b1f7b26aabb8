//! Folders and tables that are no data set.

use insta::assert_snapshot;

use crate::pictures;
use crate::stage::Stage;

fn refuse(stage: &Stage, setting: &str) -> String {
    stage.refuse(&format!("train --config x.yaml --set {setting}"))
}

#[test]
fn a_missing_folder_lists_what_is_there() {
    assert_snapshot!(refuse(&Stage::new(), "data.train=pictures"));
}

#[test]
fn a_missing_test_folder_stops_before_training() {
    assert_snapshot!(refuse(&Stage::new(), "data.test=photos/tests"));
}

#[test]
fn a_class_without_images_is_named() {
    assert_snapshot!(refuse(&Stage::new().file("photos/bird/notes.txt", "to do"), "name=birds"));
}

#[test]
fn one_class_only_is_nothing_to_tell_apart() {
    assert_snapshot!(refuse(&Stage::new().photos("single/cat", 200), "data.train=single"));
}

#[test]
fn a_folder_of_images_without_classes_is_told_to_make_folders() {
    assert_snapshot!(refuse(&Stage::new(), "data.train=photos/cat"));
}

#[test]
fn no_images_at_all_names_the_endings() {
    assert_snapshot!(refuse(&Stage::new().file("papers/cat/paper.pdf", "%PDF"), "data.train=papers"));
}

#[test]
fn a_file_that_is_no_table_is_refused() {
    assert_snapshot!(refuse(&Stage::new(), "data.train=x.yaml"));
}

#[test]
fn a_class_too_small_to_split_is_named() {
    let stage = Stage::new().file("photos/bird/only.png", pictures::photo(90, 1));
    assert_snapshot!(refuse(&stage, "name=birds"));
}

#[test]
fn a_test_class_that_training_never_saw_is_refused() {
    assert_snapshot!(refuse(&Stage::new().photos("tests/zebra", 90).photos("tests/cat", 200), "data.test=tests"));
}

#[test]
fn a_validation_class_that_training_never_saw_is_refused() {
    assert_snapshot!(refuse(&Stage::new().photos("held/zebra", 90).photos("held/cat", 200), "data.validation=held"));
}

#[test]
fn a_table_that_names_missing_files_lists_them_with_their_lines() {
    let table = "file,label\nphotos/cat/0.png,cat\nphotos/cat/99.png,cat\nphotos/dog/0.png,dog\nelsewhere/1.png,dog\n";
    assert_snapshot!(refuse(&Stage::new().file("labels.csv", table), "data.train=labels.csv"));
}

#[test]
fn a_table_without_the_column_label_is_refused() {
    let table = "image,class\nphotos/cat/0.png,cat\n";
    assert_snapshot!(refuse(&Stage::new().file("labels.csv", table), "data.train=labels.csv"));
}

#[test]
fn a_file_named_twice_in_a_table_is_refused() {
    let table = "file,label\nphotos/cat/0.png,cat\nphotos/dog/0.png,dog\nphotos/cat/0.png,dog\n";
    assert_snapshot!(refuse(&Stage::new().file("labels.csv", table), "data.train=labels.csv"));
}

#[test]
fn training_images_by_another_path_are_no_validation_images() {
    let printed = refuse(&Stage::with_validation(), "data.validation=held/../photos");
    let message =
        "error: 12 of the 12 validation images are training images too, `held/../photos/cat/0.png` the first of them";
    assert!(printed.contains(message), "{printed}");
}

#[test]
fn a_table_of_training_images_is_no_validation_set() {
    let table = "file,label\nheld/cat/0.png,cat\nphotos/dog/1.png,dog\nphotos/dog/2.png,dog\n";
    let stage = Stage::with_validation().file("held.csv", table);
    let printed = refuse(&stage, "data.validation=held.csv");
    let message = "error: 2 of the 3 validation images are training images too, `photos/dog/1.png` the first of them";
    assert!(printed.contains(message), "{printed}");
}

#[test]
fn test_images_that_are_trained_on_are_told() {
    let printed = Stage::with_validation().run("train --config x.yaml --set data.test=photos");
    assert!(printed.contains("--- exit code 0"), "{printed}");
    let told = "12 of the 12 test images are training images too, `photos/cat/0.png` the first of them";
    assert!(printed.contains(told), "{printed}");
    assert!(!printed.contains("are validation images too"), "{printed}");
}

#[cfg(unix)]
#[test]
fn a_link_out_of_a_class_folder_to_all_of_them_is_refused() {
    let stage = Stage::new();
    std::os::unix::fs::symlink("..", stage.path("photos/cat/up")).expect("writable");
    let printed = refuse(&stage, "name=linked");
    assert!(printed.contains("`photos/cat/up` in class `cat` leads to `"), "{printed}");
    assert!(printed.contains("`rm 'photos/cat/up'`"), "{printed}");
}
