//! ConvNeXt against timm: sizes, names, logits and gradients of test-size models with random weights.
//!
//! `scripts/timm_fixtures.py` writes the fixtures; its head says what stands in them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients as Tape, Tensor, TensorData};
use checkpoint::read_tensors;
use convnext::{ConvNext, ConvNextConfig, VARIANTS, find_variant};
use vision_nn::{
    Classifier, ClassifierSpec, ParameterPath, Pass, assign_parameters, named_parameters, parameter_shapes,
};

/// Largest difference to timm's f64 reference, over the reference's largest value.
///
/// Measured: 4e-7 (logits) and 3e-6 (gradients), a few roundings in f32; seven to ten times that leaves room for another order of summation.
/// The mistakes that load without an error are further off: the tanh form of GELU moves logits by 1e-4 and gradients by 1e-3, norms of
/// epsilon 1e-5 both by over 1e-3.
const LOGITS_TOLERANCE: f32 = 3e-6;
const GRADIENT_TOLERANCE: f32 = 3e-5;

const NUM_CLASSES: usize = 5;

type Tensors = BTreeMap<String, TensorData>;

struct Fixture {
    name: &'static str,
    in_channels: usize,
    config: ConvNextConfig,
    cases: &'static [&'static str],
}

/// `rgb` and `v2_rgb` store their MLP as timm's small sizes do, the grey ones as its large ones; `uneven` is an input that the strides do not divide.
const FIXTURES: [Fixture; 4] = [
    Fixture {
        name: "rgb",
        in_channels: 3,
        config: ConvNextConfig {
            depths: [1, 1, 2, 1],
            widths: [8, 16, 24, 32],
            pointwise_mlp: true,
            response_norm: false,
        },
        cases: &["square", "wide", "uneven"],
    },
    Fixture {
        name: "grey",
        in_channels: 1,
        config: ConvNextConfig {
            depths: [1, 1, 1, 1],
            widths: [4, 8, 12, 16],
            pointwise_mlp: false,
            response_norm: false,
        },
        cases: &["square"],
    },
    Fixture {
        name: "v2_rgb",
        in_channels: 3,
        config: ConvNextConfig {
            depths: [1, 1, 2, 1],
            widths: [4, 8, 12, 16],
            pointwise_mlp: true,
            response_norm: true,
        },
        cases: &["square", "wide"],
    },
    Fixture {
        name: "v2_grey",
        in_channels: 1,
        config: ConvNextConfig {
            depths: [1, 1, 1, 1],
            widths: [4, 8, 12, 16],
            pointwise_mlp: false,
            response_norm: true,
        },
        cases: &["uneven"],
    },
];

