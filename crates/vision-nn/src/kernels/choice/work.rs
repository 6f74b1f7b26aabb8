//! The operations alone, as a measurement runs them.

use burn::tensor::{DType, Device, Distribution, Tensor};
use cpu_kernels::{Activation, DepthwiseShape, StridedDepthwise};

use super::{Asked, Operation};
use crate::kernels::batch_norm::{NormForm, moments, normalize};
use crate::kernels::{depthwise, layer_norm};
use crate::pass::stored_as;
use crate::tape::onto_tape;

/// Makes the output of an operation, on the tape, of leaves that it holds: `[N, C]`.
pub type Forward = Box<dyn Fn() -> Tensor<2>>;

/// The models' own are 1e-6 to 1e-3; the time does not depend on it.
const EPSILON: f32 = 1e-5;

/// An operation at the shape of `asked`, with `images` times its first axis, on random leaves on the tape of `device`. None where the shape is not one of
/// the operation's, and for window attention: who calls that composes it.
pub fn operation_at(asked: &Asked, images: usize, device: &Device) -> Option<Forward> {
    let leaves = Leaves { device, storage: asked.site.storage };
    let first = asked.first * images;
    match (asked.site.operation, asked.site.shape.as_slice()) {
        (Operation::Depthwise, &[height, width, channels, kernel, stride, top, left, rows, columns]) => {
            let shape = DepthwiseShape { batch: first, height, width, channels, kernel };
            Some(leaves.depthwise(StridedDepthwise { shape, stride, before: [top, left], output: [rows, columns] }))
        }
        (Operation::LayerNorm, &[channels]) => Some(leaves.layer_norm([first, channels])),
        (Operation::LayerNorm, &[tokens, channels]) => Some(leaves.layer_norm([first, tokens, channels])),
        (Operation::LayerNorm, &[height, width, channels]) => Some(leaves.layer_norm([first, height, width, channels])),
        (Operation::BatchNorm, &[channels]) => Some(leaves.batch_norm([first, channels])),
        _ => None,
    }
}

/// Makes leaves whose gradients are wanted.
struct Leaves<'a> {
    device: &'a Device,
    storage: DType,
}

impl Leaves<'_> {
    fn of<const D: usize>(&self, shape: [usize; D], storage: DType) -> Tensor<D> {
        let numbers = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &self.device.clone().inner());
        onto_tape(stored_as(numbers, storage), self.device)
    }

    fn map<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        self.of(shape, self.storage)
    }

    fn parameter<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        self.of(shape, DType::F32)
    }

    fn depthwise(&self, windows: StridedDepthwise) -> Forward {
        let DepthwiseShape { batch, height, width, channels, kernel } = windows.shape;
        let map = self.map([batch, height, width, channels]);
        let (weight, bias) = (self.parameter([channels, 1, kernel, kernel]), self.parameter([channels]));
        Box::new(move || rows(depthwise(map.clone(), weight.clone(), Some(bias.clone()), windows)))
    }

    fn layer_norm<const D: usize>(&self, shape: [usize; D]) -> Forward {
        let channels = shape[D - 1];
        let input = self.map(shape);
        let (weight, bias) = (self.parameter([channels]), self.parameter([channels]));
        Box::new(move || rows(layer_norm(input.clone(), weight.clone(), bias.clone(), f64::from(EPSILON))))
    }

    /// Over a batch, with the activation that most norms of the models have behind them.
    fn batch_norm(&self, shape: [usize; 2]) -> Forward {
        let [_, channels] = shape;
        let input = self.map(shape);
        let (weight, bias) = (self.parameter([channels]), self.parameter([channels]));
        let form = NormForm { epsilon: EPSILON, activation: Activation::Silu, of_batch: true };
        Box::new(move || {
            let of_batch = moments(input.clone());
            normalize(input.clone(), weight.clone(), bias.clone(), of_batch, form)
        })
    }
}

/// `[.., C]` to `[N, C]`.
fn rows<const D: usize>(map: Tensor<D>) -> Tensor<2> {
    let dims = map.dims();
    let channels = dims[D - 1];
    let count = dims.iter().product::<usize>() / channels;
    map.reshape([count, channels])
}
