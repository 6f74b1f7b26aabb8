//! Dense convolution over channels-last maps of f32 on the CPU, by the products of `cpu-kernels`. Burn's own wants channels first, so that maps are turned
//! before and behind it. On cards, in half precision, and where the step is only recorded, it is Burn's all the same.

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use cpu_kernels::Convolution;

use super::host::{is_cpu, tensor, values};

/// Convolves; none where it is Burn's to do.
///
/// # Shapes
/// - `map`: `[B, H, W, in]`
/// - `weight`: `[out, in, k, k]`
/// - output: `[B, H', W', out]`
pub(crate) fn dense_convolution(map: &Tensor<4>, weight: &Tensor<4>, windows: Convolution) -> Option<Tensor<4>> {
    let device = map.device();
    let is_ours = is_cpu(&device) && map.dtype() == DType::F32;
    let [map, weight] = is_ours.then(|| [map, weight].map(|tensor| tensor.clone().into_dispatch()))?;
    Some(Tensor::from_dispatch(Dispatch::dense_convolution(map, weight, windows)))
}

/// The operation on the CPU; no other backend is asked for it.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait DenseConvolution: Backend {
    /// See [`dense_convolution`].
    fn dense_convolution(
        _map: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _windows: Convolution,
    ) -> FloatTensor<Self> {
        unreachable!("{ELSEWHERE}")
    }

    /// The gradient of the map.
    fn dense_convolution_map_gradient(
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _windows: Convolution,
    ) -> FloatTensor<Self> {
        unreachable!("{ELSEWHERE}")
    }

    /// The gradient of the weight.
    fn dense_convolution_weight_gradient(
        _map: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _windows: Convolution,
    ) -> FloatTensor<Self> {
        unreachable!("{ELSEWHERE}")
    }
}

const ELSEWHERE: &str = "the CPU alone is asked for it, off the tape";

#[cfg(feature = "cuda")]
impl DenseConvolution for Cuda {}
#[cfg(feature = "wgpu")]
impl DenseConvolution for Wgpu {}

impl DenseConvolution for Flex {
    fn dense_convolution(map: FloatTensor<Self>, weight: FloatTensor<Self>, windows: Convolution) -> FloatTensor<Self> {
        let Convolution { batch, channels: [_, out], output: [height, width], .. } = windows;
        tensor(windows.forward(&values(&map), &values(&weight)), &Shape::new([batch, height, width, out]))
    }

    fn dense_convolution_map_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: Convolution,
    ) -> FloatTensor<Self> {
        let Convolution { batch, channels: [inner, _], size: [height, width], .. } = windows;
        let of_map = windows.map_gradient(&values(&gradient), &values(&weight));
        tensor(of_map, &Shape::new([batch, height, width, inner]))
    }

    fn dense_convolution_weight_gradient(
        map: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: Convolution,
    ) -> FloatTensor<Self> {
        let Convolution { kernel, channels: [inner, out], .. } = windows;
        let of_weight = windows.weight_gradient(&values(&map), &values(&gradient));
        tensor(of_weight, &Shape::new([out, inner, kernel, kernel]))
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

impl<B: Backend + DenseConvolution> Backward<B, 2> for ConvolutionBackward {
    /// The map, which the weight wants, and the weight, which the map wants.
    type State = ([Option<NodeId>; 2], Convolution);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (kept, windows) = ops.state;
        let [map, weight] = kept.map(|node| Some(checkpointer.retrieve_node_output::<FloatTensor<B>>(node?)));
        let [of_map, of_weight] = ops.parents;
        if let Some((node, map)) = of_weight.zip(map) {
            let of_weight = B::dense_convolution_weight_gradient(map, gradient.clone(), windows);
            gradients.register::<B>(node.id, of_weight);
        }
        if let Some((node, weight)) = of_map.zip(weight) {
            gradients.register::<B>(node.id, B::dense_convolution_map_gradient(weight, gradient, windows));
        }
    }
}

