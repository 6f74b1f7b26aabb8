//! What EfficientNet does beside timm's arithmetic: fresh weights, class counts and channels, stochastic depth and dropout.

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use efficientnet::{EfficientNet, EfficientNetConfig, Scaling, Variant, find_variant};
use vision_nn::{Classifier, ClassifierSpec, Pass, named_parameters, parameter_shapes};

/// V2-S in a quarter of its width: blocks of every kind but one, and that one's layers.
fn config() -> EfficientNetConfig {
    let scaling = Scaling::new(0.25, 0.1);
    Variant { scaling, ..find_variant("efficientnetv2_s").unwrap().clone() }.config()
}

fn build(change: impl Fn(&mut ClassifierSpec)) -> EfficientNet {
    let mut spec = ClassifierSpec::new(10, &Device::flex());
    change(&mut spec);
    config().init(&spec)
}

#[test]
fn fresh_weights_have_the_references_moments() {
    let mut checked = [0; 5];
    for tensor in named_parameters(&build(|_| ())) {
        let values: Vec<f32> = tensor.data.iter().collect();
        let (name, shape) = (tensor.name.as_str(), &tensor.data.shape);
        let kind = if name == "classifier.weight" {
            // Uniform within one over the root of the number of classes.
            let bound = 10f32.powf(-0.5);
            assert!(values.iter().all(|value| value.abs() <= bound), "{name}");
            assert_deviation(name, &values, bound / 3f32.sqrt());
            0
        } else if shape.len() == 4 {
            // Normal of variance two over the fan-out of a group.
            let outputs = if name.contains("conv_dw") { 1 } else { shape[0] };
            assert_deviation(name, &values, (2.0 / (outputs * shape[2] * shape[3]) as f32).sqrt());
            1
        } else if name.ends_with("running_var") || name.contains("bn") && name.ends_with("weight") {
            assert!(values.iter().all(|&value| value == 1.0), "{name}");
            2
        } else if name.ends_with("running_mean") {
            assert!(values.iter().all(|&value| value == 0.0), "{name}");
            3
        } else {
            assert!(name.ends_with("bias") && values.iter().all(|&value| value == 0.0), "{name}");
            4
        };
        checked[kind] += 1;
    }
    // Stem and head; a ConvNormAct of one convolution, two EdgeResiduals of two, four InvertedResiduals of three, each with a norm behind, and two
    // squeezing ones in each of the last.
    let norms = 2 + 1 + 2 * 2 + 4 * 3;
    assert_eq!(checked, [1, norms + 4 * 2, 2 * norms, norms, norms + 4 * 2 + 1]);
}

/// Five standard errors of a normal sample's deviation, about 1 / sqrt(2 n) of itself: some dozen tensors are asked.
fn assert_deviation(name: &str, values: &[f32], expected: f32) {
    let count = values.len() as f32;
    let deviation = (values.iter().map(|value| value * value).sum::<f32>() / count).sqrt();
    assert!((deviation / expected - 1.0).abs() < 5.0 / (2.0 * count).sqrt(), "{name}: {deviation}, not {expected}");
}

#[test]
fn channels_and_classes_are_those_asked_for() {
    let model = build(|spec| (spec.in_channels, spec.num_classes) = (1, 7));
    let shapes = parameter_shapes(&model);
    let shape = |name: &str| shapes.iter().find(|(found, _)| found == name).map(|(_, shape)| shape.clone());
    let config = config();
    assert_eq!(shape("conv_stem.weight"), Some(vec![config.stem_channels, 1, 3, 3]));
    assert_eq!(shape("classifier.weight"), Some(vec![7, config.head_channels]));
    assert_eq!(shape("classifier.bias"), Some(vec![7]));
    let output = model.forward(Tensor::ones([2, 1, 32, 64], &Device::flex()), &mut Pass::evaluation());
    assert_eq!(output.dims(), [2, 7]);
}

#[test]
fn drop_path_and_dropout_act_in_training_alone() {
    let images = Tensor::random([4, 3, 32, 32], Distribution::Normal(0.0, 1.0), &Device::flex());
    let run = |drop_path: f32, dropout: f32, mut pass: Pass| -> TensorData {
        let model = build(|spec| (spec.drop_path, spec.dropout) = (drop_path, dropout));
        model.forward(images.clone(), &mut pass).into_data()
    };
    let [evaluated, trained] = [Pass::evaluation(), Pass::training(1, 0)].map(|pass| run(0.0, 0.0, pass));
    for (drop_path, dropout) in [(0.5, 0.0), (0.0, 0.5)] {
        assert_eq!(run(drop_path, dropout, Pass::evaluation()), evaluated);
        assert_ne!(run(drop_path, dropout, Pass::training(1, 0)), trained);
        assert_eq!(run(drop_path, dropout, Pass::training(1, 0)), run(drop_path, dropout, Pass::training(1, 0)));
        assert_ne!(run(drop_path, dropout, Pass::training(1, 0)), run(drop_path, dropout, Pass::training(2, 0)));
    }
}
