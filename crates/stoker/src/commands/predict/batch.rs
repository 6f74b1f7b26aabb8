//! How many images go through the model at once: as many as were asked for, or as memory allows. Each view of an image counts as one.

use std::mem::discriminant;

use data_pipeline::{Dataset, LoaderOptions, largest_decode_bytes};
use device::heap;
use inference::{Merge, PredictError, PredictOptions, Symmetry, View, rehearse, rehearse_pass};
use memory_planner::{Budget, BudgetRequest, PlanCheck, Rounding, format_bytes};
use memory_probe::Meter;

use crate::config::AutoCount;
use crate::error::CommandError;
use crate::registry::Network;
use crate::run::compute::Compute;
use crate::run::post_mortem::PostMortem;
use crate::run::recovery::prediction_causes;
use crate::ui::{self, Progress};

/// Most images at once on the CPU: larger batches hold more and bring their results later.
const LARGEST_ON_CPU: usize = 32;

/// Most images at once on a card: beyond, what loads them holds gigabytes.
const LARGEST_ON_CARD: usize = 256;

/// A pass is rehearsed where there are at least so many times its images to predict, each view counted; it would be much of the work otherwise.
const WORTH_REHEARSING: usize = 4;

/// The peak of the same pass differs from time to time by up to 1 % (`docs/benchmarks/memory.md`).
const ALLOWANCE: f64 = 1.01;

/// Above this part of a peak, what decoding the largest image takes makes it a bound.
const DECODING_SHARE: u64 = 20;

/// What is predicted, where.
pub(super) struct BatchSubject<'a> {
    pub(super) dataset: &'a Dataset,
    /// H, W, C of the images.
    pub(super) image: [usize; 3],
    pub(super) loader: &'a LoaderOptions,
    pub(super) compute: &'a Compute,
    pub(super) answers: Answers,
    /// Bytes of the models that come into memory after this one and stay beside it; none for a model that is there before all others or alone, and
    /// whose plan alone is told.
    pub(super) later_models: Option<u64>,
    /// Looks into the pass of one image, where that does not fit.
    pub(super) post_mortem: &'a dyn Fn() -> PostMortem,
}

/// What becomes of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// They are held until the last is there.
    Held {
        /// How often as much is held later, by what other models have said.
        later: usize,
    },
    /// They are written as they come.
    Written,
}

/// The batch, and what it is to take.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedBatch {
    /// Images that are loaded together.
    pub(super) images: usize,
    /// Most images in a pass of the model, each view of an image counted as one.
    pub(super) at_once: usize,
    /// None where the batch was asked for.
    expected: Option<Expected>,
}

#[derive(Debug, Clone, Copy)]
struct Expected {
    peak_bytes: u64,
    budget_bytes: u64,
    is_bound: bool,
    /// Whether more images would be of no use: such a batch is the same with less memory to plan for, as long as it fits.
    is_largest: bool,
}

