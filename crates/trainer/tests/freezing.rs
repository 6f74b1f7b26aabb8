//! Parts of a model that stay as they are, and layers that move more slowly than others.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use convnext::{ConvNext, ConvNextConfig};
use data_pipeline::Batch;
use trainer::{GroupError, GroupOptions, LossOptions, Normalization, ParameterGroups, TrainOptions, TrainStep};
use vision_nn::{
    BatchNorm, Classifier, ClassifierSpec, Initialization, Initializer, Linear, Pass, is_trained, named_parameters,
};

const BATCH: usize = 4;
const SIDE: usize = 64;

type Weights = BTreeMap<String, TensorData>;

#[test]
fn frozen_parameters_keep_their_bits_and_have_no_gradient_no_state_and_an_average_of_their_own() {
    let mut step = train_step(convnext(), &["stem", "stages.0", "stages.1.blocks.*.gamma"]);
    let before = weights(step.model());
    for number in 1..=3 {
        let (gradients, scores) = step.gradients(&batch(), number);
        let named: Vec<&str> = gradients.iter().map(|(name, _)| name).collect();
        assert!(named.iter().all(|name| !is_frozen(name)) && !named.is_empty(), "{named:?}");
        step.apply(gradients, scores.gradient_norm, 1e-2, number);
    }
    let (after, average) = (weights(step.model()), weights(&step.evaluation_model()));
    for (name, weight) in &before {
        assert_eq!(*weight == after[name], is_frozen(name), "`{name}`");
        assert_eq!(*weight == average[name], is_frozen(name), "the average of `{name}`");
    }
}

fn is_frozen(name: &str) -> bool {
    name.starts_with("stem.") || name.starts_with("stages.0.") || name == "stages.1.blocks.0.gamma"
}

#[test]
fn what_is_not_frozen_has_the_gradients_that_it_had() {
    let (whole, _) = train_step(convnext(), &[]).gradients(&batch(), 1);
    let (part, _) = train_step(convnext(), &["stem", "stages.0"]).gradients(&batch(), 1);
    let numbers = |tensor: &Tensor<1>| tensor.to_data().iter::<f32>().collect::<Vec<f32>>();
    for (name, gradient) in part.iter() {
        assert_eq!(numbers(gradient), numbers(whole.get(name).unwrap()), "`{name}`");
    }
}

#[test]
fn a_pattern_that_names_nothing_is_told_with_all_names() {
    let check = |patterns: &[&str]| ParameterGroups::of(&convnext(), &freeze(patterns)).check();
    assert_eq!(check(&["stem", "stages.0.*", "*.bias", "head.fc.weight", "stages.?.blocks"]), Ok(()));
    let Err(GroupError::NothingMatches { pattern, known }) = check(&["stem", "stage.0"]) else { panic!("it matched") };
    assert_eq!(pattern, "stage.0");
    assert!(["stages.0", "stages.0.blocks.0.conv_dw.weight"].iter().all(|name| known.contains(&(*name).to_owned())));
    let everything = check(&["*"]).unwrap_err();
    assert!(matches!(everything, GroupError::EverythingFrozen { .. }) && everything.hint().is_some());
}

#[test]
fn groups_are_complete_and_sorted_from_frozen_to_fast() {
    let options = GroupOptions { layer_decay: Some(0.5), ..freeze(&["stem"]) };
    let groups = ParameterGroups::of(&convnext(), &options);
    let shown = groups.groups();
    assert!(shown[0].is_frozen && shown[0].names == ["stem.0.bias", "stem.0.weight", "stem.1.bias", "stem.1.weight"]);
    let scales: Vec<f64> = shown[1..].iter().map(|group| group.learning_rate_scale).collect();
    assert!(scales.is_sorted() && scales.last() == Some(&1.0), "{scales:?}");
    assert_eq!(shown.iter().map(|group| group.names.len()).sum::<usize>(), groups.iter().count());
    let elements: usize = groups.iter().map(|(_, rule)| rule.elements()).sum();
    assert_eq!(shown.iter().map(|group| group.parameters).sum::<usize>(), elements);
    // Layers: the stem, the five blocks of four stages, the head. Stage 0 has one block: four blocks behind it and the head.
    assert_eq!(groups.rule("stages.0.blocks.0.gamma").unwrap().learning_rate_scale, 0.5f64.powi(5));
}

