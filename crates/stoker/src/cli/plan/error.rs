//! Why the flags of `plan` are refused.

use std::path::PathBuf;

use memory_planner::ParseBytesError;

use crate::config::ConfigError;
use crate::error::CommandError;

/// Why the flags of `plan` cannot be followed. Flags are shown as they were written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanArgumentsError {
    /// A `--set` without a key or without `=`.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// Two flags of which one makes the other pointless or wrong.
    #[error("`{one}` and `{other}` exclude each other: {reason}")]
    Excluded {
        /// The first flag.
        one: String,
        /// The second flag.
        other: String,
        /// Why.
        reason: String,
        /// What to leave out, or to write instead.
        way_out: String,
    },
    /// A flag that means nothing without another.
    #[error("`{flag}` needs `{needed}`: {reason}")]
    Needs {
        /// The flag that was given.
        flag: String,
        /// The flag that is missing.
        needed: &'static str,
        /// Why.
        reason: &'static str,
        /// What to write.
        way_out: String,
    },
    /// Not a whole number, or out of range.
    #[error("`{flag} {written}` is not {what}: expected a whole number from {lowest} to {highest}")]
    Count {
        /// The flag.
        flag: &'static str,
        /// Its value.
        written: String,
        /// What it must be, with its article.
        what: &'static str,
        /// The least that is taken.
        lowest: usize,
        /// The most that is taken.
        highest: usize,
    },
    /// Not a share, or out of range.
    #[error("`{flag} {written}` is not a share: expected a number {range}")]
    Share {
        /// The flag.
        flag: &'static str,
        /// Its value.
        written: String,
        /// The range in words.
        range: &'static str,
        /// The share that was probably meant.
        meant: Option<f64>,
        /// A share that is usual.
        usual: f64,
    },
    /// Not an amount of memory.
    #[error("`{flag} {written}` is not an amount of memory")]
    Memory {
        /// The flag.
        flag: &'static str,
        /// Its value.
        written: String,
        /// What is wrong with it.
        source: ParseBytesError,
    },
    /// An amount of memory that no card has.
    #[error("`{flag} {written}` is {found}, and cards have {lowest} to {highest}")]
    MemoryRange {
        /// The flag.
        flag: &'static str,
        /// Its value.
        written: String,
        /// The amount in words.
        found: String,
        /// The least that is taken, in words.
        lowest: String,
        /// The most that is taken, in words.
        highest: String,
        /// Whether a unit was given.
        has_unit: bool,
    },
    /// More memory than the card has.
    #[error("`--gpu-memory {asked}` is more than `--gpu {card}` has: {has}")]
    MemoryOfCard {
        /// The card.
        card: String,
        /// The amount asked for, in words.
        asked: String,
        /// The card's amount in words.
        has: String,
    },
    /// Not a list of card numbers.
    #[error("`--gpu-ids {written}` is not a list of card numbers")]
    Ids {
        /// The list.
        written: String,
    },
    /// A card is named twice.
    #[error("`--gpu-ids {written}` names card {index} twice")]
    RepeatedId {
        /// The list.
        written: String,
        /// The card's number.
        index: usize,
        /// The list with each card once.
        once: String,
    },
    /// A card with this number is not here.
    #[error("`{flag}` names card {index}, but {}", count_cards(*cards))]
    NoSuchCard {
        /// The flag with its value.
        flag: String,
        /// The card's number.
        index: usize,
        /// Cards that are here.
        cards: usize,
    },
    /// A source that needs a card, and none is here.
    #[error("`{flag}` needs a CUDA card, and none is here")]
    NoCard {
        /// The flag with its value.
        flag: String,
    },
    /// Two files of one name.
    #[error("`{one}` and `{other}` name the same file `{}`", path.display())]
    SameFile {
        /// The first flag.
        one: &'static str,
        /// The second flag.
        other: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A picture in a format that is not drawn.
    #[error("`--save-picture {}` is not an SVG file", path.display())]
    PictureFormat {
        /// The file.
        path: PathBuf,
    },
    /// A name that is empty.
    #[error("`{flag}` is empty")]
    Empty {
        /// The flag.
        flag: &'static str,
    },
}

impl PlanArgumentsError {
    /// A way out that can be pasted.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Setting(error) => return error.hint(),
            Self::Excluded { way_out, .. } | Self::Needs { way_out, .. } => way_out.clone(),
            Self::Count { flag, lowest, .. } => format!("for example `{flag} {}`", usual_count(flag, *lowest)),
            Self::Share { flag, meant: Some(share), .. } => format!("did you mean `{flag} {share}`?"),
            Self::Share { flag, usual, .. } => format!("for example `{flag} {usual}`"),
            Self::Memory { source, .. } => return source.hint(),
            Self::MemoryRange { flag, written, has_unit: false, .. }
                if written.contains(|digit| matches!(digit, '1'..='9')) =>
            {
                format!("a bare number counts bytes: did you mean `{flag} {written}GiB`?")
            }
            Self::MemoryRange { flag, .. } => format!("for example `{flag} 6GiB`"),
            Self::MemoryOfCard { asked, .. } => {
                format!("leave `--gpu` out to plan for a card of that size: `--gpu-memory {asked}`")
            }
            Self::Ids { .. } => "separate numbers by commas, as in `--gpu-ids 0,1`".to_owned(),
            Self::RepeatedId { once, .. } => format!("did you mean `--gpu-ids {once}`?"),
            Self::NoSuchCard { cards, .. } if *cards > 0 => {
                format!("cards are counted from 0, and the last one here is {}", cards - 1)
            }
            Self::NoSuchCard { .. } => {
                "plan for a card that is not here with `--gpu NAME` or `--gpu-memory SIZE`".to_owned()
            }
            Self::NoCard { .. } => "use `--source captured`, which needs no card".to_owned(),
            Self::SameFile { one: "--config", other: "--save-config", .. } => {
                "leave `--save-config` out, and the configuration is updated, with a copy kept beside it".to_owned()
            }
            Self::SameFile { other, .. } => format!("choose another name for `{other}`"),
            Self::PictureFormat { path } => {
                format!("did you mean `--save-picture {}`?", path.with_extension("svg").display())
            }
            Self::Empty { flag } => match *flag {
                "--gpu" => "name a card, as in `--gpu rtx3060`".to_owned(),
                _ => "`stoker models` lists the architectures".to_owned(),
            },
        };
        Some(hint)
    }
}

/// A number that one would really write.
fn usual_count(flag: &str, lowest: usize) -> usize {
    match flag {
        "--img-size" => 224,
        "--max-batch-size" | "--effective-batch-size" => 64,
        _ => lowest,
    }
}

fn count_cards(cards: usize) -> String {
    match cards {
        0 => "no CUDA card is here".to_owned(),
        1 => "1 CUDA card is here".to_owned(),
        _ => format!("{cards} CUDA cards are here"),
    }
}

impl From<PlanArgumentsError> for CommandError {
    fn from(error: PlanArgumentsError) -> Self {
        Self::from_request(&error).with_hint(error.hint())
    }
}
