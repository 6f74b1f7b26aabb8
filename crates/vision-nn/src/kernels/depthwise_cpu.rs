//! The CPU form: [`cpu_kernels`] on Burn's flex tensors.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use cpu_kernels::DepthwiseShape;

use super::depthwise::Depthwise;
use super::host::{tensor, tensor_like, values};

impl Depthwise for Flex {
    fn depthwise(map: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = shape_of(&map, &weight).forward(&values(&map), &values(&weight), &values(&bias));
        tensor_like(output, &map)
    }

    fn depthwise_map_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = shape_of(&gradient, &weight).map_gradient(&values(&gradient), &values(&weight));
        tensor_like(output, &gradient)
    }

    fn depthwise_weight_gradient(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let output = shape_of(&map, &weight).weight_gradient(&values(&map), &values(&gradient));
        tensor(output, weight.layout().shape())
    }
}

fn shape_of(map: &FlexTensor, weight: &FlexTensor) -> DepthwiseShape {
    let map = map.layout().shape();
    let kernel = weight.layout().shape()[2];
    DepthwiseShape { batch: map[0], height: map[1], width: map[2], channels: map[3], kernel }
}
