//! The optimizer, the loss, clipping and the learning rate against PyTorch and timm.
//!
//! `scripts/timm_fixtures.py` writes the fixtures, computed in f64 and rounded once; its functions say what stands in them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use checkpoint::read_tensors;
use trainer::{
    AdamWOptions, Gradients, GroupOptions, LossOptions, Optimizer, OptimizerOptions, ParameterGroups, WarmupCosine,
    cross_entropy_sum, target_tensor,
};
use vision_nn::{Initialization, Initializer, LayerNames, Linear, Tape, assign_parameters, named_parameters};

/// Largest difference over the reference's largest value: a handful of roundings in f32, 6e-8 each. PyTorch's own f32 is held to the same.
const TOLERANCE: f32 = 1e-6;

/// PyTorch's default, which the fixture's settings all keep.
const LEARNING_RATE: f64 = 1e-3;

const ADAMW_STEPS: u64 = 5;

type Tensors = BTreeMap<String, TensorData>;

#[test]
fn decayed_weights_follow_pytorchs_adamw() {
    let fixture = read_fixture("adamw");
    for (setting, weight_decay) in [("defaults", 0.01), ("decay_0.05", 0.05), ("no_decay", 0.0)] {
        for (step, parameters) in (1..).zip(run_adamw(&fixture, weight_decay)) {
            assert_close(&parameters["weight"], &fixture[&format!("{setting}.{step}.weight")], setting);
        }
    }
}

/// Where PyTorch decays every parameter alike, we follow timm and leave vectors (biases, norms, layer scale) alone.
#[test]
fn vectors_follow_pytorchs_adamw_without_decay_at_any_setting() {
    let fixture = read_fixture("adamw");
    for weight_decay in [0.0, 0.01, 0.05] {
        for (step, parameters) in (1..).zip(run_adamw(&fixture, weight_decay)) {
            assert_close(&parameters["bias"], &fixture[&format!("no_decay.{step}.bias")], "bias");
        }
    }
}

