//! How many images go through the model at once: as many as were asked for, or as memory allows.

use data_pipeline::{Dataset, LoaderOptions, largest_decode_bytes};
use device::heap;
use inference::{PredictOptions, rehearse};
use memory_planner::{Budget, BudgetRequest, PlanCheck, Rounding, format_bytes};
use memory_probe::Meter;

use crate::config::AutoCount;
use crate::error::CommandError;
use crate::registry::Network;
use crate::run::compute::Compute;
use crate::ui::{self, Progress};

/// Most images at once on the CPU: larger batches hold more and bring their results later.
const LARGEST_ON_CPU: usize = 32;

/// Most images at once on a card: beyond, what loads them holds gigabytes.
const LARGEST_ON_CARD: usize = 256;

/// A batch is rehearsed where there are at least so many times its images to predict; it would be much of the work otherwise.
const WORTH_REHEARSING: usize = 4;

/// The peak of the same pass differs from time to time by up to 1 % (`docs/benchmarks/memory.md`).
const ALLOWANCE: f64 = 1.01;

/// What is predicted, where.
pub(super) struct BatchSubject<'a> {
    pub(super) dataset: &'a Dataset,
    /// H, W, C of the images.
    pub(super) image: [usize; 3],
    pub(super) loader: &'a LoaderOptions,
    pub(super) compute: &'a Compute,
    pub(super) answers: Answers,
}

/// What becomes of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// They are held until the last is there.
    Held,
    /// They are written as they come.
    Written,
}

/// The batch, and what it is to take.
pub(super) struct PlannedBatch {
    /// Images at once.
    pub(super) images: usize,
    /// None where the batch was asked for.
    expected: Option<Expected>,
}

struct Expected {
    peak_bytes: u64,
    budget_bytes: u64,
    is_bound: bool,
    meter: Box<dyn Meter>,
}

/// A batch that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FittingBatch {
    /// Images at once.
    pub(crate) images: usize,
    /// Of a pass, what lies beside it not counted.
    peak_bytes: u64,
    /// Whether the peak is no measured one but at most as high, by a smaller batch's.
    is_bound: bool,
}

impl BatchSubject<'_> {
    /// The batch that is asked for, or one that is planned and told. The model is there already, and no limit holds the heap from here on.
    pub(super) fn plan(
        &self,
        asked: AutoCount,
        budget: &BudgetRequest,
        model: &Network,
        options: &PredictOptions<'_>,
    ) -> Result<PlannedBatch, CommandError> {
        let samples = self.dataset.len();
        if let Some(images) = asked.exactly().or((samples == 1).then_some(1)) {
            return Ok(PlannedBatch { images, expected: None });
        }
        // An ensemble's model before this one has set it, and a rehearsal is no work to be given up.
        heap::set_limit(None);
        let budget = self.compute.budget(budget)?;
        let worker_bytes = self.worker_bytes();
        let beside = |images| self.bytes_beside(images, worker_bytes);
        let fitting = fitting_batch(model, self.image, options, self.compute, samples, &budget, &beside)?;
        let peak_bytes = fitting.peak_bytes + beside(fitting.images);
        self.tell(&fitting, peak_bytes, &budget);
        let meter = self.compute.meter();
        meter.reset();
        let (budget_bytes, is_bound) = (budget.budget_bytes, fitting.is_bound);
        let expected = Some(Expected { peak_bytes, budget_bytes, is_bound, meter });
        Ok(PlannedBatch { images: fitting.images, expected })
    }

    /// The most that lies in the same memory as passes of so many images: batches that wait, what workers have in their hands, and answers that
    /// are held. On a card nothing does.
    fn bytes_beside(&self, images: usize, worker_bytes: u64) -> u64 {
        if !self.compute.is_cpu() {
            return 0;
        }
        let waiting = (self.loader.prefetch_batches * images).min(self.dataset.len().saturating_sub(images));
        let working = if waiting > 0 { worker_bytes } else { 0 };
        let held = if self.answers == Answers::Held { self.dataset.len() } else { images };
        // Probabilities without and with the views.
        let answers = held * 2 * self.dataset.classes.len() * size_of::<f32>();
        waiting as u64 * self.image_bytes() + working + answers as u64
    }

    fn worker_bytes(&self) -> u64 {
        self.loader.workers as u64 * (self.image_bytes() + largest_decode_bytes(self.dataset))
    }

    /// One image as it waits, a byte a channel.
    fn image_bytes(&self) -> u64 {
        self.image.iter().product::<usize>() as u64
    }

    fn tell(&self, fitting: &FittingBatch, peak_bytes: u64, budget: &Budget) {
        let reason = match fitting.images {
            images if images == self.dataset.len() => "all of them",
            images if images == largest_batch(self.compute) => "as many as are of use",
            _ => "as many as fit",
        };
        let at_most = if fitting.is_bound { "at most " } else { "" };
        ui::note(format_args!(
            "{} images at once: {reason}; predicted peak {at_most}{} of {} ({})",
            fitting.images,
            format_bytes(peak_bytes),
            format_bytes(budget.budget_bytes),
            budget.reason
        ));
    }
}

