//! Every optimizer, step by step, against PyTorch and timm; its state saved and taken up again; and what that state takes.
//!
//! `scripts/fixtures/optimizers.py` makes the fixture, computed in f64 and rounded once, and says what stands in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use checkpoint::read_tensors;
use trainer::{
    AdafactorOptions, AdamWOptions, Gradients, GroupOptions, LambOptions, LionOptions, MuonOptions, MuonStepLength,
    Normalization, Optimizer, OptimizerOptions, ParameterGroups, SgdOptions, TrainOptions, TrainStep,
};
use vision_nn::{
    Classifier, LayerNames, Pass, Tape, assign_parameters, in_burns_operations, named_parameters, parameter_shapes,
    takes_lists,
};

const STEPS: u64 = 5;

/// The step with the largest gradients of the fixture: none of the others is clipped to their norm.
const LARGEST_STEP: u64 = 3;

/// Largest difference over the reference's largest value: a handful of roundings in f32, 6e-8 each. PyTorch's own f32 is held to the same.
const TOLERANCE: f32 = 1e-6;

type Tensors = BTreeMap<String, TensorData>;

/// One parameter of each kind that rules tell apart.
#[derive(Module, Debug)]
struct Parameters {
    vector: Param<Tensor<1>>,
    wide: Param<Tensor<2>>,
    tall: Param<Tensor<2>>,
    kernel: Param<Tensor<4>>,
    depthwise: Param<Tensor<4>>,
}

/// Steps are made of a classifier. No image goes through this one.
impl Classifier for Parameters {
    fn num_segments(&self) -> usize {
        0
    }

    fn forward_segment(&self, _index: usize, map: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        map
    }

    fn forward_head(&self, _map: Tensor<4>, _pass: &mut Pass) -> Tensor<2> {
        unreachable!("gradients are given")
    }

    fn is_segment_trained(&self, _index: usize) -> bool {
        true
    }
}

#[test]
fn adamw_is_pytorchs() {
    follows("adamw", |weight_decay| OptimizerOptions::AdamW(AdamWOptions { weight_decay, ..Default::default() }));
}

#[test]
fn adamw_of_all_parameters_at_once_is_pytorchs() {
    follows_at_once("adamw", |weight_decay| {
        OptimizerOptions::AdamW(AdamWOptions { weight_decay, ..Default::default() })
    });
}

#[test]
fn sgd_with_nesterovs_momentum_is_pytorchs() {
    follows("sgd", |weight_decay| OptimizerOptions::Sgd(SgdOptions { weight_decay, ..Default::default() }));
}

#[test]
fn sgd_of_all_parameters_at_once_is_pytorchs() {
    follows_at_once("sgd", |weight_decay| OptimizerOptions::Sgd(SgdOptions { weight_decay, ..Default::default() }));
}

/// Also where a run that stepped tensor by tensor goes on at once, by what it has kept.
#[test]
fn sgd_of_all_parameters_at_once_is_sgd_tensor_by_tensor_to_the_bit() {
    let fixture = read_fixture();
    for (momentum, nesterov) in [(0.9, true), (0.9, false), (0.0, true)] {
        let optimizer = OptimizerOptions::Sgd(SgdOptions { momentum, nesterov, weight_decay: 0.05 });
        // All but the two smallest gradients are clipped.
        let options = TrainOptions { optimizer, clip_norm: Some(1.0), ema_decay: Some(0.9), ..TrainOptions::default() };
        let expected = run_steps(&fixture, options.clone(), 1e-1, |_| false);
        assert_eq!(expected[0].kept.is_empty(), momentum == 0.0);
        for first_at_once in [1, 3] {
            let found = run_steps(&fixture, options.clone(), 1e-1, |step| step >= first_at_once);
            for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found.weights, expected.weights, "{optimizer:?}: {step} steps after the first");
                assert_eq!(found.kept, expected.kept, "{optimizer:?}: {step} steps after the first");
                // The pass rounds an average once where Burn's operations round twice.
                assert!(found.averages.keys().eq(expected.averages.keys()) && !found.averages.is_empty());
                for (name, average) in &found.averages {
                    assert_close(average, &expected.averages[name], name);
                }
            }
        }
    }
}

