//! What ConvNeXt does beside timm's arithmetic: fresh weights, class counts and channels, stochastic depth and dropout, recording without computing.

use burn::tensor::{Device, Distribution, Tensor};
use convnext::{ConvNext, ConvNextConfig};
use vision_nn::{Classifier, ClassifierSpec, Pass, named_parameters, parameter_shapes};

fn config(response_norm: bool) -> ConvNextConfig {
    ConvNextConfig { depths: [2, 2, 2, 2], widths: [16, 32, 48, 64], pointwise_mlp: true, response_norm }
}

fn spec(device: &Device) -> ClassifierSpec {
    ClassifierSpec::new(10, device)
}

fn logits(model: &ConvNext, images: &Tensor<4>, pass: &mut Pass) -> Vec<f32> {
    model.forward(images.clone(), pass).into_data().iter().collect()
}

#[test]
fn fresh_weights_have_the_references_moments() {
    for response_norm in [false, true] {
        let mut checked = [0; 4];
        for tensor in named_parameters(&config(response_norm).init(&spec(&Device::flex()))) {
            let values: Vec<f32> = tensor.data.iter().collect();
            let name = tensor.name.as_str();
            let is_norm = name.contains("norm") || name == "stem.1.weight" || name.ends_with("downsample.0.weight");
            let kind = if name.ends_with("gamma") {
                assert!(values.iter().all(|&value| value == 1e-6), "{name}");
                0
            } else if name.contains("grn") || name.ends_with("bias") {
                assert!(values.iter().all(|&value| value == 0.0), "{name}");
                1
            } else if is_norm {
                assert!(values.iter().all(|&value| value == 1.0), "{name}");
                2
            } else {
                assert_truncated_normal(name, &values);
                3
            };
            checked[kind] += 1;
        }
        // Of 8 blocks: layer scale; biases of four layers, and the response norm's two parameters; one norm; three weights. Beside them the stem, three
        // downsamplings of a norm and a convolution, the head's norm, and the classifier.
        let expected = match response_norm {
            false => [8, 8 * 4 + 2 + 3 * 2 + 2, 8 + 1 + 3 + 1, 8 * 3 + 1 + 3 + 1],
            true => [0, 8 * (4 + 2) + 2 + 3 * 2 + 2, 8 + 1 + 3 + 1, 8 * 3 + 1 + 3 + 1],
        };
        assert_eq!(checked, expected);
    }
}

/// Standard deviation 0.02 and mean 0, within five standard errors of a normal sample: some hundred tensors are asked. The reference cuts at ±2, a
/// hundred deviations away: no draw in a million comes near six.
fn assert_truncated_normal(name: &str, values: &[f32]) {
    let count = values.len() as f32;
    let deviation = (values.iter().map(|value| value * value).sum::<f32>() / count).sqrt();
    assert!((deviation / 0.02 - 1.0).abs() < 5.0 / (2.0 * count).sqrt(), "{name}: {deviation}");
    let mean = values.iter().sum::<f32>() / count;
    assert!(mean.abs() < 5.0 * 0.02 / count.sqrt(), "{name}: {mean}");
    assert!(values.iter().all(|value| value.abs() < 0.12), "{name}");
}

#[test]
fn channels_and_classes_are_those_asked_for() {
    let device = Device::flex();
    let model = config(true).init(&ClassifierSpec { in_channels: 1, num_classes: 7, ..spec(&device) });
    let shapes = parameter_shapes(&model);
    let shape = |name: &str| shapes.iter().find(|(found, _)| found == name).map(|(_, shape)| shape.clone());
    assert_eq!(shape("stem.0.weight"), Some(vec![16, 1, 4, 4]));
    assert_eq!(shape("head.fc.weight"), Some(vec![7, 64]));
    assert_eq!(shape("head.fc.bias"), Some(vec![7]));
    let output = model.forward(Tensor::ones([2, 1, 32, 64], &device), &mut Pass::evaluation());
    assert_eq!(output.dims(), [2, 7]);
}

#[test]
fn drop_path_and_dropout_act_in_training_alone_and_the_same_for_a_batch_in_parts() {
    let device = Device::flex();
    let images = Tensor::random([4, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device);
    let without = config(true).init(&spec(&device));
    let plain = logits(&without, &images, &mut Pass::evaluation());
    assert_eq!(logits(&without, &images, &mut Pass::training(1, 0)), plain);
    for (drop_path, dropout) in [(0.5, 0.0), (0.0, 0.5)] {
        let model = config(true).init(&ClassifierSpec { drop_path, dropout, ..spec(&device) });
        assert_eq!(logits(&model, &images, &mut Pass::evaluation()), plain);
        let dropped = logits(&model, &images, &mut Pass::training(1, 0));
        assert_ne!(dropped, plain);
        let part = |from: usize, to: usize| {
            logits(&model, &images.clone().slice_dim(0, from..to), &mut Pass::training(1, from))
        };
        for (whole, part) in dropped.iter().zip([part(0, 1), part(1, 4)].concat()) {
            // A product of matrices may sum in another order for another number of rows. Another mask moves logits by 1e-3 and more.
            assert!((whole - part).abs() < 1e-6, "{whole} and {part}");
        }
    }
}

#[test]
fn a_pass_can_be_recorded_without_computing() {
    let capture = Device::capture();
    let device = capture.clone().autodiff();
    let recording = capture.capture_scope(|scope| {
        let model = config(true).init(&ClassifierSpec { drop_path: 0.2, dropout: 0.2, ..spec(&device) });
        assert_eq!(model.forward(Tensor::ones([2, 3, 36, 52], &device), &mut Pass::training(0, 0)).dims(), [2, 10]);
        scope.complete([], [])
    });
    assert!(recording.is_ok());
}