/// A batch that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FittingBatch {
    /// Most images in a pass, each view of an image counted as one.
    pub(crate) at_once: usize,
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
        let work = self.dataset.len().saturating_mul(options.views.len());
        if let Some(asked) = asked.exactly().or((work == 1).then_some(1)) {
            return Ok(PlannedBatch { images: asked, at_once: asked.min(work).max(1), expected: None });
        }
        // An ensemble's model before this one has set it, and a rehearsal is no work to be given up.
        heap::set_limit(None);
        let budget = self.compute.budget(budget)?;
        let worker_bytes = self.worker_bytes();
        let beside = |at_once| self.bytes_beside(self.images_of(at_once), worker_bytes);
        let later_bytes = self.later_bytes();
        let needs = Needs { work, later_bytes, beside: &beside, post_mortem: self.post_mortem };
        let fitting = fitting_batch(model, self.image, options, self.compute, &budget, &needs)?;
        let peak_bytes = fitting.peak_bytes + beside(fitting.at_once) + self.later_models.unwrap_or(0);
        // Not every image is the largest, nor is it decoded at the worst moment.
        let decoding = beside(fitting.at_once) - self.bytes_beside(self.images_of(fitting.at_once), 0);
        let is_bound = fitting.is_bound || decoding > peak_bytes / DECODING_SHARE;
        let fitting = FittingBatch { is_bound, ..fitting };
        if self.later_models.is_none() {
            self.tell(&fitting, work, peak_bytes, &budget);
        }
        self.compute.meter().reset();
        let is_largest = fitting.at_once == work.min(largest_batch(self.compute));
        let expected = Some(Expected { peak_bytes, budget_bytes: budget.budget_bytes, is_bound, is_largest });
        Ok(PlannedBatch { images: self.images_of(fitting.at_once), at_once: fitting.at_once, expected })
    }

    /// Images that are loaded together for passes of so many.
    fn images_of(&self, at_once: usize) -> usize {
        at_once.min(self.dataset.len())
    }

    /// The most that lies in the same memory as passes over so many images: batches that wait, what workers have in their hands, and answers
    /// that are held. On a card nothing does.
    fn bytes_beside(&self, images: usize, worker_bytes: u64) -> u64 {
        if !self.compute.is_cpu() {
            return 0;
        }
        // Those that are ready, and one in the making.
        let batches = self.loader.prefetch_batches + 1;
        let waiting = (batches * images).min(self.dataset.len().saturating_sub(images));
        let working = if waiting > 0 { worker_bytes } else { 0 };
        let held = if self.answers == Answers::Written { images } else { self.dataset.len() };
        waiting as u64 * self.image_bytes() + working + self.answer_bytes(held)
    }

    /// What models that come after this one are, where they stay, and what they hold beside their own answers: room for it is kept from the first
    /// on, so that none of them finds out after hours that it is missing.
    fn later_bytes(&self) -> u64 {
        let answers = match self.answers {
            Answers::Held { later } if self.compute.is_cpu() => later as u64 * self.answer_bytes(self.dataset.len()),
            _ => 0,
        };
        answers + self.later_models.unwrap_or(0)
    }

    /// Probabilities without and with the views.
    fn answer_bytes(&self, images: usize) -> u64 {
        (images * 2 * self.dataset.classes.len() * size_of::<f32>()) as u64
    }

    fn worker_bytes(&self) -> u64 {
        self.loader.workers as u64 * (self.image_bytes() + largest_decode_bytes(self.dataset))
    }

    /// One image as it waits, a byte a channel.
    fn image_bytes(&self) -> u64 {
        self.image.iter().product::<usize>() as u64
    }

    /// `work` is all that there is to compute: each image in each view.
    fn tell(&self, fitting: &FittingBatch, work: usize, peak_bytes: u64, budget: &Budget) {
        let reason = match fitting.at_once {
            all if all == work && all > self.dataset.len() => "all of them in all views",
            all if all == work => "all of them",
            at_once if at_once == largest_batch(self.compute) => "as many as are of use",
            _ => "as many as fit",
        };
        let at_most = if fitting.is_bound { "at most " } else { "" };
        let images = if fitting.at_once == 1 { "image" } else { "images" };
        ui::note(format_args!(
            "{} {images} at once: {reason}; predicted peak {at_most}{} of {} ({})",
            fitting.at_once,
            format_bytes(peak_bytes),
            format_bytes(budget.budget_bytes),
            budget.reason
        ));
    }
}

impl PlannedBatch {
    /// The same batch with so many bytes more of models in memory; none where that does not fit, where it was never measured, or where another batch
    /// might have been planned.
    pub(super) fn beside(&self, model_bytes: u64) -> Option<Self> {
        let alone = self.expected.filter(|expected| expected.is_largest)?;
        let expected = Expected { peak_bytes: alone.peak_bytes.saturating_add(model_bytes), ..alone };
        expected.fits().then_some(Self { expected: Some(expected), ..*self })
    }

    /// The batch of two models that take turns, each with the other in memory; none where it is not the same, or does not fit both budgets.
    pub(super) fn in_turn_with(&self, other: &Self) -> Option<Self> {
        let (own, others) = (self.expected?, other.expected.filter(|expected| expected.is_largest)?);
        let expected = Expected {
            peak_bytes: own.peak_bytes.max(others.peak_bytes),
            budget_bytes: own.budget_bytes.min(others.budget_bytes),
            is_bound: own.is_bound || others.is_bound,
            is_largest: own.is_largest,
        };
        let is_same = (self.images, self.at_once) == (other.images, other.at_once);
        (is_same && expected.fits()).then_some(Self { expected: Some(expected), ..*self })
    }