#[test]
fn lamb_is_timms() {
    follows("lamb", |weight_decay| OptimizerOptions::Lamb(LambOptions { weight_decay, ..Default::default() }));
}

#[test]
fn lion_is_timms() {
    follows("lion", |weight_decay| OptimizerOptions::Lion(LionOptions { weight_decay, ..Default::default() }));
}

#[test]
fn adafactor_is_pytorchs() {
    follows("adafactor", |weight_decay| {
        OptimizerOptions::Adafactor(AdafactorOptions { weight_decay, ..Default::default() })
    });
}

#[test]
fn muon_is_pytorchs_on_what_timm_takes_for_matrices_and_adamw_on_the_rest() {
    for (name, step_length) in [("muon", MuonStepLength::Original), ("muon_match_adamw", MuonStepLength::MatchAdamW)] {
        follows(name, |weight_decay| {
            OptimizerOptions::Muon(MuonOptions { weight_decay, step_length, ..Default::default() })
        });
    }
}

#[test]
fn the_default_constants_are_those_of_pytorch_and_timm() {
    let decay = |options: OptimizerOptions| options.weight_decay();
    assert_eq!(all().map(decay), [0.01, 0.0, 0.01, 0.0, 0.0, 0.1]);
    let lamb = LambOptions::default();
    assert_eq!((lamb.beta_1, lamb.beta_2, lamb.epsilon, lamb.max_gradient_norm), (0.9, 0.999, 1e-6, 1.0));
    assert_eq!((LionOptions::default().beta_1, LionOptions::default().beta_2), (0.9, 0.99));
    assert_eq!((SgdOptions::default().momentum, SgdOptions::default().nesterov), (0.9, true));
    assert_eq!((MuonOptions::default().momentum, MuonOptions::default().nesterov), (0.95, true));
}

#[test]
fn a_state_taken_up_again_continues_bit_for_bit() {
    let fixture = read_fixture();
    for options in all() {
        let through = run(&fixture, options, 1e-2, |_, _| {});
        let resumed = run(&fixture, options, 1e-2, |optimizer, step| {
            let mut resumed = Optimizer::new(options, optimizer.groups().clone());
            resumed.restore(optimizer.state(), step, &Device::flex());
            *optimizer = resumed;
        });
        assert_eq!(through, resumed, "{options:?}");
        let fresh = run(&fixture, options, 1e-2, |optimizer, _| {
            *optimizer = Optimizer::new(options, optimizer.groups().clone());
        });
        assert_ne!(through, fresh, "{options:?}: its state has no effect");
    }
}

#[test]
fn a_state_of_another_length_is_left_aside() {
    let groups = groups(&GroupOptions::default());
    let mut optimizer = Optimizer::new(OptimizerOptions::default(), groups);
    let data = |elements| TensorData::new(vec![0.5f32; elements], [elements]);
    let state = [("moment_1/vector", 6), ("moment_2/vector", 6), ("moment_1/wide", 40), ("moment_2/wide", 39)];
    let state = state.into_iter().map(|(name, elements)| (name.to_owned(), data(elements))).collect();
    optimizer.restore(state, 3, &Device::flex());
    assert_eq!(optimizer.state().into_keys().collect::<Vec<_>>(), ["moment_1/vector", "moment_2/vector"]);
}

/// What the memory report takes for the optimizer is what it keeps.
#[test]
fn the_state_is_as_large_as_it_is_said_to_be() {
    let fixture = read_fixture();
    let mut sizes = Vec::new();
    for options in all() {
        let mut kept = 0;
        run(&fixture, options, 1e-2, |optimizer, _| {
            kept = optimizer.state().values().map(TensorData::num_elements).sum();
        });
        let shapes = parameter_shapes(&empty());
        assert_eq!(kept, shapes.iter().map(|(_, shape)| options.state_elements(shape)).sum::<usize>(), "{options:?}");
        sizes.push(kept);
    }
    // 6 + 40 + 36 + 108 + 54 = 244 weights. Adafactor: 6, 13, 13, 12 x 6 and 6 x 6; Muon: one each of 184, and two of 60.
    assert_eq!(sizes, [488, 244, 488, 244, 140, 304]);
}

