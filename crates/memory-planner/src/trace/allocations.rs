//! What an allocator sees of a step.

use serde::{Deserialize, Serialize};

use super::{Born, Trace, TraceError};

/// Something that an allocator is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocationEvent {
    /// A new buffer.
    Allocate {
        /// Its identity: the index of its tensor, or, for the workspace of operation `i`, the number of tensors plus `i`.
        id: usize,
        /// Its size.
        bytes: u64,
    },
    /// The end of a buffer.
    Free {
        /// Its identity.
        id: usize,
    },
}

impl Trace {
    /// The buffers as an allocator is asked for them, in order: what is there before the step (state by role, then the
    /// input), then at each operation its outputs, and after it what dies. Kernels' workspace is left out.
    ///
    /// # Errors
    /// A [`TraceError`] when the trace contradicts itself.
    pub fn allocations(&self) -> Result<Vec<AllocationEvent>, TraceError> {
        self.events(false)
    }

    /// As [`Trace::allocations`], with the workspace of each operation taken after its outputs and freed before what
    /// dies. An allocator that serves kernels' scratch from the same pools sees this.
    ///
    /// # Errors
    /// A [`TraceError`] when the trace contradicts itself.
    pub fn allocations_with_workspace(&self) -> Result<Vec<AllocationEvent>, TraceError> {
        self.events(true)
    }

    fn events(&self, with_workspace: bool) -> Result<Vec<AllocationEvent>, TraceError> {
        self.check()?;
        let mut events = Vec::with_capacity(2 * self.tensors.len());
        let allocate = |id: usize| AllocationEvent::Allocate { id, bytes: self.tensors[id].bytes };
        let (before, births, deaths) = self.lives_by_operation();
        events.extend(before.into_iter().map(allocate));
        for (index, operation) in self.operations.iter().enumerate() {
            events.extend(births[index].iter().map(|&id| allocate(id)));
            if with_workspace && operation.workspace_bytes > 0 {
                let id = self.tensors.len() + index;
                events.push(AllocationEvent::Allocate { id, bytes: operation.workspace_bytes });
                events.push(AllocationEvent::Free { id });
            }
            events.extend(deaths[index].iter().map(|&id| AllocationEvent::Free { id }));
        }
        Ok(events)
    }

    /// Indices of the tensors that are there before the step, by role, and of those born and dying at each operation.
    fn lives_by_operation(&self) -> (Vec<usize>, Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let mut before = Vec::new();
        let mut births = vec![Vec::new(); self.operations.len()];
        let mut deaths = births.clone();
        for (id, tensor) in self.tensors.iter().enumerate() {
            match tensor.born {
                Born::BeforeStep => before.push(id),
                Born::At(operation) => births[operation].push(id),
            }
            if let Some(operation) = tensor.dies {
                deaths[operation].push(id);
            }
        }
        before.sort_by_key(|&id| self.tensors[id].role); // stable: the order of recording within a role
        (before, births, deaths)
    }
}

#[cfg(test)]
mod tests {
    use super::AllocationEvent::{Allocate, Free};
    use super::*;
    use crate::trace::{Phase, Role, TracedOperation, TracedTensor};

    fn tensor(bytes: u64, role: Role, born: Born, dies: Option<usize>) -> TracedTensor {
        TracedTensor { bytes, role, layer: 0, born, dies, shape: vec![bytes as usize], element_bytes: 1 }
    }

    #[test]
    fn state_comes_first_and_the_dead_go_after_the_outputs_came() {
        let operation = |workspace_bytes| TracedOperation {
            kind: "matmul".to_owned(),
            phase: Phase::Forward,
            layer: 0,
            workspace_bytes,
        };
        let trace = Trace {
            tensors: vec![
                tensor(3, Role::Input, Born::BeforeStep, Some(0)),
                tensor(5, Role::Weight, Born::BeforeStep, None),
                tensor(7, Role::Transient, Born::At(0), Some(1)),
            ],
            operations: vec![operation(11), operation(0)],
            layers: vec![String::new()],
        };
        let [weight, input, output] =
            [Allocate { id: 1, bytes: 5 }, Allocate { id: 0, bytes: 3 }, Allocate { id: 2, bytes: 7 }];
        assert_eq!(trace.allocations().unwrap(), [weight, input, output, Free { id: 0 }, Free { id: 2 }]);
        let scratch = [Allocate { id: 3, bytes: 11 }, Free { id: 3 }];
        let with_workspace = [weight, input, output, scratch[0], scratch[1], Free { id: 0 }, Free { id: 2 }];
        assert_eq!(trace.allocations_with_workspace().unwrap(), with_workspace);
    }
}