    /// Tells that so many models are in memory for this batch.
    pub(super) fn tell_models(&self, models: usize) {
        let Some(Expected { peak_bytes, budget_bytes, is_bound, .. }) = self.expected else { return };
        let at_most = if is_bound { "at most " } else { "" };
        ui::note(format_args!(
            "{models} models are in memory at once, and each image is decoded once for all: predicted peak {at_most}{} of {}",
            format_bytes(peak_bytes),
            format_bytes(budget_bytes)
        ));
    }

    /// Tells how the peak since the plan compares with it.
    pub(super) fn tell_peak(&self, compute: &Compute) {
        let Some(Expected { peak_bytes, budget_bytes, is_bound, .. }) = self.expected else { return };
        let (predicted_peak_bytes, measured_peak_bytes) = (peak_bytes, compute.meter().peak_bytes());
        if is_bound && measured_peak_bytes <= predicted_peak_bytes {
            let (predicted, measured) = (format_bytes(predicted_peak_bytes), format_bytes(measured_peak_bytes));
            return ui::note(format_args!("peak memory: predicted at most {predicted}, measured {measured}"));
        }
        ui::note(PlanCheck { predicted_peak_bytes, measured_peak_bytes, budget_bytes });
    }
}

impl Expected {
    fn fits(&self) -> bool {
        self.peak_bytes <= self.budget_bytes
    }
}

/// Most images at once that are of use here.
fn largest_batch(compute: &Compute) -> usize {
    if compute.is_cpu() { LARGEST_ON_CPU } else { LARGEST_ON_CARD }
}

/// What a batch has to leave room for.
pub(crate) struct Needs<'a> {
    /// All that there is to compute: each image in each view.
    pub(crate) work: usize,
    /// Held by those that come later, whatever the batch.
    pub(crate) later_bytes: u64,
    /// Held beside passes of so many images.
    pub(crate) beside: &'a dyn Fn(usize) -> u64,
    /// Looks into the pass of one image, where that does not fit.
    pub(crate) post_mortem: &'a dyn Fn() -> PostMortem,
}

/// The most images (H, W, C) in a pass, each view of an image counted as one, that are of use and fit the budget with what else is needed, found
/// by real passes.
pub(crate) fn fitting_batch(
    model: &Network,
    image: [usize; 3],
    options: &PredictOptions<'_>,
    compute: &Compute,
    budget: &Budget,
    needs: &Needs<'_>,
) -> Result<FittingBatch, CommandError> {
    let progress = Progress::start("measuring forward passes", "passes", 0);
    let meter = compute.meter();
    let failed = |error: &PredictError| {
        let told = match error {
            PredictError::OutOfMemory { .. } => prediction_causes(&(needs.post_mortem)(), 0),
            _ => Vec::new(),
        };
        let error = CommandError::from_run(error).with_causes(told).with_hint(error.hint());
        error.in_context("cannot measure the memory of a forward pass")
    };
    let base_bytes = meter.current_bytes();
    let mut shown = vec![View::IDENTITY];
    shown.extend(heaviest_view(model, image, options, meter.as_ref()).map_err(|error| failed(&error))?);
    let options = PredictOptions { views: &shown, merge: &Merge::Mean, ..*options };
    let mut measure = |at_once| {
        meter.reset();
        rehearse_pass(model, image, at_once, &options).map_err(|error| failed(&error))?;
        Ok((meter.peak_bytes() as f64 * ALLOWANCE) as u64)
    };
    measure(1)?; // threads make their scratch, and a card tunes its kernels
    let room = Room { needs, ceiling: needs.work.min(largest_batch(compute)), base_bytes, budget };
    let fitting = room.search(&mut measure)?;
    progress.finish("done");
    Ok(fitting)
}

