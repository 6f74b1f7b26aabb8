//! How many bytes a step may take, and why.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::format_bytes;

/// Of free host memory, this share is left to others: the file cache that feeds the data loader, and whatever the user
/// opens meanwhile.
const HOST_MARGIN_SHARE: f64 = 0.20;

/// Of a card's memory, no more than this share is taken by default: what its driver and display need is not all
/// reported as used.
const CARD_CEILING_SHARE: f64 = 0.90;

/// Memory as the operating system or the driver reports it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryReading {
    /// All there is, or the limit of the container.
    pub total_bytes: u64,
    /// What can still be allocated.
    pub free_bytes: u64,
    /// What this process holds already and the footprint counts again: it is not lost to the plan.
    pub own_bytes: u64,
}

/// What the user asked of the budget; everything left out has a default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetRequest {
    /// A hard limit: `memory.limit`. No margin is taken off it unless one is asked for.
    pub limit_bytes: Option<u64>,
    /// The share of free memory to leave alone, from 0 up to but without 1: `memory.safety_margin`.
    pub safety_margin: Option<f64>,
    /// The largest share of all memory to take, above 0 and up to 1: `memory.fraction`.
    pub memory_fraction: Option<f64>,
}

/// How many bytes a step may take, and how that came to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// All memory of the device.
    pub total_bytes: u64,
    /// Held by other processes.
    pub in_use_by_others_bytes: u64,
    /// Free to this process, with what it holds already.
    pub free_bytes: u64,
    /// The share of free memory that is left alone.
    pub margin_share: f64,
    /// The user's limit.
    pub user_limit_bytes: Option<u64>,
    /// The user's margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_margin_share: Option<f64>,
    /// The user's share of all memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_fraction: Option<f64>,
    /// What a step may take.
    pub budget_bytes: u64,
    /// Which rule set `budget_bytes`, in words.
    pub reason: String,
    /// Whether the card is not here: what is not free then is its driver's, and nobody can free it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_absent: bool,
}

/// How much headroom a card needs: large cards are shared and fragment more, small ones cannot spare much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// RTX 4090, 4080, 3090, A100, V100, H100, H200 and the like.
    HighEnd,
    /// RTX 3080, 3070, 4070.
    MidRange,
    /// RTX 3060, 2080, 2070.
    Budget,
    /// GTX 1660, 1080 and older.
    LowEnd,
}

impl Tier {
    /// The share of free memory that is left alone on such a card.
    pub fn margin_share(self) -> f64 {
        match self {
            Self::HighEnd | Self::MidRange => 0.20,
            Self::Budget => 0.15,
            Self::LowEnd => 0.10,
        }
    }

    /// The tier of a card that no catalogue knows. Where memory and compute capability cannot tell two tiers apart, it
    /// takes the one with the larger margin.
    pub fn of_unknown_card(total_bytes: u64, compute_capability: (u32, u32)) -> Self {
        // A card of nominally 16 GB reports a little less than 16 GiB.
        let gibibytes = (total_bytes as f64 / f64::from(1 << 30)).round() as u64;
        match (compute_capability, gibibytes) {
            ((7.., _), 16..) => Self::HighEnd,
            ((8.., _), 8..) => Self::MidRange,
            ((7.., _), 6..) => Self::Budget,
            _ => Self::LowEnd,
        }
    }
}

impl Budget {
    /// The budget of a run on the CPU: the user's limit, or free memory less the margin (20 % by default).
    ///
    /// # Errors
    /// A [`BudgetError`] when a share is out of range, the limit is zero or nothing is free.
    pub fn for_host(reading: MemoryReading, request: &BudgetRequest) -> Result<Self, BudgetError> {
        Self::new(reading, request, HOST_MARGIN_SHARE, 1.0)
    }

    /// The budget of a run on a card: free memory less the tier's margin, and never above 90 % of the card by default.
    ///
    /// # Errors
    /// A [`BudgetError`] when a share is out of range, the limit is zero or nothing is free.
    pub fn for_card(reading: MemoryReading, tier: Tier, request: &BudgetRequest) -> Result<Self, BudgetError> {
        Self::new(reading, request, tier.margin_share(), CARD_CEILING_SHARE)
    }

