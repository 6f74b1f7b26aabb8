//! From a footprint, a budget and a request to a plan.

use serde::{Deserialize, Serialize};

use crate::micro_batch::choose_micro_batch;
use crate::{BatchLevels, Budget, Footprint, PlanError, Rounding, format_bytes};

/// No plan has more samples go through the model at once: configurations take no more, in `train.micro_batch_size` and `predict.batch_size`.
pub const LARGEST_BATCH: usize = 65_536;

/// No optimizer step has more samples, as in `train.effective_batch_size`: more than large data sets have are a slip of the finger, and their list of
/// micro-batches would be a burden of its own.
pub const LARGEST_EFFECTIVE_BATCH: usize = 1 << 20;

/// The largest value of a setting that counts samples: a step may have more of them than go through the model at once.
pub(crate) fn largest_of(setting: &str) -> usize {
    match setting {
        "train.effective_batch_size" => LARGEST_EFFECTIVE_BATCH,
        _ => LARGEST_BATCH,
    }
}

/// The choice that a memory report shows with the device already.
pub(crate) const BUDGET_CHOICE: &str = "budget";

/// What the user wants of a plan; everything left out is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRequest {
    /// Samples per optimizer step: `train.effective_batch_size`.
    pub effective_batch: Option<usize>,
    /// Samples per forward pass: `train.micro_batch_size`. Taken as it is, without rounding.
    pub micro_batch: Option<usize>,
    /// Which micro-batches the plan may choose.
    pub rounding: Rounding,
    /// No micro-batch chosen is smaller.
    pub minimum: Option<usize>,
    /// No micro-batch chosen is larger.
    pub maximum: Option<usize>,
    /// The micro-batch of the config as it stands, to be judged.
    pub current: Option<usize>,
    /// Cards that the micro-batches of a step are dealt round; one when left out. See [`dealt_round`](Self::dealt_round).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cards: Option<usize>,
    /// `train.effective_batch_size` where there are fewer samples to train on than that: `effective_batch` is then their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_batch_beyond_samples: Option<usize>,
}

/// How one optimizer step is cut so that it fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Samples per forward pass; the last one may be smaller.
    pub micro_batch: usize,
    /// Forward passes per optimizer step.
    pub accumulation_steps: usize,
    /// Samples per optimizer step.
    pub effective_batch: usize,
    /// Samples of each forward pass. Their sum is `effective_batch`, exactly.
    pub micro_batches: Vec<usize>,
    /// The most that a step is predicted to hold.
    pub predicted_peak_bytes: u64,
    /// What it may hold.
    pub budget_bytes: u64,
    /// The batch sizes that the budget admits.
    pub levels: BatchLevels,
    /// Everything that was decided, with its reason.
    pub choices: Vec<Choice>,
}

/// Something that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What: `micro-batch`.
    pub name: String,
    /// The outcome: `60`.
    pub value: String,
    /// Why: `the largest multiple of 4 that fits: 14.2 GiB of 15.7 GiB`.
    pub reason: String,
}

/// Plans the optimizer step: the largest micro-batch within the budget, and as many of them as the effective batch
/// needs.
///
/// - An effective batch that fits is taken whole.
/// - Otherwise the micro-batch is the largest that fits and the rounding admits, or a smaller one that divides the
///   effective batch evenly and costs no more passes, or at most 10 % of the size, and fills 90 % of the budget all the same.
/// - Without an effective batch, it is the micro-batch asked for, or the recommended level.
/// - Cards that share a step have a part of the effective batch each, or as few parts as fit, and equally many.
///
/// # Errors
/// A [`PlanError`] when the request contradicts itself, or no micro-batch that it admits fits.
pub fn plan_batch_size(footprint: &Footprint, budget: &Budget, request: &PlanRequest) -> Result<Plan, PlanError> {
    request.check()?;
    let levels = BatchLevels::new(footprint, budget, request);
    let (effective_batch, effective_choice) = choose_effective_batch(footprint, budget, request, &levels)?;
    let chosen = choose_micro_batch(footprint, budget, request, effective_batch)?;
    let micro_batches = split_effective_batch(effective_batch, chosen.batch);
    Ok(Plan {
        micro_batch: chosen.batch,
        accumulation_steps: micro_batches.len(),
        effective_batch,
        predicted_peak_bytes: chosen.peak_bytes,
        budget_bytes: budget.budget_bytes,
        levels,
        choices: vec![
            effective_choice,
            Choice::new("micro-batch", chosen.batch, chosen.reason),
            accumulation_choice(&micro_batches),
            Choice::new(BUDGET_CHOICE, format_bytes(budget.budget_bytes), budget.reason.clone()),
            footprint_choice(footprint, chosen.batch),
        ],
        micro_batches,
    })
}

