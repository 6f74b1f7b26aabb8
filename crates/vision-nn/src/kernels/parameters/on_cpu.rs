//! The passes on the CPU.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};
use cpu_kernels::{AdamWStep, Moved};

use super::ListPass;
use crate::kernels::host::{Values, alone, tensor, values};
use crate::tape::primitive;

pub(super) fn run(pass: ListPass, tensors: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
    let tensors: Vec<FlexTensor> = tensors.into_iter().map(primitive::<Flex, 1>).collect();
    let outputs = match pass {
        ListPass::AdamW { steps, factor, decay } => adamw(tensors, &steps, factor, decay),
        ListPass::Blend { kept, share } => blend(tensors, kept, share),
        ListPass::Scale(factor) => scale(tensors, factor),
        ListPass::Squares => vec![squares(&tensors)],
    };
    outputs.into_iter().map(Tensor::from_primitive::<Flex>).collect()
}

/// Weights, gradients, moments and, with a decay, averages of so many parameters, in; all but the gradients, out.
fn adamw(mut tensors: Vec<FlexTensor>, steps: &[AdamWStep], factor: f64, decay: Option<f64>) -> Vec<FlexTensor> {
    let count = steps.len();
    let gradients: Vec<Values> = tensors.drain(count..2 * count).map(|gradient| values(&gradient)).collect();
    let mut moving: Vec<FlexTensor> = tensors.into_iter().map(alone).collect();
    let (weights, others) = moving.split_at_mut(count);
    let (firsts, others) = others.split_at_mut(count);
    let (seconds, averages) = others.split_at_mut(count);
    let mut averages = averages.iter_mut().map(FlexTensor::storage_mut);
    let kinds = weights.iter_mut().zip(&gradients).zip(firsts.iter_mut().zip(seconds)).zip(steps);
    let parameters = kinds.map(|(((weights, gradient), (first, second)), &step)| Moved {
        weights: weights.storage_mut(),
        gradient,
        moments: [first.storage_mut(), second.storage_mut()],
        average: averages.next(),
        step,
    });
    cpu_kernels::adamw_of_all(parameters.collect(), factor, decay.unwrap_or(0.0));
    moving
}

fn blend(mut own: Vec<FlexTensor>, kept: f64, share: f64) -> Vec<FlexTensor> {
    let others: Vec<Values> = own.split_off(own.len() / 2).iter().map(values).collect();
    let mut own: Vec<FlexTensor> = own.into_iter().map(alone).collect();
    let pairs = own.iter_mut().zip(&others).map(|(own, other)| (own.storage_mut(), &**other));
    cpu_kernels::blend_all(pairs.collect(), kept, share);
    own
}

fn scale(tensors: Vec<FlexTensor>, factor: f64) -> Vec<FlexTensor> {
    let mut tensors: Vec<FlexTensor> = tensors.into_iter().map(alone).collect();
    cpu_kernels::scale_all(tensors.iter_mut().map(FlexTensor::storage_mut).collect(), factor);
    tensors
}

fn squares(tensors: &[FlexTensor]) -> FlexTensor {
    let all: Vec<Values> = tensors.iter().map(values).collect();
    let sum = cpu_kernels::squares_of_all(all.iter().map(|numbers| &**numbers).collect());
    tensor(vec![sum as f32], &Shape::new([1]))
}
