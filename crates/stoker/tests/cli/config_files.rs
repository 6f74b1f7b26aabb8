//! Configuration files that cannot be read as one.

use insta::assert_snapshot;

use crate::stage::Stage;

const FINE: &str = "data: {train: photos}\n";

#[test]
fn a_missing_file_names_the_nearest_one() {
    let stage = Stage::new().file("configs/quickstart.yaml", FINE).file("configs/other.yaml", FINE);
    assert_snapshot!(stage.run("train --config configs/quikstart.yaml"));
}

#[test]
fn a_missing_file_lists_what_lies_beside_it() {
    let stage = Stage::new().file("configs/a.yaml", FINE).file("configs/b.yml", FINE);
    assert_snapshot!(stage.run("train --config configs/my-own-settings.yaml"));
}

#[test]
fn a_missing_file_in_the_wrong_folder_lists_the_shipped_ones() {
    let stage = Stage::new().file("configs/a.yaml", FINE);
    assert_snapshot!(stage.run("train --config nowhere/settings.yaml"));
}

#[test]
fn a_missing_file_with_nothing_beside_it_has_no_list() {
    assert_snapshot!(Stage::new().run("train --config x.yaml"));
}

#[test]
fn a_folder_is_no_configuration() {
    let stage = Stage::new().file("configs/a.yaml", FINE);
    assert_snapshot!(stage.run("train --config configs"));
}

#[test]
fn an_empty_file_is_refused() {
    assert_snapshot!(Stage::with_config("").run("train --config x.yaml"));
}

#[test]
fn a_file_of_comments_is_empty() {
    assert_snapshot!(Stage::with_config("# nothing\n\n").run("train --config x.yaml"));
}

#[test]
fn broken_yaml_names_line_and_column() {
    let stage = Stage::with_config("data:\n  train: photos\n\tseed: 3\n");
    assert_snapshot!(stage.run("train --config x.yaml"));
}

#[test]
fn a_key_given_twice_is_refused() {
    let stage = Stage::with_config("data: {train: photos}\ntrain:\n  epochs: 1\n  epochs: 2\n");
    assert_snapshot!(stage.run("train --config x.yaml"));
}

#[test]
fn two_documents_in_a_file_are_refused() {
    let stage = Stage::with_config("data: {train: a}\n---\ndata: {train: b}\n");
    assert_snapshot!(stage.run("train --config x.yaml"));
}

#[test]
fn a_number_beyond_64_bits_is_refused() {
    let stage = Stage::with_config("data: {train: a}\nseed: 18446744073709551616\n");
    assert_snapshot!(stage.run("train --config x.yaml"));
}

#[test]
fn prose_is_no_configuration() {
    assert_snapshot!(Stage::with_config("Dear stoker,\n").run("train --config x.yaml"));
}

#[test]
fn a_list_is_no_configuration() {
    assert_snapshot!(Stage::with_config("- a\n- b\n").run("train --config x.yaml"));
}

#[test]
fn bytes_that_are_not_utf8_are_counted() {
    assert_snapshot!(Stage::with_config(b"name: caf\xe9\n").run("train --config x.yaml"));
}

#[test]
fn a_large_file_is_no_configuration() {
    let stage = Stage::with_config("#".repeat(2 << 20));
    assert_snapshot!(stage.run("train --config x.yaml"));
}
