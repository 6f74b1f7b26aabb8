//! Depthwise convolution over channels-last maps: a kernel each for the output, for the gradient of the map, and for those of weight and bias.
//!
//! Sums are made in f32 whatever the maps are stored in, and nothing is added atomically: the same input gives the same bits.

mod convolve;
mod correlate;
mod run;
mod spread;
mod window;

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cpu_kernels::StridedDepthwise;

use super::CubeOperation;
use crate::kernels::depthwise::plan::{map_shape, output_shape, parameter_forms};
use crate::kernels::recorded::Form;

/// The convolution of a map `[B, H, W, C]` by a weight `[C, 1, k, k]`, without a bias: `[B, H', W', C]` in the type of the map.
#[derive(Debug)]
pub(crate) struct Forward(pub(crate) StridedDepthwise);

impl CubeOperation<2, 1> for Forward {
    const NAME: &'static str = "depthwise";

    fn outputs(&self, [map, _]: [Form; 2]) -> [Form; 1] {
        [(output_shape(&self.0), map.1)]
    }

    fn run<R: CubeRuntime>(&self, [map, weight]: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 1] {
        [run::forward(&self.0, map, weight, None)]
    }
}

/// The same with a bias, `[C]`.
#[derive(Debug)]
pub(crate) struct BiasedForward(pub(crate) StridedDepthwise);

impl CubeOperation<3, 1> for BiasedForward {
    const NAME: &'static str = "biased depthwise";

    fn outputs(&self, [map, ..]: [Form; 3]) -> [Form; 1] {
        [(output_shape(&self.0), map.1)]
    }

    fn run<R: CubeRuntime>(&self, [map, weight, bias]: [CubeTensor<R>; 3]) -> [CubeTensor<R>; 1] {
        [run::forward(&self.0, map, weight, Some(bias))]
    }
}

/// The gradient of the map, of a weight and a gradient `[B, H', W', C]`: `[B, H, W, C]` in the type of the latter.
#[derive(Debug)]
pub(crate) struct MapGradient(pub(crate) StridedDepthwise);

impl CubeOperation<2, 1> for MapGradient {
    const NAME: &'static str = "depthwise map gradient";

    fn outputs(&self, [_, gradient]: [Form; 2]) -> [Form; 1] {
        [(map_shape(&self.0), gradient.1)]
    }

    fn run<R: CubeRuntime>(&self, [weight, gradient]: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 1] {
        [run::map_gradient(&self.0, weight, gradient)]
    }
}

/// The gradients of weight, `[C, 1, k, k]`, and bias, `[C]`, in f32, of a map and a gradient.
#[derive(Debug)]
pub(crate) struct ParameterGradients(pub(crate) StridedDepthwise);

impl CubeOperation<2, 2> for ParameterGradients {
    const NAME: &'static str = "depthwise parameter gradients";

    fn outputs(&self, _: [Form; 2]) -> [Form; 2] {
        parameter_forms(&self.0)
    }

    fn run<R: CubeRuntime>(&self, [map, gradient]: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 2] {
        run::parameter_gradients(&self.0, map, gradient)
    }
}