    /// The budget of a run on a card that is not here, with nothing else on it: of its memory a run can get `usable_bytes`.
    ///
    /// # Errors
    /// A [`BudgetError`] when a share is out of range, the limit is zero or the card is too small for any run.
    pub fn for_absent_card(
        total_bytes: u64,
        usable_bytes: u64,
        tier: Tier,
        request: &BudgetRequest,
    ) -> Result<Self, BudgetError> {
        let reading = MemoryReading { total_bytes, free_bytes: usable_bytes, own_bytes: 0 };
        let budget = Self::for_card(reading, tier, request).map_err(|error| match error {
            // Nobody holds anything there.
            BudgetError::NothingFree { total_bytes } => BudgetError::CardTooSmall { total_bytes },
            error => error,
        })?;
        Ok(Self { is_absent: true, ..budget })
    }

    /// Whether `bytes` would fit here if other processes held nothing.
    pub fn would_hold(&self, bytes: u64) -> bool {
        let of_total = (1.0 - self.margin_share).min(self.user_fraction.unwrap_or(1.0));
        !self.is_absent && bytes <= share_of(self.total_bytes, of_total) && bytes <= self.usable_limit_bytes()
    }

    /// What the user's limit leaves to a step; everything without one.
    pub(crate) fn usable_limit_bytes(&self) -> u64 {
        usable_limit(self.user_limit_bytes, self.user_margin_share).unwrap_or(u64::MAX)
    }

    /// `bytes` as a percentage of the budget: `55.1 %`.
    pub(crate) fn percent(&self, bytes: u64) -> String {
        format!("{:.1} %", 100.0 * bytes as f64 / self.budget_bytes.max(1) as f64)
    }

    fn new(
        reading: MemoryReading,
        request: &BudgetRequest,
        default_margin: f64,
        default_fraction: f64,
    ) -> Result<Self, BudgetError> {
        request.check()?;
        let total_bytes = reading.total_bytes;
        let free_bytes = reading.free_bytes.saturating_add(reading.own_bytes).min(total_bytes);
        if free_bytes == 0 {
            return Err(BudgetError::NothingFree { total_bytes });
        }
        let margin_share = request.safety_margin.unwrap_or(default_margin);
        let rules = Rules {
            after_margin_bytes: share_of(free_bytes, 1.0 - margin_share),
            ceiling_bytes: share_of(total_bytes, request.memory_fraction.unwrap_or(default_fraction)),
            // The user's limit is meant as it is written, but a margin that is also written down holds for it too.
            limit_bytes: usable_limit(request.limit_bytes, request.safety_margin),
        };
        let mut budget = Self {
            total_bytes,
            in_use_by_others_bytes: total_bytes - free_bytes,
            free_bytes,
            margin_share,
            user_limit_bytes: request.limit_bytes,
            user_margin_share: request.safety_margin,
            user_fraction: request.memory_fraction,
            budget_bytes: rules.tightest(),
            reason: String::new(),
            is_absent: false,
        };
        budget.reason = rules.reason(&budget);
        Ok(budget)
    }
}

impl BudgetRequest {
    fn check(&self) -> Result<(), BudgetError> {
        if self.limit_bytes == Some(0) {
            return Err(BudgetError::LimitIsZero);
        }
        if let Some(value) = self.safety_margin.filter(|share| !(0.0..1.0).contains(share)) {
            return Err(BudgetError::MarginOutOfRange { value });
        }
        if let Some(value) = self.memory_fraction.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return Err(BudgetError::FractionOutOfRange { value });
        }
        Ok(())
    }
}

/// Why there is no budget.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum BudgetError {
    /// A limit of nothing.
    #[error("`memory.limit` is 0")]
    LimitIsZero,
    /// Not a share.
    #[error("`memory.safety_margin` is {value}, but must be from 0 to less than 1")]
    MarginOutOfRange {
        /// What was given.
        value: f64,
    },
    /// Not a share.
    #[error("`memory.fraction` is {value}, but must be above 0 and at most 1")]
    FractionOutOfRange {
        /// What was given.
        value: f64,
    },
    /// Other processes hold everything.
    #[error("none of {} of memory is free", format_bytes(*.total_bytes))]
    NothingFree {
        /// All memory of the device.
        total_bytes: u64,
    },
    /// Of a card that is not here, the driver and a context would keep everything.
    #[error("a card with {} has no memory left for a run: its driver and a context keep that much", format_bytes(*.total_bytes))]
    CardTooSmall {
        /// All memory of the card.
        total_bytes: u64,
    },
}

