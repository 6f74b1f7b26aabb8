//! Numbers as they are written in flags: refused with what was probably meant.

use std::ops::RangeInclusive;

use memory_planner::{format_bytes, parse_bytes};

use super::error::PlanArgumentsError;
use crate::cli::gpus::{CardsError, listed, parse_cards};

/// A whole number in a range; `what` completes "is not ...", with its article.
pub(super) fn parse_count(
    flag: &'static str,
    written: Option<&str>,
    what: &'static str,
    range: RangeInclusive<usize>,
) -> Result<Option<usize>, PlanArgumentsError> {
    let Some(written) = written else { return Ok(None) };
    let count = written.trim().parse().ok().filter(|count| range.contains(count));
    let (lowest, highest) = range.into_inner();
    let wrong = || PlanArgumentsError::Count { flag, written: written.to_owned(), what, lowest, highest };
    count.ok_or_else(wrong).map(Some)
}

/// What a share may be, and one that is usual.
pub(super) struct ShareRange {
    pub(super) words: &'static str,
    pub(super) contains: fn(f64) -> bool,
    pub(super) usual: f64,
}

/// A share of 1. Percentages are refused, and not guessed at: 1 could be all or a hundredth.
pub(super) fn parse_share(
    flag: &'static str,
    written: Option<&str>,
    range: &ShareRange,
) -> Result<Option<f64>, PlanArgumentsError> {
    let Some(written) = written else { return Ok(None) };
    let share = written.trim().parse().ok().filter(|share| (range.contains)(*share));
    let wrong = || PlanArgumentsError::Share {
        flag,
        written: written.to_owned(),
        range: range.words,
        meant: share_meant(written).filter(|share| (range.contains)(*share)),
        usual: range.usual,
    };
    share.ok_or_else(wrong).map(Some)
}

/// `15`, `15%`, `0,15` and `15,5 %` all stand for a share.
fn share_meant(written: &str) -> Option<f64> {
    let text = written.trim().replace(',', ".");
    let number = text.trim_end_matches(['%', ' ']);
    let value: f64 = number.parse().ok()?;
    let has_sign = number.len() < text.len();
    match value {
        _ if has_sign => Some(value / 100.0),
        // 1.5 is as likely a slip for 0.15 as for 0.015.
        _ if value > 1.0 && value < 2.0 => None,
        _ if value > 1.0 => Some(value / 100.0),
        _ => Some(value),
    }
}

/// Below this a unit was forgotten: `6` is six bytes.
const SMALLEST_CARD_BYTES: u64 = 1 << 20;

/// Far above the largest card, which has 288 GB (NVIDIA B300, 2025).
const LARGEST_CARD_BYTES: u64 = 4 << 40;

/// The memory of a card.
pub(super) fn parse_memory(flag: &'static str, written: Option<&str>) -> Result<Option<u64>, PlanArgumentsError> {
    let Some(written) = written else { return Ok(None) };
    let bytes = parse_bytes(written).map_err(|source| PlanArgumentsError::Memory {
        flag,
        written: written.to_owned(),
        source,
    })?;
    if (SMALLEST_CARD_BYTES..=LARGEST_CARD_BYTES).contains(&bytes) {
        return Ok(Some(bytes));
    }
    Err(PlanArgumentsError::MemoryRange {
        flag,
        written: written.to_owned(),
        found: format_bytes(bytes),
        lowest: format_bytes(SMALLEST_CARD_BYTES),
        highest: format_bytes(LARGEST_CARD_BYTES),
        // Of a bare number too large for bytes, no unit would make a card.
        has_unit: bytes > LARGEST_CARD_BYTES || written.trim().ends_with(|c: char| c.is_ascii_alphabetic()),
    })
}

/// Card numbers, in the order given.
pub(super) fn parse_ids(written: Option<&str>) -> Result<Option<Vec<usize>>, PlanArgumentsError> {
    let Some(written) = written else { return Ok(None) };
    parse_cards(written).map(Some).map_err(|error| {
        let written = written.to_owned();
        match error {
            CardsError::NotNumbers => PlanArgumentsError::Ids { written },
            CardsError::Twice { number, once } => {
                PlanArgumentsError::RepeatedId { written, index: number, once: listed(&once) }
            }
        }
    })
}
