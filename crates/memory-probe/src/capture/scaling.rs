//! One recording for all batch sizes: every buffer's size is a line in the batch, so that two recordings give it for any.

use burn::tensor::Device;
use memory_planner::Trace;
use vision_nn::Classifier;

use super::AllocatorModel;
use super::allocator::{Event, replay};
use super::{recording, trace};
use crate::StepRequest;

/// The two batch sizes that are recorded. Larger than one, for an axis of length one lets operations be told apart that otherwise are not,
/// and without a common factor that an image or a layer would have.
const RECORDED: [usize; 2] = [17, 23];

/// What happens to memory in a step, for any batch size.
pub(super) struct ScalableStep {
    small: Vec<Event>,
    large: Vec<Event>,
    trace: Trace,
}

impl ScalableStep {
    /// Records a step of the model that `build` makes.
    ///
    /// # Panics
    /// When the model does other operations for another batch size: no classifier of ours does.
    pub(super) fn record<M: Classifier>(request: &StepRequest, build: &dyn Fn(&Device) -> M) -> Self {
        let [small, large] = RECORDED.map(|batch| recording::record(request, batch, build));
        let step =
            Self { small: trace::events_of(&small), large: trace::events_of(&large), trace: trace::trace_of(&small) };
        assert!(step.small.len() == step.large.len(), "a model does the same whatever the batch");
        step
    }

    /// The step at the smaller of the recorded batches.
    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The most bytes reserved, from the first parameter to the end of the step; `None` when one buffer is more than the device gives at once.
    pub(super) fn reserved_bytes(&self, batch: usize, allocator: AllocatorModel) -> Option<u64> {
        let events: Vec<Event> =
            self.small.iter().zip(&self.large).map(|(small, large)| at(batch, small, large)).collect();
        replay(allocator, &events).ok()
    }
}

/// An event at another batch size than the two recorded.
fn at(batch: usize, small: &Event, large: &Event) -> Event {
    let (Event::Allocate { buffer, bytes, is_parameter }, Event::Allocate { bytes: more, .. }) = (*small, *large)
    else {
        return *small;
    };
    let [from, to] = RECORDED.map(|recorded| recorded as i128);
    let (bytes, more) = (i128::from(bytes), i128::from(more));
    let scaled = bytes + (more - bytes) * (batch as i128 - from) / (to - from);
    Event::Allocate { buffer, bytes: u64::try_from(scaled.max(1)).unwrap_or(u64::MAX), is_parameter }
}