#[test]
fn a_frozen_batch_norm_is_in_evaluation_and_keeps_its_statistics() {
    for (patterns, moves) in [(&[][..], true), (&["norm.bias"], true), (&["norm"], false), (&["norm.*"], false)] {
        let mut step = train_step(Normed::new(), patterns);
        let before = weights(step.model());
        let (gradients, scores) = step.gradients(&batch(), 1);
        step.apply(gradients, scores.gradient_norm, 1e-2, 1);
        let after = weights(step.model());
        for statistic in ["norm.running_mean", "norm.running_var"] {
            assert_eq!(before[statistic] != after[statistic], moves, "{statistic}, frozen: {patterns:?}");
        }
    }
    // By statistics of mean 0 and variance 1 the norm changes nothing, so that it trains as if it were not there.
    let in_evaluation = train_step(Normed::new(), &["norm"]).gradients(&batch(), 1).0;
    let by_batch = train_step(Normed::new(), &["norm.bias"]).gradients(&batch(), 1).0;
    let head = |gradients: &trainer::Gradients| gradients.get("fc.weight").unwrap().to_data();
    assert_ne!(head(&in_evaluation), head(&by_batch));
}

fn freeze(patterns: &[&str]) -> GroupOptions {
    GroupOptions { freeze: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(), ..GroupOptions::default() }
}

fn train_step<M: Classifier>(model: M, frozen: &[&str]) -> TrainStep<M> {
    let options = TrainOptions {
        effective_batch_size: BATCH,
        micro_batch_size: BATCH,
        groups: freeze(frozen),
        schedule: trainer::WarmupCosine { peak: 1e-2, minimum: 0.0, warmup_steps: 0, total_steps: 100 }.into(),
        loss: LossOptions { label_smoothing: 0.1, ..Default::default() },
        ema_decay: Some(0.9),
        ..TrainOptions::default()
    };
    TrainStep::new(model, options, Normalization::imagenet(3), Device::flex().autodiff())
}

fn convnext() -> ConvNext {
    let config =
        ConvNextConfig { depths: [1, 1, 2, 1], widths: [16, 24, 32, 40], pointwise_mlp: true, response_norm: false };
    config.init(&ClassifierSpec::new(3, &Device::flex().autodiff()))
}

/// The smallest model with running statistics.
#[derive(Module, Debug)]
struct Normed {
    norm: BatchNorm,
    fc: Linear,
}

impl Normed {
    fn new() -> Self {
        let mut init = Initializer::new(1, Initialization::Reference, &Device::flex().autodiff());
        Self { norm: BatchNorm::init(3, 1e-5, &mut init), fc: Linear::init(3, 3, 0.02, &mut init) }
    }
}

impl Classifier for Normed {
    fn num_segments(&self) -> usize {
        1
    }

    fn forward_segment(&self, _index: usize, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        self.norm.forward(map.permute([0, 2, 3, 1]), pass) // [B, H, W, C]
    }

    fn is_segment_trained(&self, _index: usize) -> bool {
        is_trained(&self.norm)
    }

    fn forward_head(&self, map: Tensor<4>, _pass: &mut Pass) -> Tensor<2> {
        let [batch, _, _, channels] = map.dims();
        self.fc.forward(map.mean_dim(1).mean_dim(2).reshape([batch, channels]))
    }
}

fn batch() -> Batch {
    Batch {
        index: 0,
        pixels: (0..BATCH * SIDE * SIDE * 3).map(|place| (place * 31 % 251) as u8).collect(),
        labels: (0..BATCH).map(|sample| Some((sample % 3) as u32)).collect(),
        samples: (0..BATCH).collect(),
        corrupt: Vec::new(),
        partners: Vec::new(),
        last_steps: Vec::new(),
        size: [SIDE, SIDE, 3],
    }
}

fn weights<M: Module>(model: &M) -> Weights {
    named_parameters(model).into_iter().map(|parameter| (parameter.name, parameter.data)).collect()
}
