//! The operations on CubeCL devices: their own kernels, or Burn's operations for maps that those do not take.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;

use super::{PerChannel, Summed, Weighed, composed, is_ours, of_each_sample};
use crate::kernels::cube::launch;
use crate::kernels::cube::per_channel::{Blend, Shift, Sums, Weigh};

impl<R: CubeRuntime> PerChannel for Fusion<CubeBackend<R>> {
    fn channel_sums(maps: [FloatTensor<Self>; 2], summed: Summed) -> FloatTensor<Self> {
        if !is_ours(&maps[0].shape) {
            return composed::channel_sums::<Self>(maps, summed);
        }
        let [map, other] = maps;
        let [sums] = match summed {
            Summed::Cells | Summed::Squares => launch(Sums(summed), [map]),
            _ => launch(Sums(summed), [map, other]),
        };
        sums
    }

    fn weighed(map: Weighed<Self>) -> FloatTensor<Self> {
        if !is_ours(&map.map.shape) {
            return composed::weighed::<Self>(map);
        }
        let [output] = launch(Weigh, [map.map, map.factors]);
        output
    }

    fn weighed_and_shifted(map: Weighed<Self>, shift: FloatTensor<Self>) -> FloatTensor<Self> {
        if !is_ours(&map.map.shape) {
            return composed::weighed_and_shifted::<Self>(map, shift);
        }
        let shift = of_each_sample::<Self>(shift, map.factors.shape.clone());
        let [output] = launch(Shift, [map.map, map.factors, shift]);
        output
    }

    fn blended(first: Weighed<Self>, second: Weighed<Self>) -> FloatTensor<Self> {
        if !is_ours(&first.map.shape) {
            return composed::blended::<Self>(first, second);
        }
        let [output] = launch(Blend, [first.map, first.factors, second.map, second.factors]);
        output
    }
}
