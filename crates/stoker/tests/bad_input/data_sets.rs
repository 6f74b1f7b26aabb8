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