impl PlannedBatch {
    /// Tells how the peak since the plan compares with it.
    pub(super) fn tell_peak(&self) {
        let Some(Expected { peak_bytes, budget_bytes, is_bound, meter }) = &self.expected else { return };
        let (predicted_peak_bytes, measured_peak_bytes) = (*peak_bytes, meter.peak_bytes());
        if *is_bound && measured_peak_bytes <= predicted_peak_bytes {
            let (predicted, measured) = (format_bytes(predicted_peak_bytes), format_bytes(measured_peak_bytes));
            return ui::note(format_args!("peak memory: predicted at most {predicted}, measured {measured}"));
        }
        ui::note(PlanCheck { predicted_peak_bytes, measured_peak_bytes, budget_bytes: *budget_bytes });
    }
}

/// Most images at once that are of use here.
fn largest_batch(compute: &Compute) -> usize {
    if compute.is_cpu() { LARGEST_ON_CPU } else { LARGEST_ON_CARD }
}

/// The largest batch of use for `samples` images (H, W, C) that fits the budget with what `beside` says, found by real passes.
pub(crate) fn fitting_batch(
    model: &Network,
    image: [usize; 3],
    options: &PredictOptions<'_>,
    compute: &Compute,
    samples: usize,
    budget: &Budget,
    beside: &dyn Fn(usize) -> u64,
) -> Result<FittingBatch, CommandError> {
    let progress = Progress::start("measuring forward passes", "passes", 0);
    let meter = compute.meter();
    // Every view but the image itself takes the same: one of them will do.
    let options = PredictOptions { views: &options.views[..options.views.len().min(2)], ..*options };
    let mut measure = |batch| {
        meter.reset();
        rehearse(model, image, batch, &options).map_err(|error| {
            let hint = error.hint();
            CommandError::from_run(&error).with_hint(hint).in_context("cannot measure the memory of a forward pass")
        })?;
        Ok((meter.peak_bytes() as f64 * ALLOWANCE) as u64)
    };
    let base_bytes = meter.current_bytes();
    measure(1)?; // threads make their scratch, and a card tunes its kernels
    let room = Room { samples, ceiling: samples.min(largest_batch(compute)), base_bytes, budget, beside };
    let fitting = room.search(&mut measure)?;
    progress.finish("done");
    Ok(fitting)
}

/// What a batch has to fit.
struct Room<'a> {
    samples: usize,
    ceiling: usize,
    /// Held before a pass.
    base_bytes: u64,
    budget: &'a Budget,
    beside: &'a dyn Fn(usize) -> u64,
}