#[test]
fn a_layers_scale_is_a_scale_of_its_learning_rate() {
    let fixture = read_fixture();
    for options in all() {
        let halved = GroupOptions { head_learning_rate_scale: 0.5, ..GroupOptions::default() };
        let by_scale = run_with(&fixture, options, groups(&halved), 1e-2, |_, _| {});
        assert_eq!(by_scale, run(&fixture, options, 0.5e-2, |_, _| {}), "{options:?}");
    }
}

fn all() -> [OptimizerOptions; 6] {
    [
        OptimizerOptions::AdamW(AdamWOptions::default()),
        OptimizerOptions::Sgd(SgdOptions::default()),
        OptimizerOptions::Lamb(LambOptions::default()),
        OptimizerOptions::Lion(LionOptions::default()),
        OptimizerOptions::Adafactor(AdafactorOptions::default()),
        OptimizerOptions::Muon(MuonOptions::default()),
    ]
}

/// Holds a rule against the reference, with weight decay and without.
fn follows(name: &str, options: impl Fn(f32) -> OptimizerOptions) {
    assert_follows(name, |fixture, weight_decay, learning_rate| {
        run(fixture, options(weight_decay), learning_rate, |_, _| {})
    });
}

/// The same as runs step: all parameters in one pass, which clips, and averages too.
fn follows_at_once(name: &str, optimizer: impl Fn(f32) -> OptimizerOptions) {
    assert!(takes_lists(&Device::flex().autodiff()), "parameters would step one by one");
    for ema_decay in [None, Some(0.9)] {
        assert_follows(name, |fixture, weight_decay, learning_rate| {
            let clip_norm = Some(gradients(fixture, LARGEST_STEP).global_norm());
            let optimizer = optimizer(weight_decay);
            let options = TrainOptions { optimizer, clip_norm, ema_decay, ..Default::default() };
            let after = run_steps(fixture, options, learning_rate, |_| true);
            after.into_iter().map(|after| after.weights).collect()
        });
    }
}

/// The same, by way of `steps`: from the fixture, a weight decay and a learning rate to the parameters after each step.
fn assert_follows(name: &str, steps: impl Fn(&Tensors, f32, f64) -> Vec<Tensors>) {
    let fixture = read_fixture();
    let learning_rate = fixture[&format!("{name}.learning_rate")].iter::<f64>().next().unwrap();
    for (decay, weight_decay) in [("no_decay", 0.0), ("decay", 0.05)] {
        let after = steps(&fixture, weight_decay, learning_rate);
        assert_eq!(after.len() as u64, STEPS);
        for (step, found) in (1..).zip(after) {
            for (parameter, found) in found {
                let key = format!("{name}.{decay}.{step}.{parameter}");
                assert_close(&found, &fixture[&key], &key);
            }
        }
    }
}

/// The parameters after each step. `between` is called after each, with its number from 1.
fn run(
    fixture: &Tensors,
    options: OptimizerOptions,
    learning_rate: f64,
    between: impl FnMut(&mut Optimizer, u64),
) -> Vec<Tensors> {
    run_with(fixture, options, groups(&GroupOptions::default()), learning_rate, between)
}

fn run_with(
    fixture: &Tensors,
    options: OptimizerOptions,
    groups: ParameterGroups,
    learning_rate: f64,
    mut between: impl FnMut(&mut Optimizer, u64),
) -> Vec<Tensors> {
    let mut parameters = initial(fixture);
    let mut optimizer = Optimizer::new(options, groups);
    let mut after = Vec::new();
    for step in 1..=STEPS {
        let gradients = gradients(fixture, step);
        let norm = gradients.global_norm();
        parameters = optimizer.step(learning_rate, parameters, gradients, norm);
        between(&mut optimizer, step);
        after.push(values(&parameters));
    }
    after
}

