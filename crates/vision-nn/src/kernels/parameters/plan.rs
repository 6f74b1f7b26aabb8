//! What the passes of a card make of lists of tensors, known without a card.

use burn::tensor::{DType, Shape};

use crate::kernels::recorded::Form;

/// The names of the passes in the queue of a card and in recorded graphs.
pub(crate) const ADAMW: &str = "adamw";
pub(crate) const SGD: &str = "sgd";
pub(crate) const SQUARES: &str = "squares";
pub(crate) const BLEND: &str = "blend";
pub(crate) const SCALE: &str = "scale";
pub(crate) const CAST: &str = "cast";

/// Numbers of a cube: sixteen a unit, so that a launch over 30 million parameters has some 7000 cubes.
pub(crate) const CHUNK: usize = 4096;

/// The inputs that an optimizer's step writes over, of `inputs` in all: weights, what the rule keeps and averages of so many parameters. The gradients
/// stand second, and are read.
pub(crate) fn moved_by_step(parameters: usize, inputs: usize) -> Vec<usize> {
    (0..parameters).chain(2 * parameters..inputs).collect()
}

/// A sum of squares for each cube, of tensors of so many elements.
pub(crate) fn sums_of_squares(elements: impl Iterator<Item = usize>) -> Form {
    (Shape::new([elements.map(|count| count.div_ceil(CHUNK)).sum::<usize>()]), DType::F32)
}
