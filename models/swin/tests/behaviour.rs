//! What Swin does beside timm's arithmetic: fresh weights, sizes that it takes, stochastic depth, recording without computing.

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use swin::{Swin, SwinConfig, check_image_size};
use vision_nn::{Classifier, ClassifierSpec, Pass, named_parameters, parameter_shapes};

fn small() -> SwinConfig {
    SwinConfig { image_size: [32, 32], window_size: 4, embed_dim: 32, depths: [2, 2, 2, 2], num_heads: [1, 2, 4, 8] }
}

fn build(drop_path: f32, device: &Device) -> Swin {
    small().init(&ClassifierSpec { drop_path, ..ClassifierSpec::new(10, device) })
}

#[test]
fn channels_and_classes_are_those_asked_for() {
    let device = Device::flex();
    let model = small().init(&ClassifierSpec { in_channels: 1, ..ClassifierSpec::new(7, &device) });
    let shapes = parameter_shapes(&model);
    let shape = |name: &str| shapes.iter().find(|(found, _)| found == name).map(|(_, shape)| shape.clone());
    assert_eq!(shape("patch_embed.proj.weight"), Some(vec![32, 1, 4, 4]));
    assert_eq!(shape("head.fc.weight"), Some(vec![7, 256]));
    assert_eq!(shape("head.fc.bias"), Some(vec![7]));
    assert_eq!(model.forward(Tensor::ones([2, 1, 32, 64], &device), &mut Pass::evaluation()).dims(), [2, 7]);
}

#[test]
fn dropout_acts_in_training_alone() {
    let device = Device::flex();
    let model = small().init(&ClassifierSpec { dropout: 0.5, ..ClassifierSpec::new(10, &device) });
    let images = Tensor::random([2, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device);
    let run = |model: &Swin, mut pass: Pass| model.forward(images.clone(), &mut pass).into_data();
    let plain = run(&build(0.0, &device), Pass::training(1, 0));
    assert_eq!(run(&model, Pass::evaluation()), plain);
    assert_ne!(run(&model, Pass::training(1, 0)), plain);
}

#[test]
fn fresh_weights_have_the_references_moments() {
    let mut checked = [0; 4];
    for tensor in named_parameters(&build(0.0, &Device::flex())) {
        let values: Vec<f32> = tensor.data.iter().collect();
        let (name, count) = (tensor.name.as_str(), values.len() as f32);
        let is_norm = name.contains("norm");
        let kind = if name.starts_with("patch_embed.proj") {
            // PyTorch's default for a convolution: uniform to one over the root of its fan-in of 3 * 4 * 4.
            let bound = 48f32.powf(-0.5);
            assert_deviation(name, &values, bound / 3f32.sqrt());
            assert!(values.iter().all(|value| value.abs() <= bound), "{name}");
            0
        } else if is_norm || name.ends_with("bias") {
            let constant = if is_norm && name.ends_with("weight") { 1.0 } else { 0.0 };
            assert!(values.iter().all(|&value| value == constant), "{name}");
            1
        } else if name.ends_with("relative_position_bias_table") {
            assert_deviation(name, &values, 0.02);
            2
        } else {
            assert_deviation(name, &values, 0.02);
            assert!(values.iter().sum::<f32>().abs() / count < 5.0 * 0.02 / count.sqrt(), "{name}");
            3
        };
        checked[kind] += 1;
    }
    // Weight and bias; 8 blocks of 2 norms and 4 biases, 5 norms beside, the head's bias; 8 tables; 4 weights a block, 3 reductions, the head.
    assert_eq!(checked, [2, 8 * 8 + 5 * 2 + 1, 8, 8 * 4 + 3 + 1]);
}

/// Five standard errors of a normal sample's deviation, about 1 / sqrt(2 n) of itself: some hundred tensors are asked.
fn assert_deviation(name: &str, values: &[f32], expected: f32) {
    let count = values.len() as f32;
    let deviation = (values.iter().map(|value| value * value).sum::<f32>() / count).sqrt();
    assert!((deviation / expected - 1.0).abs() < 5.0 / (2.0 * count).sqrt(), "{name}: {deviation}, not {expected}");
}

#[test]
fn every_size_that_is_said_to_work_gives_finite_logits() {
    let model = build(0.0, &Device::flex());
    for [height, width] in [[4, 4], [4, 64], [8, 12], [36, 20], [52, 28]] {
        assert_eq!(check_image_size(height, width), Ok(()));
        let logits = model.forward(Tensor::ones([1, 3, height, width], &Device::flex()), &mut Pass::evaluation());
        assert!(logits.into_data().iter::<f32>().all(f32::is_finite), "{height}x{width}");
    }
}

#[test]
fn drop_path_acts_in_training_alone_and_the_same_for_a_batch_in_parts() {
    let device = Device::flex();
    let (model, without) = (build(0.5, &device), build(0.0, &device));
    let images = Tensor::random([4, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device);
    let run = |model: &Swin, from: usize, to: usize, mut pass: Pass| -> TensorData {
        model.forward(images.clone().slice_dim(0, from..to), &mut pass).into_data()
    };
    let plain = run(&without, 0, 4, Pass::evaluation());
    assert_eq!(run(&model, 0, 4, Pass::evaluation()), plain);

    let dropped = run(&model, 0, 4, Pass::training(1, 0));
    assert_ne!(dropped, plain);
    let parts = [run(&model, 0, 1, Pass::training(1, 0)), run(&model, 1, 4, Pass::training(1, 1))];
    let parts: Vec<f32> = parts.iter().flat_map(|part| part.iter::<f32>()).collect();
    for (whole, part) in dropped.iter::<f32>().zip(parts) {
        // A product of matrices may sum in another order for another number of rows. Another mask moves logits by 1e-3 and more.
        assert!((whole - part).abs() < 1e-6, "{whole} and {part}");
    }
}

#[test]
fn a_pass_can_be_recorded_without_computing() {
    let device = Device::capture();
    let recording = device.capture_scope(|scope| {
        let model = build(0.2, &device);
        let images = Tensor::ones([2, 3, 36, 52], &device);
        assert_eq!(model.forward(images, &mut Pass::training(0, 0)).dims(), [2, 10]);
        scope.complete([], [])
    });
    assert!(recording.unwrap().graph.operations.len() > 500);
}
