//! `export` of runs: of a whole one, for whom the rest is refused.

use std::fs;

use checkpoint::read_tensors;
use insta::assert_snapshot;
use rten_onnx::onnx::ModelProto;

use crate::stage::Stage;

const TO_ONNX: &str = "--format onnx --output m.onnx";

#[test]
fn a_run_is_exported_with_what_its_images_go_through() {
    let stage = Stage::trained();
    assert_snapshot!("as_onnx", stage.run(&format!("export --run runs/latest {TO_ONNX}")));
    assert_snapshot!("properties", properties(&stage).join("\n"));

    let export = "export --run runs/latest --checkpoint last --format safetensors --output w.safetensors";
    assert_snapshot!("as_safetensors", stage.run(export));
    let exported = read_tensors(&stage.path("w.safetensors")).unwrap();
    let last = read_tensors(&stage.path("runs/latest/checkpoints/last.safetensors")).unwrap();
    assert_eq!(exported.card, last.card);
    for (name, weight) in &exported.tensors {
        let averaged = last.tensors.get(&format!("ema/{name}"));
        assert_eq!(averaged.or(last.tensors.get(name)), Some(weight), "{name}");
    }
    assert!(!exported.tensors.keys().any(|name| name.contains('/')), "weights alone");
}

/// The metadata of `m.onnx`, a property a line.
fn properties(stage: &Stage) -> Vec<String> {
    let model = ModelProto::parse_buf(&fs::read(stage.path("m.onnx")).unwrap()).unwrap();
    let properties = model.metadata_props.iter();
    properties
        .map(|property| format!("{}: {}", property.key.as_deref().unwrap(), property.value.as_deref().unwrap()))
        .collect()
}

#[test]
fn a_temperature_goes_with_the_weights_and_the_size_that_it_was_fitted_to() {
    let stage = Stage::trained();
    let fitted = stage.run("calibrate --run runs/latest --device cpu");
    assert!(fitted.contains("exit code 0"), "{fitted}");
    let export = |flags: &str| stage.run(&format!("export --run runs/latest {flags} {TO_ONNX} --overwrite"));
    let temperatures = || properties(&stage).into_iter().filter(|line| line.starts_with("temperature: "));

    let printed = export("--checkpoint best");
    assert!(printed.contains("exit code 0") && !printed.contains("temperature"), "{printed}");
    let file = stage.read(&format!("{}/calibration.json", stage.run_path("pets")));
    let file: serde_json::Value = serde_json::from_str(&file).expect("it is JSON");
    let expected = format!("temperature: {}", file["calibration"]["temperature"]);
    assert_eq!(temperatures().collect::<Vec<_>>(), [expected]);

    for (flags, reason) in [
        ("--checkpoint last", "was fitted with checkpoint best, but last is predicted with"),
        ("--img-size 64", "was fitted to images of 32 px"),
    ] {
        let printed = export(flags);
        let note = "note: the exported file will have no temperature: ";
        assert!(printed.contains("exit code 0") && printed.contains(note) && printed.contains(reason), "{printed}");
        assert_eq!(temperatures().count(), 0, "{flags}");
    }
}

#[test]
fn the_colour_of_bars_goes_with_a_run_that_has_some() {
    let stage = Stage::new();
    let printed = stage.run("train --config x.yaml --set augment.resize=letterbox");
    assert!(printed.contains("exit code 0"), "{printed}");
    stage.run(&format!("export --run runs/latest {TO_ONNX}"));
    let properties = properties(&stage);
    // ImageNet's mean, as the loader fills them.
    assert!(properties.contains(&"letterbox_color: [124,116,104]".to_owned()), "{properties:?}");
}

#[test]
fn weights_for_another_image_size_say_so() {
    let stage = Stage::trained();
    let export = "export --run runs/latest --img-size 64 --format safetensors --output w.safetensors";
    let printed = stage.run(export);
    assert!(printed.contains("--- exit code 0"), "{printed}");
    let card = read_tensors(&stage.path("w.safetensors")).unwrap().card.unwrap();
    assert!(card.contains("\"image_size\":64"), "{card}");
}

#[test]
fn a_run_that_is_not_there_is_named() {
    assert_snapshot!("no_folder", Stage::new().refuse(&format!("export --run runs/nowhere {TO_ONNX}")));
    assert_snapshot!("no_run", Stage::new().refuse(&format!("export --run photos {TO_ONNX}")));
}

#[test]
fn a_checkpoint_without_a_card_is_not_a_runs() {
    let stage = Stage::trained();
    let best = format!("{}/checkpoints/best.safetensors", stage.run_path("pets"));
    let file = read_tensors(&stage.path(&best)).unwrap();
    let tensors = file.tensors.iter().map(|(name, data)| (name.clone(), data));
    checkpoint::write_tensors(&stage.path(&best), tensors, None).unwrap();
    assert_snapshot!(stage.refuse(&format!("export --run runs/latest {TO_ONNX}")));
}

#[test]
fn classes_that_are_not_those_of_the_logits_are_refused() {
    let stage = Stage::trained();
    let best = stage.path(&format!("{}/checkpoints/best.safetensors", stage.run_path("pets")));
    let file = read_tensors(&best).unwrap();
    let tensors = file.tensors.iter().map(|(name, data)| (name.clone(), data));
    let card = file.card.map(|card| card.replace("\"cat\",\"dog\"", "\"cat\",\"dog\",\"hen\""));
    checkpoint::write_tensors(&best, tensors, card).unwrap();
    assert_snapshot!(stage.refuse(&format!("export --run runs/latest {TO_ONNX}")));
}

#[test]
fn the_folder_of_all_folds_has_no_weights_to_export() {
    let stage = Stage::trained();
    let run = stage.run_path("pets");
    fs::remove_file(stage.path(&format!("{run}/checkpoints/best.safetensors"))).unwrap();
    let stage = stage.file(&format!("{run}/fold_results.yaml"), "");
    assert_snapshot!(stage.refuse(&format!("export --run {run} {TO_ONNX}")));
}

#[test]
fn a_checkpoint_that_is_cut_off_is_refused() {
    let stage = Stage::trained();
    let best = stage.path(&format!("{}/checkpoints/best.safetensors", stage.run_path("pets")));
    let bytes = fs::read(&best).unwrap();
    fs::write(&best, &bytes[..bytes.len() / 2]).unwrap();
    assert_snapshot!(stage.refuse(&format!("export --run runs/latest {TO_ONNX}")));
}
