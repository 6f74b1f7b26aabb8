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
fn as_many_classes_of_other_names_get_a_fresh_classifier() {
    let stage = Stage::trained();
    std::fs::rename(stage.path("photos/dog"), stage.path("photos/fish")).expect("writable");
    let printed = from_latest(&stage, "--set seed=1");
    let note = "model.weights: `head.fc` starts fresh: the file's 2 classes are others: cat, dog\n";
    assert!(printed.contains("exit code 0") && printed.contains(note), "{printed}");
    assert_eq!(notes_of_next(&stage), format!("# {note}"));
}

#[test]
fn the_same_classes_keep_their_classifier_and_nothing_is_told() {
    let stage = Stage::trained();
    let printed = from_latest(&stage, "--set seed=1");
    assert!(printed.contains("exit code 0") && !printed.contains("model.weights: "), "{printed}");
    assert_eq!(notes_of_next(&stage), "");
}

#[test]
fn grey_images_sum_the_colours() {
    let stage = Stage::trained();
    assert_snapshot!("summed_colours", from_latest(&stage, "--set model.in_channels=1"));
    let note = "# model.weights: `stem.0.weight` was summed over its 3 input channels, for grey images\n";
    assert_eq!(notes_of_next(&stage), note);
}

#[test]
fn a_run_sees_images_as_the_run_did_whose_weights_it_starts_from() {
    const CROPPED: &str = "--set augment.resize=center_crop";
    let stage = Stage::new();
    let settings = "--set augment.interpolation=bicubic --set augment.crop_share=0.9 --set model.std=[0.5,0.25,0.5]";
    let printed = stage.run(&format!("train --config x.yaml {CROPPED} {settings}"));
    assert!(printed.contains("exit code 0"), "{printed}");
    let printed = from_latest(&stage, CROPPED);
    assert!(printed.contains("exit code 0"), "{printed}");
    let resolved = stage.read(&format!("{}/config.resolved.yaml", stage.run_path("next")));
    for (key, value) in [
        ("model.mean", "[0.485, 0.456, 0.406]"),
        ("model.std", "[0.5, 0.25, 0.5]"),
        ("augment.interpolation", "bicubic"),
        ("augment.crop_share", "0.9"),
    ] {
        let choice = format!("\n# {key} {value}: as the weights in `runs/latest` were trained\n");
        assert!(resolved.contains(&choice), "{choice} in {resolved}");
    }
    let best = format!("{}/checkpoints/best.safetensors", stage.run_path("next"));
    let card = read_tensors(&stage.path(&best)).expect("the run saved it").card.expect("a run's");
    for field in ["\"interpolation\":\"bicubic\"", "\"crop_share\":0.9", "\"std\":[0.5,0.25,0.5]"] {
        assert!(card.contains(field), "{field} in {card}");
    }
    stage.run("export --run runs/latest --format onnx --output m.onnx");
    let file = std::fs::read(stage.path("m.onnx")).expect("it was exported");
    for text in ["bicubic, antialiased", "crop_share", "[0.5,0.25,0.5]"] {
        assert!(file.windows(text.len()).any(|bytes| bytes == text.as_bytes()), "{text}");
    }
}

#[test]
fn weights_of_another_program_want_images_as_timm_has_it_for_the_model() {
    let stage = Stage::trained();
    let path = stage.path(&format!("{}/checkpoints/best.safetensors", stage.run_path("pets")));
    let tensors = read_tensors(&path).expect("the run saved it").tensors;
    let named = tensors.iter().map(|(name, data)| (name.clone(), data));
    write_tensors(&stage.path("timm.safetensors"), named, None).expect("writable");
    let printed = stage.run("train --config x.yaml --set name=next --set model.weights=timm.safetensors");
    assert!(printed.contains("exit code 0"), "{printed}");
    assert_eq!(notes_of_next(&stage), KEPT);
    let resolved = stage.read(&format!("{}/config.resolved.yaml", stage.run_path("next")));
    let choice = "\n# augment.interpolation bicubic: as timm has it for `convnext_atto`\n";
    assert!(resolved.contains(choice) && resolved.contains("\n  interpolation: bicubic\n"), "{resolved}");
    assert!(resolved.contains("\n  crop_share: auto\n"), "nothing is cropped: {resolved}");
}

/// Nothing in a file of another program tells that its classes are others.
const KEPT: &str = "# model.weights: `head.fc` kept: the file has 2 classes too, taken in the order cat, dog\n";

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
    assert_eq!(notes_of_next(&stage), format!("{note}{KEPT}"));
}

#[test]
fn the_last_checkpoint_gives_its_averaged_weights() {
    let stage = Stage::new();
    stage.run("train --config x.yaml --set train.ema_decay=0.5");
    let last = format!("{}/checkpoints/last.safetensors", stage.run_path("pets"));
    let printed = stage.run(&format!("train --config x.yaml --set name=next --set model.weights={last}"));
    assert!(printed.contains("model.weights: averaged weights were taken (`ema`)"), "{printed}");
}
