//! One batch through a model.

use std::fs;
use std::path::PathBuf;

use burn::tensor::{DType, TensorData};
use checkpoint::{TensorFile, read_npy, read_tensors, write_npy, write_tensors};
use insta::assert_snapshot;

use crate::stage::Stage;

const ATTO: &str = "forward --device cpu --model convnext_atto --input x.npy --output y.npy";

/// A stage with a batch in `x.npy`, of numbers without a pattern.
fn with_batch(shape: [usize; 4]) -> Stage {
    let stage = Stage::new();
    let values = (0..shape.iter().product()).map(|at| ((at as f32) * 78.233).sin()).collect::<Vec<_>>();
    write_npy(&stage.path().join("x.npy"), &TensorData::new(values, shape)).unwrap();
    stage
}

fn read(stage: &Stage, name: &str) -> TensorFile {
    read_tensors(&stage.path().join(name)).unwrap()
}

fn write(stage: &Stage, name: &str, file: &TensorFile) {
    let named = file.tensors.iter().map(|(name, data)| (name.clone(), data));
    write_tensors(&stage.path().join(name), named, None).unwrap();
}

#[track_caller]
fn succeed(stage: &Stage, arguments: &str) -> String {
    let printed = stage.run(arguments);
    assert!(printed.contains("--- exit code 0"), "{printed}");
    printed
}

#[test]
fn forward_help_teaches() {
    assert_snapshot!(Stage::new().run("forward --help"));
}

#[test]
fn a_batch_goes_in_and_logits_gradients_and_weights_come_out() {
    let stage = with_batch([2, 1, 33, 48]);
    assert_snapshot!(stage.run(&format!(
        "{ATTO} --random-seed 3 --num-classes 5 --gradients g.safetensors --save-weights w.safetensors"
    )));
    assert_eq!(read_npy(&stage.path().join("y.npy")).unwrap().shape.to_vec(), [2, 5]);
    let (gradients, weights) = (read(&stage, "g.safetensors").tensors, read(&stage, "w.safetensors").tensors);
    let shapes = |tensors: &std::collections::BTreeMap<String, TensorData>| {
        tensors.iter().map(|(name, data)| (name.clone(), data.shape.clone())).collect::<Vec<_>>()
    };
    assert_eq!(shapes(&gradients), shapes(&weights));
    // The loss is linear in the logits: each class's bias has the sum of its weights over the batch.
    let bias: Vec<f32> = gradients["head.fc.bias"].iter::<f32>().collect();
    for (class, gradient) in bias.into_iter().enumerate() {
        let expected = (class as f64).cos() + ((5 + class) as f64).cos();
        assert!((f64::from(gradient) - expected).abs() < 1e-6, "{class}: {gradient} {expected}");
    }
}

#[test]
fn weights_of_timm_come_back_with_the_same_names_and_bytes() {
    let stage = with_batch([2, 3, 64, 64]);
    let model = "forward --device cpu --model efficientnet_b0 --input x.npy --output y.npy";
    succeed(&stage, &format!("{model} --random-seed 3 --num-classes 7 --save-weights w.safetensors"));
    // As PyTorch saves them: behind every batch norm's statistics, how many batches it has seen.
    let mut timms = read(&stage, "w.safetensors");
    let norms: Vec<String> =
        timms.tensors.keys().filter_map(|name| Some(name.strip_suffix("running_var")?.to_owned())).collect();
    for norm in &norms {
        let count = TensorData::new(vec![7i64], Vec::<usize>::new());
        timms.tensors.insert(format!("{norm}num_batches_tracked"), count);
    }
    write(&stage, "timm.safetensors", &timms);
    succeed(&stage, &format!("{model} --weights timm.safetensors --save-weights again.safetensors"));
    assert_eq!(read(&stage, "again.safetensors").tensors, timms.tensors);

    succeed(&stage, &format!("{model} --weights timm.safetensors --train --save-weights moved.safetensors"));
    let moved = read(&stage, "moved.safetensors").tensors;
    for (name, data) in &timms.tensors {
        let is_moved = ["running_mean", "running_var", "num_batches_tracked"].iter().any(|end| name.ends_with(end));
        assert_eq!(moved[name] == *data, !is_moved, "{name}");
    }
    assert_eq!(moved["bn1.num_batches_tracked"].iter::<i64>().collect::<Vec<_>>(), [8]);
}

#[test]
fn weights_in_half_precision_are_taken_as_the_numbers_that_they_are_rounded_to() {
    // Measured with PyTorch: 3e-3 of the largest logit in bf16, 6e-4 in f16.
    const FURTHEST_BY_ROUNDING: f32 = 2e-2;
    let stage = with_batch([2, 3, 32, 32]);
    succeed(&stage, &format!("{ATTO} --random-seed 3 --num-classes 4 --save-weights w.safetensors"));
    let (weights, whole) = (read(&stage, "w.safetensors"), read_npy(&stage.path().join("y.npy")).unwrap());
    let largest = whole.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
    for dtype in [DType::BF16, DType::F16] {
        let halves = stored_as(&weights, dtype);
        write(&stage, "halves.safetensors", &halves);
        assert!(read(&stage, "halves.safetensors").tensors.values().all(|data| data.dtype == dtype), "{dtype:?}");
        write(&stage, "rounded.safetensors", &stored_as(&halves, DType::F32));
        let [found, expected] = ["halves", "rounded"].map(|name| {
            succeed(&stage, &format!("{ATTO} --weights {name}.safetensors"));
            read_npy(&stage.path().join("y.npy")).unwrap()
        });
        assert_eq!(found, expected, "{dtype:?}");
        // Both files went through the same conversion: if it were wrong, the logits would be further off.
        let differences = found.iter::<f32>().zip(whole.iter::<f32>()).map(|(found, whole)| (found - whole).abs());
        let off = differences.fold(0.0, f32::max) / largest;
        assert!(off > 0.0 && off < FURTHEST_BY_ROUNDING, "{dtype:?}: rounding moves logits by {off:e}");
    }
}

