//! The form of the device that only records: noted as the kernels of a card would run it.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Capture, TensorMetadata};
use cpu_kernels::StridedDepthwise;

use super::plan::{chunk_scratch, is_ours, map_shape, output_shape, parameter_forms};
use super::{Depthwise, composed, sum_over_positions};
use crate::kernels::recorded::record;

impl Depthwise for Capture {
    fn depthwise(map: FloatTensor<Self>, weight: FloatTensor<Self>, windows: StridedDepthwise) -> FloatTensor<Self> {
        if !is_ours(&windows, map.dtype()) {
            return composed::forward::<Self>(map, weight, None, &windows);
        }
        let form = (output_shape(&windows), map.dtype());
        let [output] = record("depthwise convolution", [map, weight], [form], &[]);
        output
    }

    fn biased_depthwise(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        if !is_ours(&windows, map.dtype()) {
            return composed::forward::<Self>(map, weight, Some(bias), &windows);
        }
        let form = (output_shape(&windows), map.dtype());
        let [output] = record("depthwise convolution", [map, weight, bias], [form], &[]);
        output
    }

    fn depthwise_map_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        if !is_ours(&windows, gradient.dtype()) {
            return composed::map_gradient::<Self>(weight, gradient, &windows);
        }
        let form = (map_shape(&windows), gradient.dtype());
        let [of_map] = record("depthwise map gradient", [weight, gradient], [form], &[]);
        of_map
    }

    fn depthwise_weight_gradient(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        if !is_ours(&windows, map.dtype()) {
            return composed::weight_gradient::<Self>(map, weight, gradient, &windows);
        }
        Self::depthwise_parameter_gradients(map, weight, gradient, windows).0
    }

    fn depthwise_parameter_gradients(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !is_ours(&windows, map.dtype()) {
            let of_bias = sum_over_positions::<Self>(gradient.clone());
            return (composed::weight_gradient::<Self>(map, weight, gradient, &windows), of_bias);
        }
        let (forms, scratch) = (parameter_forms(&windows), [chunk_scratch(&windows)]);
        let [of_weight, of_bias] = record("depthwise parameter gradients", [map, gradient], forms, &scratch);
        (of_weight, of_bias)
    }
}