/// The view whose pass holds the most, of those that show more than the image as it is: views of one kind take the same, so that one of each is
/// tried, with a single image.
fn heaviest_view(
    model: &Network,
    image: [usize; 3],
    options: &PredictOptions<'_>,
    meter: &dyn Meter,
) -> Result<Option<View>, PredictError> {
    let kind = |view: &View| (view.symmetry == Symmetry::Identity, discriminant(&view.variation));
    let mut kinds: Vec<View> = Vec::new();
    for view in options.views.iter().filter(|&&view| view != View::IDENTITY) {
        if !kinds.iter().any(|known| kind(known) == kind(view)) {
            kinds.push(*view);
        }
    }
    if kinds.len() < 2 {
        return Ok(kinds.pop());
    }
    let peak_of = |view: View| {
        let options = PredictOptions { views: &[view], merge: &Merge::Mean, ..*options };
        meter.reset();
        rehearse(model, image, 1, 1, &options).map(|()| meter.peak_bytes())
    };
    peak_of(kinds[0])?; // what a first pass makes ready is not the view's
    let peaks = kinds.iter().map(|&view| Ok((peak_of(view)?, view))).collect::<Result<Vec<_>, PredictError>>()?;
    let heavier = |best: (u64, View), next: (u64, View)| if next.0 > best.0 { next } else { best };
    Ok(peaks.into_iter().reduce(heavier).map(|(_, view)| view))
}

/// What a batch has to fit.
struct Room<'a> {
    needs: &'a Needs<'a>,
    ceiling: usize,
    /// Held before a pass.
    base_bytes: u64,
    budget: &'a Budget,
}

impl Room<'_> {
    /// Goes from one image up, by peaks of passes that `measure` makes and never beyond what a smaller pass shows to fit.
    fn search(
        &self,
        measure: &mut dyn FnMut(usize) -> Result<u64, CommandError>,
    ) -> Result<FittingBatch, CommandError> {
        let mut fitting = FittingBatch { at_once: 1, peak_bytes: measure(1)?, is_bound: false };
        if !self.holds(1, fitting.peak_bytes) {
            return Err(self.refuse(fitting.peak_bytes));
        }
        loop {
            let at_once = self.next_after(&fitting);
            if at_once == fitting.at_once {
                return Ok(fitting);
            }
            if at_once * WORTH_REHEARSING > self.needs.work {
                return Ok(FittingBatch { at_once, peak_bytes: self.bound(&fitting, at_once), is_bound: true });
            }
            let peak_bytes = measure(at_once)?;
            if !self.holds(at_once, peak_bytes) {
                return Ok(fitting);
            }
            fitting = FittingBatch { at_once, peak_bytes, is_bound: false };
        }
    }

    /// The most that a larger pass holds: passes of many images take no more for each than those of few.
    fn bound(&self, measured: &FittingBatch, at_once: usize) -> u64 {
        let of_pass = u128::from(measured.peak_bytes.saturating_sub(self.base_bytes));
        self.base_bytes + (of_pass * at_once as u128).div_ceil(measured.at_once as u128) as u64
    }

    /// The largest batch that is bound to fit, rounded as plans are; the same one where that is no fifth more.
    fn next_after(&self, measured: &FittingBatch) -> usize {
        let fits = |at_once: &usize| self.holds(*at_once, self.bound(measured, *at_once));
        let largest = (measured.at_once..=self.ceiling).rev().find(fits).unwrap_or(measured.at_once);
        let rounded = if largest == self.ceiling { largest } else { Rounding::default().round_down(largest).max(1) };
        if largest < self.ceiling && rounded * 5 <= measured.at_once * 6 { measured.at_once } else { rounded }
    }

    fn holds(&self, at_once: usize, peak_bytes: u64) -> bool {
        self.needed(at_once, peak_bytes) <= self.budget.budget_bytes
    }

    fn needed(&self, at_once: usize, peak_bytes: u64) -> u64 {
        peak_bytes.saturating_add((self.needs.beside)(at_once)).saturating_add(self.needs.later_bytes)
    }

    fn refuse(&self, peak_bytes: u64) -> CommandError {
        let needed = self.needed(1, peak_bytes);
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
        let post_mortem = (self.needs.post_mortem)();
        let causes = prediction_causes(&post_mortem, self.needs.later_bytes);
        CommandError::wrong_request(message).with_causes(causes).with_hint(post_mortem.or_precision(hint))
    }
}

