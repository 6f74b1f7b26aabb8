//! Where a single image does not fit: what takes most, and which setting would save most, both by the recorded step or forward pass.

use memory_planner::{Checkpointing, FixedMemory, LargeTensor, Liveness, Precision, Rung, Trace, format_bytes};
use memory_probe::fixed_memory;

use crate::config::{AutoSide, OptimizerName};
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::Subject;

/// Tensors that are named.
const LARGEST_SHOWN: usize = 3;

/// What saves less than this part of the peak is no way out by itself.
const WORTH_A_TRY: u64 = 4;

/// A smaller image to compare with has at most this share of the side, and is a whole number of steps.
const SMALLER_SIDE: (usize, usize) = (3, 4);
const SIDE_STEP: usize = 32;

/// A step takes this part more than its recording shows: scratch of kernels and of threads, and gaps of an allocator, are in none.
const NOT_RECORDED: u64 = 8;

/// A setting that would make the step smaller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remedy {
    /// The key.
    pub(crate) key: &'static str,
    /// Its value.
    pub(crate) value: String,
    /// What it saves at the peak of the step or the pass that was recorded.
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

    /// Whether a checkpoint would not hold what the optimizer or the average keeps under it, so that a run cannot go on.
    pub(crate) fn changes_state(&self) -> bool {
        ["train.optimizer", "train.ema_decay"].contains(&self.key)
    }
}

/// What a step takes, of one image or of the fewest that were asked for, or the forward pass of a prediction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PostMortem {
    /// Its peak.
    pub(crate) peak_bytes: u64,
    /// What is there whatever the batch.
    pub(crate) kept: FixedMemory,
    /// What was recorded, in a word.
    work: &'static str,
    /// Images in it.
    images: usize,
    /// A line for each of the largest tensors at the peak.
    largest: Vec<String>,
    /// Settings that make it smaller, the best first.
    pub(crate) remedies: Vec<Remedy>,
}

impl PostMortem {
    /// Looks into a step of one image, as `rung` computes it; it could be computed in `half`, where that is known. Records the step some seven times.
    pub(crate) fn of(subject: &Subject<'_>, rung: Rung, half: Option<Precision>) -> Self {
        Self::of_batch(subject, rung, half, 1)
    }

    /// The same for a step of so many images at once.
    pub(crate) fn of_batch(subject: &Subject<'_>, rung: Rung, half: Option<Precision>, images: usize) -> Self {
        match Self::by_trace(&subject.recorded(rung, images, accumulates(subject, images)), "step") {
            Some(found) => {
                let found = Self { images, ..found };
                Self { remedies: remedies(subject, rung, half, &found), ..found }
            }
            None => Self::default(),
        }
    }

    /// Looks into the forward pass of one image; it could be computed in `half`, where that is known.
    pub(crate) fn of_prediction(subject: &Subject<'_>, precision: Precision, half: Option<Precision>) -> Self {
        match Self::by_trace(&subject.recorded_prediction(precision), "pass") {
            Some(found) => {
                let half = half.filter(|_| precision == Precision::Fp32);
                let remedy = half.and_then(|half| half_prediction(subject, half, found.peak_bytes));
                Self { remedies: remedy.into_iter().collect(), ..found }
            }
            None => Self::default(),
        }
    }

    /// What takes most; nothing where the trace contradicts itself.
    fn by_trace(trace: &Trace, work: &'static str) -> Option<Self> {
        let liveness = Liveness::of(trace).ok()?;
        let of = |tensor: &LargeTensor| {
            let layer = if tensor.layer.is_empty() { "outside the model" } else { &tensor.layer };
            format!("{} in {layer}: {}", format_bytes(tensor.bytes), tensor.describe())
        };
        let largest = liveness.largest_tensors(LARGEST_SHOWN).iter().map(of).collect();
        let (peak_bytes, kept) = (liveness.peak_bytes, fixed_memory(trace));
        Some(Self { peak_bytes, kept, work, images: 1, largest, remedies: Vec::new() })
    }

    /// With those settings alone among the remedies that `may_change`.
    #[must_use]
    pub(crate) fn with_remedies_that(mut self, may_change: fn(&str) -> bool) -> Self {
        self.remedies.retain(|remedy| may_change(remedy.key));
        self
    }

