//! What in a graph grows with the number of images, seen by two passes over batches of different size.

use std::collections::BTreeMap;

use burn::backend::ir::{IrVisitorMut, OperationIr, TensorIr};
use burn::tensor::Slice;

use crate::ExportError;

/// Sizes of the batches of the two passes: neither is one, which a broadcast would hide, and neither divides the other.
pub(crate) const BATCHES: [usize; 2] = [2, 3];

/// The size of a tensor along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    /// The same for every batch.
    Fixed(usize),
    /// So much for each image.
    PerImage(usize),
}

impl Axis {
    fn of(sizes: [usize; 2]) -> Option<Self> {
        let [first, second] = sizes;
        match first == second {
            true => Some(Self::Fixed(first)),
            false if first * BATCHES[1] == second * BATCHES[0] => Some(Self::PerImage(first / BATCHES[0])),
            false => None,
        }
    }

    pub(crate) fn is_per_image(self) -> bool {
        matches!(self, Self::PerImage(_))
    }
}

/// Shapes by the number that a tensor has in the first pass, and of each its number in the second.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    pub(crate) shapes: BTreeMap<u64, Vec<Axis>>,
    pub(crate) seconds: BTreeMap<u64, u64>,
}

impl Aligned {
    /// Lays the second pass beside the first, operation by operation: but for sizes that grow with the batch they must be the same.
    pub(crate) fn of(first: &[OperationIr], second: &[OperationIr]) -> Result<Self, ExportError> {
        let mut aligned = Self::default();
        if first.len() != second.len() {
            let (operation, reason) = ("forward", format!("{} steps or {}", first.len(), second.len()));
            return Err(ExportError::BatchBound { operation: operation.to_owned(), reason });
        }
        for (first, second) in first.iter().zip(second) {
            aligned.add(first, second)?;
        }
        Ok(aligned)
    }

    fn add(&mut self, first: &OperationIr, second: &OperationIr) -> Result<(), ExportError> {
        let refused = |reason: String| ExportError::BatchBound { operation: name_of(first), reason };
        let [parts, others] = [first, second].map(Parts::of);
        // With the parts that may differ taken from the first, nothing else may.
        let mut rewritten = second.clone();
        rewritten.visit_mut(&mut Rewrite(parts.clone()));
        if parts.tensors.len() != others.tensors.len() || rewritten != *first {
            let other = match name_of(second) {
                same if same == name_of(first) => "its numbers are others for another batch".to_owned(),
                other => format!("it is `{other}` for another batch"),
            };
            return Err(refused(other));
        }
        for (tensor, other) in parts.tensors.iter().zip(&others.tensors) {
            let axes = axes(tensor, other).ok_or_else(|| {
                refused(format!("a tensor is {} in one batch and {} in another", tensor.shape, other.shape))
            })?;
            let (number, second) = (tensor.id.value(), other.id.value());
            self.shapes.insert(number, axes);
            if self.seconds.insert(number, second).is_some_and(|known| known != second) {
                return Err(refused("it reads another tensor for another batch".to_owned()));
            }
        }
        Ok(())
    }
}

/// The shape of a tensor that is `first` in one pass and `second` in the other.
fn axes(first: &TensorIr, second: &TensorIr) -> Option<Vec<Axis>> {
    if first.shape.num_dims() != second.shape.num_dims() || first.dtype != second.dtype {
        return None;
    }
    first.shape.iter().zip(second.shape.iter()).map(|(&first, &second)| Axis::of([first, second])).collect()
}

/// What of an operation may be another in another pass.
#[derive(Clone, Default)]
struct Parts {
    tensors: Vec<TensorIr>,
    ranges: Vec<Slice>,
}

impl Parts {
    fn of(operation: &OperationIr) -> Self {
        let mut parts = Self::default();
        operation.clone().visit_mut(&mut parts);
        parts
    }
}

impl IrVisitorMut for Parts {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        self.tensors.push(tensor.clone());
    }

    fn visit_range_mut(&mut self, range: &mut Slice) {
        self.ranges.push(*range);
    }
}

/// Puts parts in, in the order in which they were taken out.
struct Rewrite(Parts);

impl IrVisitorMut for Rewrite {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        if !self.0.tensors.is_empty() {
            *tensor = self.0.tensors.remove(0);
        }
    }

    fn visit_range_mut(&mut self, range: &mut Slice) {
        if !self.0.ranges.is_empty() {
            *range = self.0.ranges.remove(0);
        }
    }
}

/// What Burn calls the operation, without its group: `Slice`, not `BaseFloat(Slice(..))`.
pub(crate) fn name_of(operation: &OperationIr) -> String {
    let text = format!("{operation:?}");
    let words = text.split('(').map(|part| part.rsplit([' ', ',']).next().unwrap_or(part));
    let mut words = words.take_while(|word| word.chars().all(char::is_alphanumeric) && !word.is_empty());
    let (group, operation) = (words.next(), words.next());
    operation.or(group).unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use burn::backend::ir::{BaseOperationIr, BinaryOpIr, CatOpIr, NumericOperationIr, ScalarIr, ScalarOpIr, TensorId};
    use burn::tensor::{DType, Shape};

    use super::*;

    fn tensor(number: u64, batch: usize) -> TensorIr {
        TensorIr::uninit(TensorId::new(number), Shape::new([batch, 4]), DType::F32)
    }

    fn difference(numbers: [u64; 3], batch: usize) -> OperationIr {
        let [lhs, rhs, out] = numbers.map(|number| tensor(number, batch));
        OperationIr::NumericFloat(DType::F32, NumericOperationIr::Sub(BinaryOpIr { lhs, rhs, out }))
    }

    #[test]
    fn sizes_that_grow_with_the_batch_are_told_from_fixed_ones() {
        assert_eq!(Axis::of([4, 4]), Some(Axis::Fixed(4)));
        assert_eq!(Axis::of([98, 147]), Some(Axis::PerImage(49)));
        assert_eq!(Axis::of([3, 4]), None, "one more than the batch");
        let aligned = Aligned::of(&[difference([1, 2, 3], 2)], &[difference([11, 12, 13], 3)]).unwrap();
        assert_eq!(aligned.shapes[&3], [Axis::PerImage(1), Axis::Fixed(4)]);
        assert_eq!(aligned.seconds[&2], 12);
    }

    #[test]
    fn operands_that_change_places_are_noticed() {
        let first = [difference([1, 2, 3], 2), difference([1, 2, 4], 2)];
        let second = [difference([11, 12, 13], 3), difference([12, 11, 14], 3)];
        assert!(matches!(Aligned::of(&first, &second), Err(ExportError::BatchBound { .. })));
    }

    #[test]
    fn operations_have_the_names_that_burn_gives_them() {
        let scaled = ScalarOpIr { lhs: tensor(1, 2), rhs: ScalarIr::Float(2.0), out: tensor(2, 2) };
        assert_eq!(name_of(&OperationIr::NumericFloat(DType::F32, NumericOperationIr::MulScalar(scaled))), "MulScalar");
        let parts = vec![tensor(1, 2), tensor(2, 2)];
        let joined = CatOpIr { tensors: parts, dim: 0, out: tensor(3, 4) };
        assert_eq!(name_of(&OperationIr::BaseFloat(BaseOperationIr::Cat(joined))), "Cat");
        assert_eq!(name_of(&OperationIr::Drop(tensor(1, 2))), "Drop");
    }
}
