//! How many images go through the model at once: as many as were asked for, or as memory allows. Each view of an image counts as one.

use std::sync::Arc;

use data_pipeline::{Dataset, LoaderOptions, Transform};
use device::heap;
use inference::PredictOptions;
use memory_planner::{Budget, BudgetRequest, PlanCheck, format_bytes};

use super::fitting::{FittingBatch, Needs, fitting_batch, largest_batch};
use crate::config::AutoCount;
use crate::error::CommandError;
use crate::registry::Network;
use crate::run::compute::Compute;
use crate::run::loading_bytes::LoadingBytes;
use crate::run::post_mortem::PostMortem;
use crate::ui;

/// Above this part of a peak, what the largest images take beside usual ones makes it a bound: they may come at a better moment.
const OUTLIERS_SHARE: u64 = 20;

/// What is predicted, where.
pub(super) struct BatchSubject<'a> {
    pub(super) dataset: &'a Arc<Dataset>,
    /// H, W, C of the images.
    pub(super) image: [usize; 3],
    pub(super) loader: &'a LoaderOptions,
    pub(super) transform: &'a Arc<dyn Transform>,
    pub(super) compute: &'a Compute,
    pub(super) answers: Answers,
    /// Bytes of the models that come into memory after this one and stay beside it; none for a model that is there before all others or alone, and
    /// whose plan alone is told.
    pub(super) later_models: Option<u64>,
    /// Of predictions that go on, how they were begun: they stay so, whatever is planned.
    pub(super) begun: Option<Begun>,
    /// Looks into the pass of one image, where that does not fit.
    pub(super) post_mortem: &'a dyn Fn() -> PostMortem,
}

/// Most images in a pass of predictions that go on, each view of an image counted as one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    pub(super) at_once: usize,
    /// Why so many.
    pub(super) reason: &'static str,
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
            let at_once = asked.min(work).max(1);
            self.tell_begun(at_once);
            return Ok(PlannedBatch { images: asked, at_once, expected: None });
        }
        // An ensemble's model before this one has set it, and a rehearsal is no work to be given up.
        heap::set_limit(None);
        let budget = self.compute.budget(budget)?;
        let loading = self.loading_bytes();
        let beside = |at_once| self.bytes_beside(self.images_of(at_once), loading.as_ref());
        let base_bytes = self.compute.meter().current_bytes();
        let later_bytes = self.later_bytes();
        let needs =
            Needs { images: self.dataset.len(), work, later_bytes, beside: &beside, post_mortem: self.post_mortem };
        let fitting = fitting_batch(model, self.image, options, self.compute, &budget, &needs)?;
        let fitting = self.with_loading(fitting, base_bytes, loading.as_ref());
        let peak_bytes = fitting.peak_bytes + self.later_models.unwrap_or(0);
        if self.later_models.is_none() && !self.tell_begun(fitting.at_once) {
            self.tell(&fitting, work, peak_bytes, &budget);
        }
        self.compute.meter().reset();
        let is_largest = fitting.at_once == work.min(largest_batch(self.compute));
        let Budget { budget_bytes, .. } = budget;
        let expected = Some(Expected { peak_bytes, budget_bytes, is_bound: fitting.is_bound, is_largest });
        Ok(PlannedBatch { images: self.images_of(fitting.at_once), at_once: fitting.at_once, expected })
    }

    /// Images that are loaded together for passes of so many.
    fn images_of(&self, at_once: usize) -> usize {
        at_once.min(self.dataset.len())
    }

    /// The batch with the peak of all: of passes with what lies beside them, or of loading before the first, where `base_bytes` are held.
    fn with_loading(&self, pass: FittingBatch, base_bytes: u64, loading: Option<&LoadingBytes>) -> FittingBatch {
        let images = self.images_of(pass.at_once);
        let passing_bytes = pass.peak_bytes + self.bytes_beside(images, loading);
        let peak_bytes = passing_bytes.max(base_bytes + self.bytes_before(images, loading));
        let outliers = loading.map_or(0, |loading| loading.excess(images));
        FittingBatch { peak_bytes, is_bound: pass.is_bound || outliers > peak_bytes / OUTLIERS_SHARE, ..pass }
    }

    /// What loading takes in the memory that models compute in. On a card that is nothing.
    fn loading_bytes(&self) -> Option<LoadingBytes> {
        let measure =
            || LoadingBytes::measure(self.dataset, self.transform, self.loader, self.compute.meter().as_ref());
        self.compute.is_cpu().then(measure)
    }

    /// The most that lies in the same memory as passes over so many images: batches that wait, what workers have in their hands, and answers
    /// that are held. On a card nothing does.
    fn bytes_beside(&self, images: usize, loading: Option<&LoadingBytes>) -> u64 {
        let Some(loading) = loading else { return 0 };
        let held = if self.answers == Answers::Written { images } else { self.dataset.len() };
        self.waiting(images) as u64 * self.image_bytes() + loading.most(images) + self.answer_bytes(held)
    }

    /// The most that loading takes before the first pass.
    fn bytes_before(&self, images: usize, loading: Option<&LoadingBytes>) -> u64 {
        let Some(loading) = loading else { return 0 };
        (images + self.waiting(images)) as u64 * self.image_bytes() + loading.most(0)
    }

    /// Images in batches that are ready or in the making, while others are in a pass.
    fn waiting(&self, images: usize) -> usize {
        let batches = self.loader.prefetch_batches + 1;
        (batches * images).min(self.dataset.len().saturating_sub(images))
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

    /// One image as it waits, a byte a channel.
    fn image_bytes(&self) -> u64 {
        self.image.iter().product::<usize>() as u64
    }

    /// Tells with how many images at once predictions go on, where that is not what is planned now. Whether it did.
    fn tell_begun(&self, planned: usize) -> bool {
        let Some(begun) = self.begun.filter(|begun| begun.at_once != planned) else { return false };
        let images = if begun.at_once == 1 { "image" } else { "images" };
        ui::note(format_args!("{} {images} at once: {}", begun.at_once, begun.reason));
        true
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
