//! A trained model's matrices in the order in which products of few rows read them fastest.

use burn::module::{Module, ParamId};
use burn::tensor::{DType, Tensor};

use crate::kernels::host::is_cpu;
use crate::{ParameterMap, map_parameters};

/// The model with its matrices laid out column by column on a CPU where that pays, and as it is elsewhere. Shapes, names and numbers stay; a matrix product
/// of few rows, such as one image gives, then needs no copy of its weight. One matrix at a time is held twice meanwhile.
///
/// Of use for prediction alone: gradients want PyTorch's order.
pub fn laid_out_for_prediction<M: Module>(model: M) -> M {
    if cpu_kernels::prefers_right_side_by_rows() { map_parameters(model, &mut ByColumns) } else { model }
}

/// Projections are the only parameters of two axes with this name.
const MATRIX: &str = ".weight";

struct ByColumns;

impl ParameterMap for ByColumns {
    fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
        let device = tensor.device();
        if D != 2 || !name.ends_with(MATRIX) || tensor.dtype() != DType::F32 || !is_cpu(&device) {
            return tensor;
        }
        Tensor::<D>::from_data(tensor.transpose().into_data(), &device).transpose()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::{Initialization, Initializer, Linear, named_parameters};

    #[test]
    fn a_layer_says_the_same_in_either_order() {
        let device = Device::flex();
        let mut init = Initializer::new(7, Initialization::default(), &device);
        for [inner, out, rows] in [[1, 1, 1], [33, 70, 5], [384, 1536, 196], [4000, 96, 49]] {
            let layer = Linear::init(inner, out, 1.0, &mut init);
            let images = Tensor::<2>::random([rows, inner], Distribution::Normal(0.0, 1.0), &device);
            let expected = layer.forward(images.clone());
            let other = map_parameters(layer.clone(), &mut ByColumns);
            let found = other.forward(images);
            // Sums of so many products of order one, in f32 and perhaps in another order.
            let allowed = 1e-6 * inner as f32;
            let off = (found - expected).abs().max().into_scalar::<f32>();
            assert!(off <= allowed, "{inner} {out} {rows}: {off}");
            let numbers = |layer: &Linear| {
                named_parameters(layer)
                    .into_iter()
                    .map(|parameter| (parameter.name, parameter.data))
                    .collect::<Vec<_>>()
            };
            assert_eq!(numbers(&other), numbers(&layer), "what is saved stays");
        }
    }
}
