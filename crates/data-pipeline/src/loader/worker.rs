//! One thread that loads samples until there are none left.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::queue::{Queue, Visit};
use super::slot::{Outcome, Slot};
use super::{Batch, CorruptImage, LoadError, LoaderOptions, OnCorrupt};
use crate::decode::{Caller, decode_for};
use crate::{Dataset, DecodeError, DecodeOptions, LastSteps, RasterImage, Sample, SampleKey, Transform};

/// All that a sample is made from.
pub(super) struct Work {
    dataset: Arc<Dataset>,
    transform: Arc<dyn Transform>,
    options: LoaderOptions,
    decode: DecodeOptions,
}

/// Starts as many threads as the system gives; the queue tells the consumer when there is none.
pub(super) fn start(workers: usize, queue: &Arc<Queue>, work: &Arc<Work>) -> Vec<JoinHandle<()>> {
    let mut threads = Vec::with_capacity(workers);
    for index in 0..workers {
        queue.worker_enters();
        let presence = Presence(Arc::clone(queue));
        let work = Arc::clone(work);
        let run = move || work.run(&presence.0);
        match Builder::new().name(format!("loader-{index}")).spawn(run) {
            Ok(thread) => threads.push(thread),
            // The closure, and the presence in it, is gone by now.
            Err(error) => queue.note_failure(LoadError::NoWorkers { reason: error.to_string() }),
        }
    }
    threads
}

/// Counts the worker out however its thread ends.
struct Presence(Arc<Queue>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.worker_leaves();
    }
}

impl Work {
    pub(super) fn new(dataset: Arc<Dataset>, transform: Arc<dyn Transform>, options: LoaderOptions) -> Self {
        let decode = DecodeOptions { channels: transform.channels(), max_pixels: options.max_pixels };
        Self { dataset, transform, options, decode }
    }

    fn run(&self, queue: &Queue) {
        let mut scratch = vec![0; self.transform.output_size().iter().product()];
        while let Some(task) = queue.take_task() {
            let outcome = self.load(task.visit, queue, &mut scratch);
            if let Some(slot) = queue.place(&task, outcome, &scratch) {
                queue.hand_in(task.batch, self.finish(slot));
            }
        }
    }

    fn finish(&self, slot: Slot) -> Result<Batch, LoadError> {
        let mut batch = slot.finish()?;
        if !self.options.leaves_last_steps {
            batch.last_steps = Vec::new();
        }
        self.options.mixing.mix(&mut batch, self.options.seed, self.options.epoch);
        if batch.last_steps.iter().all(|steps| *steps == LastSteps::default()) {
            batch.last_steps = Vec::new();
        }
        Ok(batch)
    }

    /// The last steps that are left to do to the pixels.
    fn transform(&self, image: &RasterImage, key: SampleKey, pixels: &mut [u8]) -> LastSteps {
        if self.options.leaves_last_steps {
            return self.transform.apply_but_last(image, key, pixels);
        }
        self.transform.apply(image, key, pixels);
        LastSteps::default()
    }

    fn load(&self, Visit { sample: index, repeat }: Visit, queue: &Queue, pixels: &mut [u8]) -> Outcome {
        let Some(sample) = self.dataset.samples.get(index) else {
            return Outcome::Failed(LoadError::NoSuchSample { sample: index, samples: self.dataset.len() });
        };
        let LoaderOptions { seed, epoch, .. } = self.options;
        let key = SampleKey { seed, epoch, sample: index as u64, repeat };
        let image = match self.decode(sample, key, queue) {
            Ok(image) => image,
            Err(error) => return self.unreadable(index, error),
        };
        // Nothing that was shared is used again after a panic but the scratch buffer, which is overwritten.
        let applied = catch_unwind(AssertUnwindSafe(|| self.transform(&image, key, pixels)));
        match applied {
            Ok(last_steps) => Outcome::Pixels { label: sample.label, last_steps },
            Err(panic) => Outcome::Failed(LoadError::WorkerPanicked {
                path: sample.path.clone(),
                message: message_of(panic.as_ref()),
            }),
        }
    }

    /// A decoder that panics at a file has met a corrupt one.
    fn decode(&self, sample: &Sample, key: SampleKey, queue: &Queue) -> Result<RasterImage, DecodeError> {
        let reduction = |size| match self.options.decode_scaling {
            true => self.transform.decode_reduction(size, key),
            false => 1,
        };
        let caller = Caller { is_cancelled: &|| queue.is_stopped(), reduction: &reduction };
        let decode = || decode_for(&caller, &sample.path, &self.decode);
        catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
            let reason = format!("the decoder gave up: {}", message_of(panic.as_ref()));
            Err(DecodeError::CorruptImage { path: sample.path.clone(), reason })
        })
    }

    fn unreadable(&self, sample: usize, error: DecodeError) -> Outcome {
        match self.options.on_corrupt {
            OnCorrupt::Fail => Outcome::Failed(error.into()),
            OnCorrupt::Skip => {
                Outcome::Skipped(CorruptImage { sample, path: error.path().to_owned(), reason: error.reason() })
            }
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