impl BudgetError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::LimitIsZero => "set `memory.limit: 2GiB`, or leave it out".to_owned(),
            Self::MarginOutOfRange { .. } => "set `memory.safety_margin: 0.2`, or leave it out".to_owned(),
            Self::FractionOutOfRange { .. } => "set `memory.fraction: 0.9`, or leave it out".to_owned(),
            Self::NothingFree { .. } => "end a process that holds memory, and run again".to_owned(),
            Self::CardTooSmall { .. } => "plan for a card with more memory, such as `--gpu-memory 2GiB`".to_owned(),
        })
    }
}

/// The three ceilings; the lowest is the budget.
struct Rules {
    after_margin_bytes: u64,
    ceiling_bytes: u64,
    limit_bytes: Option<u64>,
}

impl Rules {
    fn tightest(&self) -> u64 {
        self.without_limit().min(self.limit_bytes.unwrap_or(u64::MAX))
    }

    fn without_limit(&self) -> u64 {
        self.after_margin_bytes.min(self.ceiling_bytes)
    }

    fn reason(&self, budget: &Budget) -> String {
        let general = if self.after_margin_bytes <= self.ceiling_bytes {
            format!("{} free, less a {} margin", format_bytes(budget.free_bytes), percent(budget.margin_share))
        } else {
            let ceiling_share = self.ceiling_bytes as f64 / budget.total_bytes as f64;
            format!("{} of {} in all", percent(ceiling_share), format_bytes(budget.total_bytes))
        };
        match (self.limit_bytes, budget.user_limit_bytes) {
            (Some(usable), Some(limit)) if usable > self.without_limit() => {
                format!("{general}; `memory.limit` {} is more than that", format_bytes(limit))
            }
            (Some(usable), Some(limit)) if usable < limit => {
                format!("`memory.limit` {}, less a {} margin", format_bytes(limit), percent(budget.margin_share))
            }
            (Some(_), Some(limit)) => format!("`memory.limit` {}", format_bytes(limit)),
            _ => general,
        }
    }
}

pub(crate) fn share_of(bytes: u64, share: f64) -> u64 {
    // The product of large counts can round up past the whole.
    ((bytes as f64 * share) as u64).min(bytes)
}

/// What is left of the user's limit once the margin that the user asked for is taken off.
pub(crate) fn usable_limit(limit_bytes: Option<u64>, user_margin: Option<f64>) -> Option<u64> {
    limit_bytes.map(|limit| share_of(limit, 1.0 - user_margin.unwrap_or(0.0)))
}