/// The same tensors, each number as near as the type comes to it.
fn stored_as(file: &TensorFile, dtype: DType) -> TensorFile {
    let rounded = file.tensors.iter().map(|(name, data)| (name.clone(), data.clone().convert_dtype(dtype)));
    TensorFile { tensors: rounded.collect(), card: None }
}

#[test]
fn bias_tables_are_resized_to_the_windows_of_the_images() {
    let stage = with_batch([1, 3, 64, 64]);
    let model = "forward --device cpu --model swin_tiny --input x.npy --output y.npy";
    succeed(&stage, &format!("{model} --random-seed 3 --num-classes 2 --save-weights w.safetensors"));
    let wide = with_batch([1, 3, 64, 96]);
    fs::copy(stage.path().join("w.safetensors"), wide.path().join("w.safetensors")).unwrap();
    assert_snapshot!(wide.run(&format!("{model} --weights w.safetensors")));
}

#[test]
fn numbers_that_are_not_finite_are_let_through_and_told() {
    let stage = Stage::new();
    write_npy(&stage.path().join("x.npy"), &TensorData::new(vec![f32::NAN; 3 * 32 * 32], [1, 3, 32, 32])).unwrap();
    assert_snapshot!(stage.run(&format!("{ATTO} --random-seed 3 --num-classes 4")));
}

#[test]
fn inputs_that_are_no_batch_are_refused() {
    let seeded = format!("{ATTO} --random-seed 3");
    assert_snapshot!("no_input", Stage::new().run(&seeded));
    assert_snapshot!("an_input_that_is_no_array", Stage::new().file("x.npy", "not an array").run(&seeded));
    let stage = Stage::new();
    write_npy(&stage.path().join("x.npy"), &TensorData::new(vec![0.0f32; 12], [3, 2, 2])).unwrap();
    assert_snapshot!("an_input_of_three_axes", stage.run(&seeded));
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1), }\n";
    let bytes = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &[0]].concat();
    assert_snapshot!("an_input_of_bytes", Stage::new().file("x.npy", bytes).run(&seeded));
}

#[test]
fn sizes_that_a_family_does_not_take_are_refused() {
    assert_snapshot!("too_small", with_batch([1, 3, 31, 64]).run(&format!("{ATTO} --random-seed 3")));
    let swin = "forward --device cpu --model swin_tiny --random-seed 3 --input x.npy --output y.npy";
    assert_snapshot!("no_whole_patches", with_batch([1, 3, 64, 66]).run(swin));
}

#[test]
fn an_unknown_model_is_refused_with_the_nearest_one() {
    assert_snapshot!(
        with_batch([1, 3, 32, 32]).run(&ATTO.replace("atto", "ato").replace("--input", "--random-seed 3 --input"))
    );
}

#[test]
fn an_output_in_a_missing_folder_is_refused_before_anything_is_computed() {
    let stage = with_batch([1, 3, 32, 32]);
    assert_snapshot!(stage.run(&format!("{ATTO} --random-seed 3 --gradients missing/g.safetensors")));
    assert!(!stage.path().join("y.npy").exists());
}

#[test]
fn weights_or_a_seed_must_be_given() {
    assert_snapshot!(with_batch([1, 3, 32, 32]).run(ATTO));
}

#[test]
fn weights_that_do_not_fit_the_request_are_refused() {
    let stage = with_batch([1, 3, 32, 32]);
    succeed(&stage, &format!("{ATTO} --random-seed 3 --num-classes 4 --save-weights w.safetensors"));
    assert_snapshot!("of_other_classes", stage.run(&format!("{ATTO} --weights w.safetensors --num-classes 5")));
    let femto = ATTO.replace("atto", "femto");
    assert_snapshot!("of_another_size", stage.run(&format!("{femto} --weights w.safetensors")));
    let swin = ATTO.replace("convnext_atto", "swin_tiny");
    assert_snapshot!("of_another_family", stage.run(&format!("{swin} --weights w.safetensors")));
    let grey = with_batch([1, 1, 32, 32]);
    fs::copy(stage.path().join("w.safetensors"), grey.path().join("w.safetensors")).unwrap();
    assert_snapshot!("of_other_channels", grey.run(&format!("{ATTO} --weights w.safetensors")));
    let nameless = ATTO.replace(" --model convnext_atto", "");
    assert_snapshot!("of_no_known_model", stage.run(&format!("{nameless} --weights w.safetensors")));
}

#[test]
fn a_whole_module_of_pytorch_is_refused() {
    let module = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../checkpoint/tests/fixtures/whole_model.pth");
    let stage = with_batch([1, 3, 32, 32]).file("w.pth", fs::read(module).unwrap());
    assert_snapshot!(stage.run(&format!("{ATTO} --weights w.pth")));
}

#[test]
fn the_models_are_listed_as_json() {
    assert_snapshot!(Stage::new().run("models swin_tiny --json"));
}
