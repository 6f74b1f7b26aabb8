//! EfficientNet against timm: sizes, names, logits, gradients and running statistics of three test-size models with random weights.
//!
//! `scripts/efficientnet_fixtures.py` writes the fixtures; its head says what stands in them.

mod support;

use burn::module::{AutodiffModule, ParamId};
use burn::tensor::{Device, Gradients as Tape, Tensor};
use efficientnet::{EfficientNet, VARIANTS};
use support::{
    FIXTURES, Fixture, NUM_CLASSES, Tensors, count_trainable, gradients_by_name, images, largest, largest_difference,
    relative_error, weighted_sum,
};
use vision_nn::{
    Classifier, ClassifierSpec, Padding, ParameterMap, Pass, assign_parameters, is_running_statistic, map_parameters,
    named_parameters, parameter_shapes,
};

/// Largest difference to timm's f64 reference, over the reference's largest value.
///
/// PyTorch in f32 is itself within 3e-6 (logits), 2e-5 (gradients) and 1e-6 (statistics) of that reference: batch norms over a dozen positions
/// amplify roundings. Five times that leaves room for another order of summation. Mistakes that load without an error are further off:
/// see `mistakes_are_further_off_than_the_tolerance`.
const LOGITS_TOLERANCE: f32 = 2e-5;
const GRADIENT_TOLERANCE: f32 = 1e-4;
const STATISTIC_TOLERANCE: f32 = 5e-6;

/// After steps, whose gradients come on top: PyTorch in f32 is within 2e-5.
const STEPS_TOLERANCE: f32 = 1e-4;

/// Of the steps in `scripts/efficientnet_fixtures.py`.
const RATE: f32 = 1.0 / (1u32 << 18) as f32;

/// Behind a training batch norm some gradients are zero by arithmetic and noise by rounding: those of a shift that the next norm takes away.
/// So an error is measured against the case's largest gradient too, times this.
const GRADIENT_FLOOR: f32 = 1e-2;

/// In the order in which the running statistics saw them.
const CASES: [&str; 3] = ["square", "wide", "uneven"];

#[test]
fn logits_match_timm_in_evaluation_and_in_training() {
    for (fixture, device) in with_devices() {
        let tensors = fixture.read("cases");
        for case in CASES {
            for (mode, mut pass) in [("eval", Pass::evaluation()), ("train", Pass::training(0, 0))] {
                let logits = fixture.load_model(&device).forward(images(&tensors, case, &device), &mut pass);
                let error = relative_error(&logits.into_data(), &tensors[&format!("{case}.{mode}.logits")]);
                assert!(error < LOGITS_TOLERANCE, "{} {case} {mode}: off by {error:e}", fixture.name);
            }
        }
    }
}

#[test]
fn gradients_match_timm_in_evaluation_and_in_training() {
    let device = Device::flex().autodiff();
    for fixture in &FIXTURES {
        let tensors = fixture.read("cases");
        for (case, mode) in fixture.gradients {
            let mut pass = if *mode == "train" { Pass::training(0, 0) } else { Pass::evaluation() };
            let model = fixture.load_model(&device);
            let logits = model.forward(images(&tensors, case, &device), &mut pass);
            let gradients = gradients_by_name(&model, weighted_sum(logits).backward());
            let reference = reference_gradients(&tensors, &format!("{case}.{mode}.gradient."));
            assert_eq!(gradients.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>());
            let floor = GRADIENT_FLOOR * reference.values().map(largest).fold(0.0, f32::max);
            for (name, gradient) in &gradients {
                let expected = &reference[name];
                let error = largest_difference(gradient, expected) / largest(expected).max(floor);
                assert!(error < GRADIENT_TOLERANCE, "{} {case} {mode}: `{name}` is off by {error:e}", fixture.name);
            }
        }
    }
}

#[test]
fn running_statistics_after_three_training_passes_are_timms() {
    for (fixture, device) in with_devices() {
        let model = fixture.load_model(&device);
        let tensors = fixture.read("cases");
        for case in CASES {
            model.forward(images(&tensors, case, &device), &mut Pass::training(0, 0));
        }
        let mut compared = 0;
        for found in named_parameters(&model).iter().filter(|tensor| is_running_statistic(&tensor.name)) {
            let error = relative_error(&found.data, &tensors[&format!("after.{}", found.name)]);
            assert!(error < STATISTIC_TOLERANCE, "{}: `{}` is off by {error:e}", fixture.name, found.name);
            compared += 1;
        }
        assert_eq!(compared, tensors.keys().filter(|name| name.starts_with("after.")).count());
    }
}