#[cfg(test)]
mod tests {
    use memory_planner::MemoryReading;

    use super::*;

    /// What was measured, and the batch that was found, where a pass takes `peak` and each image that waits one byte.
    fn search(work: usize, limit: u64, peak: impl Fn(usize) -> u64) -> (Vec<usize>, Option<FittingBatch>) {
        search_beside(work, 0, limit, peak)
    }

    fn search_beside(
        work: usize,
        later_bytes: u64,
        limit: u64,
        peak: impl Fn(usize) -> u64,
    ) -> (Vec<usize>, Option<FittingBatch>) {
        let reading = MemoryReading { total_bytes: 1 << 30, free_bytes: 1 << 30, own_bytes: 0 };
        let request = BudgetRequest { limit_bytes: Some(limit), ..BudgetRequest::default() };
        let budget = Budget::for_host(reading, &request).unwrap();
        let beside = |images| images as u64;
        let needs = Needs { work, later_bytes, beside: &beside, post_mortem: &PostMortem::default };
        let room = Room { needs: &needs, ceiling: work.min(32), base_bytes: 1_000, budget: &budget };
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
            assert!(found.peak_bytes + found.at_once as u64 <= limit && !found.is_bound, "{found:?} of {limit}");
            assert!(measured.iter().all(|images| even_from_four(*images) + *images as u64 <= limit), "{measured:?}");
            let largest = (1..=32).rev().find(|images| even_from_four(*images) + *images as u64 <= limit).unwrap();
            // Where scratch is most of the budget, little can be told from small passes.
            assert!(limit < 1_200 || found.at_once * 10 >= largest * 7, "{found:?} of {largest}");
            assert!(measured.iter().sum::<usize>() <= 4 * 32, "{measured:?}");
        }
        assert_eq!(search(1_000, 10_000, even_from_four).1.unwrap().at_once, 32);
    }

    #[test]
    fn few_images_are_not_rehearsed_and_their_peak_is_a_bound() {
        let (measured, found) = search(12, 10_000, even_from_four);
        assert_eq!((measured, found), (vec![1], Some(FittingBatch { at_once: 12, peak_bytes: 1_480, is_bound: true })));
    }

    #[test]
    fn one_image_that_does_not_fit_is_refused() {
        assert_eq!(search(12, 1_040, even_from_four).1, None);
        assert_eq!(search(12, 1_041, even_from_four).1.map(|found| found.at_once), Some(1));
    }

    #[test]
    fn models_go_together_with_a_batch_that_each_would_have_alone() {
        let planned = |peak_bytes, budget_bytes, is_largest| {
            let expected = Some(Expected { peak_bytes, budget_bytes, is_bound: false, is_largest });
            PlannedBatch { images: 32, at_once: 32, expected }
        };
        let one = planned(100, 150, true);
        assert!(one.beside(50).is_some() && one.beside(51).is_none());
        assert!(planned(100, 150, false).beside(0).is_none(), "alone another may have more images at once");
        assert!(PlannedBatch { expected: None, ..one }.beside(0).is_none(), "it was not measured");
        assert!(one.in_turn_with(&planned(150, 200, true)).is_some());
        assert!(one.in_turn_with(&planned(151, 200, true)).is_none(), "the lower limit is for both");
        assert!(one.in_turn_with(&planned(100, 150, false)).is_none());
        assert!(one.in_turn_with(&PlannedBatch { at_once: 16, ..one }).is_none());
    }

    #[test]
    fn what_later_models_hold_is_left_free_from_the_first_on() {
        let found = |later_bytes, limit| search_beside(1_000, later_bytes, limit, even_from_four).1;
        assert_eq!(found(300, 1_700), found(0, 1_400));
        assert_ne!(found(300, 1_400), found(0, 1_400));
        assert_eq!(found(300, 1_340), None, "one image fits alone, but not with what comes later");
    }
}
