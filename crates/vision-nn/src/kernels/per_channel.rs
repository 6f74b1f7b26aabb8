//! Sums over the positions of maps for each sample and channel, and maps multiplied by a number for each: what squeeze-excite and response norm are made of
//! beside arithmetic on a few numbers.
//!
//! On CUDA and WebGPU the kernels of `cube` run them, each of which reads a map once; elsewhere they are composed of Burn's own operations. All is summed in f32.

mod composed;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
#[cfg(test)]
mod tests;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Capture, Flex, TensorMetadata};
use burn::tensor::{DType, Shape};

use super::columns::{Chunks, Columns};
use super::recorded::{Form, Scratch, notes_ours, record};

/// The names of the operations in recorded graphs.
pub(crate) const CHANNEL_SUMS: &str = "channel sums";
pub(crate) const CHANNEL_BLEND: &str = "channel blend";

/// What is summed over the positions of a map x, with a map g beside it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Summed {
    /// x.
    Cells,
    /// x².
    Squares,
    /// x, and x g.
    CellsAndProducts,
    /// x², x g, and g.
    SquaresProductsAndOther,
}

impl Summed {
    /// K.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Cells | Self::Squares => 1,
            Self::CellsAndProducts => 2,
            Self::SquaresProductsAndOther => 3,
        }
    }
}

/// A map and what its numbers are multiplied by, `[B, C]`, f32.
pub(crate) struct Weighed<B: Backend> {
    pub(crate) map: FloatTensor<B>,
    pub(crate) factors: FloatTensor<B>,
}

/// The operations on a backend.
pub(crate) trait PerChannel: Backend {
    /// # Shapes
    /// - `maps`: `[B, P, C]` each; the second is not looked at where nothing of it is summed
    /// - output: `[B, K, C]`, f32
    fn channel_sums(maps: [FloatTensor<Self>; 2], summed: Summed) -> FloatTensor<Self>;

    /// The map times its factors.
    ///
    /// # Shapes
    /// - output: `[B, P, C]`, in the type of the map
    fn weighed(map: Weighed<Self>) -> FloatTensor<Self>;

    /// The same and `shift`, f32, `[B, C]`, or `[1, C]` where it is that of all samples.
    fn weighed_and_shifted(map: Weighed<Self>, shift: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The sum of two maps times their factors.
    fn blended(first: Weighed<Self>, second: Weighed<Self>) -> FloatTensor<Self>;
}

/// Whether a card's kernels take maps of that shape, `[B, P, C]`. Samples are one axis of a launch.
pub(crate) fn cards_take(map: &Shape) -> bool {
    map.num_elements() > 0 && map[0] <= usize::from(u16::MAX)
}

/// The positions of a sample in chunks: their number does not depend on the batch, so that a plan for any batch can be made from two.
pub(crate) fn chunks_of_sums(map: &Shape) -> (Columns, Chunks) {
    /// The sums of a sample are then no more to add up than one unit of 32 does.
    const MOST: usize = 32;
    let columns = Columns::of(map[2]);
    (columns, columns.chunks(map[1], MOST))
}

pub(crate) fn sums_form(map: &Shape, summed: Summed) -> Form {
    (Shape::new([map[0], summed.count(), map[2]]), DType::F32)
}

/// What a card's kernels take beside the sums: those of each chunk.
fn sums_scratch(map: &Shape, summed: Summed) -> Scratch {
    let (_, chunks) = chunks_of_sums(map);
    Scratch::of_rows(map[0], chunks.count * summed.count() * map[2] * size_of::<f32>())
}

/// Whether a card runs its kernels over such a map: it takes it, and not all is to be in Burn's operations.
fn is_ours(map: &Shape) -> bool {
    notes_ours() && cards_take(map)
}

/// A shift as kernels read it, `[B, C]`.
fn of_each_sample<B: Backend>(shift: FloatTensor<B>, shape: Shape) -> FloatTensor<B> {
    if shift.shape() == shape { shift } else { B::float_expand(shift, shape) }
}

/// Where a card runs its kernels, they are what is recorded.
impl PerChannel for Capture {
    fn channel_sums(maps: [FloatTensor<Self>; 2], summed: Summed) -> FloatTensor<Self> {
        let shape = maps[0].shape();
        if !is_ours(&shape) {
            return composed::channel_sums::<Self>(maps, summed);
        }
        let (form, scratch) = (sums_form(&shape, summed), [sums_scratch(&shape, summed)]);
        let [map, other] = maps;
        let [sums] = match summed {
            Summed::Cells | Summed::Squares => record(CHANNEL_SUMS, [map], [form], &scratch),
            _ => record(CHANNEL_SUMS, [map, other], [form], &scratch),
        };
        sums
    }

    fn weighed(map: Weighed<Self>) -> FloatTensor<Self> {
        if !is_ours(&map.map.shape()) {
            return composed::weighed::<Self>(map);
        }
        let form = (map.map.shape(), map.map.dtype());
        let [output] = record(CHANNEL_BLEND, [map.map, map.factors], [form], &[]);
        output
    }

    fn weighed_and_shifted(map: Weighed<Self>, shift: FloatTensor<Self>) -> FloatTensor<Self> {
        if !is_ours(&map.map.shape()) {
            return composed::weighed_and_shifted::<Self>(map, shift);
        }
        let form = (map.map.shape(), map.map.dtype());
        let shift = of_each_sample::<Self>(shift, map.factors.shape());
        let [output] = record(CHANNEL_BLEND, [map.map, map.factors, shift], [form], &[]);
        output
    }

    fn blended(first: Weighed<Self>, second: Weighed<Self>) -> FloatTensor<Self> {
        if !is_ours(&first.map.shape()) {
            return composed::blended::<Self>(first, second);
        }
        let form = (first.map.shape(), first.map.dtype());
        let inputs = [first.map, first.factors, second.map, second.factors];
        let [output] = record(CHANNEL_BLEND, inputs, [form], &[]);
        output
    }
}

/// For tests: the CPU has loops for the whole operations.
impl PerChannel for Flex {
    fn channel_sums(maps: [FloatTensor<Self>; 2], summed: Summed) -> FloatTensor<Self> {
        composed::channel_sums::<Self>(maps, summed)
    }

    fn weighed(map: Weighed<Self>) -> FloatTensor<Self> {
        composed::weighed::<Self>(map)
    }

    fn weighed_and_shifted(map: Weighed<Self>, shift: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::weighed_and_shifted::<Self>(map, shift)
    }

    fn blended(first: Weighed<Self>, second: Weighed<Self>) -> FloatTensor<Self> {
        composed::blended::<Self>(first, second)
    }
}
