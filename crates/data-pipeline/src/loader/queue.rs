//! The one place where workers and the consumer meet.
//!
//! Batches move through a window: the oldest one is the next to be handed out, and a new one is opened only while fewer
//! than `prefetch_batches` are in it. Workers take single samples, oldest batch first, so that all of them help to
//! finish the batch that the consumer waits for.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::slot::{Outcome, Slot};
use super::{Batch, LoadError, lock};

/// How often a waiting consumer looks at the interrupt flag.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// A batch became ready, or the last worker left.
    batch_ready: Condvar,
    /// The window moved on, or everything stops.
    room: Condvar,
    prefetch_batches: usize,
    size: [usize; 3],
    /// Also outside the lock, for workers in the middle of a sample.
    stopped: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Batches not yet in the window.
    waiting: VecDeque<Vec<Visit>>,
    /// From the oldest on.
    window: VecDeque<Open>,
    /// Index of the batch that enters the window next.
    next_index: usize,
    workers: usize,
    /// Why a worker could not be started.
    worker_failure: Option<LoadError>,
}

#[derive(Debug)]
struct Open {
    slot: Arc<Mutex<Option<Slot>>>,
    visits: Vec<Visit>,
    /// Samples that workers have taken.
    taken: usize,
    /// What is handed out, once it is there.
    done: Option<Result<Batch, LoadError>>,
}

/// A sample in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visit {
    pub(super) sample: usize,
    /// How often the epoch has shown it before.
    pub(super) repeat: u64,
}

/// Counts how often each sample comes, over all batches of an epoch in their order.
pub(super) fn visits(batches: Vec<Vec<usize>>) -> Vec<Vec<Visit>> {
    let mut counts: HashMap<usize, u64> = HashMap::new();
    let mut visit = |sample: usize| {
        let count = counts.entry(sample).or_default();
        *count += 1;
        Visit { sample, repeat: *count - 1 }
    };
    batches.into_iter().map(|batch| batch.into_iter().map(&mut visit).collect()).collect()
}

/// One sample to load, and where it goes.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) visit: Visit,
    position: usize,
    pub(super) batch: usize,
    slot: Arc<Mutex<Option<Slot>>>,
}

impl Queue {
    /// Batches before `first_batch` count as handed out.
    pub(super) fn new(batches: Vec<Vec<usize>>, first_batch: usize, prefetch_batches: usize, size: [usize; 3]) -> Self {
        let waiting = visits(batches).into_iter().skip(first_batch).collect();
        let state =
            State { waiting, window: VecDeque::new(), next_index: first_batch, workers: 0, worker_failure: None };
        let stopped = AtomicBool::new(false);
        Self {
            state: Mutex::new(state),
            batch_ready: Condvar::new(),
            room: Condvar::new(),
            prefetch_batches,
            size,
            stopped,
        }
    }

