//! The fully connected layer on rows, with PyTorch's weight as it is stored. The gradient of the weight comes in the same layout: by Burn's own layer it
//! comes as a transposed view, and a card copies each matrix to lay it out.

mod composed;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod recorded;

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
use burn::tensor::{DType, Shape, Tensor, module};
use cpu_kernels::{Matrix, product};

use super::host::{tensor, values};
use super::recorded::composes;
use crate::is_captured;
use crate::pass::stored_as;
use crate::tape::{on_captured, primitive};

/// The name of a product in recorded graphs: that of Burn's own, which it is but for where its rows lie.
pub(crate) const PRODUCT: &str = "matmul";

/// The name in recorded graphs of a tensor that is its input, behind which Burn's fusion begins anew. It computes nothing.
pub const SETTLED: &str = "settled";

/// Which factors of a product are transposed first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turned {
    pub(crate) left: bool,
    pub(crate) right: bool,
}

impl Turned {
    pub(crate) const NONE: Self = Self { left: false, right: false };
    pub(crate) const LEFT: Self = Self { left: true, right: false };
    pub(crate) const RIGHT: Self = Self { left: false, right: true };
}

/// Rows and columns of a product.
pub(crate) fn product_form(left: &Shape, right: &Shape, turned: Turned) -> Shape {
    Shape::new([left[usize::from(turned.left)], right[usize::from(!turned.right)]])
}

/// `rows · weightᵀ + bias`, computed in the type of the rows: parameters are cast to it on the tape.
///
/// # Shapes
/// - `rows`: `[N, in]`
/// - `weight`: `[out, in]`
/// - `bias`: `[out]`
/// - output: `[N, out]`
pub fn linear(rows: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let (device, dtype) = (rows.device(), rows.dtype());
    let (weight, bias) = (stored_as(weight, dtype), bias.map(|bias| stored_as(bias, dtype)));
    if composes(&device) {
        return module::linear(rows, weight.transpose(), bias);
    }
    if is_captured(&device) {
        return on_captured!(device, B => {
            let (rows, weight) = (primitive::<B, 2>(rows), primitive::<B, 2>(weight));
            Tensor::from_primitive::<B>(match bias {
                Some(bias) => B::fused_linear(rows, weight, primitive::<B, 1>(bias)),
                None => B::fused_projection(rows, weight),
            })
        });
    }
    let (rows, weight) = (rows.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::fused_linear(rows, weight, bias.into_dispatch()),
        None => Dispatch::fused_projection(rows, weight),
    })
}

/// The operation on a backend, all tensors of one type; the bodies are composed of Burn's matrix products.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait FusedLinear: Backend {
    /// See [`linear`].
    fn fused_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::forward::<Self>(rows, weight, Some(bias))
    }

    /// The same without bias.
    fn fused_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::forward::<Self>(rows, weight, None)
    }

    /// The gradient of the rows: `[N, in]`.
    fn fused_linear_rows_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::rows_gradient::<Self>(weight, gradient)
    }

    /// The same for rows that come of elementwise operations, whose gradients a card computes with the product.
    fn fused_linear_hidden_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::rows_gradient::<Self>(weight, gradient)
    }

    /// The gradient of the weight: `[out, in]`.
    fn fused_linear_weight_gradient(rows: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::weight_gradient::<Self>(rows, gradient)
    }

    /// The gradient of the bias: the sum over rows, `[out]`.
    fn fused_linear_bias_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::bias_gradient::<Self>(gradient)
    }
}

/// Products of half precision are Burn's.
impl FusedLinear for Flex {
    fn fused_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        forward(rows, weight, Some(bias))
    }

    fn fused_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        forward(rows, weight, None)
    }

    fn fused_linear_rows_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        if gradient.dtype() != DType::F32 {
            return composed::rows_gradient::<Self>(weight, gradient);
        }
        let ([count, out], [_, inner]) = (sides(&gradient), sides(&weight));
        let (weight, gradient) = (values(&weight), values(&gradient));
        let of_rows = product(Matrix::of_rows(&gradient, out), Matrix::of_rows(&weight, inner), None);
        tensor(of_rows, &Shape::new([count, inner]))
    }

    fn fused_linear_hidden_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::fused_linear_rows_gradient(weight, gradient)
    }

    fn fused_linear_weight_gradient(rows: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        if gradient.dtype() != DType::F32 {
            return composed::weight_gradient::<Self>(rows, gradient);
        }
        let ([_, out], [_, inner]) = (sides(&gradient), sides(&rows));
        let (rows, gradient) = (values(&rows), values(&gradient));
        let of_weight = product(Matrix::of_rows(&gradient, out).transposed(), Matrix::of_rows(&rows, inner), None);
        tensor(of_weight, &Shape::new([out, inner]))
    }

    fn fused_linear_bias_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        if gradient.dtype() != DType::F32 {
            return composed::bias_gradient::<Self>(gradient);
        }
        let [_, out] = sides(&gradient);
        tensor(cpu_kernels::sum_of_rows(&values(&gradient), out), &Shape::new([out]))
    }
}