#[test]
fn the_default_constants_are_pytorchs() {
    let expected = AdamWOptions { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    assert_eq!(AdamWOptions::default(), expected);
}

#[test]
fn an_optimizer_taken_up_again_continues_bit_for_bit() {
    let fixture = read_fixture("adamw");
    let mut layer = initial_layer(&fixture);
    let mut optimizer = adamw(&layer, AdamWOptions::default());
    let mut through = Vec::new();
    for step in 1..=ADAMW_STEPS {
        layer = optimizer.step(LEARNING_RATE, layer, step_gradients(&layer_gradients(&fixture, step)), 1.0);
        let mut resumed = adamw(&layer, AdamWOptions::default());
        resumed.restore(optimizer.state(), step, &Device::flex());
        optimizer = resumed;
        through.push(values(&layer));
    }
    assert_eq!(through, run_adamw(&fixture, AdamWOptions::default().weight_decay));
}

#[test]
fn clipping_is_pytorchs_clip_grad_norm() {
    let fixture = read_fixture("clip_grad_norm");
    for case in ["above_limit", "below_limit"] {
        let mut gradients = step_gradients(&[fixture["gradient.weight"].clone(), fixture["gradient.bias"].clone()]);
        let norm = gradients.global_norm();
        assert_close(&TensorData::new(vec![norm as f32], [1]), &fixture["norm"], "norm");
        let max_norm = fixture[&format!("{case}.max_norm")].iter::<f64>().next().unwrap();
        gradients.clip(norm, max_norm);
        for name in ["weight", "bias"] {
            let expected = fixture[&format!("{case}.gradient.{name}")].clone();
            let elements = expected.num_elements();
            let found = gradients.get(name).unwrap().to_data();
            assert_close(&found, &TensorData::new(floats(&expected), [elements]), case);
        }
    }
}

#[test]
fn label_smoothed_losses_and_gradients_are_pytorchs() {
    let fixture = read_fixture("cross_entropy");
    let device = Device::flex().autodiff();
    let labels: Vec<u32> = fixture["labels"].iter::<u32>().collect();
    for (key, smoothing) in [("smoothing_0", 0.0), ("smoothing_0.1", 0.1)] {
        let logits = Tensor::<2>::from_data(fixture["logits"].clone(), &device).require_grad(); // [B, K]
        let [batch, classes] = logits.dims();
        let loss = LossOptions { label_smoothing: smoothing, ..LossOptions::default() };
        let targets = target_tensor(loss.targets(&labels, classes), classes, &device);

        let loss_of_row = |row| {
            let row = [row..row + 1, 0..classes];
            cross_entropy_sum(logits.clone().slice(row.clone()), targets.clone().slice(row))
        };
        let losses = Tensor::cat((0..batch).map(loss_of_row).collect(), 0); // [B]
        assert_close(&losses.into_data(), &fixture[&format!("{key}.losses")], key);

        let loss = cross_entropy_sum(logits.clone(), targets).div_scalar(batch as f64);
        assert_close(&loss.to_data(), &fixture[&format!("{key}.loss")], key);
        let gradient = logits.grad(&loss.backward()).unwrap();
        assert_close(&gradient.into_data(), &fixture[&format!("{key}.gradient")], key);
    }
}

#[test]
fn learning_rates_are_timms() {
    let fixture = read_fixture("learning_rates");
    let number = |key: String| fixture[&key].iter::<f64>().next().unwrap();
    for case in ["warm_up", "no_warm_up", "mostly_warm_up"] {
        let schedule = WarmupCosine {
            peak: number(format!("{case}.peak")),
            minimum: number(format!("{case}.minimum")),
            warmup_steps: number(format!("{case}.warmup_steps")) as u64,
            total_steps: number(format!("{case}.total_steps")) as u64,
        };
        let expected: Vec<f64> = fixture[&format!("{case}.learning_rates")].iter::<f64>().collect();
        assert_eq!(expected.len() as u64, schedule.total_steps);
        for (step, expected) in (0..).zip(expected) {
            let found = schedule.at(step);
            // Both sides compute in f64, in another order.
            assert!((found - expected).abs() < 1e-12 * schedule.peak, "{case}, step {step}: {found}, timm {expected}");
        }
        let last = schedule.at(schedule.total_steps - 1);
        assert_eq!(schedule.at(schedule.total_steps + 1000), last, "{case}: the rate moves on past the end");
    }
}

/// The parameters after each step, by name.
fn run_adamw(fixture: &Tensors, weight_decay: f32) -> Vec<Tensors> {
    let mut layer = initial_layer(fixture);
    let mut optimizer = adamw(&layer, AdamWOptions { weight_decay, ..AdamWOptions::default() });
    let mut after = Vec::new();
    for step in 1..=ADAMW_STEPS {
        layer = optimizer.step(LEARNING_RATE, layer, step_gradients(&layer_gradients(fixture, step)), 1.0);
        after.push(values(&layer));
    }
    after
}

fn adamw(layer: &Linear, options: AdamWOptions) -> Optimizer {
    let groups = ParameterGroups::named(layer, LayerNames::UNKNOWN, &GroupOptions::default());
    Optimizer::new(OptimizerOptions::AdamW(options), groups)
}

fn initial_layer(fixture: &Tensors) -> Linear {
    let initial = ["weight", "bias"].map(|name| (name.to_owned(), fixture[&format!("initial.{name}")].clone()));
    assign_parameters(empty_layer(), BTreeMap::from(initial)).unwrap()
}

/// A layer of the fixtures' shapes: weight `[4, 3]`, bias `[4]`.
fn empty_layer() -> Linear {
    Linear::init(3, 4, 1.0, &mut Initializer::new(0, Initialization::Reference, &Device::flex().autodiff()))
}

fn layer_gradients(fixture: &Tensors, step: u64) -> [TensorData; 2] {
    ["weight", "bias"].map(|name| fixture[&format!("gradient.{step}.{name}")].clone())
}

/// Gradients of given values, by way of the tape: the gradient of `sum(parameter * g)` is `g`.
fn step_gradients([weight, bias]: &[TensorData; 2]) -> Gradients {
    let device = Device::flex().autodiff();
    let layer = empty_layer();
    let of_weight = (layer.weight.val() * Tensor::from_data(weight.clone(), &device)).sum();
    let of_bias = (layer.bias.val() * Tensor::from_data(bias.clone(), &device)).sum();
    Gradients::take(Tape::backward(of_weight + of_bias), &layer)
}

fn values(layer: &Linear) -> Tensors {
    named_parameters(layer).into_iter().map(|parameter| (parameter.name, parameter.data)).collect()
}

fn read_fixture(name: &str) -> Tensors {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.safetensors"));
    read_tensors(&path).unwrap().tensors
}

fn floats(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

fn assert_close(found: &TensorData, reference: &TensorData, what: &str) {
    assert_eq!(found.shape, reference.shape, "{what}");
    let largest = floats(reference).into_iter().map(f32::abs).fold(0.0, f32::max);
    for (found, reference) in floats(found).into_iter().zip(floats(reference)) {
        assert!((found - reference).abs() <= TOLERANCE * largest, "{what}: {found}, reference {reference}");
    }
}