/// What a run has after a step.
struct After {
    weights: Tensors,
    /// Empty where there are none.
    averages: Tensors,
    /// What the optimizer keeps, with the parameters' names.
    kept: Vec<(String, TensorData)>,
}

/// A run, step by step, each of them over all parameters at once or tensor by tensor. The largest gradients come four times as large as the reference has
/// them, and are clipped to what they were where that is the limit: powers of two round nothing.
fn run_steps(
    fixture: &Tensors,
    options: TrainOptions,
    learning_rate: f64,
    is_at_once: impl Fn(u64) -> bool,
) -> Vec<After> {
    let device = Device::flex().autodiff();
    let mut run = TrainStep::new(initial(fixture), options, Normalization::imagenet(3), device);
    let mut after = Vec::new();
    for step in 1..=STEPS {
        let mut gradients = gradients(fixture, step);
        if step == LARGEST_STEP {
            gradients.scale(4.0);
        }
        let norm = gradients.global_norm();
        let apply = || run.apply(gradients, norm, learning_rate, step);
        if is_at_once(step) {
            apply()
        } else {
            in_burns_operations(apply)
        }
        after.push(After {
            weights: values(run.model()),
            averages: run.averaged().map(values).unwrap_or_default(),
            kept: run.kept_by_optimizer().map(|(name, tensor)| (name.to_owned(), tensor.to_data())).collect(),
        });
    }
    after
}

fn values(parameters: &Parameters) -> Tensors {
    named_parameters(parameters).into_iter().map(|named| (named.name, named.data)).collect()
}

fn initial(fixture: &Tensors) -> Parameters {
    let names = parameter_shapes(&empty()).into_iter().map(|(name, _)| name);
    let initial = names.map(|name| (name.clone(), fixture[&format!("initial.{name}")].clone())).collect();
    assign_parameters(empty(), initial).unwrap()
}

fn groups(options: &GroupOptions) -> ParameterGroups {
    ParameterGroups::named(&empty(), LayerNames::UNKNOWN, options)
}

fn empty() -> Parameters {
    let device = Device::flex().autodiff();
    Parameters {
        vector: Param::from_tensor(Tensor::zeros([6], &device)),
        wide: Param::from_tensor(Tensor::zeros([5, 8], &device)),
        tall: Param::from_tensor(Tensor::zeros([9, 4], &device)),
        kernel: Param::from_tensor(Tensor::zeros([6, 2, 3, 3], &device)),
        depthwise: Param::from_tensor(Tensor::zeros([6, 1, 3, 3], &device)),
    }
}

/// Gradients of given values, by way of the tape: the gradient of `sum(parameter * g)` is `g`.
fn gradients(fixture: &Tensors, step: u64) -> Gradients {
    let (parameters, device) = (empty(), Device::flex().autodiff());
    let given = |name: &str| fixture[&format!("gradient.{step}.{name}")].clone();
    let sums = [
        (parameters.vector.val() * Tensor::from_data(given("vector"), &device)).sum(),
        (parameters.wide.val() * Tensor::from_data(given("wide"), &device)).sum(),
        (parameters.tall.val() * Tensor::from_data(given("tall"), &device)).sum(),
        (parameters.kernel.val() * Tensor::from_data(given("kernel"), &device)).sum(),
        (parameters.depthwise.val() * Tensor::from_data(given("depthwise"), &device)).sum(),
    ];
    Gradients::take(Tape::backward(Tensor::cat(sums.to_vec(), 0).sum()), &parameters)
}

fn read_fixture() -> Tensors {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/optimizers.safetensors");
    read_tensors(&path).unwrap().tensors
}

fn assert_close(found: &TensorData, reference: &TensorData, what: &str) {
    assert_eq!(found.shape, reference.shape, "{what}");
    let floats = |data: &TensorData| data.iter::<f32>().collect::<Vec<f32>>();
    let largest = floats(reference).into_iter().map(f32::abs).fold(0.0, f32::max);
    for (found, reference) in floats(found).into_iter().zip(floats(reference)) {
        assert!((found - reference).abs() <= TOLERANCE * largest, "{what}: {found}, reference {reference}");
    }
}
