//! The registry's arithmetic against timm's tables and against what the models really do.

use burn::backend::ir::{FloatOperationIr, ModuleOperationIr, OperationIr, TensorIr};
use burn::tensor::{Device, Tensor};
use vision_nn::{Pass, in_burns_operations, is_running_statistic, parameter_shapes};

use super::*;

/// Name, image side and GMACs of timm's benchmark tables
/// ([`results/`](https://github.com/huggingface/pytorch-image-models/tree/aa4b5850c1543fa488abf260f18390eda46cf85d/results)).
const TIMM: [(&str, usize, f64); 53] = [
    ("convnext_atto", 224, 0.55),
    ("convnext_atto", 288, 0.91),
    ("convnext_base", 224, 15.38),
    ("convnext_base", 256, 20.09),
    ("convnext_base", 288, 25.43),
    ("convnext_base", 320, 31.39),
    ("convnext_base", 384, 45.21),
    ("convnext_femto", 224, 0.79),
    ("convnext_femto", 288, 1.3),
    ("convnext_large", 224, 34.4),
    ("convnext_large", 288, 56.87),
    ("convnext_large", 384, 101.1),
    ("convnext_nano", 224, 2.46),
    ("convnext_nano", 288, 4.06),
    ("convnext_nano", 384, 7.22),
    ("convnext_pico", 224, 1.37),
    ("convnext_pico", 288, 2.27),
    ("convnext_small", 224, 8.71),
    ("convnext_small", 288, 14.39),
    ("convnext_small", 384, 25.58),
    ("convnext_tiny", 224, 4.47),
    ("convnext_tiny", 288, 7.39),
    ("convnext_tiny", 384, 13.14),
    ("efficientnet_b0", 224, 0.4),
    ("efficientnet_b0", 256, 0.52),
    ("tf_efficientnet_b0", 224, 0.4),
    ("efficientnet_b1", 224, 0.59),
    ("efficientnet_b1", 240, 0.71),
    ("efficientnet_b1", 256, 0.77),
    ("efficientnet_b1", 288, 0.97),
    ("tf_efficientnet_b1", 240, 0.71),
    ("efficientnet_b2", 256, 0.89),
    ("efficientnet_b2", 288, 1.12),
    ("tf_efficientnet_b2", 260, 1.02),
    ("efficientnet_b3", 288, 1.63),
    ("efficientnet_b3", 320, 2.01),
    ("tf_efficientnet_b3", 300, 1.87),
    ("efficientnet_b4", 320, 3.13),
    ("efficientnet_b4", 384, 4.51),
    ("tf_efficientnet_b4", 380, 4.49),
    ("efficientnet_b5", 416, 8.27),
    ("efficientnet_b5", 448, 9.59),
    ("tf_efficientnet_b5", 456, 10.46),
    ("efficientnet_b6", 528, 19.4),
    ("tf_efficientnet_b6", 528, 19.4),
    ("efficientnet_b7", 600, 38.33),
    ("tf_efficientnet_b7", 600, 38.33),
    ("swin_base_patch4_window12_384", 384, 47.19),
    ("swin_base_patch4_window7_224", 224, 15.47),
    ("swin_large_patch4_window12_384", 384, 104.08),
    ("swin_large_patch4_window7_224", 224, 34.53),
    ("swin_small_patch4_window7_224", 224, 8.77),
    ("swin_tiny_patch4_window7_224", 224, 4.51),
];

#[test]
fn macs_are_timms() {
    // Published in hundredths.
    const ROUNDING: f64 = 0.005;
    for (name, side, published) in TIMM {
        let architecture = find_architecture(name).ok().unwrap();
        let giga = architecture.macs(side) as f64 / 1e9;
        // timm's counter (fvcore) adds two operations for each number of a batch norm and five for each of a layer norm: by its own count of activations, at most
        // these shares.
        let norms = if architecture.family == "EfficientNet" { 0.035 } else { 0.01 };
        let surplus = published - giga;
        assert!(
            (-ROUNDING..=ROUNDING + norms * giga).contains(&surplus),
            "{name} at {side}: {giga:.3}, published {published}"
        );
    }
}