/// Steps of gradient descent in between: what they do to the weights shows in the statistics.
#[test]
fn running_statistics_after_three_steps_are_timms() {
    let device = Device::flex().autodiff();
    for fixture in &FIXTURES {
        let mut model = fixture.load_model(&device);
        let (tensors, expected) = (fixture.read("cases"), fixture.read("steps"));
        for case in CASES {
            let logits = model.forward(images(&tensors, case, &device), &mut Pass::training(0, 0));
            model = after_a_step(model, weighted_sum(logits).backward());
        }
        let found = weights_of(&model);
        assert!(!expected.is_empty());
        for (name, reference) in &expected {
            let error = relative_error(&found[name], reference);
            assert!(error < STEPS_TOLERANCE, "{}: `{name}` is off by {error:e}", fixture.name);
            // Without the steps they would be elsewhere.
            let still = relative_error(&tensors[&format!("after.{name}")], reference);
            assert!(still > 0.0, "{}: `{name}` does not move", fixture.name);
        }
    }
}

/// Every parameter less its gradient times [`RATE`].
fn after_a_step(model: EfficientNet, tape: Tape) -> EfficientNet {
    struct Descend(Tape);
    impl ParameterMap for Descend {
        fn map<const D: usize>(&mut self, _name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
            let Some(gradient) = tensor.grad(&self.0) else { return tensor };
            Tensor::from_inner(tensor.inner() - gradient.mul_scalar(RATE)).require_grad()
        }
    }
    map_parameters(model, &mut Descend(tape))
}

#[test]
fn evaluation_moves_no_statistic() {
    let [fixture, ..] = &FIXTURES;
    let model = fixture.load_model(&Device::flex());
    let before = weights_of(&model);
    model.forward(images(&fixture.read("cases"), "wide", &Device::flex()), &mut Pass::evaluation());
    assert_eq!(weights_of(&model), before);
}

#[test]
fn a_clone_and_an_average_keep_statistics_of_their_own() {
    let device = Device::flex().autodiff();
    let [fixture, ..] = &FIXTURES;
    let model = fixture.load_model(&device);
    let (clone, average) = (model.clone(), model.valid());
    let before = weights_of(&model);
    model.forward(images(&fixture.read("cases"), "wide", &device), &mut Pass::training(0, 0));
    assert_ne!(weights_of(&model), before);
    assert_eq!(weights_of(&clone), before);
    assert_eq!(weights_of(&average), before);

    // Mapping a clone, as an average of weights does, does not reach the model either.
    let after = weights_of(&model);
    assign_parameters(model.clone(), before).unwrap();
    assert_eq!(weights_of(&model), after);
}

#[test]
fn timms_weights_come_back_with_the_same_names_and_bytes() {
    for fixture in &FIXTURES {
        let file = fixture.read_weights();
        let ours = weights_of(&fixture.load_model(&Device::flex()));
        assert_eq!(ours.keys().collect::<Vec<_>>(), file.keys().collect::<Vec<_>>());
        for (name, data) in &file {
            assert_eq!(ours[name].shape, data.shape, "{name}");
            assert_eq!(ours[name].as_bytes(), data.as_bytes(), "{name}");
        }
    }
}

#[test]
fn a_tensor_too_few_or_too_many_is_refused_by_name() {
    let [fixture, ..] = &FIXTURES;
    let mut weights = fixture.read_weights();
    let moved = weights.remove("blocks.1.0.bn3.running_var").unwrap();
    weights.insert("blocks.1.0.bn3.variance".to_owned(), moved);
    let error = assign_parameters(fixture.init(&Device::flex()), weights).unwrap_err();
    assert_eq!(error.missing, ["blocks.1.0.bn3.running_var"]);
    assert_eq!(error.unused, ["blocks.1.0.bn3.variance"]);
    assert!(error.mismatched.is_empty());
}

#[test]
fn mistakes_are_further_off_than_the_tolerance() {
    let device = Device::flex();
    let logits_error = |fixture: &Fixture, change: fn(&mut efficientnet::EfficientNetConfig)| {
        let mut config = fixture.config();
        change(&mut config);
        let model = assign_parameters(config.init(&fixture.spec(&device)), fixture.read_weights()).unwrap();
        let tensors = fixture.read("cases");
        let logits = model.forward(images(&tensors, "square", &device), &mut Pass::evaluation());
        relative_error(&logits.into_data(), &tensors["square.eval.logits"])
    };
    let [rgb, grey, fused] = &FIXTURES;
    let errors = [
        logits_error(grey, |config| config.norm_epsilon = 1e-5),
        logits_error(rgb, |config| config.norm_epsilon = 1e-3),
        logits_error(grey, |config| config.padding = Padding::Symmetric),
        logits_error(rgb, |config| config.padding = Padding::Same),
        logits_error(fused, |config| config.padding = Padding::Same),
    ];
    assert!(errors.iter().all(|error| *error > 10.0 * LOGITS_TOLERANCE), "{errors:?}");
}

