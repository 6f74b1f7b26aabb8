//! The passes on CubeCL devices: kernels of ours.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;

use super::passes::{ResidualPasses, split};
use crate::kernels::cube::many::launch;
use crate::kernels::cube::residual::{Gradients, Sum};

impl<R: CubeRuntime> ResidualPasses for Fusion<CubeBackend<R>> {
    fn residual_sum(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: Option<[FloatTensor<Self>; 2]>,
        factors: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let sum = Sum { has_scale: scale.is_some(), has_factors: factors.is_some() };
        let inputs = [map, branch].into_iter().chain(scale.into_iter().flatten()).chain(factors).collect();
        launch(sum, inputs).remove(0)
    }

    fn residual_gradients(
        branch: Option<FloatTensor<Self>>,
        scale: Option<[FloatTensor<Self>; 2]>,
        factors: Option<FloatTensor<Self>>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Option<[FloatTensor<Self>; 2]>) {
        let given = Gradients {
            has_branch: branch.is_some() && scale.is_some(),
            has_scale: scale.is_some(),
            has_factors: factors.is_some(),
        };
        let branch = branch.filter(|_| given.has_branch);
        let inputs = branch.into_iter().chain(scale.into_iter().flatten()).chain(factors).chain([gradient]).collect();
        split(launch(given, inputs))
    }
}