#[test]
fn recorded_products_equal_the_arithmetic() {
    for architecture in architectures() {
        let side = architecture.image_size;
        let device = Device::capture();
        let recording = device.capture_scope(|scope| {
            let model = architecture.build(&ClassifierSpec::new(1000, &device));
            let images = Tensor::empty([1, 3, side, side], &device);
            // An operation of ours tells no products.
            in_burns_operations(|| drop(model.forward(images, &mut Pass::evaluation())));
            scope.complete([], [])
        });
        let counted: u64 = recording.unwrap().graph.operations.iter().map(macs_of).sum();
        assert_eq!(architecture.macs(side), counted, "{}", architecture.name);
    }
}

#[test]
fn every_architecture_has_the_parameters_that_are_listed() {
    for architecture in architectures() {
        let device = Device::capture();
        let mut trained = 0;
        let recording = device.capture_scope(|scope| {
            // The device only records: no number is drawn, and no memory is taken.
            for (name, shape) in parameter_shapes(&architecture.build(&ClassifierSpec::new(1000, &device))) {
                if !is_running_statistic(&name) {
                    trained += shape.iter().product::<usize>();
                }
            }
            scope.complete([], [])
        });
        recording.expect("the device is a capture device of its own");
        assert_eq!(trained, architecture.parameters, "{}", architecture.name);
    }
}

/// Multiply-accumulates of one operation: each number of the output is a sum over what it is multiplied from.
fn macs_of(operation: &OperationIr) -> u64 {
    let numbers = |tensor: &TensorIr| tensor.shape.iter().product::<usize>() as u64;
    let last_axis = |tensor: &TensorIr| tensor.shape.iter().next_back().copied().unwrap_or(1) as u64;
    match operation {
        OperationIr::Module(ModuleOperationIr::Conv2d(conv)) => {
            let out_channels = conv.weight.shape[0] as u64;
            numbers(&conv.out) * numbers(&conv.weight) / out_channels
        }
        OperationIr::Module(ModuleOperationIr::Linear(linear)) => numbers(&linear.out) * last_axis(&linear.x),
        OperationIr::Float(_, FloatOperationIr::Matmul(product)) => numbers(&product.out) * last_axis(&product.lhs),
        _ => 0,
    }
}

#[test]
fn names_and_aliases_are_told_apart() {
    let all = architectures();
    let mut names: Vec<&str> =
        all.iter().flat_map(|architecture| architecture.aliases.iter().copied().chain([architecture.name])).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for name in ["convnext_base_384", "swin_base_384"] {
        assert_eq!(find_architecture(name).ok().unwrap().image_size, 384);
    }
    assert_eq!(find_architecture("convnextv2_tinny").err(), Some(Some("convnextv2_tiny".to_owned())));
}

#[test]
fn a_tag_of_timms_weights_names_no_other_architecture() {
    for (name, found) in [
        ("convnext_base.fb_in22k_ft_in1k", "convnext_base"),
        ("swin_base_patch4_window7_224.ms_in22k_ft_in1k", "swin_base_patch4_window7_224"),
        ("efficientnet_b0.ra_in1k", "efficientnet_b0"),
        ("convnext_base.fb_in22k_ft_in1k_384", "convnext_base.fb_in22k_ft_in1k_384"),
    ] {
        assert_eq!(find_architecture(name).ok().map(|architecture| architecture.name), Some(found));
    }
    // Weights of another size have names of their own, or are not known.
    assert!(find_architecture("convnext_atto.anything_384").is_err());
}

/// What timm 1.0.31 says of each name's weights: `python scripts/preprocessing_fixture.py`.
#[test]
fn images_are_brought_to_published_weights_as_by_timm() {
    let written = include_str!("../../tests/fixtures/preprocessing.json");
    let fixture: serde_json::Value = serde_json::from_str(written).expect("it is JSON");
    let published = fixture["models"].as_array().expect("a list");
    let all = architectures();
    assert_eq!(published.len(), all.len());
    for (architecture, published) in all.iter().zip(published) {
        let Preprocessing { mean, std, interpolation, crop_share } = architecture.preprocessing;
        let ours = serde_json::json!({
            "name": architecture.name,
            "tag": published["tag"],
            "mean": mean,
            "std": std,
            "interpolation": interpolation.as_str(),
            "crop_share": crop_share,
        });
        assert_eq!(&ours, published);
    }
}
