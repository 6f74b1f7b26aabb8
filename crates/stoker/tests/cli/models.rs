//! The list of models.

use insta::assert_snapshot;

use crate::stage::Stage;

#[test]
fn a_filter_lists_the_models_that_have_it_in_their_name() {
    assert_snapshot!(Stage::new().run("models _384"));
}

#[test]
fn the_list_is_there_as_json() {
    assert_snapshot!(Stage::new().run("models convnext_base_384 --json"));
}

#[test]
fn a_filter_that_leaves_nothing_is_told_the_nearest_name() {
    assert_snapshot!(Stage::new().run("models convnextv2_tinny"));
}

#[test]
fn bench_activations_has_help() {
    assert_snapshot!(Stage::new().run("bench activations --help"));
}

#[test]
fn bench_activations_needs_no_device() {
    let output = Stage::new().output(&["bench", "activations", "convnextv2_atto", "--img-size", "64"]);
    assert!(output.status.success());
    // What is told on the way has a clock in it.
    assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}
