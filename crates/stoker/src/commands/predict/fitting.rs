//! The most images in a pass of a model that memory holds, found by real passes over black images.

use std::mem::discriminant;
use std::time::Instant;

use inference::{Merge, PredictError, PredictOptions, Symmetry, View, rehearse, rehearse_pass};
use memory_planner::{Budget, Rounding, format_bytes};
use memory_probe::Meter;

use crate::error::CommandError;
use crate::registry::Network;
use crate::run::compute::Compute;
use crate::run::post_mortem::PostMortem;
use crate::run::recovery::prediction_causes;
use crate::ui::Progress;

/// Most images at once on the CPU: larger batches hold more and bring their results later.
const LARGEST_ON_CPU: usize = 32;

/// Most images at once on a card: beyond, what loads them holds gigabytes.
const LARGEST_ON_CARD: usize = 256;

/// A pass is rehearsed where there are at least so many times its images to predict, each view counted; it would be much of the work otherwise.
const WORTH_REHEARSING: usize = 4;

/// A pass is rehearsed also where it takes no longer than this: nobody minds.
const LITTLE_SECONDS: f64 = 2.0;

/// The peak of the same pass differs from time to time by up to 1 % (`docs/benchmarks/memory.md`).
const ALLOWANCE: f64 = 1.01;

/// A batch that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FittingBatch {
    /// Most images in a pass, each view of an image counted as one.
    pub(crate) at_once: usize,
    /// Of a pass, what lies beside it not counted.
    pub(super) peak_bytes: u64,
    /// Whether the peak is no measured one but at most as high, by a smaller batch's.
    pub(super) is_bound: bool,
}

/// A pass that was made.
#[derive(Debug, Clone, Copy)]
struct Rehearsed {
    at_once: usize,
    peak_bytes: u64,
    seconds: f64,
}

/// Most images at once that are of use here.
pub(super) fn largest_batch(compute: &Compute) -> usize {
    if compute.is_cpu() { LARGEST_ON_CPU } else { LARGEST_ON_CARD }
}

/// What a batch has to leave room for.
pub(crate) struct Needs<'a> {
    /// That there are to predict.
    pub(crate) images: usize,
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
        let start = Instant::now();
        rehearse_pass(model, image, needs.images, at_once, &options).map_err(|error| failed(&error))?;
        let peak_bytes = (meter.peak_bytes() as f64 * ALLOWANCE) as u64;
        Ok(Rehearsed { at_once, peak_bytes, seconds: start.elapsed().as_secs_f64() })
    };
    measure(1)?; // threads make their scratch, and a card tunes its kernels
    let ceiling = needs.work.min(largest_batch(compute));
    let room = Room { needs, ceiling, base_bytes, budget, makes_ready: !compute.is_cpu() };
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

impl Rehearsed {
    fn as_it_is(self) -> FittingBatch {
        FittingBatch { at_once: self.at_once, peak_bytes: self.peak_bytes, is_bound: false }
    }
}

/// What a batch has to fit.
struct Room<'a> {
    needs: &'a Needs<'a>,
    ceiling: usize,
    /// Held before a pass.
    base_bytes: u64,
    budget: &'a Budget,
    /// Whether a pass of some size makes ready what all of that size need: a card compiles and tunes kernels by shape.
    makes_ready: bool,
}

