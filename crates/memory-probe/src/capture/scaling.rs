//! One recording for all batch sizes: every buffer's size is a line in the batch, so that two recordings give it for any.

use std::cell::RefCell;
use std::collections::HashMap;

use burn::tensor::Device;
use memory_planner::Trace;
use vision_nn::{Classifier, Scratch};

use super::AllocatorModel;
use super::allocator::{Event, replay};
use super::recording;
use super::trace::{LaidOut, events_of, trace_of};
use crate::StepRequest;

/// Pairs of batch sizes to record, until two of a pair do the same. Primes: an axis of length one, or a batch that happens to be as long as an axis
/// of the model, lets buffers be shared that otherwise are not.
const PAIRS: [[usize; 2]; 4] = [[17, 23], [29, 37], [41, 53], [61, 71]];

/// What happens to memory in a step, for any batch size.
pub(super) struct ScalableStep {
    batches: [usize; 2],
    events: [Vec<Event>; 2],
    trace: Trace,
    /// Answers so far: a plan asks the same more than once.
    reserved: RefCell<HashMap<(usize, AllocatorModel), Option<u64>>>,
}

impl ScalableStep {
    /// Records a step of the model that `build` makes.
    pub(super) fn record<M: Classifier>(request: &StepRequest, build: &dyn Fn(&Device) -> M) -> Self {
        let record = |batch| recording::record(request, batch, build);
        let mut found = None;
        for batches in PAIRS {
            let [small, large] = batches.map(record);
            let laid_out = LaidOut::of(&small);
            let events = [events_of(&small, &laid_out), events_of(&large, &LaidOut::of(&large))];
            let alike = are_alike(&events[0], &events[1]);
            found = Some(Self { batches, events, trace: trace_of(&small, &laid_out), reserved: RefCell::default() });
            if alike {
                break;
            }
        }
        // Where no pair is alike, the last one stands: sizes still follow the batch where events do.
        found.expect("there is at least one pair")
    }

    /// The step at the smaller of the recorded batches.
    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The most bytes reserved, from the first parameter to the end of the step; `None` when one buffer is more than the device gives at once.
    pub(super) fn reserved_bytes(&self, batch: usize, allocator: AllocatorModel) -> Option<u64> {
        let [small, large] = &self.events;
        let replayed = || replay(allocator, small.iter().zip(large).map(|pair| self.at(batch, pair)));
        *self.reserved.borrow_mut().entry((batch, allocator)).or_insert_with(replayed)
    }

    /// An event at another batch size than the two recorded.
    fn at(&self, batch: usize, pair: (&Event, &Event)) -> Event {
        match pair {
            (
                &Event::Allocate { buffer, bytes, padded_bytes, is_parameter },
                &Event::Allocate { bytes: more, padded_bytes: more_padded, .. },
            ) => Event::Allocate {
                buffer,
                bytes: self.bytes_at(batch, bytes, more),
                padded_bytes: self.bytes_at(batch, padded_bytes, more_padded),
                is_parameter,
            },
            (&Event::Scratch { buffer, piece }, &Event::Scratch { piece: more, .. }) => {
                let rows = self.bytes_at(batch, piece.rows, more.rows);
                Event::Scratch { buffer, piece: Scratch { rows, ..piece } }
            }
            (event, _) => *event,
        }
    }

    /// What is of such sizes at the two recorded batch sizes.
    fn bytes_at(&self, batch: usize, bytes: u64, more: u64) -> u64 {
        if bytes == more {
            return bytes;
        }
        let [from, to] = self.batches.map(|recorded| recorded as i128);
        let (bytes, more) = (i128::from(bytes), i128::from(more));
        let scaled = bytes + (more - bytes) * (batch as i128 - from) / (to - from);
        u64::try_from(scaled.max(1)).unwrap_or(u64::MAX)
    }
}

/// Whether two recordings do the same to the same buffers, whatever the sizes.
fn are_alike(small: &[Event], large: &[Event]) -> bool {
    let is_alike = |(one, other): (&Event, &Event)| match (*one, *other) {
        (Event::Allocate { buffer, .. }, Event::Allocate { buffer: same, .. }) => buffer == same,
        (Event::Scratch { buffer, .. }, Event::Scratch { buffer: same, .. })
        | (Event::Free { buffer }, Event::Free { buffer: same }) => buffer == same,
        _ => false,
    };
    small.len() == large.len() && small.iter().zip(large).all(is_alike)
}
