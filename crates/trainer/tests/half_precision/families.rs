//! Every family in half precision beside itself in f32: logits, gradients, types.

use burn::tensor::{DType, Device, Tensor};
use memory_planner::Precision;
use trainer::{Gradients, Normalization, Recompute, backpropagate, images_to_tensor, storage_type};
use vision_nn::{Classifier, Pass, Tape, stored_as};

use crate::stage::{batch, convnext, efficientnet, step, swin};

const SAMPLES: usize = 12;

/// What a number loses by being stored: half a unit in the last place, relative.
fn rounding(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 2f64.powi(-24),
        Precision::Bf16 => 2f64.powi(-9),
        Precision::Fp16 => 2f64.powi(-12),
    }
}

/// Roundings that logits may carry, of the size of the largest of them. Some 30 maps are stored one after the other in the first two test models, of
/// which a random walk has 5.5 left, and single layers amplify. The third stores some 100, a random walk of 10, and its norms divide what was
/// rounded by the deviation over as few as 12 positions. That it is rounding alone shows in the two formats needing the same number.
/// Measured, the larger of the two: 6.5, 8.7 and 48.
const ROUNDINGS: [f64; 3] = [11.0, 11.0, 60.0];

fn assert_follows<M: Classifier>(build: impl Fn(&Device) -> M, roundings: f64) {
    let (expected, slope) = (logits(&build, Precision::Fp32), gradients(&build, Precision::Fp32));
    let largest = expected.iter().fold(0.0f64, |largest, logit| largest.max(logit.abs()));
    for precision in [Precision::Bf16, Precision::Fp16] {
        let off = logits(&build, precision).iter().zip(&expected).fold(0.0f64, |off, (a, b)| off.max((a - b).abs()));
        let bound = roundings * rounding(precision) * largest;
        let found = gradients(&build, precision);
        assert!(off <= bound, "{precision}: logits are off by {off:e}, more than {bound:e}");
        // An angle of as many roundings.
        let least = 1.0 - (4.0 * roundings * rounding(precision)).powi(2);
        assert!(cosine(&found, &slope) >= least, "{precision}: cosine {} below {least}", cosine(&found, &slope));
        assert!(found.iter().all(|(_, gradient)| gradient.dtype() == DType::F32));
        assert_eq!(found.iter().count(), slope.iter().count());
    }
}

fn logits<M: Classifier>(build: impl Fn(&Device) -> M, precision: Precision) -> Vec<f64> {
    let device = Device::flex();
    let batch = batch(SAMPLES, 0);
    let images = images_to_tensor(&batch.pixels, batch.size, &Normalization::imagenet(3), &device);
    // A training pass: fresh running statistics are not those of any data.
    let logits = build(&device).forward(images, &mut Pass::training(1, 0).storing(storage_type(precision)));
    assert_eq!(logits.dtype(), storage_type(precision));
    logits.into_data().iter::<f64>().collect()
}

fn gradients<M: Classifier>(build: impl Fn(&Device) -> M, precision: Precision) -> Gradients {
    let mut step = step(build, precision, SAMPLES);
    loop {
        let (gradients, scores) = step.gradients(&batch(SAMPLES, 0), 1);
        if !step.overflowed(&scores) {
            return gradients;
        }
        step.note_step(true);
    }
}

/// The gradients of a step whose layers cast their own weights, bit for bit.
fn assert_casts_alike<M: Classifier>(build: impl Fn(&Device) -> M) {
    let (device, batch) = (Device::flex().autodiff(), batch(SAMPLES, 0));
    let loss = |logits: Tensor<2>| stored_as(logits, DType::F32).powi_scalar(2).mean();
    for precision in [Precision::Bf16, Precision::Fp16] {
        let pass = || Pass::training(1, 0).storing(storage_type(precision));
        let images = || images_to_tensor(&batch.pixels, batch.size, &Normalization::imagenet(3), &device);
        let model = build(&device);
        let tape = Tape::backward(loss(model.forward(images(), &mut pass())));
        let expected = Gradients::take(tape, &model);
        let model = build(&device);
        let (found, _) = backpropagate(&model, images(), pass(), Recompute::Nothing, loss, &mut |_| ());
        assert_eq!(found.iter().count(), expected.iter().count());
        for ((name, found), (_, expected)) in found.iter().zip(expected.iter()) {
            assert_eq!(found.to_data(), expected.to_data(), "{precision}: {name}");
        }
    }
}

#[test]
fn weights_that_are_cast_at_once_have_the_gradients_of_those_that_layers_cast() {
    assert_casts_alike(convnext);
    assert_casts_alike(swin);
    assert_casts_alike(efficientnet);
}

/// Of all gradients together.
fn cosine(one: &Gradients, other: &Gradients) -> f64 {
    let numbers = |gradients: &Gradients| -> Vec<f64> {
        gradients.iter().flat_map(|(_, gradient)| gradient.to_data().iter::<f64>().collect::<Vec<_>>()).collect()
    };
    let (one, other) = (numbers(one), numbers(other));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&one, &other) / (dot(&one, &one) * dot(&other, &other)).sqrt()
}

#[test]
fn convnext_in_half_precision_follows_f32() {
    assert_follows(convnext, ROUNDINGS[0]);
}

#[test]
fn swin_in_half_precision_follows_f32() {
    assert_follows(swin, ROUNDINGS[1]);
}

#[test]
fn efficientnet_in_half_precision_follows_f32() {
    assert_follows(efficientnet, ROUNDINGS[2]);
}