impl Room<'_> {
    /// Goes from one image up, by peaks of passes that `measure` makes and never beyond what a smaller pass shows to fit.
    fn search(
        &self,
        measure: &mut dyn FnMut(usize) -> Result<u64, CommandError>,
    ) -> Result<FittingBatch, CommandError> {
        let mut fitting = FittingBatch { images: 1, peak_bytes: measure(1)?, is_bound: false };
        if !self.holds(1, fitting.peak_bytes) {
            return Err(self.refuse(fitting.peak_bytes));
        }
        loop {
            let images = self.next_after(&fitting);
            if images == fitting.images {
                return Ok(fitting);
            }
            if images * WORTH_REHEARSING > self.samples {
                return Ok(FittingBatch { images, peak_bytes: self.bound(&fitting, images), is_bound: true });
            }
            let peak_bytes = measure(images)?;
            if !self.holds(images, peak_bytes) {
                return Ok(fitting);
            }
            fitting = FittingBatch { images, peak_bytes, is_bound: false };
        }
    }

    /// The most that a larger pass holds: passes of many images take no more for each than those of few.
    fn bound(&self, measured: &FittingBatch, images: usize) -> u64 {
        let of_pass = u128::from(measured.peak_bytes.saturating_sub(self.base_bytes));
        self.base_bytes + (of_pass * images as u128).div_ceil(measured.images as u128) as u64
    }

    /// The largest batch that is bound to fit, rounded as plans are; the same one where that is no fifth more.
    fn next_after(&self, measured: &FittingBatch) -> usize {
        let fits = |images: &usize| self.holds(*images, self.bound(measured, *images));
        let largest = (measured.images..=self.ceiling).rev().find(fits).unwrap_or(measured.images);
        let rounded = if largest == self.ceiling { largest } else { Rounding::default().round_down(largest).max(1) };
        if largest < self.ceiling && rounded * 5 <= measured.images * 6 { measured.images } else { rounded }
    }

    fn holds(&self, images: usize, peak_bytes: u64) -> bool {
        peak_bytes.saturating_add((self.beside)(images)) <= self.budget.budget_bytes
    }

    fn refuse(&self, peak_bytes: u64) -> CommandError {
        let needed = peak_bytes + (self.beside)(1);
        let Budget { budget_bytes, reason, user_limit_bytes, .. } = self.budget;
        let message = format!(
            "a single image needs {}, but {} may be taken ({reason})",
            format_bytes(needed),
            format_bytes(*budget_bytes)
        );
        let hint = match user_limit_bytes {
            Some(_) => {
                format!("set `memory.limit: {}MiB` or more in the run's configuration", needed.div_ceil(1 << 20))
            }
            None => "end what else holds memory there, or name the number of images: `--batch-size 1`".to_owned(),
        };
        CommandError::wrong_request(message).with_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use memory_planner::MemoryReading;

    use super::*;

    /// What was measured, and the batch that was found, where a pass takes `peak` and each image that waits one byte.
    fn search(samples: usize, limit: u64, peak: impl Fn(usize) -> u64) -> (Vec<usize>, Option<FittingBatch>) {
        let reading = MemoryReading { total_bytes: 1 << 30, free_bytes: 1 << 30, own_bytes: 0 };
        let request = BudgetRequest { limit_bytes: Some(limit), ..BudgetRequest::default() };
        let budget = Budget::for_host(reading, &request).unwrap();
        let beside = |images| images as u64;
        let room = Room { samples, ceiling: samples.min(32), base_bytes: 1_000, budget: &budget, beside: &beside };
        let mut measured = Vec::new();
        let found = room.search(&mut |images| {
            measured.push(images);
            Ok(peak(images))
        });
        (measured, found.ok())
    }

    /// Flat for few images, as scratch is, and even from there on.
    fn even_from_four(images: usize) -> u64 {
        1_000 + 10 * images.max(4) as u64
    }

    #[test]
    fn what_is_found_fits_and_nothing_larger_than_that_is_ever_tried() {
        for limit in 1_041..1_400 {
            let (measured, found) = search(1_000, limit, even_from_four);
            let found = found.unwrap();
            assert!(found.peak_bytes + found.images as u64 <= limit && !found.is_bound, "{found:?} of {limit}");
            assert!(measured.iter().all(|images| even_from_four(*images) + *images as u64 <= limit), "{measured:?}");
            let largest = (1..=32).rev().find(|images| even_from_four(*images) + *images as u64 <= limit).unwrap();
            // Where scratch is most of the budget, little can be told from small passes.
            assert!(limit < 1_200 || found.images * 10 >= largest * 7, "{found:?} of {largest}");
            assert!(measured.iter().sum::<usize>() <= 4 * 32, "{measured:?}");
        }
        assert_eq!(search(1_000, 10_000, even_from_four).1.unwrap().images, 32);
    }

    #[test]
    fn few_images_are_not_rehearsed_and_their_peak_is_a_bound() {
        let (measured, found) = search(12, 10_000, even_from_four);
        assert_eq!((measured, found), (vec![1], Some(FittingBatch { images: 12, peak_bytes: 1_480, is_bound: true })));
    }

    #[test]
    fn one_image_that_does_not_fit_is_refused() {
        assert_eq!(search(12, 1_040, even_from_four).1, None);
        assert_eq!(search(12, 1_041, even_from_four).1.map(|found| found.images), Some(1));
    }
}
