//! Models for other programs. What the graph computes is held in the room that writes it; here is what the command makes of it.

use std::fs;

use burn::tensor::TensorData;
use checkpoint::{read_tensors, write_npy};
use insta::assert_snapshot;
use rten_onnx::onnx::ModelProto;

use crate::stage::Stage;

const ATTO: &str = "export --model convnext_atto --weights w.safetensors --img-size 64";

/// A stage with weights of a model in `w.safetensors`, as another program would have saved them.
fn with_weights(model: &str) -> Stage {
    let stage = Stage::new();
    write_npy(&stage.path().join("x.npy"), &TensorData::new(vec![0.5f32; 3 * 64 * 64], [1, 3, 64, 64])).unwrap();
    let forward = "forward --device cpu --random-seed 3 --num-classes 4 --input x.npy --output y.npy";
    let printed = stage.run(&format!("{forward} --model {model} --save-weights w.safetensors"));
    assert!(printed.contains("--- exit code 0"), "{printed}");
    stage
}

#[test]
fn export_help_teaches() {
    assert_snapshot!(Stage::new().run("export --help"));
}

#[test]
fn weights_of_another_program_become_a_graph() {
    let stage = with_weights("convnext_atto");
    assert_snapshot!(stage.run(&format!("{ATTO} --format onnx --output m.onnx")));
    let file = fs::read(stage.path().join("m.onnx")).unwrap();
    let model = ModelProto::parse_buf(&file).unwrap();
    let properties: Vec<String> = model
        .metadata_props
        .iter()
        .map(|property| format!("{}: {}", property.key.as_deref().unwrap(), property.value.as_deref().unwrap()))
        .collect();
    assert_eq!(properties, ["model: convnext_atto", "image_size: [64,64]", "channels: 3", "color: RGB"]);

    let again = stage.run(&format!("{ATTO} --format onnx --output m.onnx --overwrite"));
    assert!(again.contains("--- exit code 0"), "{again}");
    assert_eq!(fs::read(stage.path().join("m.onnx")).unwrap(), file, "equal weights give equal bytes");
}

#[test]
fn weights_come_back_with_the_same_names_and_bytes() {
    let stage = with_weights("efficientnet_b0");
    let export = "export --model efficientnet_b0 --weights w.safetensors";
    assert_snapshot!(stage.run(&format!("{export} --format safetensors --output again.safetensors")));
    let [given, written] = ["w.safetensors", "again.safetensors"].map(|name| stage.path().join(name));
    assert_eq!(read_tensors(&written).unwrap().tensors, read_tensors(&given).unwrap().tensors);
}

#[test]
fn a_format_must_be_known() {
    assert_snapshot!("no_format", Stage::new().run("export --output m.onnx"));
    assert_snapshot!("an_unknown_format", Stage::new().run("export --format tflite --output m.onnx"));
}

#[test]
fn a_model_is_of_weights_and_weights_are_of_no_run() {
    assert_snapshot!("a_model_without_weights", Stage::new().run("export --model m --format onnx --output m.onnx"));
    let both = "export --run r --weights w.safetensors --format onnx --output m.onnx";
    assert_snapshot!("a_run_and_weights", Stage::new().run(both));
}

#[test]
fn an_output_is_replaced_on_request_only() {
    let stage = with_weights("convnext_atto").file("m.onnx", "precious");
    assert_snapshot!(stage.run(&format!("{ATTO} --format onnx --output m.onnx")));
    assert_eq!(fs::read_to_string(stage.path().join("m.onnx")).unwrap(), "precious");
}

#[test]
fn an_output_that_cannot_be_is_refused() {
    let stage = Stage::new().file("folder/inner", "");
    let export = "export --model convnext_atto --weights w.safetensors --format onnx --output";
    assert_snapshot!("into_no_folder", stage.run(&format!("{export} nowhere/m.onnx")));
    assert_snapshot!("onto_a_folder", stage.run(&format!("{export} folder")));
}

/// A folder that is there and takes no files, from nobody.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_told() {
    assert_snapshot!(with_weights("convnext_atto").run(&format!("{ATTO} --format onnx --output /proc/m.onnx")));
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let stage = with_weights("convnext_atto");
    let export = |model: &str| format!("export {model} --format onnx --output m.onnx");
    let of = |model: &str| export(&format!("--weights w.safetensors --model {model}"));
    assert_snapshot!("of_a_smaller_model", stage.run(&of("convnext_femto")));
    assert_snapshot!("of_another_family", stage.run(&of("swin_tiny")));
    assert_snapshot!("of_an_unknown_model", stage.run(&of("convnext_ato")));
    assert_snapshot!("of_no_named_model", stage.run(&export("--weights w.safetensors")));
    assert_snapshot!("that_are_not_there", stage.run(&export("--weights v.safetensors --model convnext_atto")));
    assert_snapshot!("for_a_size_it_does_not_take", stage.run(&of("convnext_atto --img-size 31")));
    assert!(!stage.path().join("m.onnx").exists());
}
