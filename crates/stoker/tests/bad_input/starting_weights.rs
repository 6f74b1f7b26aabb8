//! `model.weights`: what is made to fit, and what is refused.

use insta::assert_snapshot;

use checkpoint::{read_tensors, write_tensors};

use crate::stage::Stage;

/// A run that starts from the newest one, whose folder is named as a whole.
fn from_latest(stage: &Stage, settings: &str) -> String {
    stage.run(&format!("train --config x.yaml --set name=next --set model.weights=runs/latest {settings}"))
}

fn notes_of_next(stage: &Stage) -> String {
    let resolved = stage.read(&format!("{}/config.resolved.yaml", stage.run_path("next")));
    resolved.lines().filter(|line| line.starts_with("# model.weights")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn another_number_of_classes_gets_a_fresh_classifier() {
    let stage = Stage::trained().photos("photos/fish", 110);
    assert_snapshot!("fresh_classifier", from_latest(&stage, "--set seed=1"));
    assert_eq!(notes_of_next(&stage), "# model.weights: `head.fc` starts fresh: the file has 2 classes, the model 3\n");
}

#[test]
fn grey_images_sum_the_colours() {
    let stage = Stage::trained();
    assert_snapshot!("summed_colours", from_latest(&stage, "--set model.in_channels=1"));
    let note = "# model.weights: `stem.0.weight` was summed over its 3 input channels, for grey images\n";
    assert_eq!(notes_of_next(&stage), note);
}

/// The weights of `pets`, with one tensor under another name and one of another shape.
fn with_damaged_weights() -> Stage {
    let stage = Stage::trained();
    let path = stage.path(&format!("{}/checkpoints/best.safetensors", stage.run_path("pets")));
    let mut tensors = read_tensors(&path).expect("the run saved it").tensors;
    let gamma = tensors.remove("stages.2.blocks.1.gamma").expect("it is one of them");
    tensors.insert("stages.2.blocks.1.scale".to_owned(), gamma);
    let bias = tensors["head.fc.bias"].clone();
    tensors.insert("head.norm.bias".to_owned(), bias);
    let named = tensors.iter().map(|(name, data)| (name.clone(), data));
    write_tensors(&stage.path("damaged.safetensors"), named, None).expect("writable");
    stage
}

#[test]
fn missing_unused_and_misshaped_weights_are_refused_by_name() {
    assert_snapshot!(
        with_damaged_weights().refuse("train --config x.yaml --set name=next --set model.weights=damaged.safetensors")
    );
}

#[test]
fn what_does_not_fit_is_skipped_on_request_and_listed() {
    let stage = with_damaged_weights();
    let skipping = "--set model.weights=damaged.safetensors --set model.weights_mismatch=skip";
    assert_snapshot!(stage.run(&format!("train --config x.yaml --set name=next {skipping}")));
    let note = "# model.weights: skipped weights not in the file, so they start fresh: `stages.2.blocks.1.gamma`; \
                not in the model: `stages.2.blocks.1.scale`; \
                of another shape, so they start fresh: `head.norm.bias` (model [320], file [2])\n";
    assert_eq!(notes_of_next(&stage), note);
}

#[test]
fn the_last_checkpoint_gives_its_averaged_weights() {
    let stage = Stage::new();
    stage.run("train --config x.yaml --set train.ema_decay=0.5");
    let last = format!("{}/checkpoints/last.safetensors", stage.run_path("pets"));
    let printed = stage.run(&format!("train --config x.yaml --set name=next --set model.weights={last}"));
    assert!(printed.contains("model.weights: averaged weights were taken (`ema`)"), "{printed}");
}