    /// The next sample to load; waits while the window is full. `None` once there is no more to do.
    pub(super) fn take_task(&self) -> Option<Task> {
        let mut state = lock(&self.state);
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(task) = state.take_task() {
                return Some(task);
            }
            if state.waiting.is_empty() {
                return None;
            }
            if state.window.len() < self.prefetch_batches {
                state.open_next(self.size);
                // More than one sample to take: wake the others.
                self.room.notify_all();
                self.batch_ready.notify_all();
            } else {
                state = wait(&self.room, state);
            }
        }
    }

    /// Puts a loaded sample in its place. `pixels` counts where the outcome says so. Gives the slot to the worker that
    /// filled it up: a batch is finished where there is time, not where it is waited for.
    pub(super) fn place(&self, task: &Task, outcome: Outcome, pixels: &[u8]) -> Option<Slot> {
        let mut slot = lock(&task.slot);
        let is_complete = slot.as_mut().is_some_and(|slot| slot.place(task.position, outcome, pixels));
        if is_complete { slot.take() } else { None }
    }

    /// Takes a finished batch.
    pub(super) fn hand_in(&self, batch: usize, done: Result<Batch, LoadError>) {
        lock(&self.state).keep(batch, done);
        self.batch_ready.notify_all();
    }

    /// Waits for the next batch in order; `None` after the last one and after an error.
    pub(super) fn take_next(&self, interrupt: Option<&AtomicBool>) -> Option<Result<Batch, LoadError>> {
        let mut state = lock(&self.state);
        loop {
            if self.is_stopped() {
                return None;
            }
            if interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Some(Err(self.fail(state, LoadError::Interrupted)));
            }
            if let Some(done) = state.window.front_mut().and_then(|open| open.done.take()) {
                return Some(self.hand_out(state, done));
            }
            if state.window.is_empty() && state.waiting.is_empty() {
                return None;
            }
            if state.workers == 0 {
                let reason = || LoadError::NoWorkers { reason: "all of them have ended".into() };
                let error = state.worker_failure.take().unwrap_or_else(reason);
                return Some(Err(self.fail(state, error)));
            }
            state = match interrupt {
                Some(_) => wait_a_little(&self.batch_ready, state),
                None => wait(&self.batch_ready, state),
            };
        }
    }

    fn hand_out(&self, mut state: MutexGuard<'_, State>, done: Result<Batch, LoadError>) -> Result<Batch, LoadError> {
        state.window.pop_front();
        self.room.notify_all();
        drop(state);
        done.inspect_err(|_| self.stop())
    }

    fn fail(&self, state: MutexGuard<'_, State>, error: LoadError) -> LoadError {
        drop(state);
        self.stop();
        error
    }

    /// Ends everything: workers leave after the sample in hand, and there are no more batches.
    pub(super) fn stop(&self) {
        // Under the lock, so that nobody falls asleep between looking at the flag and waiting.
        let _state = lock(&self.state);
        self.stopped.store(true, Ordering::Relaxed);
        self.room.notify_all();
        self.batch_ready.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Counts a worker in, before its thread starts.
    pub(super) fn worker_enters(&self) {
        lock(&self.state).workers += 1;
    }

    /// Counts a worker out. When the last one has left, the consumer must not wait any longer.
    pub(super) fn worker_leaves(&self) {
        lock(&self.state).workers -= 1;
        self.batch_ready.notify_all();
    }

    /// Keeps the reason for the case that no worker could be started at all.
    pub(super) fn note_failure(&self, error: LoadError) {
        lock(&self.state).worker_failure = Some(error);
    }
}

impl State {
    fn take_task(&mut self) -> Option<Task> {
        let first = self.next_index - self.window.len();
        let (place, open) = self.window.iter_mut().enumerate().find(|(_, open)| open.taken < open.visits.len())?;
        let position = open.taken;
        open.taken += 1;
        Some(Task { visit: open.visits[position], position, batch: first + place, slot: Arc::clone(&open.slot) })
    }

    fn open_next(&mut self, size: [usize; 3]) {
        let Some(visits) = self.waiting.pop_front() else { return };
        let slot = Slot::new(self.next_index, visits.iter().map(|visit| visit.sample).collect(), size);
        // A batch without samples has nothing to wait for.
        let (slot, done) = if visits.is_empty() { (None, Some(slot.finish())) } else { (Some(slot), None) };
        self.window.push_back(Open { slot: Arc::new(Mutex::new(slot)), visits, taken: 0, done });
        self.next_index += 1;
    }

    fn keep(&mut self, batch: usize, done: Result<Batch, LoadError>) {
        let first = self.next_index - self.window.len();
        if let Some(open) = batch.checked_sub(first).and_then(|place| self.window.get_mut(place)) {
            open.done = Some(done);
        }
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition.wait(state).unwrap_or_else(PoisonError::into_inner)
}

fn wait_a_little<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition.wait_timeout(state, INTERRUPT_CHECK).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_that_comes_again_is_counted_over_batches() {
        let counted = visits(vec![vec![4, 4, 1], vec![], vec![4, 1, 2]]);
        let repeats: Vec<Vec<u64>> =
            counted.iter().map(|batch| batch.iter().map(|visit| visit.repeat).collect()).collect();
        assert_eq!(repeats, [vec![0, 1, 0], vec![], vec![2, 1, 0]]);
        assert_eq!(counted[0][0].sample, 4);
    }
}