    /// What takes most, and what each setting would save, as lines.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut lines = self.largest.clone();
        if !self.remedies.is_empty() {
            let saving = |remedy: &Remedy| format!("{} {}", remedy.setting(), format_bytes(remedy.saved_bytes));
            let savings: Vec<String> = self.remedies.iter().map(saving).collect();
            let (whole, work) = (format_bytes(self.peak_bytes), self.work);
            lines.push(format!(
                "of {whole} that the recorded {work} of {} holds, would save: {}",
                self.images_in_words(),
                savings.join(", ")
            ));
        }
        lines
    }

    fn images_in_words(&self) -> String {
        match self.images {
            1 => "one image".to_owned(),
            images => format!("{images} images"),
        }
    }

    /// What holds a step like the recorded one, beside so many bytes of other things.
    pub(crate) fn enough_bytes(&self, beside_bytes: u64) -> u64 {
        let bytes = self.peak_bytes.saturating_add(beside_bytes);
        bytes.saturating_add(bytes / NOT_RECORDED)
    }

    /// A way out for a step that lacks `gap_bytes`, and beside it the setting that saves most: as another way out only where it saves enough.
    pub(crate) fn or_remedy(&self, way_out: String, gap_bytes: Option<u64>) -> String {
        let Some(best) = self.remedies.first() else { return way_out };
        let (flag, saved) = (best.flag(), format_bytes(best.saved_bytes));
        let of = format!("{saved} of a step of {}", self.images_in_words());
        match gap_bytes {
            Some(gap) if gap <= best.saved_bytes => {
                format!("{way_out}; or {flag}, which saves {of}, where {} lack", format_bytes(gap))
            }
            Some(gap) => {
                let gap = format_bytes(gap);
                format!("{way_out}; no setting alone saves the {gap} that lack: {flag} saves most, {of}")
            }
            None => format!("{way_out}; of the settings, {flag} saves most: {of}"),
        }
    }

    /// A way out for a prediction, and beside it the precision that saves much, where one does.
    pub(crate) fn or_precision(&self, way_out: String) -> String {
        let worth_a_try = |remedy: &&Remedy| remedy.saved_bytes >= self.peak_bytes / WORTH_A_TRY;
        match self.remedies.first().filter(worth_a_try) {
            Some(Remedy { value, saved_bytes, .. }) => {
                format!("{way_out}, or pass `--precision {value}`, which saves {}", format_bytes(*saved_bytes))
            }
            None => way_out,
        }
    }
}

/// The precision of a prediction, where it makes the pass smaller.
fn half_prediction(subject: &Subject<'_>, half: Precision, peak_bytes: u64) -> Option<Remedy> {
    let trace = subject.recorded_prediction(half);
    let changed = Liveness::of(&trace).ok()?.peak_bytes;
    let saved_bytes = peak_bytes.checked_sub(changed).filter(|saved| *saved > 0)?;
    Some(Remedy { key: "predict.precision", value: half.to_string(), saved_bytes })
}

/// Whether the step sums gradients when it is computed by so many images at once.
fn accumulates(subject: &Subject<'_>, images: usize) -> bool {
    subject.plan_request().effective_batch.is_some_and(|effective| effective > images)
}

/// Settings that save something of the step that was `found`, the one that saves most first.
fn remedies(subject: &Subject<'_>, rung: Rung, half: Option<Precision>, found: &PostMortem) -> Vec<Remedy> {
    let step = (rung, found.images);
    let mut remedies = Vec::new();
    let mut keep = |key, value: String, changed: Option<u64>| {
        let saved_bytes = found.peak_bytes.saturating_sub(changed.unwrap_or(u64::MAX));
        if saved_bytes > 0 {
            remedies.push(Remedy { key, value, saved_bytes });
        }
    };
    if rung.checkpointing != Checkpointing::Segments {
        let segments = Rung { checkpointing: Checkpointing::Segments, ..rung };
        let peak = peak_of(subject, (segments, found.images));
        keep("memory.checkpointing", Checkpointing::Segments.to_string(), peak);
    }
    if let Some(precision) = half.filter(|_| rung.precision == Precision::Fp32) {
        let peak = peak_of(subject, (Rung { precision, ..rung }, found.images));
        keep("train.precision", precision.to_string(), peak);
    }
    if let Some((side, peak)) = smaller_image(subject, step) {
        keep("model.image_size", side.to_string(), Some(peak));
    }
    for name in [OptimizerName::Adafactor, OptimizerName::Sgd] {
        if subject.resolved.config.train.optimizer != name {
            let peak = peak_with(subject, step, |resolved| resolved.config.train.optimizer = name);
            keep("train.optimizer", name.as_str().to_owned(), peak);
        }
    }
    if subject.resolved.config.train.ema_decay.is_some() {
        let peak = peak_with(subject, step, |resolved| resolved.config.train.ema_decay = None);
        keep("train.ema_decay", "null".to_owned(), peak);
    }
    remedies.sort_by_key(|remedy| std::cmp::Reverse(remedy.saved_bytes));
    remedies
}

fn peak_of(subject: &Subject<'_>, (rung, images): (Rung, usize)) -> Option<u64> {
    let trace = subject.recorded(rung, images, accumulates(subject, images));
    Liveness::of(&trace).ok().map(|liveness| liveness.peak_bytes)
}

/// The peak under a changed configuration; none where the model does not take it.
fn peak_with(subject: &Subject<'_>, step: (Rung, usize), change: impl FnOnce(&mut ResolvedConfig)) -> Option<u64> {
    let mut resolved = subject.resolved.clone();
    change(&mut resolved);
    let architecture = resolved.architecture().ok()?;
    peak_of(&Subject { resolved: &resolved, architecture: &architecture, ..*subject }, step)
}