impl<B: Backend + DenseConvolution, C: CheckpointStrategy> DenseConvolution for Autodiff<B, C> {
    fn dense_convolution(map: FloatTensor<Self>, weight: FloatTensor<Self>, windows: Convolution) -> FloatTensor<Self> {
        match ConvolutionBackward.prepare::<C>([map.node.clone(), weight.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let of_map = weight.is_tracked().then(|| prepared.checkpoint(&map));
                let kept = [of_map, map.is_tracked().then(|| prepared.checkpoint(&weight))];
                prepared.finish((kept, windows), B::dense_convolution(map.primitive, weight.primitive, windows))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::dense_convolution(map.primitive, weight.primitive, windows))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{Device, Distribution, module};

    use super::*;

    /// Output, and the gradients of map and weight.
    fn run(given: &[Tensor<4>; 3], layer: impl Fn(Tensor<4>, Tensor<4>) -> Tensor<4>) -> [Tensor<4>; 3] {
        let device = given[0].device().autodiff();
        let [map, weight, upstream] = given.each_ref().map(|tensor| Tensor::<4>::from_data(tensor.to_data(), &device));
        let [map, weight] = [map, weight].map(Tensor::require_grad);
        let output = layer(map.clone(), weight.clone());
        let tape = (output.clone() * upstream).sum().backward();
        [output.inner(), map.grad(&tape).unwrap(), weight.grad(&tape).unwrap()]
    }

    #[test]
    fn output_and_gradients_are_burns() {
        for (size, channels, kernel, stride) in [([9, 6], [3, 8], 3, 2), ([7, 7], [5, 4], 3, 1), ([6, 8], [2, 3], 1, 2)]
        {
            let zeros = kernel / 2;
            let output = size.map(|size: usize| (size + 2 * zeros - kernel) / stride + 1);
            let windows = Convolution { batch: 2, size, channels, kernel, stride, before: [zeros; 2], output };
            let shapes = [
                [2, size[0], size[1], channels[0]],
                [channels[1], channels[0], kernel, kernel],
                [2, output[0], output[1], channels[1]],
            ];
            let given = shapes.map(|shape| Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex()));
            let ours = run(&given, |map, weight| dense_convolution(&map, &weight, windows).unwrap());
            let burns = run(&given, |map, weight| {
                let options = ConvOptions::new([stride; 2], [zeros; 2], [1, 1], 1);
                module::conv2d(map.permute([0, 3, 1, 2]), weight, None, options).permute([0, 2, 3, 1])
            });
            for (ours, burns) in ours.into_iter().zip(burns) {
                // Sums of up to 126 products of numbers of order one, in f32.
                let largest = (ours - burns).abs().max().into_scalar::<f32>();
                assert!(largest < 3e-5, "off by {largest:e}");
            }
        }
    }

    #[test]
    fn what_is_not_on_the_tape_gets_no_gradient_and_half_precision_is_burns() {
        let device = Device::flex().autodiff();
        let map = Tensor::<4>::ones([1, 3, 3, 2], &device);
        let weight = Tensor::<4>::ones([1, 2, 3, 3], &device).require_grad();
        let before = [1, 1];
        let windows =
            Convolution { batch: 1, size: [3, 3], channels: [2, 1], kernel: 3, stride: 2, before, output: [2, 2] };
        let output = dense_convolution(&map, &weight, windows).unwrap();
        assert_eq!(output.to_data().iter::<f32>().collect::<Vec<_>>(), [8.0; 4]);
        let tape = output.sum().backward();
        let of_weight = weight.grad(&tape).unwrap().into_data();
        // The middle tap sees the four corners of the map, in either channel.
        assert_eq!(
            of_weight.iter::<f32>().collect::<Vec<_>>(),
            [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].repeat(2)
        );
        assert!(map.grad(&tape).is_none());
        assert!(dense_convolution(&map.cast(DType::BF16), &weight, windows).is_none());
    }
}