fn forward(rows: FloatTensor<Flex>, weight: FloatTensor<Flex>, bias: Option<FloatTensor<Flex>>) -> FloatTensor<Flex> {
    if rows.dtype() != DType::F32 {
        return composed::forward::<Flex>(rows, weight, bias);
    }
    let ([count, inner], [out, _]) = (sides(&rows), sides(&weight));
    let (rows, weight, bias) = (values(&rows), values(&weight), bias.as_ref().map(values));
    let weight = Matrix::of_rows(&weight, inner).transposed();
    let output = product(Matrix::of_rows(&rows, inner), weight, bias.as_deref());
    tensor(output, &Shape::new([count, out]))
}

/// Rows and columns.
pub(super) fn sides(matrix: &FloatTensor<Flex>) -> [usize; 2] {
    let shape = matrix.layout().shape();
    [shape[0], shape[1]]
}

#[derive(Debug)]
struct LinearBackward;

impl<B: Backend + FusedLinear, const N: usize> Backward<B, N> for LinearBackward {
    /// Rows, which the weight wants, and the weight, which the rows want.
    type State = [Option<NodeId>; 2];

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let kept = ops.state.map(|node| node.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node)));
        let [rows, weight] = kept;
        let mut parents = ops.parents.into_iter();
        let [of_rows, of_weight, of_bias] = [(); 3].map(|()| parents.next().flatten());
        if let Some(node) = of_bias {
            gradients.register::<B>(node.id, B::fused_linear_bias_gradient(gradient.clone()));
        }
        if let Some((node, rows)) = of_weight.zip(rows) {
            gradients.register::<B>(node.id, B::fused_linear_weight_gradient(rows, gradient.clone()));
        }
        if let Some((node, weight)) = of_rows.zip(weight) {
            gradients.register::<B>(node.id, B::fused_linear_rows_gradient(weight, gradient));
        }
    }
}

