//! What every trace must hold before it is analysed.

use thiserror::Error;

use super::{Born, Trace, TracedTensor};

/// Why a trace contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TraceError {
    /// Nothing runs.
    #[error("the trace has no operation")]
    NoOperation,
    /// The first layer is the place of what is outside the model.
    #[error("the first layer of the trace is {}, but must have the empty name", in_words(.found))]
    FirstLayerNamed {
        /// Its name, if there is any layer.
        found: Option<String>,
    },
    /// A tensor names a layer that there is not.
    #[error("tensor {tensor} is of layer {layer}, but the trace has {layers} layers")]
    TensorLayer {
        /// Its index.
        tensor: usize,
        /// The layer that it names.
        layer: u32,
        /// How many there are.
        layers: usize,
    },
    /// An operation names a layer that there is not.
    #[error("operation {operation} is of layer {layer}, but the trace has {layers} layers")]
    OperationLayer {
        /// Its index.
        operation: usize,
        /// The layer that it names.
        layer: u32,
        /// How many there are.
        layers: usize,
    },
    /// A tensor is born at an operation that there is not.
    #[error("tensor {tensor} is born at operation {operation}, but the trace has {operations} operations")]
    BornOutside {
        /// Its index.
        tensor: usize,
        /// The operation that it names.
        operation: usize,
        /// How many there are.
        operations: usize,
    },
    /// A tensor dies at an operation that there is not.
    #[error("tensor {tensor} dies at operation {operation}, but the trace has {operations} operations")]
    DiesOutside {
        /// Its index.
        tensor: usize,
        /// The operation that it names.
        operation: usize,
        /// How many there are.
        operations: usize,
    },
    /// A tensor ends before it begins.
    #[error("tensor {tensor} dies at operation {dies}, but is born at operation {born}")]
    DiesBeforeBorn {
        /// Its index.
        tensor: usize,
        /// The operation that makes it.
        born: usize,
        /// The operation that it names as the last.
        dies: usize,
    },
    /// All sizes together are no number of bytes.
    #[error("the buffers of the trace hold more than 16 EiB")]
    TooLarge,
}

impl TraceError {
    /// A way out, where there is one: none of these can be mended by settings.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        None
    }
}

fn in_words(name: &Option<String>) -> String {
    name.as_ref().map_or_else(|| "missing".to_owned(), |name| format!("`{name}`"))
}

impl Trace {
    /// Whether the trace can be analysed: indices in range, lives in order, sizes that sum to a number of bytes.
    ///
    /// # Errors
    /// The first [`TraceError`] found.
    pub fn check(&self) -> Result<(), TraceError> {
        if self.operations.is_empty() {
            return Err(TraceError::NoOperation);
        }
        match self.layers.first() {
            Some(name) if name.is_empty() => {}
            first => return Err(TraceError::FirstLayerNamed { found: first.cloned() }),
        }
        let layers = self.layers.len();
        for (operation, traced) in self.operations.iter().enumerate() {
            if traced.layer as usize >= layers {
                return Err(TraceError::OperationLayer { operation, layer: traced.layer, layers });
            }
        }
        for (index, tensor) in self.tensors.iter().enumerate() {
            self.check_tensor(index, tensor)?;
        }
        self.check_sizes()
    }

    fn check_tensor(&self, index: usize, tensor: &TracedTensor) -> Result<(), TraceError> {
        let (layers, operations) = (self.layers.len(), self.operations.len());
        if tensor.layer as usize >= layers {
            return Err(TraceError::TensorLayer { tensor: index, layer: tensor.layer, layers });
        }
        match (tensor.born, tensor.dies) {
            (Born::At(operation), _) if operation >= operations => {
                Err(TraceError::BornOutside { tensor: index, operation, operations })
            }
            (_, Some(operation)) if operation >= operations => {
                Err(TraceError::DiesOutside { tensor: index, operation, operations })
            }
            (Born::At(born), Some(dies)) if dies < born => {
                Err(TraceError::DiesBeforeBorn { tensor: index, born, dies })
            }
            _ => Ok(()),
        }
    }

    /// No moment holds more than all buffers and the largest workspace: sums of any part then need no check.
    fn check_sizes(&self) -> Result<(), TraceError> {
        let workspace = self.operations.iter().map(|operation| operation.workspace_bytes).max().unwrap_or(0);
        let sum = self.tensors.iter().try_fold(workspace, |sum, tensor| sum.checked_add(tensor.bytes));
        sum.map(|_| ()).ok_or(TraceError::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Phase, Role, TracedOperation};

    fn trace(born: Born, dies: Option<usize>) -> Trace {
        let operation =
            TracedOperation { kind: "matmul".to_owned(), phase: Phase::Forward, layer: 0, workspace_bytes: 0 };
        let tensor =
            TracedTensor { bytes: 8, role: Role::Transient, layer: 0, born, dies, shape: vec![2], element_bytes: 4 };
        Trace { tensors: vec![tensor], operations: vec![operation; 3], layers: vec![String::new()] }
    }

    #[test]
    fn lives_within_the_step_are_accepted() {
        for (born, dies) in
            [(Born::BeforeStep, None), (Born::BeforeStep, Some(0)), (Born::At(2), Some(2)), (Born::At(0), None)]
        {
            assert_eq!(trace(born, dies).check(), Ok(()));
        }
    }

    #[test]
    fn lives_outside_the_step_are_refused_with_their_numbers() {
        let cases = [
            (Born::At(3), None, "tensor 0 is born at operation 3, but the trace has 3 operations"),
            (Born::BeforeStep, Some(3), "tensor 0 dies at operation 3, but the trace has 3 operations"),
            (Born::At(2), Some(1), "tensor 0 dies at operation 1, but is born at operation 2"),
        ];
        for (born, dies, message) in cases {
            assert_eq!(trace(born, dies).check().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn layers_that_there_are_not_are_refused() {
        let good = trace(Born::At(0), None);
        let mut bad = good.clone();
        bad.tensors[0].layer = 1;
        assert_eq!(bad.check(), Err(TraceError::TensorLayer { tensor: 0, layer: 1, layers: 1 }));
        let mut bad = good.clone();
        bad.operations[2].layer = 7;
        assert_eq!(bad.check(), Err(TraceError::OperationLayer { operation: 2, layer: 7, layers: 1 }));
        let unnamed = Trace { layers: Vec::new(), ..good.clone() };
        assert!(unnamed.check().unwrap_err().to_string().contains("is missing"));
        let named = Trace { layers: vec!["stem".to_owned()], ..good };
        assert!(named.check().unwrap_err().to_string().contains("is `stem`"));
    }

    #[test]
    fn sizes_that_no_memory_has_are_refused() {
        let mut huge = trace(Born::At(0), None);
        huge.tensors.push(TracedTensor { bytes: u64::MAX, ..huge.tensors[0].clone() });
        assert_eq!(huge.check(), Err(TraceError::TooLarge));
        assert_eq!(Trace { operations: Vec::new(), ..huge }.check(), Err(TraceError::NoOperation));
    }
}
