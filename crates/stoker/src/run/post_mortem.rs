//! Where a single image does not fit: what takes most, and which setting would save most, both by the recorded step.

use memory_planner::{Checkpointing, LargeTensor, Liveness, Precision, Rung, format_bytes};

use crate::config::{AutoSide, OptimizerName};
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::Subject;

/// Tensors that are named.
const LARGEST_SHOWN: usize = 3;

/// A smaller image to compare with has at most this share of the side, and is a whole number of steps.
const SMALLER_SIDE: (usize, usize) = (3, 4);
const SIDE_STEP: usize = 32;

/// A setting that would make the step smaller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remedy {
    /// The key.
    pub(crate) key: &'static str,
    /// Its value.
    pub(crate) value: String,
    /// What it saves at the peak of a step of one image.
    pub(crate) saved_bytes: u64,
}

impl Remedy {
    /// As a configuration has it: `memory.checkpointing: segments`.
    pub(crate) fn setting(&self) -> String {
        format!("`{}: {}`", self.key, self.value)
    }

    /// As a flag: `--set memory.checkpointing=segments`.
    pub(crate) fn flag(&self) -> String {
        format!("`--set {}={}`", self.key, self.value)
    }
}

/// What a step of one image takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PostMortem {
    /// Its peak.
    pub(crate) peak_bytes: u64,
    /// A line for each of the largest tensors at the peak.
    largest: Vec<String>,
    /// Settings that make it smaller, the best first.
    pub(crate) remedies: Vec<Remedy>,
}

impl PostMortem {
    /// Looks into a step of one image, as `rung` computes it; it could be computed in `half`, where that is known. Records the step some five times.
    pub(crate) fn of(subject: &Subject<'_>, rung: Rung, half: Option<Precision>) -> Self {
        let trace = subject.recorded(rung, 1, accumulates(subject));
        let Ok(liveness) = Liveness::of(&trace) else { return Self::default() };
        let of = |tensor: &LargeTensor| {
            let layer = if tensor.layer.is_empty() { "outside the model" } else { &tensor.layer };
            format!("{} in {layer}: {}", format_bytes(tensor.bytes), tensor.describe())
        };
        let largest = liveness.largest_tensors(LARGEST_SHOWN).iter().map(of).collect();
        let peak_bytes = liveness.peak_bytes;
        Self { peak_bytes, largest, remedies: remedies(subject, rung, half, peak_bytes) }
    }

    /// What takes most, and what each setting would save, as lines.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut lines = self.largest.clone();
        if !self.remedies.is_empty() {
            let saving = |remedy: &Remedy| format!("{} {}", remedy.setting(), format_bytes(remedy.saved_bytes));
            let savings: Vec<String> = self.remedies.iter().map(saving).collect();
            let whole = format_bytes(self.peak_bytes);
            lines.push(format!(
                "of {whole} that the recorded step of one image holds, would save: {}",
                savings.join(", ")
            ));
        }
        lines
    }
}

/// Whether the step sums gradients when it is computed image by image.
fn accumulates(subject: &Subject<'_>) -> bool {
    subject.plan_request().effective_batch.is_some_and(|effective| effective > 1)
}

/// Settings that save something, the one that saves most first.
fn remedies(subject: &Subject<'_>, rung: Rung, half: Option<Precision>, peak_bytes: u64) -> Vec<Remedy> {
    let mut found = Vec::new();
    let mut keep = |key, value: String, changed: Option<u64>| {
        let saved_bytes = peak_bytes.saturating_sub(changed.unwrap_or(u64::MAX));
        if saved_bytes > 0 {
            found.push(Remedy { key, value, saved_bytes });
        }
    };
    if rung.checkpointing != Checkpointing::Segments {
        let peak = peak_of(subject, Rung { checkpointing: Checkpointing::Segments, ..rung });
        keep("memory.checkpointing", Checkpointing::Segments.to_string(), peak);
    }
    if let Some(precision) = half.filter(|_| rung.precision == Precision::Fp32) {
        keep("train.precision", precision.to_string(), peak_of(subject, Rung { precision, ..rung }));
    }
    if let Some((side, peak)) = smaller_image(subject, rung) {
        keep("model.image_size", side.to_string(), Some(peak));
    }
    if subject.resolved.config.train.optimizer != OptimizerName::Adafactor {
        let name = OptimizerName::Adafactor;
        let peak = peak_with(subject, rung, |resolved| resolved.config.train.optimizer = name);
        keep("train.optimizer", name.as_str().to_owned(), peak);
    }
    found.sort_by_key(|remedy| std::cmp::Reverse(remedy.saved_bytes));
    found
}

