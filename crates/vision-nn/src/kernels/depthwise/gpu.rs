//! The CubeCL form, for CUDA and WebGPU, and the choice between it and the composed one.

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
use burn::backend::TensorMetadata;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::tensor::FloatTensor;
use cpu_kernels::StridedDepthwise;

use super::plan::is_ours;
use super::{Depthwise, composed, sum_over_positions};
use crate::kernels::cube::depthwise::{BiasedForward, Forward, MapGradient, ParameterGradients};
use crate::kernels::cube::launch;

macro_rules! on_cubecl {
    ($backend:ty) => {
        impl Depthwise for $backend {
            fn depthwise(
                map: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                windows: StridedDepthwise,
            ) -> FloatTensor<Self> {
                if !is_ours(&windows, map.dtype()) {
                    return composed::forward::<Self>(map, weight, None, &windows);
                }
                let [output] = launch(Forward(windows), [map, weight]);
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
                let [output] = launch(BiasedForward(windows), [map, weight, bias]);
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
                let [of_map] = launch(MapGradient(windows), [weight, gradient]);
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
                let [of_weight, _] = launch(ParameterGradients(windows), [map, gradient]);
                of_weight
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
                let [of_weight, of_bias] = launch(ParameterGradients(windows), [map, gradient]);
                (of_weight, of_bias)
            }
        }
    };
}

#[cfg(feature = "cuda")]
on_cubecl!(Cuda);
#[cfg(feature = "wgpu")]
on_cubecl!(Wgpu);
