//! Every optimizer, and whatever else of a recipe has a state, across a stop in the middle of an epoch.

use std::time::Duration;

use crate::stage::{RUN, Stage};

/// Stops a run in its second epoch, goes on, and holds the end to that of the same run undisturbed.
fn assert_resumes(settings: &[&str]) {
    let settings: String = settings.iter().map(|setting| format!(" --set {setting}")).collect();
    let arguments = format!("train --config tiny.yaml{settings}");
    let undisturbed = Stage::new();
    undisturbed.succeed(&arguments);
    let stage = Stage::new();
    let mut running = stage.start(&arguments);
    running.wait_for_epoch_after(1, Duration::from_millis(10));
    let stopped = running.signal("INT");
    assert_eq!(stopped.code, Some(130), "{}", stopped.stderr);
    stage.succeed(&format!("train --resume {RUN}"));
    stage.end().assert_is(&undisturbed.end());
}

#[test]
fn sgd() {
    assert_resumes(&["train.optimizer=sgd", "train.schedule=one_cycle"]);
}

#[test]
fn lamb_with_balanced_classes() {
    assert_resumes(&["train.optimizer=lamb", "train.class_weights=balanced"]);
}

#[test]
fn lion_with_layers_that_move_slowly() {
    assert_resumes(&["train.optimizer=lion", "train.learning_rate=1e-4", "train.layer_decay=0.75", "train.loss=bce"]);
}

#[test]
fn adafactor_on_a_plateau() {
    let plateau = ["train.schedule=plateau", "train.patience_epochs=0", "train.early_stopping.patience=2"];
    assert_resumes(&[&["train.optimizer=adafactor"], &plateau[..]].concat());
}

#[test]
fn muon_with_a_frozen_stem() {
    assert_resumes(&["train.optimizer=muon", "model.freeze=[stem,stages.0]", "train.loss=focal"]);
}

#[test]
fn steps_without_finite_numbers() {
    let stage = Stage::new();
    let arguments = "train --config tiny.yaml --set train.epochs=2";
    let inject = |stage: &Stage, arguments: &str| {
        let output = stage.command(arguments).env("STOKER_INJECT_OUT_OF_MEMORY", "nan:1,gradient:4").output();
        let output = output.expect("the binary was built for this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).expect("output is UTF-8")
    };
    let said = inject(&stage, arguments);
    assert!(said.contains("step 1 left out: the loss is NaN (1 in a row)"), "{said}");
    assert!(said.contains("step 4 left out: the gradient norm is inf (1 in a row)"), "{said}");
    let again = Stage::new();
    inject(&again, arguments);
    again.end().assert_is(&stage.end());
    assert!(stage.end().first_epoch().contains("\"nonfinite_steps\":1"), "{}", stage.end().first_epoch());
}
