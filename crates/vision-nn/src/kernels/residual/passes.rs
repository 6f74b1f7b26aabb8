//! The passes over memory, on each backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Capture, Flex, TensorMetadata};
use burn::tensor::{DType, Shape};
use cpu_kernels::{Residual, Scaling};

use super::plan::{RESIDUAL, RESIDUAL_GRADIENTS, chunk_scratch};
use crate::kernels::host::{Values, tensor, tensor_like, values};
use crate::kernels::recorded::record_scratch;

/// What the operation and its gradients take. Biases, scales and factors are f32; without scales the branch goes in as it is, without factors they are 1.
///
/// # Shapes
/// - `map`, `branch`, `gradient`: `[B, .., C]`, of one type
/// - `scale`: bias and scale, `[C]` each
/// - `factors`: `[B]`
pub(crate) trait ResidualPasses: Backend {
    /// `map + (branch + bias) * scale * factors`
    fn residual_sum(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: Option<[FloatTensor<Self>; 2]>,
        factors: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self>;

    /// The gradient of the branch and, where the branch is given and scaled, those of bias and scale.
    fn residual_gradients(
        branch: Option<FloatTensor<Self>>,
        scale: Option<[FloatTensor<Self>; 2]>,
        factors: Option<FloatTensor<Self>>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Option<[FloatTensor<Self>; 2]>);
}

impl ResidualPasses for Flex {
    fn residual_sum(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: Option<[FloatTensor<Self>; 2]>,
        factors: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let (scale, factors) = (scale.as_ref().map(both), factors.as_ref().map(values));
        let residual = residual_of(scale.as_ref(), factors.as_deref(), &map);
        tensor_like(residual.forward(&values(&map), &values(&branch)), &map)
    }

    fn residual_gradients(
        branch: Option<FloatTensor<Self>>,
        scale: Option<[FloatTensor<Self>; 2]>,
        factors: Option<FloatTensor<Self>>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Option<[FloatTensor<Self>; 2]>) {
        let (scale, factors, upstream) = (scale.as_ref().map(both), factors.as_ref().map(values), values(&gradient));
        let residual = residual_of(scale.as_ref(), factors.as_deref(), &gradient);
        match branch.and_then(|branch| residual.gradients(&values(&branch), &upstream)) {
            Some((of_branch, of_vectors)) => {
                let of_vectors = of_vectors.map(|sums| tensor(sums, &Shape::new([residual.channels])));
                (tensor_like(of_branch, &gradient), Some(of_vectors))
            }
            None => (tensor_like(residual.branch_gradient(&upstream), &gradient), None),
        }
    }
}

fn both(scale: &[FloatTensor<Flex>; 2]) -> [Values; 2] {
    scale.each_ref().map(values)
}

fn residual_of<'a>(
    scale: Option<&'a [Values; 2]>,
    factors: Option<&'a [f32]>,
    map: &FloatTensor<Flex>,
) -> Residual<'a> {
    let scaling = scale.map(|[bias, scale]| Scaling { bias, scale });
    Residual { scaling, factors, channels: map.shape().last().copied().unwrap_or(1) }
}

impl ResidualPasses for Capture {
    fn residual_sum(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: Option<[FloatTensor<Self>; 2]>,
        factors: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let form = (map.shape(), map.dtype());
        let inputs = [map, branch].into_iter().chain(scale.into_iter().flatten()).chain(factors).collect();
        record_scratch(RESIDUAL, inputs, vec![form], &[]).remove(0)
    }

    fn residual_gradients(
        branch: Option<FloatTensor<Self>>,
        scale: Option<[FloatTensor<Self>; 2]>,
        factors: Option<FloatTensor<Self>>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Option<[FloatTensor<Self>; 2]>) {
        let shape = gradient.shape();
        let of_vectors = scale.as_ref().filter(|_| branch.is_some());
        let of_vectors = of_vectors.map(|vectors| vectors.each_ref().map(|vector| (vector.shape(), DType::F32)));
        let scratch: Vec<_> = of_vectors.iter().map(|_| chunk_scratch(&shape)).collect();
        let forms = std::iter::once((shape, gradient.dtype())).chain(of_vectors.into_iter().flatten()).collect();
        let inputs = branch.into_iter().chain(scale.into_iter().flatten()).chain(factors).chain([gradient]).collect();
        split(record_scratch(RESIDUAL_GRADIENTS, inputs, forms, &scratch))
    }
}

/// What the operation in a queue gives: the gradient of the branch, and those of bias and scale where they are there.
pub(super) fn split<T>(found: Vec<T>) -> (T, Option<[T; 2]>) {
    let mut found = found.into_iter();
    let of_branch = found.next().expect("the branch has a gradient");
    (of_branch, found.next().zip(found.next()).map(<[T; 2]>::from))
}
