//! The second projection of an MLP behind its GELU: of the two maps of hidden width, only the one that goes into GELU is kept for the backward pass, and
//! what came out of it is computed again there.

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
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use cpu_kernels::{Matrix, product_of_gelu};

use super::gelu::{FusedGelu, gelu};
use super::host::{tensor, values};
use super::linear::{FusedLinear, linear, sides};
use super::recorded::composes;
use crate::is_captured;
use crate::pass::stored_as;
use crate::tape::{on_captured, primitive};

/// `gelu(rows) · weightᵀ + bias`, as [`linear`] of [`gelu`] has it, and the same gradients.
///
/// # Shapes
/// - `rows`: `[N, in]`
/// - `weight`: `[out, in]`
/// - `bias`: `[out]`
/// - output: `[N, out]`
pub fn gelu_linear(rows: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    compute(rows, weight, Some(bias))
}

/// The same without bias.
pub fn gelu_projection(rows: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    compute(rows, weight, None)
}

fn compute(rows: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let (device, dtype) = (rows.device(), rows.dtype());
    if composes(&device) {
        return linear(gelu(rows), weight, bias);
    }
    let (weight, bias) = (stored_as(weight, dtype), bias.map(|bias| stored_as(bias, dtype)));
    if is_captured(&device) {
        return on_captured!(device, B => {
            let (rows, weight) = (primitive::<B, 2>(rows), primitive::<B, 2>(weight));
            Tensor::from_primitive::<B>(match bias {
                Some(bias) => B::gelu_linear(rows, weight, primitive::<B, 1>(bias)),
                None => B::gelu_projection(rows, weight),
            })
        });
    }
    let (rows, weight) = (rows.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::gelu_linear(rows, weight, bias.into_dispatch()),
        None => Dispatch::gelu_projection(rows, weight),
    })
}

/// The operation on a backend, all tensors of one type.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait GeluLinear: FusedGelu + FusedLinear {
    /// See [`gelu_linear`].
    fn gelu_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::fused_linear(Self::fused_gelu(rows), weight, bias)
    }

    /// The same without bias.
    fn gelu_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::fused_projection(Self::fused_gelu(rows), weight)
    }
}

impl GeluLinear for Capture {}
#[cfg(feature = "cuda")]
impl GeluLinear for Cuda {}
#[cfg(feature = "wgpu")]
impl GeluLinear for Wgpu {}

/// Rows take their GELU on the way into the product where that pays, and no map of it is made.
impl GeluLinear for Flex {
    fn gelu_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = on_the_way(&rows, &weight, Some(&bias));
        output.unwrap_or_else(|| Self::fused_linear(Self::fused_gelu(rows), weight, bias))
    }

    fn gelu_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = on_the_way(&rows, &weight, None);
        output.unwrap_or_else(|| Self::fused_projection(Self::fused_gelu(rows), weight))
    }
}

/// None where it does not pay, and in half precision.
fn on_the_way(
    rows: &FloatTensor<Flex>,
    weight: &FloatTensor<Flex>,
    bias: Option<&FloatTensor<Flex>>,
) -> Option<FloatTensor<Flex>> {
    if rows.dtype() != DType::F32 {
        return None;
    }
    let ([count, inner], [out, _]) = (sides(rows), sides(weight));
    let (rows, weight, bias) = (values(rows), values(weight), bias.map(values));
    let weight = Matrix::of_rows(&weight, inner).transposed();
    let output = product_of_gelu(Matrix::of_rows(&rows, inner), weight, bias.as_deref())?;
    Some(tensor(output, &Shape::new([count, out])))
}

#[derive(Debug)]
struct GeluLinearBackward;

impl<B: Backend + GeluLinear, const N: usize> Backward<B, N> for GeluLinearBackward {
    /// Rows, and the weight, which the rows want.
    type State = (NodeId, Option<NodeId>);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (rows, weight) = ops.state;
        let rows = checkpointer.retrieve_node_output::<FloatTensor<B>>(rows);
        let weight = weight.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let mut parents = ops.parents.into_iter();
        let [of_rows, of_weight, of_bias] = [(); 3].map(|()| parents.next().flatten());
        if let Some(node) = of_bias {
            gradients.register::<B>(node.id, B::fused_linear_bias_gradient(gradient.clone()));
        }
        let of_hidden = of_rows.zip(weight).map(|(node, weight)| {
            let of_hidden = B::fused_linear_hidden_gradient(weight, gradient.clone());
            (node, of_hidden)
        });
        let hidden = match (of_hidden, of_weight.is_some()) {
            (Some((node, of_hidden)), true) => {
                let (hidden, of_rows) = B::fused_gelu_with_gradient(rows, of_hidden);
                gradients.register::<B>(node.id, of_rows);
                Some(hidden)
            }
            (Some((node, of_hidden)), false) => {
                gradients.register::<B>(node.id, B::fused_gelu_gradient(rows, of_hidden));
                None
            }
            (None, true) => Some(B::fused_gelu(rows)),
            (None, false) => None,
        };
        if let Some((node, hidden)) = of_weight.zip(hidden) {
            gradients.register::<B>(node.id, B::fused_linear_weight_gradient(hidden, gradient));
        }
    }
}

