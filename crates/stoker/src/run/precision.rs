//! What a step computes in: what was asked for, where the device can, or what suits it.

use burn::tensor::Device;
use device::SelectedDevice;
use memory_planner::{Checkpointing, Choice, Precision, Rung, TeamPlan};
use trainer::storage_type;

use crate::config::{Checkpointing as AskedCheckpointing, Precision as Asked};
use crate::error::CommandError;

/// What is known of a device's arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// The CPU, which takes every format and gains speed from none.
    Cpu,
    /// A card of this compute capability.
    Card((u32, u32)),
    /// A card that is known by its memory alone.
    UnknownCard,
}

/// Tensor cores and instructions for bf16 begin with Ampere: NVIDIA's CUDA programming guide, table of arithmetic instructions.
const BF16_CAPABILITY: (u32, u32) = (8, 0);

/// Instructions for fp16 begin with this; the same table.
const FP16_CAPABILITY: (u32, u32) = (5, 3);

impl Arithmetic {
    /// Of a device that is here.
    pub(crate) fn of(selected: &SelectedDevice) -> Self {
        match selected {
            SelectedDevice::Cpu { .. } => Self::Cpu,
            SelectedDevice::Cuda(card) => Self::Card(card.compute_capability),
        }
    }

    /// Of a card; an unknown one counts as older than any.
    pub(crate) fn capability(self) -> (u32, u32) {
        match self {
            Self::Card(has) => has,
            Self::Cpu | Self::UnknownCard => (0, 0),
        }
    }

    /// The compute capability that the device lacks for a format; none where it has it, or nobody knows.
    fn lacks(self, precision: Precision) -> Option<(u32, u32)> {
        let needed = match precision {
            Precision::Fp32 => return None,
            Precision::Bf16 => BF16_CAPABILITY,
            Precision::Fp16 => FP16_CAPABILITY,
        };
        matches!(self, Self::Card(has) if has < needed).then_some(needed)
    }

    fn automatic(self) -> Choice {
        let fp32 = |reason| Precision::Fp32.choice(reason, None);
        match self {
            Self::Cpu => fp32("the CPU gains no speed from less"),
            Self::Card(capability) => Precision::automatic_choice(capability),
            Self::UnknownCard => fp32("what the card computes in is not known: name it with `--gpu`"),
        }
    }

    /// What may be taken instead of fp32 when that does not fit: slower there, or no faster.
    fn lower(self) -> Option<Precision> {
        match self {
            Self::Cpu => Some(Precision::Bf16),
            Self::Card(_) if self.lacks(Precision::Fp16).is_none() => Some(Precision::Fp16),
            Self::Card(_) | Self::UnknownCard => None,
        }
    }

    /// The format of 16 bits that a step may be asked to be computed in here; none where nobody knows.
    pub(crate) fn half(self) -> Option<Precision> {
        let has_bf16 = matches!(self, Self::Card(_)) && self.lacks(Precision::Bf16).is_none();
        if has_bf16 { Some(Precision::Bf16) } else { self.lower() }
    }

    /// The format of 16 bits in which a forward pass alone may take less. None on the CPU, where it takes more: what is computed is widened first, and
    /// nothing is kept for a backward pass (one image of 224 pixels: 18.7 MiB with `convnext_atto`, and 24.5 in bf16).
    pub(crate) fn half_of_prediction(self) -> Option<Precision> {
        self.half().filter(|_| self != Self::Cpu)
    }
}

/// The formats that a step may be computed in, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Precisions {
    /// Tried first.
    pub(crate) first: Precision,
    /// Tried when a step does not fit in the first.
    pub(crate) lower: Option<Precision>,
    /// What the first tries are to keep, where that is not for the configuration to say.
    checkpointing: Option<Checkpointing>,
    reason: String,
    /// Whether nobody asked for the first.
    is_automatic: bool,
}

impl Precisions {
    /// What `setting` asks for on a device of this arithmetic, which `name` is called by.
    ///
    /// # Errors
    /// A format that the device has no instructions for.
    pub(crate) fn choose(
        setting: &str,
        asked: Asked,
        arithmetic: Arithmetic,
        name: &str,
    ) -> Result<Self, CommandError> {
        let Some(fixed) = asked.fixed() else {
            let choice = arithmetic.automatic();
            let first: Precision = choice.value.parse().expect("the choice is a precision in words");
            let lower = arithmetic.lower().filter(|_| first == Precision::Fp32);
            return Ok(Self { first, lower, checkpointing: None, reason: choice.reason, is_automatic: true });
        };
        match (arithmetic.lacks(fixed), arithmetic) {
            (Some((major, minor)), Arithmetic::Card(has)) => {
                let message = format!(
                    "`{setting}: {fixed}` needs compute capability {major}.{minor}, and {name} has {}.{}",
                    has.0, has.1
                );
                Err(CommandError::wrong_request(message).with_hint(ways_out(setting, arithmetic)))
            }
            _ => {
                let reason = format!("set by `{setting}`");
                Ok(Self { first: fixed, lower: None, checkpointing: None, reason, is_automatic: false })
            }
        }
    }

