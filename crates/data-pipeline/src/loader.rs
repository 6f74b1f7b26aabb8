//! Decodes and transforms on worker threads, and hands out batches in order.

mod batch;
mod error;
mod mixing;
mod queue;
mod slot;
mod worker;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use batch::{Batch, CorruptImage, batches};
pub use error::LoadError;
pub use mixing::{MixMode, Mixing, Partner};

use crate::{Dataset, DecodeOptions, Transform};
use queue::Queue;
use worker::Work;

/// What happens at an image that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCorrupt {
    /// It is left out, and listed in [`Batch::corrupt`].
    #[default]
    Skip,
    /// The loader ends with [`LoadError::Image`].
    Fail,
}

/// How a [`Loader`] works. None of the first three changes a byte of what it yields, nor does the last one, once its steps are done.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Threads that decode; at least one is used.
    pub workers: usize,
    /// Batches that may be in the making or ready before they are asked for; at least one is.
    pub prefetch_batches: usize,
    /// Once true, the loader ends with [`LoadError::Interrupted`] within a tenth of a second, also while it waits.
    pub interrupt: Option<Arc<AtomicBool>>,
    /// What happens at an image that cannot be read.
    pub on_corrupt: OnCorrupt,
    /// Images with more pixels cannot be read.
    pub max_pixels: u64,
    /// Of the run: part of every sample's key.
    pub seed: u64,
    /// Part of every sample's key.
    pub epoch: u64,
    /// The batch to begin with, to go on in the middle of an epoch: nothing of the ones before it is read, and the rest is
    /// what it would have been.
    pub first_batch: usize,
    /// Whether jpegs much larger than needed are decoded at 1/2, 1/4 or 1/8 of their size, as
    /// [`Transform::decode_reduction`] allows: faster, and almost the same pixels.
    pub decode_scaling: bool,
    /// How images of a batch are mixed with each other, after they were transformed.
    pub mixing: Mixing,
    /// Whether the last steps of augmentation are left to whoever makes numbers of the pixels: turns and flips, erasing, and mixing. [`Batch::last_steps`]
    /// tells them then, and [`Batch::finished`] does them, to the bytes that a loader yields which leaves none.
    pub leaves_last_steps: bool,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            prefetch_batches: 2,
            interrupt: None,
            on_corrupt: OnCorrupt::Skip,
            max_pixels: DecodeOptions::default().max_pixels,
            seed: 0,
            epoch: 0,
            first_batch: 0,
            decode_scaling: false,
            mixing: Mixing::default(),
            leaves_last_steps: false,
        }
    }
}

/// An iterator over batches, strictly in the order asked for, whatever the workers do first. After an error it ends.
///
/// Dropping it stops the workers and waits for them: at most for the image that each has in hand.
#[derive(Debug)]
pub struct Loader {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    interrupt: Option<Arc<AtomicBool>>,
    waited: Duration,
    bytes_bound: u64,
}

impl Loader {
    /// Starts the workers. `batches` lists indices into the data set for a whole epoch; see [`batches()`] and
    /// [`crate::Sampling`]. A sample that comes again is transformed anew.
    #[must_use]
    pub fn new(
        dataset: Arc<Dataset>,
        batches: Vec<Vec<usize>>,
        transform: Arc<dyn Transform>,
        options: LoaderOptions,
    ) -> Self {
        let size = transform.output_size();
        let prefetch_batches = options.prefetch_batches.max(1);
        let largest = batches.iter().map(Vec::len).max().unwrap_or(0) as u64;
        let sample_bytes = size.iter().map(|&side| side as u64).product::<u64>();
        let workers = options.workers.max(1);
        let bytes_bound = (largest * (prefetch_batches as u64 + 1) + workers as u64).saturating_mul(sample_bytes);
        let queue = Arc::new(Queue::new(batches, options.first_batch, prefetch_batches, size));
        let interrupt = options.interrupt.clone();
        let work = Arc::new(Work::new(dataset, transform, options));
        let workers = worker::start(workers, &queue, &work);
        Self { queue, workers, interrupt, waited: Duration::ZERO, bytes_bound }
    }

    /// How long [`Iterator::next`] has been waiting for workers so far, in seconds.
    #[must_use]
    pub fn wait_seconds(&self) -> f64 {
        self.waited.as_secs_f64()
    }

    /// The most that batches can take at a time, in bytes: those in the queue, the one handed out last, and one sample
    /// a worker. Images while they are decoded come on top.
    #[must_use]
    pub fn buffered_bytes(&self) -> u64 {
        self.bytes_bound
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let next = self.queue.take_next(self.interrupt.as_deref());
        self.waited += start.elapsed();
        next
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queue.stop();
        for worker in self.workers.drain(..) {
            // A worker catches its panics; should one still die, there is nothing left to do for it here.
            let _ = worker.join();
        }
    }
}

/// Locks also after a panic elsewhere: each critical section here leaves its data whole.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
