//! The CPU form: [`cpu_kernels`] on Burn's flex tensors, unless Burn's own operations are chosen.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use cpu_kernels::StridedDepthwise;

use super::plan::{is_chosen, map_shape, output_shape};
use super::{Depthwise, composed, sum_over_positions};
use crate::kernels::host::{stored_tensor, tensor, values};

impl Depthwise for Flex {
    fn depthwise(map: FloatTensor<Self>, weight: FloatTensor<Self>, windows: StridedDepthwise) -> FloatTensor<Self> {
        if !is_chosen(&windows, map.dtype()) {
            return composed::forward::<Self>(map, weight, None, &windows);
        }
        forward(&map, &weight, None, windows)
    }

    fn biased_depthwise(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        if !is_chosen(&windows, map.dtype()) {
            return composed::forward::<Self>(map, weight, Some(bias), &windows);
        }
        forward(&map, &weight, Some(&bias), windows)
    }

    fn depthwise_map_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        if !is_chosen(&windows, gradient.dtype()) {
            return composed::map_gradient::<Self>(weight, gradient, &windows);
        }
        let of_map = windows.map_gradient(&values(&gradient), &values(&weight));
        stored_tensor(of_map, &map_shape(&windows), gradient.dtype())
    }

    fn depthwise_weight_gradient(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        if !is_chosen(&windows, map.dtype()) {
            return composed::weight_gradient::<Self>(map, weight, gradient, &windows);
        }
        let of_weight = windows.weight_gradient(&values(&map), &values(&gradient));
        tensor(of_weight, weight.layout().shape())
    }

    fn depthwise_parameter_gradients(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !is_chosen(&windows, map.dtype()) {
            let of_bias = sum_over_positions::<Self>(gradient.clone());
            return (composed::weight_gradient::<Self>(map, weight, gradient, &windows), of_bias);
        }
        let channels = windows.shape.channels;
        let of_bias = tensor(cpu_kernels::sum_of_rows(&values(&gradient), channels), &Shape::new([channels]));
        (Self::depthwise_weight_gradient(map, weight, gradient, windows), of_bias)
    }
}

fn forward(map: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>, windows: StridedDepthwise) -> FlexTensor {
    let bias = bias.map(values);
    let output = windows.forward(&values(map), &values(weight), bias.as_deref());
    stored_tensor(output, &output_shape(&windows), map.dtype())
}
