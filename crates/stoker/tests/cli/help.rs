//! Help, and requests that are not understood.

use insta::assert_snapshot;

use crate::stage::Stage;

#[test]
fn a_bare_stoker_shows_the_help() {
    assert_snapshot!(Stage::new().run(""));
}

#[test]
fn train_help_teaches() {
    assert_snapshot!(Stage::new().run("train --help"));
}

#[test]
fn predict_help_teaches() {
    assert_snapshot!(Stage::new().run("predict --help"));
}

#[test]
fn gpu_help_teaches() {
    assert_snapshot!(Stage::new().run("gpu --help"));
}

#[test]
fn evaluate_help_teaches() {
    assert_snapshot!(Stage::new().run("evaluate --help"));
}

#[test]
fn bench_infer_help_teaches() {
    assert_snapshot!(Stage::new().run("bench infer --help"));
}

#[test]
fn config_check_help_teaches() {
    assert_snapshot!(Stage::new().run("config-check --help"));
}

#[test]
fn the_short_commands_have_help() {
    let stage = Stage::new();
    assert_snapshot!("models_help", stage.run("models --help"));
    assert_snapshot!("config_reference_help", stage.run("config-reference --help"));
}

#[test]
fn an_unknown_command_is_a_wrong_request() {
    assert_snapshot!(Stage::new().run("trian --config x.yaml"));
}

#[test]
fn train_needs_a_configuration_or_a_run() {
    assert_snapshot!(Stage::new().run("train"));
}

#[test]
fn a_resumed_run_takes_no_recipe() {
    assert_snapshot!(Stage::new().run("train --resume run --mode basic"));
}

#[test]
fn an_unknown_device_is_a_wrong_request() {
    assert_snapshot!(Stage::new().run("predict --input photos --device gpu"));
}

#[test]
fn a_batch_size_of_zero_is_a_wrong_request() {
    assert_snapshot!(Stage::new().run("predict --input photos --batch-size 0"));
}