    /// The same, begun as the team's settings say where nobody said otherwise. What the ladder has below stays: less memory may be free today.
    #[must_use]
    pub(crate) fn begun_as(self, team: &TeamPlan) -> Self {
        let checkpointing = Some(team.checkpointing);
        if !self.is_automatic {
            return Self { checkpointing, ..self };
        }
        let lower = self.lower.filter(|lower| *lower != team.precision);
        Self { first: team.precision, lower, checkpointing, reason: "team settings".to_owned(), is_automatic: true }
    }

    /// What to take when no step in the first runs at all, however small: its kernels may fail where those of fp32 do not.
    pub(crate) fn after_failure(&self) -> Option<Self> {
        let reason = format!("no step in {} runs on this device", self.first);
        let may = self.is_automatic && self.first != Precision::Fp32;
        let checkpointing = self.checkpointing;
        may.then_some(Self { first: Precision::Fp32, lower: None, checkpointing, reason, is_automatic: true })
    }

    /// The ways to compute a step from the first to the lowest; see [`Rung::ladder`]. On the CPU bf16 may take more than fp32, since what is computed is
    /// widened first: the ways to keep less are tried in fp32, too, at the end.
    pub(crate) fn rungs(&self, checkpointing: Checkpointing, ways: &[Checkpointing]) -> Vec<Rung> {
        let first = self.checkpointing.unwrap_or(checkpointing);
        // Ways that keep more than the first are not below it.
        let begin = ways.iter().position(|way| *way == first).map_or(0, |position| position + 1);
        let mut rungs = Rung::ladder(Rung { precision: self.first, checkpointing: first }, self.lower, &ways[begin..]);
        // No card has bf16 below its first format.
        if self.lower == Some(Precision::Bf16) {
            rungs.extend(ways[begin..].iter().map(|&checkpointing| Rung { precision: self.first, checkpointing }));
        }
        rungs
    }

    /// Why a step is computed as `taken` says.
    pub(crate) fn reason(&self, taken: Precision) -> String {
        match taken == self.first {
            true => self.reason.clone(),
            false => format!("nothing fits in {}", self.first),
        }
    }

    /// The choice for a plan.
    pub(crate) fn choice(&self, taken: Precision) -> Choice {
        taken.choice(&self.reason(taken), None)
    }

    /// The choice of what a step keeps for its backward pass, for a plan; `asked` is what the configuration says.
    pub(crate) fn checkpointing_choice(&self, asked: AskedCheckpointing, taken: Checkpointing) -> Choice {
        let reason = match (asked, taken) {
            (AskedCheckpointing::Auto, _) if self.checkpointing == Some(taken) => "team settings",
            (AskedCheckpointing::Auto, Checkpointing::None) => "the step fits without",
            (AskedCheckpointing::Auto, Checkpointing::Balanced) => "nothing fits without",
            (AskedCheckpointing::Auto, Checkpointing::Segments) => "nothing fits with less",
            _ => "set by `memory.checkpointing`",
        };
        taken.choice(reason, None)
    }
}

/// Refuses a format that the device at hand cannot store or compute in, whatever its kind.
pub(crate) fn check_device(
    device: &Device,
    precision: Precision,
    setting: &str,
    name: &str,
) -> Result<(), CommandError> {
    if device.supports_dtype(storage_type(precision)) {
        return Ok(());
    }
    let message = format!("{name} does not compute in `{setting}: {precision}`");
    Err(CommandError::wrong_request(message).with_hint(format!("set `{setting}: fp32`")))
}