fn peak_of(subject: &Subject<'_>, rung: Rung) -> Option<u64> {
    let trace = subject.recorded(rung, 1, accumulates(subject));
    Liveness::of(&trace).ok().map(|liveness| liveness.peak_bytes)
}

/// The peak under a changed configuration; none where the model does not take it.
fn peak_with(subject: &Subject<'_>, rung: Rung, change: impl FnOnce(&mut ResolvedConfig)) -> Option<u64> {
    let mut resolved = subject.resolved.clone();
    change(&mut resolved);
    let architecture = resolved.architecture().ok()?;
    peak_of(&Subject { resolved: &resolved, architecture: &architecture, ..*subject }, rung)
}

/// The largest image side that the model takes and that is clearly smaller, and the peak with it.
fn smaller_image(subject: &Subject<'_>, rung: Rung) -> Option<(usize, u64)> {
    let (share, whole) = SMALLER_SIDE;
    let highest = subject.resolved.image_size() * share / whole / SIDE_STEP;
    let of_side = |side| {
        let smaller = AutoSide::Exactly(side);
        Some((side, peak_with(subject, rung, |resolved| resolved.config.model.image_size = smaller)?))
    };
    (1..=highest).rev().map(|steps| steps * SIDE_STEP).find_map(of_side)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::subject::bare_config;

    fn post_mortem(model: &str, side: usize, rung: Rung) -> PostMortem {
        let resolved = bare_config(model, side).unwrap();
        let architecture = resolved.architecture().unwrap();
        PostMortem::of(&Subject::without_data(&resolved, &architecture, 10), rung, Some(Precision::Bf16))
    }

    fn keys(of: &PostMortem) -> Vec<&str> {
        of.remedies.iter().map(|remedy| remedy.key).collect()
    }

    /// A model of many weights and small maps is all optimizer; one of large maps is all activations.
    #[test]
    fn what_saves_most_depends_on_what_takes_most() {
        let of_weights = post_mortem("convnext_tiny", 32, Rung::default());
        assert_eq!(keys(&of_weights)[0], "train.optimizer", "{of_weights:?}");
        let of_maps = post_mortem("convnext_atto", 512, Rung::default());
        assert!(keys(&of_maps)[0] != "train.optimizer", "{of_maps:?}");
        assert_eq!(keys(&of_maps).len(), 4);
        assert!(of_maps.remedies.is_sorted_by_key(|remedy| std::cmp::Reverse(remedy.saved_bytes)));
        let side = of_maps.remedies.iter().find(|remedy| remedy.key == "model.image_size").unwrap();
        assert_eq!(side.flag(), "`--set model.image_size=384`");
        assert!(of_maps.causes().last().unwrap().contains("`model.image_size: 384` "), "{:?}", of_maps.causes());
    }

    #[test]
    fn what_is_done_already_is_no_remedy() {
        let rung = Rung { precision: Precision::Bf16, checkpointing: Checkpointing::Segments };
        let left = post_mortem("convnext_atto", 128, rung);
        assert!(keys(&left).iter().all(|key| !["memory.checkpointing", "train.precision"].contains(key)), "{left:?}");
    }

    #[test]
    fn an_image_size_that_the_model_takes_is_named() {
        let swin = post_mortem("swin_tiny", 224, Rung::default());
        let side =
            swin.remedies.iter().find(|remedy| remedy.key == "model.image_size").expect("there is a smaller one");
        assert!(bare_config("swin_tiny", side.value.parse().unwrap()).unwrap().architecture().is_ok());
    }
}
