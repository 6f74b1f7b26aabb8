//! `--set` and the flags that stand for a key.

use insta::assert_snapshot;

use crate::stage::Stage;

fn check_with(setting: &str) -> String {
    Stage::with_config("data: {train: photos}\ntrain: {epochs: 5}\n").run_arguments(&[
        "config-check",
        "--config",
        "x.yaml",
        "--set",
        setting,
    ])
}

#[test]
fn the_checked_configuration_is_complete() {
    assert_snapshot!(check_with("train.epochs=3"));
}

#[test]
fn a_setting_without_an_equals_sign_is_refused() {
    assert_snapshot!(check_with("train.epochs"));
}

#[test]
fn a_setting_of_an_unknown_key_is_refused_with_the_nearest_one() {
    assert_snapshot!(check_with("train.epoch=3"));
}

#[test]
fn a_setting_out_of_range_names_the_flag() {
    assert_snapshot!(check_with("train.epochs=0"));
}

#[test]
fn a_setting_of_a_section_is_refused() {
    assert_snapshot!(check_with("train={epochs: 3}"));
}

#[test]
fn a_setting_that_is_no_yaml_is_refused() {
    assert_snapshot!(check_with("augment.scale=[0.5, 1.0"));
}

#[test]
fn a_model_that_train_refuses_is_refused_in_the_same_words() {
    let stage = Stage::with_config("data: {train: photos}\ntrain: {epochs: 1}\n");
    for (settings, said) in [
        ("--set model.name=convnext_atoo", "did you mean `convnext_atto`?"),
        ("--set model.name=resnet50", "unknown model `resnet50`"),
        ("--set model.name=swin_tiny --set model.image_size=225", "cannot take `model.image_size: 225`"),
    ] {
        let told = |command: &str| {
            let arguments = format!("{command} --config x.yaml {settings}");
            let output = stage.output(&arguments.split(' ').collect::<Vec<_>>());
            assert_eq!(output.status.code(), Some(2), "{arguments}");
            String::from_utf8(output.stderr).expect("stderr is UTF-8")
        };
        let checked = told("config-check");
        assert!(checked.contains(said), "{checked}");
        assert_eq!(checked, told("train"));
    }
}

#[test]
fn a_setting_without_effect_warns() {
    let stage =
        Stage::with_config("data: {train: photos, validation: more, validation_share: 0.2}\ntrain: {epochs: 1}\n");
    let output = stage.output(&["config-check", "--config", "x.yaml"]);
    assert!(output.status.success());
    assert_snapshot!(String::from_utf8_lossy(&output.stderr));
}