/// Cuts an effective batch into micro-batches of `micro` samples and a smaller last one. The sum is exact.
///
/// A `micro` of 0 counts as 1.
pub fn split_effective_batch(effective: usize, micro: usize) -> Vec<usize> {
    let micro = micro.clamp(1, effective.max(1));
    let mut parts = vec![micro; effective / micro];
    if !effective.is_multiple_of(micro) {
        parts.push(effective % micro);
    }
    parts
}

impl Choice {
    pub(crate) fn new(name: &str, value: impl ToString, reason: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.to_string(), reason: reason.into() }
    }
}

impl PlanRequest {
    /// The same request for a step that `cards` share: no micro-batch is above what each of them takes of the effective batch, so that all have work.
    /// Without an effective batch, or for one card, it stays as it is.
    #[must_use]
    pub fn dealt_round(self, cards: usize) -> Self {
        let Some(effective) = self.effective_batch.filter(|_| cards > 1) else { return self };
        let share = Some(effective.div_ceil(cards));
        let share = share.filter(|share| self.micro_batch.is_none() && *share >= self.minimum.unwrap_or(1));
        let maximum = [self.maximum, share.map(|share| share.min(LARGEST_BATCH))].into_iter().flatten().min();
        Self { maximum, cards: Some(cards), ..self }
    }

    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let settings = [
            ("train.effective_batch_size", self.effective_batch),
            ("train.micro_batch_size", self.micro_batch),
            ("minimum batch size", self.minimum),
            ("maximum batch size", self.maximum),
        ];
        for (setting, value) in settings {
            match value {
                Some(0) => return Err(PlanError::ZeroBatch { setting }),
                Some(value) if value > largest_of(setting) => return Err(PlanError::AbsurdBatch { setting, value }),
                _ => {}
            }
        }
        self.check_bounds()
    }

    fn check_bounds(&self) -> Result<(), PlanError> {
        let (minimum, maximum) = (self.minimum.unwrap_or(1), self.maximum.unwrap_or(LARGEST_BATCH));
        if minimum > maximum {
            return Err(PlanError::MinimumAboveMaximum { minimum, maximum });
        }
        let outside = |setting, value| PlanError::OutsideBounds { setting, value, minimum, maximum };
        match (self.micro_batch, self.effective_batch) {
            (Some(micro), _) if micro < minimum || micro > maximum => Err(outside("train.micro_batch_size", micro)),
            (_, Some(effective)) if effective < minimum => Err(outside("train.effective_batch_size", effective)),
            _ => Ok(()),
        }
    }
}

fn choose_effective_batch(
    footprint: &Footprint,
    budget: &Budget,
    request: &PlanRequest,
    levels: &BatchLevels,
) -> Result<(usize, Choice), PlanError> {
    let name = "effective batch";
    if let Some(effective) = request.effective_batch {
        let reason = match request.effective_batch_beyond_samples {
            Some(asked) => format!("all images to train on: `train.effective_batch_size` {asked} is more than that"),
            None => "set by `train.effective_batch_size`".to_owned(),
        };
        return Ok((effective, Choice::new(name, effective, reason)));
    }
    if let Some(micro) = request.micro_batch {
        return Ok((micro, Choice::new(name, micro, "one micro-batch: no effective batch is set")));
    }
    let minimum = request.minimum.unwrap_or(1);
    if levels.maximum.batch < minimum {
        return Err(PlanError::does_not_fit(footprint, budget, minimum, levels.maximum.batch));
    }
    let effective = levels.recommended.batch.max(minimum);
    Ok((effective, Choice::new(name, effective, "the recommended batch: no effective batch is set")))
}

fn accumulation_choice(micro_batches: &[usize]) -> Choice {
    let reason = match micro_batches {
        [_] => "one forward pass a step".to_owned(),
        _ => split_in_words(micro_batches),
    };
    Choice::new("accumulation", micro_batches.len(), reason)
}

/// The sum, as short as it can be written: `2 x 60 + 8 = 128`.
pub(crate) fn split_in_words(micro_batches: &[usize]) -> String {
    let (Some(&first), Some(&last)) = (micro_batches.first(), micro_batches.last()) else {
        return "0".to_owned();
    };
    let total: usize = micro_batches.iter().sum();
    let full = micro_batches.iter().filter(|batch| **batch == first).count();
    match (full, last == first) {
        (1, true) => total.to_string(),
        (_, true) => format!("{full} x {first} = {total}"),
        (1, false) => format!("{first} + {last} = {total}"),
        (_, false) => format!("{full} x {first} + {last} = {total}"),
    }
}

pub(crate) fn footprint_choice(footprint: &Footprint, micro_batch: usize) -> Choice {
    let mut reason = footprint.source.describe();
    if let Some(observed) = footprint.largest_observed_batch().filter(|observed| *observed < micro_batch) {
        let ratio = micro_batch as f64 / observed as f64;
        reason.push_str(&format!("; {ratio:.1} times beyond the largest batch {}", footprint.source.verb()));
    }
    Choice::new("per sample", format_bytes(footprint.per_sample.total()), reason)
}
