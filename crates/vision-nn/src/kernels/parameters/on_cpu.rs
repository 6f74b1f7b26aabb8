//! The passes on the CPU.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Shape, Tensor};
use cpu_kernels::Moved;

use super::{ListPass, Steps};
use crate::kernels::host::{Values, alone, tensor, values};
use crate::tape::primitive;

pub(super) fn run(pass: ListPass, tensors: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
    let tensors: Vec<FlexTensor> = tensors.into_iter().map(primitive::<Flex, 1>).collect();
    let outputs = match pass {
        ListPass::Move { steps, factor, decay } => step(tensors, steps, factor, decay.unwrap_or(0.0)),
        ListPass::Blend { kept, share } => blend(tensors, kept, share),
        ListPass::Scale(factor) => scale(tensors, factor),
        ListPass::Cast(dtype) => tensors.into_iter().map(|tensor| Flex::float_cast(tensor, dtype.into())).collect(),
        ListPass::Squares => vec![squares(&tensors)],
    };
    outputs.into_iter().map(Tensor::from_primitive::<Flex>).collect()
}

/// Weights, gradients, what the rule keeps and averages of so many parameters, in; all but the gradients, out.
fn step(tensors: Vec<FlexTensor>, steps: Steps, factor: f64, decay: f64) -> Vec<FlexTensor> {
    match (steps.kept(), steps) {
        (_, Steps::AdamW(steps)) => {
            moved::<_, 2>(tensors, &steps, |parameters| cpu_kernels::adamw_of_all(parameters, factor, decay))
        }
        (0, Steps::Sgd(steps)) => {
            moved::<_, 0>(tensors, &steps, |parameters| cpu_kernels::sgd_of_all(parameters, factor, decay))
        }
        (_, Steps::Sgd(steps)) => {
            moved::<_, 1>(tensors, &steps, |parameters| cpu_kernels::sgd_of_all(parameters, factor, decay))
        }
    }
}

/// Hands parameters to `pass`, each number where it lies if nobody else sees it.
fn moved<S: Copy, const KEPT: usize>(
    mut tensors: Vec<FlexTensor>,
    steps: &[S],
    pass: impl FnOnce(Vec<Moved<'_, S, KEPT>>),
) -> Vec<FlexTensor> {
    let count = steps.len();
    let gradients: Vec<Values> = tensors.drain(count..2 * count).map(|gradient| values(&gradient)).collect();
    let mut moving: Vec<FlexTensor> = tensors.into_iter().map(alone).collect();
    let mut kinds = moving.chunks_mut(count).map(|kind| kind.iter_mut().map(FlexTensor::storage_mut::<f32>));
    let weights = kinds.next().expect("there are parameters");
    let mut kept: [_; KEPT] = std::array::from_fn(|_| kinds.next().expect("the rule keeps as many tensors of each"));
    let mut averages = kinds.next();
    let parameters = weights.zip(&gradients).zip(steps).map(|((weights, gradient), &step)| Moved {
        weights,
        gradient,
        kept: kept.each_mut().map(|kind| kind.next().expect("each parameter has one")),
        average: averages.as_mut().and_then(Iterator::next),
        step,
    });
    pass(parameters.collect());
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
