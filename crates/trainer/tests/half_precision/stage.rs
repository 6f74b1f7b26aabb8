//! Steps on images that can be told apart, and models small enough for a test.

use burn::module::ParamId;
use burn::tensor::{Device, Tensor};
use convnext::{ConvNext, ConvNextConfig};
use data_pipeline::Batch;
use efficientnet::{EfficientNet, EfficientNetConfig};
use memory_planner::Precision;
use swin::{Swin, SwinConfig};
use trainer::{LossOptions, Normalization, TrainOptions, TrainStep, WarmupCosine};
use vision_nn::{Classifier, ClassifierSpec, Initialization, ParameterMap, map_parameters};

pub(crate) const CLASSES: usize = 3;
pub(crate) const SIDE: usize = 32;

/// Fan-in weights: fresh ones of the reference kind give logits near zero, which say little.
fn spec(device: &Device) -> ClassifierSpec {
    ClassifierSpec { initialization: Initialization::FanIn, seed: 11, ..ClassifierSpec::new(CLASSES, device) }
}

pub(crate) fn convnext(device: &Device) -> ConvNext {
    let config =
        ConvNextConfig { depths: [1, 1, 2, 1], widths: [16, 24, 32, 40], pointwise_mlp: true, response_norm: false };
    map_parameters(config.init(&spec(device)), &mut OpenBranches)
}

pub(crate) fn swin(device: &Device) -> Swin {
    let sizes = [2, 2, 2, 2];
    let config =
        SwinConfig { image_size: [SIDE; 2], window_size: 4, embed_dim: 16, depths: sizes, num_heads: [1, 2, 4, 8] };
    config.init(&spec(device))
}

/// All kinds of blocks, and the uneven padding of TensorFlow.
pub(crate) fn efficientnet(device: &Device) -> EfficientNet {
    let variant = efficientnet::find_variant("tf_efficientnetv2_b0").expect("a variant of the registry");
    let mut config: EfficientNetConfig = variant.config();
    for stage in &mut config.stages {
        stage.blocks = stage.blocks.min(2);
        stage.channels = (stage.channels / 8).next_multiple_of(8);
    }
    (config.stem_channels, config.head_channels) = (8, 64);
    // Its own weights keep maps at order one, where fp16 is at its best; it goes below what fp16 holds with fan-in ones.
    config.init(&ClassifierSpec { initialization: Initialization::Reference, ..spec(device) })
}

/// Raises layer scale from its initial 1e-6, behind which branches do not show.
struct OpenBranches;

impl ParameterMap for OpenBranches {
    fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
        match name.ends_with("gamma") {
            true => Tensor::full(tensor.dims(), 0.5, &tensor.device()).require_grad(),
            false => tensor,
        }
    }
}

pub(crate) fn step<M: Classifier>(
    build: impl Fn(&Device) -> M,
    precision: Precision,
    micro_batch: usize,
) -> TrainStep<M> {
    let device = Device::flex().autodiff();
    TrainStep::new(build(&device), options(precision, micro_batch), Normalization::imagenet(3), device)
}

pub(crate) fn options(precision: Precision, micro_batch_size: usize) -> TrainOptions {
    TrainOptions {
        effective_batch_size: 12,
        micro_batch_size,
        precision,
        schedule: WarmupCosine { peak: 1e-3, minimum: 0.0, warmup_steps: 0, total_steps: 100 }.into(),
        loss: LossOptions { label_smoothing: 0.1, ..LossOptions::default() },
        clip_norm: Some(1.0),
        ..TrainOptions::default()
    }
}

/// Stripes of three widths under noise: another batch for every `turn`.
pub(crate) fn batch(samples: usize, turn: usize) -> Batch {
    let pixel = |sample: usize, y: usize, x: usize, channel: usize| {
        let period = [4, 8, 16][sample % CLASSES];
        let stripe = if (x + y * (sample % 2) + turn) % period < period / 2 { 170 } else { 70 };
        let noise = ((x * 73 + y * 151 + channel * 199 + (sample + samples * turn) * 37) * 2_654_435_761) >> 11;
        // A shade of its own: a batch norm over images that hardly differ would magnify what is rounded.
        let shade = (sample * 37 + channel * 61) % 90;
        (stripe - 60 + shade + noise % 60) as u8
    };
    let places = (0..samples).flat_map(|sample| (0..SIDE * SIDE * 3).map(move |place| (sample, place)));
    Batch {
        index: 0,
        pixels: places.map(|(sample, place)| pixel(sample, place / 3 / SIDE, place / 3 % SIDE, place % 3)).collect(),
        labels: (0..samples).map(|sample| Some((sample % CLASSES) as u32)).collect(),
        samples: (0..samples).collect(),
        corrupt: Vec::new(),
        partners: Vec::new(),
        last_steps: Vec::new(),
        size: [SIDE, SIDE, 3],
    }
}
