//! What in a graph grows with the number of images, seen by two passes over batches of different size.

use std::collections::BTreeMap;

use burn::backend::ir::{IrVisitorMut, OperationIr, ScalarIr, TensorIr};
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
        let refused = |reason| ExportError::BatchBound { operation: name_of(first), reason };
        let [parts, others] = [first, second].map(Parts::of);
        // With the parts that may differ taken from the first, nothing else may.
        let mut rewritten = second.clone();
        rewritten.visit_mut(&mut Rewrite(parts.clone()));
        if parts.tensors.len() != others.tensors.len() || rewritten != *first {
            return Err(refused(format!("`{}` with another batch", name_of(second))));
        }
        for (tensor, other) in parts.tensors.iter().zip(&others.tensors) {
            let sizes = tensor.shape.iter().zip(other.shape.iter());
            let axes = sizes.map(|(&one, &two)| {
                let told = || refused(format!("a size is {one} of {} images and {two} of {}", BATCHES[0], BATCHES[1]));
                Axis::of([one, two]).ok_or_else(told)
            });
            self.shapes.insert(tensor.id.value(), axes.collect::<Result<_, _>>()?);
            self.seconds.insert(tensor.id.value(), other.id.value());
        }
        Ok(())
    }
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

    fn visit_scalar_mut(&mut self, _scalar: &mut ScalarIr) {}

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