/// The largest image side that the model takes and that is clearly smaller, and the peak with it.
fn smaller_image(subject: &Subject<'_>, step: (Rung, usize)) -> Option<(usize, u64)> {
    let (share, whole) = SMALLER_SIDE;
    let highest = subject.resolved.image_size() * share / whole / SIDE_STEP;
    let of_side = |side| {
        let smaller = AutoSide::Exactly(side);
        Some((side, peak_with(subject, step, |resolved| resolved.config.model.image_size = smaller)?))
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
        assert_eq!(keys(&of_maps).len(), 5);
        assert!(of_maps.remedies.is_sorted_by_key(|remedy| std::cmp::Reverse(remedy.saved_bytes)));
        let side = of_maps.remedies.iter().find(|remedy| remedy.key == "model.image_size").unwrap();
        assert_eq!(side.flag(), "`--set model.image_size=384`");
        assert!(of_maps.causes().last().unwrap().contains("`model.image_size: 384` "), "{:?}", of_maps.causes());
    }

    #[test]
    fn settings_that_must_stay_are_no_remedies() {
        let all = post_mortem("convnext_atto", 512, Rung::default());
        let left = all.with_remedies_that(|key| key.starts_with("memory."));
        assert_eq!(keys(&left), ["memory.checkpointing"]);
        assert!(left.causes().last().unwrap().contains("would save: `memory.checkpointing: "), "{:?}", left.causes());
    }

    /// Nothing is kept for a backward pass: of the weights there is one copy, and no setting of training is named.
    #[test]
    fn a_prediction_keeps_its_weights_and_may_be_computed_in_less() {
        let resolved = bare_config("convnext_atto", 512).unwrap();
        let architecture = resolved.architecture().unwrap();
        let subject = Subject::without_data(&resolved, &architecture, 10);
        let found = PostMortem::of_prediction(&subject, Precision::Fp32, Some(Precision::Bf16));
        assert_eq!(found.kept, FixedMemory { weights: found.kept.weights, ..FixedMemory::default() });
        assert!((1..found.peak_bytes).contains(&found.kept.weights), "{found:?}");
        assert_eq!((found.largest.len(), keys(&found)), (LARGEST_SHOWN, vec!["predict.precision"]));
        let saved = format_bytes(found.remedies[0].saved_bytes);
        assert_eq!(
            found.or_precision("wait".to_owned()),
            format!("wait, or pass `--precision bf16`, which saves {saved}")
        );
        assert!(found.causes().last().unwrap().contains("that the recorded pass of one image holds"), "{found:?}");
        for (precision, half) in [(Precision::Bf16, Some(Precision::Bf16)), (Precision::Fp32, None)] {
            let done = PostMortem::of_prediction(&subject, precision, half);
            assert_eq!((keys(&done), done.or_precision("wait".to_owned())), (vec![], "wait".to_owned()));
        }
    }

    #[test]
    fn averages_that_are_kept_are_a_remedy_and_those_that_are_not_are_none() {
        let mut resolved = bare_config("convnext_atto", 64).unwrap();
        let ema = |resolved: &ResolvedConfig| {
            let architecture = resolved.architecture().unwrap();
            let subject = Subject::without_data(resolved, &architecture, 10);
            let found = PostMortem::of(&subject, Rung::default(), None);
            found.remedies.into_iter().find(|remedy| remedy.key == "train.ema_decay")
        };
        assert_eq!(ema(&resolved), None);
        resolved.config.train.ema_decay = Some(0.999);
        let remedy = ema(&resolved).expect("the average is a second set of weights");
        assert_eq!(remedy.setting(), "`train.ema_decay: null`");
        assert!(remedy.saved_bytes > 10 << 20, "{remedy:?}");
    }

    #[test]
    fn a_setting_is_a_way_out_only_where_it_saves_what_lacks() {
        let best = Remedy { key: "train.optimizer", value: "sgd".to_owned(), saved_bytes: 3 << 20 };
        let found = PostMortem { images: 2, remedies: vec![best], ..PostMortem::default() };
        let with = |gap_mib: u64| found.or_remedy("wait".to_owned(), Some(gap_mib << 20));
        let saves = "`--set train.optimizer=sgd`, which saves 3.0 MiB of a step of 2 images";
        assert_eq!(with(3), format!("wait; or {saves}, where 3.0 MiB lack"));
        assert!(with(4).starts_with("wait; no setting alone saves the 4.0 MiB that lack: "), "{}", with(4));
        assert_eq!(PostMortem::default().or_remedy("wait".to_owned(), Some(1)), "wait");
    }

    #[test]
    fn a_step_of_many_images_is_recorded_as_one_of_many() {
        let resolved = bare_config("convnext_atto", 64).unwrap();
        let architecture = resolved.architecture().unwrap();
        let subject = Subject::without_data(&resolved, &architecture, 10);
        let of = |images| PostMortem::of_batch(&subject, Rung::default(), None, images);
        let (one, many) = (of(1), of(32));
        assert!(many.peak_bytes > one.peak_bytes, "{} {}", many.peak_bytes, one.peak_bytes);
        assert!(many.causes().last().unwrap().contains("that the recorded step of 32 images holds"), "{many:?}");
        assert_eq!(one.enough_bytes(0), one.peak_bytes + one.peak_bytes / 8);
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