impl<B: Backend + GeluLinear, C: CheckpointStrategy> GeluLinear for Autodiff<B, C> {
    fn gelu_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [rows.node.clone(), weight.node.clone(), bias.node.clone()];
        match GeluLinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let weight_node = rows.is_tracked().then(|| prepared.checkpoint(&weight));
                let state = (prepared.checkpoint(&rows), weight_node);
                prepared.finish(state, B::gelu_linear(rows.primitive, weight.primitive, bias.primitive))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::gelu_linear(rows.primitive, weight.primitive, bias.primitive))
            }
        }
    }

    fn gelu_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        match GeluLinearBackward.prepare::<C>([rows.node.clone(), weight.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let weight_node = rows.is_tracked().then(|| prepared.checkpoint(&weight));
                let state = (prepared.checkpoint(&rows), weight_node);
                prepared.finish(state, B::gelu_projection(rows.primitive, weight.primitive))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::gelu_projection(rows.primitive, weight.primitive)),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, TensorData};

    use super::*;

    type Layer = fn(Tensor<2>, Tensor<2>, Tensor<1>) -> Tensor<2>;

    /// Output, and the gradients of rows, weight and bias: those of parents that are not frozen.
    fn run(given: &[TensorData; 4], frozen: Option<usize>, device: &Device, layer: Layer) -> Vec<TensorData> {
        let device = device.clone().autodiff();
        let of = |place: usize| Tensor::<2>::from_data(given[place].clone(), &device);
        let leaf = |place: usize| if frozen == Some(place) { of(place) } else { of(place).require_grad() };
        let [rows, weight, bias] = [leaf(0), leaf(1), leaf(2)];
        let output = layer(rows.clone(), weight.clone(), bias.clone().squeeze_dim(0));
        let tape = (output.clone() * of(3)).sum().backward();
        let gradients = [rows, weight, bias].into_iter().filter_map(|leaf| leaf.grad(&tape));
        std::iter::once(output.inner()).chain(gradients).map(Tensor::into_data).collect()
    }

    /// Rows, and numbers that go in and out: GELU in a pass of its own, and on the way into the product.
    const SIDES: [[usize; 3]; 2] = [[37, 24, 10], [300, 70, 90]];

    fn given([count, inner, out]: [usize; 3]) -> [TensorData; 4] {
        let random =
            |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex()).into_data();
        [random([count, inner]), random([out, inner]), random([1, out]), random([count, out])]
    }

    #[test]
    fn output_and_gradients_are_those_of_the_two_operations_to_the_bit() {
        let frozen = [None, Some(0), Some(1), Some(2)];
        for (sides, frozen) in SIDES.into_iter().flat_map(|sides| frozen.map(|frozen| (sides, frozen))) {
            let given = given(sides);
            let ours = run(&given, frozen, &Device::flex(), gelu_linear);
            let two = run(&given, frozen, &Device::flex(), |rows, weight, bias| linear(gelu(rows), weight, Some(bias)));
            assert_eq!(ours.len(), if frozen.is_some() { 3 } else { 4 });
            assert_eq!(ours, two);
        }
    }

    #[test]
    fn without_a_bias_the_others_are_those_with_a_bias_of_zero() {
        let [rows, weight, bias, upstream] = given(SIDES[1]);
        let given = [rows, weight, TensorData::zeros::<f32, _>(bias.shape), upstream];
        let without = run(&given, Some(2), &Device::flex(), |rows, weight, _| gelu_projection(rows, weight));
        assert_eq!(without, run(&given, Some(2), &Device::flex(), gelu_linear));
        assert_eq!(without.len(), 3);
    }

    #[test]
    fn half_precision_is_that_of_the_two_operations_to_the_bit() {
        let given = given(SIDES[0]);
        fn in_half(rows: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, layer: Layer) -> Tensor<2> {
            stored_as(layer(stored_as(rows, DType::BF16), weight, bias), DType::F32)
        }
        let ours = run(&given, None, &Device::flex(), |rows, weight, bias| in_half(rows, weight, bias, gelu_linear));
        let two = run(&given, None, &Device::flex(), |rows, weight, bias| {
            in_half(rows, weight, bias, |rows, weight, bias| linear(gelu(rows), weight, Some(bias)))
        });
        assert_eq!(ours, two);
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn output_and_gradients_are_those_of_the_cpu_on_software_vulkan() {
        let given = given(SIDES[0]);
        let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
        let found = run(&given, None, &device, gelu_linear);
        let expected = run(&given, None, &Device::flex(), gelu_linear);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            for (found, expected) in found.iter::<f32>().zip(expected.iter::<f32>()) {
                // Sums of up to 37 products of order one; the CPU's erf is within 5e-7 of the device's.
                assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
            }
        }
    }
}
