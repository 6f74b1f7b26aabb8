//! What a run does about memory that runs out: the limit that it keeps, what a test injects, and what the user is told.
//!
//! Two variables of the environment are testing aids, and a run under either says so. But for `nan:` and `gradient:`, they change no result, only in
//! how small parts it is computed.
//!
//! - `STOKER_INJECT_OUT_OF_MEMORY=3,7:2,eval:1` has memory run out at optimizer step 3 (from 0) in its first micro-batch, at step 7 in its third,
//!   and in the second batch of the validation, test or prediction. An entry strikes once; twice the same strikes twice. `nan:5` gives step 5 a
//!   loss that is no number, and `gradient:5` an infinite gradient beside a loss that is one.
//! - `STOKER_INJECT_MEMORY_LIMIT=60MiB` is the limit that the heap is held to in place of `memory.limit`, without the plan knowing of it: as if the
//!   plan had estimated too little.

use std::path::Path;

use checkpoint::RunFolder;
use device::{SelectedDevice, heap};
use memory_planner::{FixedMemory, Footprint, format_bytes};
use trainer::{FaultPlan, OutOfMemory, Phase, RecoveryEvent, UncutWork};

use crate::config::MemorySize;
use crate::crash;
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::post_mortem::{PostMortem, Remedy};
use crate::ui;

const FAULTS: &str = "STOKER_INJECT_OUT_OF_MEMORY";
const LIMIT: &str = "STOKER_INJECT_MEMORY_LIMIT";

/// What a test has go wrong; nothing otherwise.
#[derive(Debug, Default)]
pub(crate) struct Injection {
    /// Moments at which memory runs out.
    pub(crate) faults: FaultPlan,
    /// A limit that the plan does not know.
    limit: Option<MemorySize>,
}

impl Injection {
    /// Reads the two variables, and says so when they are set.
    pub(crate) fn from_environment() -> Result<Self, CommandError> {
        let mut injection = Self::default();
        if let Some(text) = variable(FAULTS) {
            injection.faults = text.parse().map_err(|error| {
                let hint = format!("leave `{FAULTS}` unset: it is for tests");
                CommandError::from_request(&error).with_hint(hint).in_context(format!("cannot use `{FAULTS}`"))
            })?;
            ui::note(format_args!("testing: memory will run out at `{text}` (`{FAULTS}`)"));
        }
        if let Some(text) = variable(LIMIT) {
            let limit = text.parse().map_err(|reason: String| {
                CommandError::wrong_request(format!("`{LIMIT}` is `{text}`: {reason}"))
                    .with_hint(format!("leave `{LIMIT}` unset: it is for tests"))
            })?;
            ui::note(format_args!("testing: the heap is held to {text}, whatever was planned (`{LIMIT}`)"));
            injection.limit = Some(limit);
        }
        Ok(injection)
    }

    /// Holds the heap to the limit from now on, where the device computes in it. On a card the device itself has limits.
    pub(crate) fn hold_heap_to(&self, configured: Option<&MemorySize>, compute: &Compute) {
        if matches!(compute.selected, SelectedDevice::Cpu { .. }) {
            heap::set_limit(self.limit.as_ref().or(configured).map(MemorySize::bytes));
        }
    }

