//! The passes over memory, on each backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Capture, Flex, TensorMetadata};
use burn::tensor::DType;
use cpu_kernels::Residual;

use super::plan::{RESIDUAL, RESIDUAL_GRADIENTS, chunk_scratch};
use crate::kernels::host::{tensor, tensor_like, values};
use crate::kernels::recorded::record_scratch;

/// What the operation and its gradients take. Scales and factors are f32; without one of them it is 1 everywhere.
///
/// # Shapes
/// - `map`, `branch`, `gradient`: `[B, .., C]`, of one type
/// - `scale`: `[C]`
/// - `factors`: `[B]`
pub(crate) trait ResidualPasses: Backend {
    /// `map + branch * scale * factors`
    fn residual_sum(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: Option<FloatTensor<Self>>,
        factors: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self>;

    /// The gradient of the branch and, where the branch is given, that of the scale.
    fn residual_gradients(
        branch: Option<FloatTensor<Self>>,
        scale: Option<FloatTensor<Self>>,
        factors: Option<FloatTensor<Self>>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>);
}

impl ResidualPasses for Flex {
    fn residual_sum(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: Option<FloatTensor<Self>>,
        factors: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let (scale, factors) = (scale.as_ref().map(values), factors.as_ref().map(values));
        let channels = channels_of(&map);
        let residual = Residual { scale: scale.as_deref(), factors: factors.as_deref(), channels };
        tensor_like(residual.forward(&values(&map), &values(&branch)), &map)
    }

    fn residual_gradients(
        branch: Option<FloatTensor<Self>>,
        scale: Option<FloatTensor<Self>>,
        factors: Option<FloatTensor<Self>>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        let (scales, factors) = (scale.as_ref().map(values), factors.as_ref().map(values));
        let (channels, upstream) = (channels_of(&gradient), values(&gradient));
        let residual = Residual { scale: scales.as_deref(), factors: factors.as_deref(), channels };
        let of_branch = tensor_like(residual.branch_gradient(&upstream), &gradient);
        let of_scale = scale.as_ref().zip(branch).map(|(scale, branch)| {
            tensor(residual.scale_gradient(&values(&branch), &upstream), scale.layout().shape())
        });
        (of_branch, of_scale)
    }
}

fn channels_of(map: &FloatTensor<Flex>) -> usize {
    map.shape().last().copied().unwrap_or(1)
}

impl ResidualPasses for Capture {
    fn residual_sum(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: Option<FloatTensor<Self>>,
        factors: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let form = (map.shape(), map.dtype());
        let inputs = [Some(map), Some(branch), scale, factors].into_iter().flatten().collect();
        record_scratch(RESIDUAL, inputs, vec![form], &[]).remove(0)
    }

    fn residual_gradients(
        branch: Option<FloatTensor<Self>>,
        scale: Option<FloatTensor<Self>>,
        factors: Option<FloatTensor<Self>>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        let shape = gradient.shape();
        let of_scale = scale.as_ref().filter(|_| branch.is_some()).map(|scale| (scale.shape(), DType::F32));
        let scratch: Vec<_> = of_scale.iter().map(|_| chunk_scratch(&shape)).collect();
        let forms = [Some((shape, gradient.dtype())), of_scale].into_iter().flatten().collect();
        let inputs = [branch, scale, factors, Some(gradient)].into_iter().flatten().collect();
        let mut found = record_scratch(RESIDUAL_GRADIENTS, inputs, forms, &scratch).into_iter();
        (found.next().expect("the branch has a gradient"), found.next())
    }
}
