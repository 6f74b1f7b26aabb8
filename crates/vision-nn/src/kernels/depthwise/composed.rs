//! The operation in terms of Burn's own.

use burn::backend::ops::{ConvOptions, ConvTransposeOptions};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape, Slice};
use cpu_kernels::StridedDepthwise;

use crate::kernels::storage::{stored_as, widened};

const TO_CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];
const TO_CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

pub(crate) fn forward<B: Backend>(
    map: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    windows: &StridedDepthwise,
) -> FloatTensor<B> {
    let dtype = map.dtype();
    let (map, options) = with_room::<B>(map, windows);
    stored_as::<B>(B::float_permute(B::conv2d(map, weight, bias, options), &TO_CHANNELS_LAST), dtype)
}

pub(crate) fn map_gradient<B: Backend>(
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    windows: &StridedDepthwise,
) -> FloatTensor<B> {
    let [height, width] = windows.output;
    let shape = windows.shape;
    if windows.stride == 1 && [height, width] == [shape.height, shape.width] && room(windows) == Room::Even {
        // For stride 1 and a kernel with a middle, it is the convolution with the kernel turned by 180 degrees.
        return forward::<B>(gradient, B::float_flip(weight, &[2, 3]), None, windows);
    }
    let dtype = gradient.dtype();
    // From the first cell that a window covers, outside of the map or not, to the last of the map.
    let reached = windows.output.map(|windows_across| (windows_across - 1) * windows.stride + shape.kernel);
    let wanted = [shape.height + windows.before[0], shape.width + windows.before[1]];
    let missing = [0, 1].map(|axis| wanted[axis].saturating_sub(reached[axis]));
    let options = ConvTransposeOptions::new([windows.stride; 2], [0, 0], missing, [1, 1], shape.channels);
    let gradient = B::float_permute(widened::<B>(gradient), &TO_CHANNELS_FIRST);
    let covered = B::float_permute(B::conv_transpose2d(gradient, weight, None, options), &TO_CHANNELS_LAST);
    let [top, left] = windows.before;
    let map = [0..shape.batch, top..top + shape.height, left..left + shape.width, 0..shape.channels];
    stored_as::<B>(B::float_slice(covered, &map.map(Slice::from)), dtype)
}

pub(crate) fn weight_gradient<B: Backend>(
    map: FloatTensor<B>,
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    windows: &StridedDepthwise,
) -> FloatTensor<B> {
    let (map, options) = with_room::<B>(map, windows);
    let gradient = B::float_permute(widened::<B>(gradient), &TO_CHANNELS_FIRST);
    B::conv2d_weight_backward(map, weight, gradient, options)
}

/// What stands around a map.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    /// As many zeros on opposite sides: the kernel's business.
    Even,
    /// So many zeros at the bottom and at the right.
    Uneven([usize; 2]),
}

fn room(windows: &StridedDepthwise) -> Room {
    let shape = windows.shape;
    let axes = [0, 1].map(|axis| ([shape.height, shape.width][axis], windows.before[axis], windows.output[axis]));
    let is_even = axes.iter().all(|(size, before, output)| {
        let padded = size + 2 * before;
        padded >= shape.kernel && (padded - shape.kernel) / windows.stride + 1 == *output
    });
    if is_even {
        return Room::Even;
    }
    Room::Uneven(
        axes.map(|(size, before, output)| ((output - 1) * windows.stride + shape.kernel).saturating_sub(size + before)),
    )
}

/// The map channels-first in f32, with zeros around it where the convolution of these options does not add them.
///
/// # Shapes
/// - `map`: `[B, H, W, C]`
/// - output: `[B, C, H, W]`, or larger
fn with_room<B: Backend>(map: FloatTensor<B>, windows: &StridedDepthwise) -> (FloatTensor<B>, ConvOptions<2>) {
    let shape = windows.shape;
    let map = B::float_permute(widened::<B>(map), &TO_CHANNELS_FIRST);
    let options = |padding| ConvOptions::new([windows.stride; 2], padding, [1, 1], shape.channels);
    let Room::Uneven([bottom, right]) = room(windows) else {
        return (map, options(windows.before));
    };
    let [top, left] = windows.before;
    let (height, width) = (shape.height, shape.width);
    let padded = Shape::new([shape.batch, shape.channels, top + height + bottom, left + width + right]);
    // Burn's own padding fills the zeros on the host and copies them to the device, in every pass.
    let zeros = B::float_zeros(padded, &map.device(), DType::F32.into());
    let place = [0..shape.batch, 0..shape.channels, top..top + height, left..left + width];
    (B::float_slice_assign(zeros, &place.map(Slice::from), map), options([0, 0]))
}