#[test]
fn parameter_counts_and_image_sizes_are_timms() {
    // sum(p.numel() for p in timm.create_model(name, num_classes=1000).parameters()) and default_cfg["input_size"], timm 1.0.31
    let timm = [
        ("efficientnet_b0", 5_288_548, 224),
        ("efficientnet_b1", 7_794_184, 240),
        ("efficientnet_b2", 9_109_994, 256),
        ("efficientnet_b3", 12_233_232, 288),
        ("efficientnet_b4", 19_341_616, 320),
        ("efficientnet_b5", 30_389_784, 448),
        ("efficientnet_b6", 43_040_704, 528),
        ("efficientnet_b7", 66_347_960, 600),
        ("tf_efficientnet_b0", 5_288_548, 224),
        ("tf_efficientnet_b1", 7_794_184, 240),
        ("tf_efficientnet_b2", 9_109_994, 260),
        ("tf_efficientnet_b3", 12_233_232, 300),
        ("tf_efficientnet_b4", 19_341_616, 380),
        ("tf_efficientnet_b5", 30_389_784, 456),
        ("tf_efficientnet_b6", 43_040_704, 528),
        ("tf_efficientnet_b7", 66_347_960, 600),
        ("efficientnetv2_rw_t", 13_649_388, 224),
        ("efficientnetv2_rw_s", 23_941_296, 288),
        ("efficientnetv2_rw_m", 53_236_442, 320),
        ("efficientnetv2_s", 21_458_488, 288),
        ("efficientnetv2_m", 54_139_356, 320),
        ("efficientnetv2_l", 118_515_272, 384),
        ("efficientnetv2_xl", 208_119_808, 384),
        ("tf_efficientnetv2_b0", 7_139_704, 192),
        ("tf_efficientnetv2_b1", 8_141_052, 192),
        ("tf_efficientnetv2_b2", 10_096_086, 208),
        ("tf_efficientnetv2_b3", 14_358_406, 240),
        ("tf_efficientnetv2_s", 21_458_488, 300),
        ("tf_efficientnetv2_m", 54_139_356, 384),
        ("tf_efficientnetv2_l", 118_515_272, 384),
        ("tf_efficientnetv2_xl", 208_119_808, 384),
    ];
    let ours =
        VARIANTS.each_ref().map(|variant| (variant.name, variant.config().num_parameters(3, 1000), variant.image_size));
    assert_eq!(ours, timm);
}

#[test]
fn counted_parameters_equal_the_arithmetic() {
    // Larger sizes differ in nothing that the arithmetic sees, and take seconds to draw.
    for name in ["efficientnet_b0", "efficientnet_b2", "tf_efficientnetv2_b0", "efficientnetv2_rw_t"] {
        let config = efficientnet::find_variant(name).unwrap().config();
        let model = config.init(&ClassifierSpec::new(1000, &Device::flex()));
        assert_eq!(count_trainable(&model), config.num_parameters(3, 1000), "{name}");
    }
    for fixture in &FIXTURES {
        let expected = fixture.config().num_parameters(fixture.in_channels, NUM_CLASSES);
        assert_eq!(count_trainable(&fixture.init(&Device::flex())), expected, "{}", fixture.name);
    }
}

/// Off the tape, on it, and on one that forgets what it can compute again: the statistics travel on other ways.
fn with_devices() -> Vec<(&'static Fixture, Device)> {
    let tape = || Device::flex().autodiff();
    let devices = || [Device::flex(), tape(), tape().gradient_checkpointing()];
    FIXTURES.iter().flat_map(|fixture| devices().map(|device| (fixture, device))).collect()
}

fn reference_gradients(tensors: &Tensors, prefix: &str) -> Tensors {
    let of_case = |(name, data): (&String, &burn::tensor::TensorData)| {
        name.strip_prefix(prefix).map(|name| (name.to_owned(), data.clone()))
    };
    tensors.iter().filter_map(of_case).collect()
}

fn weights_of(model: &efficientnet::EfficientNet) -> Tensors {
    let shapes = parameter_shapes(model);
    let weights: Tensors = named_parameters(model).into_iter().map(|tensor| (tensor.name, tensor.data)).collect();
    assert_eq!(weights.len(), shapes.len(), "two tensors of one name");
    weights
}
