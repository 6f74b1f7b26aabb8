//! Fixtures, and what is measured on them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients as Tape, Tensor, TensorData};
use checkpoint::read_tensors;
use efficientnet::{EfficientNet, EfficientNetConfig, Variant, find_variant};
use vision_nn::{
    ClassifierSpec, ParameterPath, assign_parameters, is_batch_count, is_running_statistic, parameter_shapes,
};

pub(crate) const NUM_CLASSES: usize = 5;

pub(crate) type Tensors = BTreeMap<String, TensorData>;

/// A timm variant scaled down to test size.
pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) in_channels: usize,
    variant: &'static str,
    width: f64,
    blocks: &'static [usize],
    /// Case and mode of which the gradients are kept.
    pub(crate) gradients: &'static [(&'static str, &'static str)],
}

/// `grey` pads as TensorFlow does, `fused` has V2's dense blocks.
pub(crate) const FIXTURES: [Fixture; 3] = [
    Fixture {
        name: "rgb",
        in_channels: 3,
        variant: "efficientnet_b0",
        width: 0.1,
        blocks: &[1, 1, 1, 1, 1, 2, 1],
        gradients: &[("uneven", "train")],
    },
    Fixture {
        name: "grey",
        in_channels: 1,
        variant: "tf_efficientnet_b0",
        width: 0.05,
        blocks: &[1, 1, 1, 1, 1, 2, 1],
        gradients: &[("square", "eval"), ("uneven", "train")],
    },
    Fixture {
        name: "fused",
        in_channels: 3,
        variant: "efficientnetv2_s",
        width: 0.1,
        blocks: &[1, 2, 1, 1, 1, 2],
        gradients: &[("uneven", "eval"), ("wide", "train")],
    },
];

impl Fixture {
    pub(crate) fn read(&self, part: &str) -> Tensors {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        read_tensors(&path.join(format!("{}_{part}.safetensors", self.name))).unwrap().tensors
    }

    /// timm's state, less the number of batches that its norms have counted.
    pub(crate) fn read_weights(&self) -> Tensors {
        let mut weights = self.read("weights");
        weights.retain(|name, _| !is_batch_count(name));
        weights
    }

    /// Width scaled as the variant scales it; depths as `scripts/efficientnet_fixtures.py` has them.
    pub(crate) fn config(&self) -> EfficientNetConfig {
        let variant = find_variant(self.variant).unwrap();
        let scaling = efficientnet::Scaling::new(self.width, 1.0);
        let mut config = Variant { scaling, ..variant.clone() }.config();
        assert_eq!(config.stages.len(), self.blocks.len());
        for (stage, blocks) in config.stages.iter_mut().zip(self.blocks) {
            stage.blocks = *blocks;
        }
        config
    }

    pub(crate) fn spec(&self, device: &Device) -> ClassifierSpec {
        ClassifierSpec { in_channels: self.in_channels, ..ClassifierSpec::new(NUM_CLASSES, device) }
    }

    pub(crate) fn init(&self, device: &Device) -> EfficientNet {
        self.config().init(&self.spec(device))
    }

    pub(crate) fn load_model(&self, device: &Device) -> EfficientNet {
        assign_parameters(self.init(device), self.read_weights()).unwrap()
    }
}

/// The case's bytes as the reference saw them: (byte - 128) / 64, which f32 holds exactly. `[B, C, H, W]`
pub(crate) fn images(tensors: &Tensors, case: &str, device: &Device) -> Tensor<4> {
    let input = &tensors[&format!("{case}.input")];
    let values: Vec<f32> = input.as_bytes().iter().map(|&byte| (f32::from(byte) - 128.0) / 64.0).collect();
    Tensor::from_data(TensorData::new(values, input.shape.clone()), device)
}

/// `sum(logits[i] * cos(i))`: a scalar that every logit moves differently.
pub(crate) fn weighted_sum(logits: Tensor<2>) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    let weights: Vec<f32> = (0..batch * classes).map(|index| (index as f64).cos() as f32).collect();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [batch, classes]), &logits.device());
    (logits * weights).sum()
}

pub(crate) fn gradients_by_name(model: &EfficientNet, tape: Tape) -> Tensors {
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

pub(crate) fn count_trainable(model: &EfficientNet) -> usize {
    let shapes = parameter_shapes(model);
    let trainable = shapes.iter().filter(|(name, _)| !is_running_statistic(name));
    trainable.map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

/// Over the reference's largest value. Not finite where a value of `found` is not.
pub(crate) fn relative_error(found: &TensorData, reference: &TensorData) -> f32 {
    largest_difference(found, reference) / largest(reference)
}

pub(crate) fn largest(data: &TensorData) -> f32 {
    data.iter::<f32>().map(f32::abs).fold(0.0, f32::max)
}

pub(crate) fn largest_difference(found: &TensorData, reference: &TensorData) -> f32 {
    assert_eq!(found.shape, reference.shape);
    let differences =
        found.iter::<f32>().zip(reference.iter::<f32>()).map(|(found, reference)| (found - reference).abs());
    // `f32::max` would pass over a NaN.
    differences.fold(0.0, |worst, difference| if difference <= worst { worst } else { difference })
}