    /// What steps may take: the budget, or the limit where that is lower.
    pub(crate) fn allowed_bytes(&self, budget_bytes: u64) -> u64 {
        self.limit.as_ref().map_or(budget_bytes, |limit| limit.bytes().min(budget_bytes))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Tells on one line that memory ran out, and what comes of it.
pub(crate) fn tell_out_of_memory(event: &RecoveryEvent) {
    // The panic by which a device says so is dealt with: if another ends the program, that is the one to show.
    let panicked = crash::forget().filter(|message| OutOfMemory::from_message(message).is_some());
    let said = panicked.map_or(String::new(), |message| format!(" ({message})"));
    ui::warn(format_args!(
        "out of memory in {}{}, {} at once: {}{said}; the same images again, {} at once",
        event.phase,
        at_step(event),
        images(event.micro_batch_before),
        event.reason,
        event.micro_batch_after
    ));
}

/// Tells on one line that more fits again.
pub(crate) fn tell_growth(event: &RecoveryEvent) {
    let (before, after) = (event.micro_batch_before, event.micro_batch_after);
    ui::note(format_args!("micro-batch {before} becomes {after}{}: {}", at_step(event), event.reason));
}

/// Tells that a resumed run goes on with less at once than it was planned with.
pub(crate) fn tell_remembered(size: usize, planned: usize) {
    if size < planned {
        ui::note(format_args!(
            "micro-batch {size} in place of {planned}: memory ran out earlier in this run (`memory_events.jsonl`)"
        ));
    }
}

/// Tells that the limit was passed where nothing can be done in smaller parts.
pub(crate) fn tell_limit_passed(before: &str, work: &UncutWork) {
    // A twentieth more: the heap of the next time is not the same to the byte.
    let enough = (work.held_bytes + work.held_bytes / 20).div_ceil(1 << 20);
    ui::warn(format_args!(
        "the heap held {} of at most {} outside of forward and backward passes, {before}, where nothing can be cut: `memory.limit: {enough}MiB` would do",
        format_bytes(work.held_bytes),
        format_bytes(work.limit_bytes)
    ));
}

fn at_step(event: &RecoveryEvent) -> String {
    match (event.phase, event.step) {
        (Phase::Evaluation, Some(step)) => format!(" after {step} steps"),
        (_, Some(step)) => format!(" at step {step}"),
        (_, None) => String::new(),
    }
}

fn images(count: usize) -> String {
    format!("{count} {}", if count == 1 { "image" } else { "images" })
}

/// The post-mortem of a run in which a single image did not fit: what is kept in memory, and what would help most.
pub(crate) fn explain_out_of_memory(
    error: CommandError,
    reason: &OutOfMemory,
    (footprint, remedies): (&Footprint, &[Remedy]),
    folder: &RunFolder,
    go_on: &str,
) -> CommandError {
    let config = folder.resolved_config();
    let config = config.display();
    let has_checkpoint = folder.last().exists();
    let best = best_remedy(remedies, has_checkpoint, excess_bytes(reason, footprint));
    let elsewhere = "end what else holds memory on the device";
    let way_out = match (reason, reason.sufficient_limit_mebibytes()) {
        (_, Some(held)) => {
            let mebibytes = held.max(one_image_mebibytes(footprint));
            let limit = format!("set `memory.limit: {mebibytes}MiB` or more in `{config}`");
            let or_remedy = |best: &Remedy| {
                format!("{limit}, or {}, which saves most, {}", best.setting(), format_bytes(best.saved_bytes))
            };
            best.map_or_else(|| limit.clone(), or_remedy)
        }
        (OutOfMemory::Injected, _) => format!("memory did not really run out: unset `{FAULTS}`"),
        // How much was lacking is not known: the saving is told, not that it is enough.
        _ => match best {
            Some(best) => {
                let saved = format_bytes(best.saved_bytes);
                format!("set {} in `{config}`, which saves most, {saved}, or {elsewhere}", best.setting())
            }
            // Another model could not take the checkpoint's weights.
            None if has_checkpoint => elsewhere.to_owned(),
            None => format!("choose a smaller `model.name` in `{config}`, or {elsewhere}"),
        },
    };
    let from = if has_checkpoint { " from the last checkpoint, which is whole" } else { "" };
    let hint = format!("{way_out}; then go on{from}: {go_on}");
    error.with_causes(vec![kept_in_memory(&footprint.fixed), per_image(footprint)]).with_hint(hint)
}

/// What lacks of the limit, by what was held or what the plan expects; none where no limit is known.
fn excess_bytes(reason: &OutOfMemory, footprint: &Footprint) -> Option<u64> {
    match reason {
        OutOfMemory::Limit { held_bytes, limit_bytes } => {
            let enough_bytes = one_image_mebibytes(footprint) << 20;
            Some(enough_bytes.max(*held_bytes).saturating_sub(*limit_bytes))
        }
        OutOfMemory::Device { .. } | OutOfMemory::Injected => None,
    }
}

/// The setting that saves most and at least the excess, where that is known. A run with a checkpoint goes on only with the optimizer's state that it was
/// written with.
fn best_remedy(remedies: &[Remedy], has_checkpoint: bool, excess_bytes: Option<u64>) -> Option<&Remedy> {
    let mut admitted = remedies.iter().filter(|remedy| !(has_checkpoint && remedy.changes_state()));
    admitted.next().filter(|best| excess_bytes.is_none_or(|excess| best.saved_bytes >= excess))
}

/// The post-mortem of a prediction in which a single image did not fit. `config` is the file that predictions take their limit from.
pub(crate) fn explain_prediction(
    error: CommandError,
    reason: &OutOfMemory,
    post_mortem: &PostMortem,
    other_models_bytes: u64,
    config: &Path,
) -> CommandError {
    let hint = match (reason, reason.sufficient_limit_mebibytes()) {
        (OutOfMemory::Injected, _) => format!("memory did not really run out: unset `{FAULTS}`"),
        (_, Some(enough)) => {
            post_mortem.or_precision(format!("set `memory.limit: {enough}MiB` or more in `{}`", config.display()))
        }
        _ => post_mortem
            .or_precision("end what else holds memory on the device, or predict on the CPU: `--device cpu`".to_owned()),
    };
    error.with_causes(prediction_causes(post_mortem, other_models_bytes)).with_hint(hint)
}

/// What is kept whatever the batch, and what takes most in the pass of one image.
pub(crate) fn prediction_causes(post_mortem: &PostMortem, other_models_bytes: u64) -> Vec<String> {
    let mut causes = Vec::new();
    if post_mortem.kept != FixedMemory::default() {
        causes.push(kept_in_memory(&post_mortem.kept));
    }
    if other_models_bytes > 0 {
        causes.push(format!("other models need {} beside this one", format_bytes(other_models_bytes)));
    }
    causes.extend(post_mortem.causes());
    causes
}

/// What the plan expects of steps with one image at once. The first step holds less: the optimizer has no state before it.
fn one_image_mebibytes(footprint: &Footprint) -> u64 {
    let bytes = footprint.peak_bytes(1).saturating_add(footprint.accumulation_extra);
    // A twentieth more: what is measured elsewhere is not the same to the byte.
    (bytes + bytes / 20).div_ceil(1 << 20)
}

fn kept_in_memory(fixed: &FixedMemory) -> String {
    let parts = [
        ("weights", fixed.weights),
        ("running statistics", fixed.buffers),
        ("gradients", fixed.gradients),
        ("optimizer", fixed.optimizer),
        ("averaged weights", fixed.ema),
        ("process and image loading", fixed.overhead),
    ];
    let parts = parts.iter().filter(|(_, bytes)| *bytes > 0);
    let parts: Vec<String> = parts.map(|(name, bytes)| format!("{name} {}", format_bytes(*bytes))).collect();
    format!("whatever the batch, there are {}", parts.join(", "))
}

fn per_image(footprint: &Footprint) -> String {
    let activations = format_bytes(footprint.per_sample.activations);
    format!("an image more or less is {activations} of activations")
}

#[cfg(test)]
mod tests {
    use trainer::STEPS_BEFORE_GROWTH;

    use super::*;

    #[test]
    fn the_reference_names_the_steps_before_growth() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md")).unwrap();
        let line = page.lines().find(|line| line.starts_with("| `train.adaptive_batch`")).unwrap();
        assert!(line.contains(&format!("after {STEPS_BEFORE_GROWTH} steps without trouble")), "{line}");
    }

    fn remedies() -> Vec<Remedy> {
        let of = |key, value: &str, mib: u64| Remedy { key, value: value.to_owned(), saved_bytes: mib << 20 };
        vec![of("train.optimizer", "sgd", 13), of("train.ema_decay", "null", 12), of("model.image_size", "96", 5)]
    }

    #[test]
    fn a_remedy_covers_the_excess_or_is_not_named() {
        let best = |has_checkpoint, excess_mib: u64| {
            let remedies = remedies();
            let best = best_remedy(&remedies, has_checkpoint, Some(excess_mib << 20));
            best.map(|best| best.key)
        };
        let optimizer = Some("train.optimizer");
        assert_eq!([best(false, 11), best(false, 13), best(false, 14)], [optimizer, optimizer, None]);
        assert_eq!([best(true, 5), best(true, 6)], [Some("model.image_size"), None]);
    }

    #[test]
    fn the_excess_is_what_lacks_of_the_limit_and_unknown_without_one() {
        let known = FixedMemory { weights: 50 << 20, ..FixedMemory::default() };
        let observations =
            [1usize, 2].map(|batch| memory_planner::Observation { batch, peak_bytes: (50 + 10 * batch as u64) << 20 });
        let footprint = Footprint::from_measurements(known, 1, &observations).unwrap();
        let limited = |held: u64| {
            let reason = OutOfMemory::Limit { held_bytes: held << 20, limit_bytes: 50 << 20 };
            excess_bytes(&reason, &footprint).map(|bytes| bytes >> 20)
        };
        // One image takes 60 MiB, and a twentieth more.
        assert_eq!([limited(55), limited(90)], [Some(13), Some(40)]);
        assert_eq!(excess_bytes(&OutOfMemory::Injected, &footprint), None);
    }

    #[test]
    fn without_the_variables_nothing_is_injected() {
        let injection = Injection::default();
        assert!(injection.faults.is_empty());
        assert_eq!(injection.allowed_bytes(7), 7);
    }

    #[test]
    fn a_limit_below_the_budget_is_what_steps_may_take() {
        let injection = Injection { limit: Some("5".parse().unwrap()), ..Injection::default() };
        assert_eq!((injection.allowed_bytes(7), injection.allowed_bytes(3)), (5, 3));
    }
}