fn ways_out(setting: &str, arithmetic: Arithmetic) -> String {
    match arithmetic.lacks(Precision::Fp16) {
        None => format!("set `{setting}: fp16`, or leave it at `auto`"),
        Some(_) => format!("set `{setting}: fp32`, or leave it at `auto`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(asked: Asked, arithmetic: Arithmetic) -> Result<Precisions, CommandError> {
        Precisions::choose("train.precision", asked, arithmetic, "the card")
    }

    fn automatic(arithmetic: Arithmetic) -> (Precision, Option<Precision>) {
        let chosen = choose(Asked::Auto, arithmetic).unwrap();
        (chosen.first, chosen.lower)
    }

    #[test]
    fn auto_takes_what_suits_the_device_and_goes_lower_only_from_fp32() {
        assert_eq!(automatic(Arithmetic::Cpu), (Precision::Fp32, Some(Precision::Bf16)));
        assert_eq!(automatic(Arithmetic::Card((6, 1))), (Precision::Fp32, Some(Precision::Fp16)));
        assert_eq!(automatic(Arithmetic::Card((7, 5))), (Precision::Fp16, None));
        assert_eq!(automatic(Arithmetic::Card((8, 6))), (Precision::Bf16, None));
        assert_eq!(automatic(Arithmetic::UnknownCard), (Precision::Fp32, None));
    }

    #[test]
    fn only_what_nobody_asked_for_gives_way_to_fp32_where_it_fails() {
        let after = |asked| choose(asked, Arithmetic::Card((8, 6))).unwrap().after_failure();
        assert_eq!(after(Asked::Auto).unwrap().reason(Precision::Fp32), "no step in bf16 runs on this device");
        assert_eq!((after(Asked::Bf16), after(Asked::Fp32)), (None, None));
    }

    fn team(precision: Precision, checkpointing: Checkpointing) -> TeamPlan {
        TeamPlan {
            precision,
            checkpointing,
            micro_batch: 8,
            accumulation_steps: 4,
            effective_batch: 32,
            peak_bytes: 1 << 30,
            share_of_memory: 0.5,
        }
    }

    /// The settings of an idle card are where the ladder begins, and not all of it.
    #[test]
    fn a_team_begins_the_ladder_and_what_is_below_stays() {
        let ways = [Checkpointing::Balanced, Checkpointing::Segments];
        let rungs = |asked, arithmetic, team: TeamPlan| {
            let begun = choose(asked, arithmetic).unwrap().begun_as(&team);
            begun.rungs(Checkpointing::None, &ways).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let old = Arithmetic::Card((6, 1));
        assert_eq!(
            rungs(Asked::Auto, old, team(Precision::Fp16, Checkpointing::Balanced)),
            ["fp16 with checkpointing", "fp16 with segments recomputed"]
        );
        assert_eq!(
            rungs(Asked::Auto, old, team(Precision::Fp32, Checkpointing::None)),
            ["fp32", "fp16", "fp16 with checkpointing", "fp16 with segments recomputed"]
        );
        assert_eq!(
            rungs(Asked::Fp32, old, team(Precision::Fp32, Checkpointing::Segments)),
            ["fp32 with segments recomputed"]
        );
        let begun = choose(Asked::Auto, Arithmetic::Card((8, 6))).unwrap();
        let begun = begun.begun_as(&team(Precision::Bf16, Checkpointing::None));
        assert_eq!(begun.reason(Precision::Bf16), "team settings");
        assert_eq!(begun.after_failure().unwrap().first, Precision::Fp32);
    }

    #[test]
    fn on_the_cpu_less_is_kept_in_fp32_too_and_a_card_goes_on_in_16_bits() {
        let rungs = |arithmetic| {
            let rungs = choose(Asked::Auto, arithmetic).unwrap().rungs(Checkpointing::None, &[Checkpointing::Segments]);
            rungs.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let of_cpu = ["fp32", "bf16", "bf16 with segments recomputed", "fp32 with segments recomputed"];
        assert_eq!(rungs(Arithmetic::Cpu), of_cpu);
        assert_eq!(rungs(Arithmetic::Card((6, 1))), ["fp32", "fp16", "fp16 with segments recomputed"]);
    }

    #[test]
    fn the_reason_for_checkpointing_says_who_chose_it_or_what_did_not_fit() {
        let alone = choose(Asked::Auto, Arithmetic::Card((8, 6))).unwrap();
        let team = alone.clone().begun_as(&team(Precision::Bf16, Checkpointing::Balanced));
        let reason = |of: &Precisions, asked, taken| of.checkpointing_choice(asked, taken).reason;
        let auto = AskedCheckpointing::Auto;
        assert_eq!(reason(&alone, auto, Checkpointing::None), "the step fits without");
        assert_eq!(reason(&alone, auto, Checkpointing::Balanced), "nothing fits without");
        assert_eq!(reason(&team, auto, Checkpointing::Balanced), "team settings");
        assert_eq!(reason(&team, auto, Checkpointing::Segments), "nothing fits with less");
        let fixed = reason(&alone, AskedCheckpointing::None, Checkpointing::None);
        assert_eq!(fixed, "set by `memory.checkpointing`");
    }

    #[test]
    fn what_the_user_fixed_is_kept() {
        let chosen = choose(Asked::Fp32, Arithmetic::Card((8, 6))).unwrap();
        assert_eq!((chosen.first, chosen.lower), (Precision::Fp32, None));
        assert_eq!(chosen.choice(Precision::Fp32).reason, "set by `train.precision`");
    }

    #[test]
    fn a_format_that_the_card_lacks_is_refused_with_one_that_it_has() {
        let error = choose(Asked::Bf16, Arithmetic::Card((7, 5))).unwrap_err();
        let text = "`train.precision: bf16` needs compute capability 8.0, and the card has 7.5";
        assert!(error.to_string().contains(text), "{error}");
        assert!(choose(Asked::Bf16, Arithmetic::Cpu).is_ok());
        assert!(choose(Asked::Fp16, Arithmetic::Card((5, 2))).is_err());
    }
}