/// Nothing random acts in the fixtures, so that one reference holds in both modes.
fn modes() -> [(&'static str, Pass); 2] {
    [("evaluation", Pass::evaluation()), ("training", Pass::training(0, 0))]
}

#[test]
fn logits_match_timm_in_evaluation_and_in_training() {
    for fixture in &FIXTURES {
        let model = fixture.load_model(&Device::flex());
        let tensors = fixture.read("cases");
        for case in fixture.cases {
            for (mode, mut pass) in modes() {
                let logits = model.forward(images(&tensors, case, &Device::flex()), &mut pass);
                let error = relative_error(&logits.into_data(), &tensors[&format!("{case}.logits")]);
                assert!(error < LOGITS_TOLERANCE, "{} {case} {mode}: off by {error:e}", fixture.name);
            }
        }
    }
}

#[test]
fn gradients_match_timm_in_evaluation_and_in_training() {
    let device = Device::flex().autodiff();
    for fixture in &FIXTURES {
        let model = fixture.load_model(&device);
        let tensors = fixture.read("cases");
        for case in fixture.cases {
            for (mode, mut pass) in modes() {
                let logits = model.forward(images(&tensors, case, &device), &mut pass);
                let gradients = gradients_by_name(&model, weighted_sum(logits).backward());
                assert_eq!(gradients.len(), parameter_shapes(&model).len(), "a parameter has no gradient");
                for (name, gradient) in gradients {
                    let error = relative_error(&gradient, &tensors[&format!("{case}.gradient.{name}")]);
                    assert!(error < GRADIENT_TOLERANCE, "{} {case} {mode}: `{name}` is off by {error:e}", fixture.name);
                }
            }
        }
    }
}

#[test]
fn timms_weights_come_back_with_the_same_names_and_bytes() {
    for fixture in &FIXTURES {
        let file = fixture.read("weights");
        let model = fixture.load_model(&Device::flex());
        let ours: Tensors = named_parameters(&model).into_iter().map(|tensor| (tensor.name, tensor.data)).collect();
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
    let mut weights = fixture.read("weights");
    let moved = weights.remove("stages.2.blocks.1.gamma").unwrap();
    weights.insert("stages.2.blocks.1.layer_scale".to_owned(), moved);
    let error = assign_parameters(fixture.init(&Device::flex()), weights).unwrap_err();
    assert_eq!(error.missing, ["stages.2.blocks.1.gamma"]);
    assert_eq!(error.unused, ["stages.2.blocks.1.layer_scale"]);
    assert!(error.mismatched.is_empty());
}

#[test]
fn parameter_counts_and_image_sizes_are_timms() {
    // sum(p.numel() for p in timm.create_model(name, num_classes=1000).parameters()) and default_cfg["input_size"], timm 1.0.31
    let timm = [
        ("convnext_atto", 3_695_520, 224),
        ("convnext_femto", 5_217_784, 224),
        ("convnext_pico", 9_045_672, 224),
        ("convnext_nano", 15_593_560, 224),
        ("convnext_tiny", 28_589_128, 224),
        ("convnext_small", 50_223_688, 224),
        ("convnext_base", 88_591_464, 224),
        ("convnext_large", 197_767_336, 224),
        ("convnext_xlarge", 350_196_968, 224),
        ("convnext_nano.r384_in12k_ft_in1k", 15_593_560, 384),
        ("convnext_tiny.fb_in22k_ft_in1k_384", 28_589_128, 384),
        ("convnext_small.fb_in22k_ft_in1k_384", 50_223_688, 384),
        ("convnext_base.fb_in22k_ft_in1k_384", 88_591_464, 384),
        ("convnext_large.fb_in22k_ft_in1k_384", 197_767_336, 384),
        ("convnext_xlarge.fb_in22k_ft_in1k_384", 350_196_968, 384),
        ("convnextv2_atto", 3_708_400, 224),
        ("convnextv2_femto", 5_233_240, 224),
        ("convnextv2_pico", 9_066_280, 224),
        ("convnextv2_nano", 15_623_800, 224),
        ("convnextv2_tiny", 28_635_496, 224),
        ("convnextv2_small", 50_318_440, 224),
        ("convnextv2_base", 88_717_800, 224),
        ("convnextv2_large", 197_956_840, 224),
        ("convnextv2_nano.fcmae_ft_in22k_in1k_384", 15_623_800, 384),
        ("convnextv2_tiny.fcmae_ft_in22k_in1k_384", 28_635_496, 384),
        ("convnextv2_base.fcmae_ft_in22k_in1k_384", 88_717_800, 384),
        ("convnextv2_large.fcmae_ft_in22k_in1k_384", 197_956_840, 384),
        ("convnextv2_huge", 660_289_640, 384),
        ("convnextv2_huge.fcmae_ft_in22k_in1k_512", 660_289_640, 512),
    ];
    let ours =
        VARIANTS.each_ref().map(|variant| (variant.name, variant.config.num_parameters(3, 1000), variant.image_size));
    assert_eq!(ours, timm);
}

#[test]
fn counted_parameters_equal_the_arithmetic() {
    let spec =
        |in_channels, num_classes| ClassifierSpec { in_channels, ..ClassifierSpec::new(num_classes, &Device::flex()) };
    // Larger sizes differ in nothing that the arithmetic sees, and take seconds to draw.
    for name in ["convnext_atto", "convnext_pico", "convnextv2_femto"] {
        let variant = find_variant(name).unwrap();
        let model = variant.config.init(&spec(3, 1000));
        assert_eq!(count_parameters(&model), variant.config.num_parameters(3, 1000), "{}", variant.name);
    }
    for fixture in &FIXTURES {
        let model = fixture.config.init(&spec(fixture.in_channels, NUM_CLASSES));
        let expected = fixture.config.num_parameters(fixture.in_channels, NUM_CLASSES);
        assert_eq!(count_parameters(&model), expected, "{}", fixture.name);
    }
}

impl Fixture {
    fn read(&self, part: &str) -> Tensors {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        read_tensors(&path.join(format!("{}_{part}.safetensors", self.name))).unwrap().tensors
    }

    fn init(&self, device: &Device) -> ConvNext {
        let spec = ClassifierSpec { in_channels: self.in_channels, ..ClassifierSpec::new(NUM_CLASSES, device) };
        self.config.init(&spec)
    }

    fn load_model(&self, device: &Device) -> ConvNext {
        assign_parameters(self.init(device), self.read("weights")).unwrap()
    }
}

/// The case's bytes as the reference saw them: (byte - 128) / 64, which f32 holds exactly. `[B, C, H, W]`
fn images(tensors: &Tensors, case: &str, device: &Device) -> Tensor<4> {
    let input = &tensors[&format!("{case}.input")];
    let values: Vec<f32> = input.as_bytes().iter().map(|&byte| (f32::from(byte) - 128.0) / 64.0).collect();
    Tensor::from_data(TensorData::new(values, input.shape.clone()), device)
}

/// `sum(logits[i] * cos(i))`: a scalar that every logit moves differently.
fn weighted_sum(logits: Tensor<2>) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    let weights: Vec<f32> = (0..batch * classes).map(|index| (index as f64).cos() as f32).collect();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [batch, classes]), &logits.device());
    (logits * weights).sum()
}

fn gradients_by_name(model: &ConvNext, tape: Tape) -> Tensors {
    struct Collect(ParameterPath, Tape, Tensors);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(&self.1) {
                self.2.insert(self.0.name(), gradient.into_data());
            }
        }
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.0.exit(container);
        }
    }
    let mut collect = Collect(ParameterPath::default(), tape, Tensors::new());
    model.visit(&mut collect);
    collect.2
}

fn count_parameters(model: &ConvNext) -> usize {
    parameter_shapes(model).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

/// Not finite where a value of `found` is not.
fn relative_error(found: &TensorData, reference: &TensorData) -> f32 {
    assert_eq!(found.shape, reference.shape);
    let largest = reference.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
    let differences =
        found.iter::<f32>().zip(reference.iter::<f32>()).map(|(found, reference)| (found - reference).abs());
    // `f32::max` would pass over a NaN.
    differences.fold(0.0, |worst, difference| if difference <= worst { worst } else { difference }) / largest
}