fn percent(share: f64) -> String {
    let rounded = (1000.0 * share).round() / 10.0;
    format!("{rounded} %")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const GIB: u64 = 1 << 30;
    const READING: MemoryReading = MemoryReading { total_bytes: 24 * GIB, free_bytes: 19 * GIB, own_bytes: GIB };

    pub(crate) fn host(request: BudgetRequest) -> Budget {
        Budget::for_host(READING, &request).unwrap()
    }

    #[test]
    fn the_host_budget_is_free_memory_less_a_fifth() {
        let budget = host(BudgetRequest::default());
        assert_eq!(budget.free_bytes, 20 * GIB);
        assert_eq!(budget.in_use_by_others_bytes, 4 * GIB);
        assert_eq!(budget.budget_bytes, 16 * GIB);
        assert_eq!(budget.reason, "20.0 GiB free, less a 20 % margin");
    }

    #[test]
    fn a_limit_is_meant_as_written() {
        let budget = host(BudgetRequest { limit_bytes: Some(2 * GIB), ..Default::default() });
        assert_eq!(budget.budget_bytes, 2 * GIB);
        assert_eq!(budget.reason, "`memory.limit` 2.0 GiB");
    }

    #[test]
    fn a_margin_that_is_asked_for_is_taken_off_the_limit() {
        let request = BudgetRequest { limit_bytes: Some(2 * GIB), safety_margin: Some(0.5), ..Default::default() };
        assert_eq!(host(request).budget_bytes, GIB);
        assert_eq!(host(request).reason, "`memory.limit` 2.0 GiB, less a 50 % margin");
    }

    #[test]
    fn a_limit_above_free_memory_does_not_raise_the_budget() {
        let budget = host(BudgetRequest { limit_bytes: Some(64 * GIB), ..Default::default() });
        assert_eq!(budget.budget_bytes, 16 * GIB);
        assert_eq!(budget.reason, "20.0 GiB free, less a 20 % margin; `memory.limit` 64.0 GiB is more than that");
    }

    #[test]
    fn a_card_is_never_filled_above_nine_tenths() {
        let idle = MemoryReading { total_bytes: 10 * GIB, free_bytes: 10 * GIB, own_bytes: 0 };
        let request = BudgetRequest { safety_margin: Some(0.0), ..Default::default() };
        let budget = Budget::for_card(idle, Tier::LowEnd, &request).unwrap();
        assert_eq!(budget.budget_bytes, 9 * GIB);
        assert_eq!(budget.reason, "90 % of 10.0 GiB in all");
        let tiered = Budget::for_card(idle, Tier::HighEnd, &BudgetRequest::default()).unwrap();
        assert_eq!(tiered.budget_bytes, 8 * GIB);
    }

    #[test]
    fn freed_memory_helps_only_where_no_setting_is_in_the_way() {
        assert!(host(BudgetRequest::default()).would_hold(17 * GIB));
        assert!(!host(BudgetRequest { memory_fraction: Some(0.1), ..Default::default() }).would_hold(17 * GIB));
        assert!(!host(BudgetRequest { limit_bytes: Some(GIB), ..Default::default() }).would_hold(17 * GIB));
    }

    #[test]
    fn a_card_that_is_not_here_has_no_process_to_end() {
        let budget = Budget::for_absent_card(GIB / 2, 0, Tier::LowEnd, &BudgetRequest::default());
        let error = budget.unwrap_err();
        assert_eq!(error, BudgetError::CardTooSmall { total_bytes: GIB / 2 });
        assert!(error.to_string().starts_with("a card with 512.0 MiB has no memory left for a run"), "{error}");
        assert!(!error.hint().unwrap().contains("process"));
    }

    #[test]
    fn unknown_cards_are_tiered_on_the_careful_side() {
        let gibibytes = |count: u64| count * GIB - (100 << 20);
        assert_eq!(Tier::of_unknown_card(gibibytes(80), (9, 0)), Tier::HighEnd);
        assert_eq!(Tier::of_unknown_card(gibibytes(16), (7, 0)), Tier::HighEnd);
        assert_eq!(Tier::of_unknown_card(gibibytes(10), (8, 6)), Tier::MidRange);
        assert_eq!(Tier::of_unknown_card(gibibytes(8), (7, 5)), Tier::Budget);
        assert_eq!(Tier::of_unknown_card(gibibytes(8), (6, 1)), Tier::LowEnd);
    }

    #[test]
    fn requests_out_of_range_are_refused_with_their_value() {
        let refused = |request| Budget::for_host(READING, &request).unwrap_err();
        assert_eq!(refused(BudgetRequest { limit_bytes: Some(0), ..Default::default() }), BudgetError::LimitIsZero);
        for value in [-0.1, 1.0, f64::INFINITY] {
            let error = refused(BudgetRequest { safety_margin: Some(value), ..Default::default() });
            assert_eq!(error, BudgetError::MarginOutOfRange { value });
        }
        let not_a_number = refused(BudgetRequest { safety_margin: Some(f64::NAN), ..Default::default() });
        assert!(not_a_number.to_string().contains("NaN"), "{not_a_number}");
        for value in [0.0, 1.1] {
            let error = refused(BudgetRequest { memory_fraction: Some(value), ..Default::default() });
            assert_eq!(error, BudgetError::FractionOutOfRange { value });
            assert!(error.hint().is_some());
        }
        let full = MemoryReading { free_bytes: 0, own_bytes: 0, ..READING };
        let error = Budget::for_host(full, &BudgetRequest::default()).unwrap_err();
        assert_eq!(error.to_string(), "none of 24.0 GiB of memory is free");
    }
}
