//! Losses and learning rates against PyTorch and timm, and losses cut into micro-batches.
//!
//! `scripts/fixtures/losses.py` makes the fixtures, computed in f64 and rounded once, and says what stands in them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use checkpoint::{PlateauState, read_tensors};
use trainer::{Constant, LossKind, LossOptions, OneCycle, Plateau, Schedule, StepDecay, mean_loss, target_tensor};

/// Largest difference over the reference's largest value: a handful of roundings in f32, 6e-8 each. PyTorch's own f32 is held to the same.
const TOLERANCE: f32 = 1e-6;

const LOSSES: [(&str, LossKind); 4] = [
    ("cross_entropy", LossKind::CrossEntropy),
    ("bce", LossKind::BinaryCrossEntropy),
    ("focal_1", LossKind::Focal { gamma: 1.0 }),
    ("focal_2", LossKind::Focal { gamma: 2.0 }),
];

type Tensors = BTreeMap<String, TensorData>;

#[test]
fn losses_of_labels_are_pytorchs_and_timms_smoothed_and_weighted() {
    let fixture = read_fixture("losses");
    let labels = labels(&fixture);
    for (name, kind) in LOSSES {
        for (targets, label_smoothing) in [("smoothing_0", 0.0), ("smoothing_0.1", 0.1)] {
            for (weights, class_weights) in weights(&fixture) {
                let loss = LossOptions { kind, label_smoothing, class_weights };
                let rows = loss.targets(&labels, classes(&fixture));
                let divisor = loss.divisor(&labels, classes(&fixture));
                assert_case(&fixture, &loss, rows, divisor, &format!("{name}.{targets}.{weights}"));
            }
        }
    }
}

#[test]
fn losses_of_soft_targets_are_pytorchs_and_timms() {
    let fixture = read_fixture("losses");
    let rows: Vec<f32> = fixture["soft_targets"].iter::<f32>().collect();
    for (name, kind) in LOSSES {
        for (weights, class_weights) in weights(&fixture) {
            let loss = LossOptions { kind, label_smoothing: 0.0, class_weights };
            let divisor = loss.soft_divisor(rows.len() / classes(&fixture), classes(&fixture));
            assert_case(&fixture, &loss, rows.clone(), divisor, &format!("{name}.soft.{weights}"));
        }
    }
}

#[test]
fn a_batch_cut_in_parts_has_the_gradients_of_the_whole() {
    let fixture = read_fixture("losses");
    let (labels, classes) = (labels(&fixture), classes(&fixture));
    let device = Device::flex().autodiff();
    for (name, kind) in LOSSES {
        let class_weights = Some(vec![0.5, 2.0, 1.0, 0.25, 4.0]);
        let loss = LossOptions { kind, label_smoothing: 0.1, class_weights };
        let divisor = loss.divisor(&labels, classes);
        let logits = Tensor::<2>::from_data(fixture["logits"].clone(), &device).require_grad();
        let gradient = |parts: &[std::ops::Range<usize>]| {
            let part = |rows: &std::ops::Range<usize>| {
                let targets = target_tensor(loss.targets(&labels[rows.clone()], classes), classes, &device);
                mean_loss(&loss, logits.clone().slice([rows.clone(), 0..classes]), targets, divisor)
            };
            let whole = parts.iter().map(part).reduce(|sum, part| sum + part).unwrap();
            logits.grad(&whole.backward()).unwrap().into_data()
        };
        assert_close(&gradient(&[0..4, 4..5, 5..6]), &gradient(std::slice::from_ref(&(0..6))), name);
    }
}

#[test]
fn stairs_are_timms_and_a_cycle_is_pytorchs() {
    let fixture = read_fixture("schedules");
    let (peak, total_steps) = (number(&fixture, "peak"), whole(&fixture, "total_steps"));
    let stairs = StepDecay {
        peak,
        minimum: 0.0,
        warmup_steps: whole(&fixture, "warmup_steps"),
        every_steps: whole(&fixture, "stair_steps"),
        factor: number(&fixture, "factor"),
    };
    assert_rates(&fixture, "step", &Schedule::Step(stairs));
    for (name, rise) in [("one_cycle", 0.3), ("one_cycle_half", 0.5)] {
        let cycle = OneCycle { peak, rise, total_steps };
        assert_rates(&fixture, name, &Schedule::OneCycle(cycle));
        assert_eq!(cycle.at(total_steps + 100), cycle.at(total_steps - 1), "it stays at its end");
    }
    let low = StepDecay { minimum: 0.5 * peak, ..stairs };
    assert_eq!(low.at(1000), 0.5 * peak);
}