impl Room<'_> {
    /// Goes from one image up, by passes that `rehearse` makes and never beyond what a smaller pass shows to fit.
    fn search(
        &self,
        rehearse: &mut dyn FnMut(usize) -> Result<Rehearsed, CommandError>,
    ) -> Result<FittingBatch, CommandError> {
        let mut smaller = None;
        let mut largest = rehearse(1)?;
        if !self.holds(1, largest.peak_bytes) {
            return Err(self.refuse(largest.peak_bytes));
        }
        loop {
            let at_once = self.next_after(&largest);
            if at_once == largest.at_once {
                return Ok(largest.as_it_is());
            }
            let tried = at_once.min(self.worth_rehearsing(&largest));
            if tried < at_once.min(2 * largest.at_once) {
                return Ok(self.untried(smaller, largest, at_once));
            }
            let next = rehearse(tried)?;
            if !self.holds(tried, next.peak_bytes) {
                return Ok(largest.as_it_is());
            }
            smaller = Some(largest);
            largest = next;
        }
    }

    /// The largest pass that may be made only to see what it takes. On a card that is any, and so none between that is of a size the prediction has no use
    /// for.
    fn worth_rehearsing(&self, measured: &Rehearsed) -> usize {
        if self.makes_ready {
            return usize::MAX;
        }
        let in_a_little_while = LITTLE_SECONDS * measured.at_once as f64 / measured.seconds;
        (self.needs.work / WORTH_REHEARSING).max(in_a_little_while as usize)
    }

    /// A batch that fits by its bound, with the peak that two smaller ones point to where there are two: passes grow evenly.
    fn untried(&self, smaller: Option<Rehearsed>, largest: Rehearsed, at_once: usize) -> FittingBatch {
        let bound = self.bound(&largest, at_once);
        let Some(smaller) = smaller else { return FittingBatch { at_once, peak_bytes: bound, is_bound: true } };
        let grown = u128::from(largest.peak_bytes.saturating_sub(smaller.peak_bytes));
        let (further, between) = (at_once - largest.at_once, largest.at_once - smaller.at_once);
        let more = (grown * further as u128).div_ceil(between as u128) as u64;
        FittingBatch { at_once, peak_bytes: bound.min(largest.peak_bytes + more), is_bound: false }
    }

    /// The most that a larger pass holds: passes of many images take no more for each than those of few.
    fn bound(&self, measured: &Rehearsed, at_once: usize) -> u64 {
        let of_pass = u128::from(measured.peak_bytes.saturating_sub(self.base_bytes));
        self.base_bytes + (of_pass * at_once as u128).div_ceil(measured.at_once as u128) as u64
    }

    /// The largest batch that is bound to fit, rounded as plans are; the same one where that is no fifth more.
    fn next_after(&self, measured: &Rehearsed) -> usize {
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
    use memory_planner::{BudgetRequest, MemoryReading};

    use super::*;

    /// What is searched for, where each image that waits takes one byte.
    struct Trial {
        work: usize,
        later_bytes: u64,
        limit: u64,
        seconds_per_image: f64,
        makes_ready: bool,
    }

    /// On the CPU, where passes take 10 seconds an image.
    fn trial(work: usize, limit: u64) -> Trial {
        Trial { work, later_bytes: 0, limit, seconds_per_image: 10.0, makes_ready: false }
    }

    /// What was measured, and the batch that was found, where a pass takes `peak`.
    fn search(work: usize, limit: u64, peak: impl Fn(usize) -> u64) -> (Vec<usize>, Option<FittingBatch>) {
        search_in(&trial(work, limit), peak)
    }

    fn search_in(trial: &Trial, peak: impl Fn(usize) -> u64) -> (Vec<usize>, Option<FittingBatch>) {
        let &Trial { work, later_bytes, limit, seconds_per_image, makes_ready } = trial;
        let reading = MemoryReading { total_bytes: 1 << 30, free_bytes: 1 << 30, own_bytes: 0 };
        let request = BudgetRequest { limit_bytes: Some(limit), ..BudgetRequest::default() };
        let budget = Budget::for_host(reading, &request).unwrap();
        let beside = |images| images as u64;
        let needs = Needs { images: work, work, later_bytes, beside: &beside, post_mortem: &PostMortem::default };
        let room = Room { needs: &needs, ceiling: work.min(32), base_bytes: 1_000, budget: &budget, makes_ready };
        let mut measured = Vec::new();
        let found = room.search(&mut |at_once| {
            measured.push(at_once);
            Ok(Rehearsed { at_once, peak_bytes: peak(at_once), seconds: seconds_per_image * at_once as f64 })
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
    fn what_would_be_much_of_the_work_is_not_rehearsed_but_told_by_smaller_passes() {
        let even = |images| 1_000 + 10 * images as u64;
        let (measured, found) = search(12, 10_000, even);
        assert_eq!(measured, [1, 3]);
        assert_eq!(found, Some(FittingBatch { at_once: 12, peak_bytes: 1_120, is_bound: false }));
        let (measured, found) = search(3, 10_000, even_from_four);
        assert_eq!(measured, [1]);
        assert_eq!(found, Some(FittingBatch { at_once: 3, peak_bytes: 1_120, is_bound: true }));
    }

    #[test]
    fn what_takes_little_time_or_serves_the_prediction_is_rehearsed_whole() {
        let quick = Trial { seconds_per_image: 0.1, ..trial(12, 10_000) };
        let on_a_card = Trial { makes_ready: true, ..trial(12, 10_000) };
        for trial in [quick, on_a_card] {
            let (measured, found) = search_in(&trial, even_from_four);
            assert_eq!(measured, [1, 12]);
            assert_eq!(found, Some(FittingBatch { at_once: 12, peak_bytes: 1_120, is_bound: false }));
        }
    }

    #[test]
    fn one_image_that_does_not_fit_is_refused() {
        assert_eq!(search(12, 1_040, even_from_four).1, None);
        assert_eq!(search(12, 1_041, even_from_four).1.map(|found| found.at_once), Some(1));
    }

    #[test]
    fn what_later_models_hold_is_left_free_from_the_first_on() {
        let found = |later_bytes, limit| search_in(&Trial { later_bytes, ..trial(1_000, limit) }, even_from_four).1;
        assert_eq!(found(300, 1_700), found(0, 1_400));
        assert_ne!(found(300, 1_400), found(0, 1_400));
        assert_eq!(found(300, 1_340), None, "one image fits alone, but not with what comes later");
    }
}
