//! The passes on CubeCL devices: kernels of ours.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;

use super::passes::ResidualPasses;
use crate::kernels::cube::many::launch;
use crate::kernels::cube::residual::{Gradients, Sum};

impl<R: CubeRuntime> ResidualPasses for Fusion<CubeBackend<R>> {
    fn residual_sum(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: Option<FloatTensor<Self>>,
        factors: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let sum = Sum { has_scale: scale.is_some(), has_factors: factors.is_some() };
        let inputs = [Some(map), Some(branch), scale, factors].into_iter().flatten().collect();
        launch(sum, inputs).remove(0)
    }

    fn residual_gradients(
        branch: Option<FloatTensor<Self>>,
        scale: Option<FloatTensor<Self>>,
        factors: Option<FloatTensor<Self>>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        let given = Gradients {
            has_branch: branch.is_some() && scale.is_some(),
            has_scale: scale.is_some(),
            has_factors: factors.is_some(),
        };
        let branch = branch.filter(|_| given.has_branch);
        let inputs = [branch, scale, factors, Some(gradient)].into_iter().flatten().collect();
        let mut found = launch(given, inputs).into_iter();
        (found.next().expect("the branch has a gradient"), found.next())
    }
}