#[test]
fn a_cycle_of_few_steps_has_a_rate_for_each() {
    for total_steps in 0..6 {
        for rise in [0.0, 0.3, 1.0] {
            let rates = (0..=total_steps).map(|step| OneCycle { peak: 1.0, rise, total_steps }.at(step));
            assert!(rates.into_iter().all(|rate| (0.0..=1.0).contains(&rate)), "{total_steps} steps, rise {rise}");
        }
    }
}

#[test]
fn plateaus_are_pytorchs() {
    let fixture = read_fixture("schedules");
    let plateau = plateau(&fixture, 0);
    let mut state = PlateauState::default();
    let mut found = vec![plateau.at(0, &state)];
    for loss in fixture["validation_losses"].iter::<f64>() {
        plateau.observe(&mut state, 1, loss);
        found.push(plateau.at(1, &state));
    }
    for (epoch, (found, expected)) in found.into_iter().zip(fixture["plateau"].iter::<f64>()).enumerate() {
        assert!((found - expected).abs() < 1e-15, "epoch {epoch}: {found}, PyTorch {expected}");
    }
}

#[test]
fn a_plateau_in_warm_up_does_not_count() {
    let plateau = plateau(&read_fixture("schedules"), 10);
    let mut state = PlateauState::default();
    for _ in 0..20 {
        plateau.observe(&mut state, 9, 1.0);
    }
    assert_eq!(state, PlateauState::default());
    assert_eq!(plateau.at(10, &state), plateau.peak);
}

#[test]
fn a_constant_rate_warms_up_and_stays() {
    let rates: Vec<f64> = (0..6).map(|step| Constant { peak: 0.5, warmup_steps: 4 }.at(step)).collect();
    assert_eq!(rates, [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]);
}

fn assert_case(fixture: &Tensors, loss: &LossOptions, rows: Vec<f32>, divisor: f64, case: &str) {
    let device = Device::flex().autodiff();
    let logits = Tensor::<2>::from_data(fixture["logits"].clone(), &device).require_grad(); // [B, K]
    let targets = target_tensor(rows, classes(fixture), &device); // [B, K]
    let mean = mean_loss(loss, logits.clone(), targets, divisor);
    assert_close(&mean.to_data(), &fixture[&format!("{case}.loss")], case);
    let gradient = logits.grad(&mean.backward()).unwrap();
    assert_close(&gradient.into_data(), &fixture[&format!("{case}.gradient")], case);
}

fn assert_rates(fixture: &Tensors, name: &str, schedule: &Schedule) {
    let expected: Vec<f64> = fixture[name].iter::<f64>().collect();
    for (step, expected) in (0..).zip(expected) {
        let found = schedule.at(step, &PlateauState::default());
        // Both sides compute in f64, in another order.
        assert!((found - expected).abs() < 1e-12 * expected.max(1e-6), "{name}, step {step}: {found}, not {expected}");
    }
}

fn plateau(fixture: &Tensors, warmup_steps: u64) -> Plateau {
    Plateau {
        peak: number(fixture, "peak"),
        minimum: number(fixture, "minimum"),
        warmup_steps,
        factor: number(fixture, "factor"),
        patience: whole(fixture, "patience") as u32,
    }
}

fn weights(fixture: &Tensors) -> [(&'static str, Option<Vec<f32>>); 2] {
    [("plain", None), ("weighted", Some(fixture["class_weights"].iter::<f32>().collect()))]
}

fn labels(fixture: &Tensors) -> Vec<u32> {
    fixture["labels"].iter::<u32>().collect()
}

fn classes(fixture: &Tensors) -> usize {
    fixture["class_weights"].num_elements()
}

fn number(fixture: &Tensors, key: &str) -> f64 {
    fixture[key].iter::<f64>().next().unwrap()
}

fn whole(fixture: &Tensors, key: &str) -> u64 {
    fixture[key].iter::<i64>().next().unwrap() as u64
}

fn read_fixture(name: &str) -> Tensors {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.safetensors"));
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