impl<B: Backend + FusedLinear, C: CheckpointStrategy> FusedLinear for Autodiff<B, C> {
    fn fused_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [rows.node.clone(), weight.node.clone(), bias.node.clone()];
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let of_rows = weight.is_tracked().then(|| prepared.checkpoint(&rows));
                let state = [of_rows, rows.is_tracked().then(|| prepared.checkpoint(&weight))];
                prepared.finish(state, B::fused_linear(rows.primitive, weight.primitive, bias.primitive))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::fused_linear(rows.primitive, weight.primitive, bias.primitive))
            }
        }
    }

    fn fused_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        match LinearBackward.prepare::<C>([rows.node.clone(), weight.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let of_rows = weight.is_tracked().then(|| prepared.checkpoint(&rows));
                let state = [of_rows, rows.is_tracked().then(|| prepared.checkpoint(&weight))];
                prepared.finish(state, B::fused_projection(rows.primitive, weight.primitive))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::fused_projection(rows.primitive, weight.primitive)),
        }
    }

    fn fused_linear_rows_gradient(_weight: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn fused_linear_hidden_gradient(_weight: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn fused_linear_weight_gradient(_rows: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn fused_linear_bias_gradient(_gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    type Layer = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>;

    /// Output, and the gradients of rows, weight and, where there is one, bias.
    fn run(given: &[Tensor<2>; 4], with_bias: bool, layer: Layer) -> Vec<Tensor<2>> {
        let device = given[0].device().autodiff();
        let [rows, weight, bias, upstream] =
            given.each_ref().map(|tensor| Tensor::<2>::from_data(tensor.to_data(), &device));
        let [rows, weight, bias] = [rows, weight, bias].map(Tensor::require_grad);
        let output = layer(rows.clone(), weight.clone(), with_bias.then(|| bias.clone().squeeze_dim(0)));
        let tape = (output.clone() * upstream).sum().backward();
        let gradients = [rows, weight, bias].into_iter().filter_map(|leaf| leaf.grad(&tape));
        std::iter::once(output.inner()).chain(gradients).collect()
    }

    #[test]
    fn output_and_gradients_are_burns_with_bias_and_without() {
        assert_burns(&Device::flex(), &[[1, 1, 1], [130, 65, 33], [7, 200, 40]]);
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn output_and_gradients_are_burns_on_software_vulkan() {
        // Each shape is tuned first.
        assert_burns(&Device::wgpu(burn::tensor::DeviceKind::DefaultDevice), &[[130, 65, 33]]);
    }

    fn assert_burns(device: &Device, sides: &[[usize; 3]]) {
        for &[count, inner, out] in sides {
            let given = [[count, inner], [out, inner], [1, out], [count, out]]
                .map(|shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), device));
            for with_bias in [true, false] {
                let burns = run(&given, with_bias, |rows, weight, bias| module::linear(rows, weight.transpose(), bias));
                let ours = run(&given, with_bias, linear);
                assert_eq!(ours.len(), burns.len());
                for (ours, burns) in ours.into_iter().zip(burns) {
                    // Sums of up to 200 products of numbers of order one, in f32.
                    let largest = (ours - burns).abs().max().into_scalar::<f32>();
                    assert!(largest < 3e-5, "off by {largest:e}");
                }
            }
        }
    }

    /// Rows, inner and outer channels: a classifier of two and of three classes, whose gradients are products two and three deep; a few rows, and a
    /// single one; both layers of an MLP; sides that no tile divides.
    #[cfg(feature = "cuda")]
    const OF_MODELS: [[usize; 3]; 8] =
        [[8, 320, 2], [8, 320, 3], [3, 40, 10], [1, 64, 5], [32, 160, 640], [128, 320, 80], [512, 48, 40], [65, 33, 7]];

    #[cfg(feature = "cuda")]
    #[test]
    #[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there"]
    fn products_are_defined_on_cuda() {
        for shape in OF_MODELS {
            for storage in [DType::F32, DType::F16, DType::BF16] {
                assert_defined(shape, storage, &Device::cuda(0));
            }
        }
    }

    /// Against f64, with numbers as they are stored.
    #[cfg(feature = "cuda")]
    fn assert_defined([count, inner, out]: [usize; 3], storage: DType, device: &Device) {
        use crate::kernels::test_definition::{assert_near, numbers, rounded, tensor};
        use crate::{Tape, onto_tape};
        let sides = [[count, inner], [out, inner], [count, out]];
        let [rows, weight, upstream] =
            [0, 1, 2].map(|which| rounded(&numbers(which, sides[which][0] * sides[which][1]), device, storage));
        let leaf = |numbers: &[f64], shape| {
            onto_tape(tensor::<2>(numbers, shape, device, storage), &device.clone().autodiff())
        };
        let leaves = [leaf(&rows, sides[0]), leaf(&weight, sides[1])];
        let output = linear(leaves[0].clone(), leaves[1].clone(), None);
        let host = |tensor: Tensor<2>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
        let of_output = host(output.clone().inner());
        let mut tape = Tape::backward_from(output, tensor(&upstream, sides[2], device, storage));
        let [of_rows, of_weight] = leaves.map(|leaf| host(tape.remove(&leaf).expect("it is a leaf")));
        let product = |rows: usize, depth: usize, columns: usize, term: &dyn Fn(usize, usize, usize) -> f64| {
            let number = |place: usize| (0..depth).map(|at| term(place / columns, at, place % columns)).sum();
            (0..rows * columns).map(number).collect::<Vec<f64>>()
        };
        // TF32 and f16 keep ten bits of a number, bf16 seven; what comes out is rounded again.
        let tolerance = if storage == DType::BF16 { 2f64.powi(-7) } else { 2f64.powi(-10) };
        let name = |what: &str| format!("{what} of {count}x{inner} to {out}, {storage:?}");
        let (x, w, g) = (&rows, &weight, &upstream);
        let expected = product(count, inner, out, &|row, at, column| x[row * inner + at] * w[column * inner + at]);
        assert_near(&name("output"), &of_output, &expected, tolerance);
        let expected = product(count, out, inner, &|row, at, column| g[row * out + at] * w[at * inner + column]);
        assert_near(&name("gradient of rows"), &of_rows, &expected, tolerance);
        let expected = product(out, count, inner, &|row, at, column| g[at * out + row] * x[at * inner + column]);
        assert_near(&name("gradient of weight"), &of_weight, &expected, tolerance);
    }

    #[test]
    fn half_precision_follows_f32_within_its_rounding() {
        let device = Device::flex();
        let shapes = [[6, 33], [9, 33], [1, 9], [6, 9]];
        let given = shapes.map(|shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device));
        let expected = run(&given, true, linear);
        let found = run(&given, true, |rows, weight, bias| {
            stored_as(linear(stored_as(rows, DType::BF16), weight, bias), DType::F32)
        });
        for (found, expected) in found.into_iter().zip(expected) {
            let scale = expected.clone().abs().max().into_scalar::<f32>();
            let off = (found - expected).abs().max().into_scalar::<f32>();
            // Each number that goes in is rounded to 8 bits, and so is what comes out.
            assert!(off < 4.0 * 2f32.powi(-8) * scale, "off by {off:e} of {scale}");
        }
    }

    #[test]
    fn a_frozen_weight_gets_no_gradient_and_leaves_the_others_theirs() {
        let device = Device::flex().autodiff();
        let rows = Tensor::<2>::from_floats([[1.0, 2.0]], &device).require_grad();
        let weight = Tensor::<2>::from_floats([[3.0, -1.0], [0.5, 4.0]], &device);
        let bias = Tensor::<1>::from_floats([1.0, 1.0], &device).require_grad();
        let output = linear(rows.clone(), weight.clone(), Some(bias.clone()));
        let tape = output.sum().backward();
        assert_eq!(rows.grad(&tape).unwrap().into_data().iter::<f32>().collect::<Vec<_>>(), [3.5, 3.0]);
        assert_eq!(bias.grad(&tape).unwrap().into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 1.0]);
        assert!(weight.grad(&tape).is_none());
    }
}
