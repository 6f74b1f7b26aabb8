//! The columns that can be asked for.

use std::fmt;
use std::str::FromStr;

use super::Content;

/// A column, or several that come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// `file`: the image's path below the input, with `/` between folders.
    File,
    /// `class`: the most probable class.
    Class,
    /// `index`: its place among the classes, from 0.
    Index,
    /// `label`: the class that the image is known to show.
    Label,
    /// `confidence`: the probability of the most probable class.
    Confidence,
    /// `entropy`: of the probabilities, in nats.
    Entropy,
    /// `probabilities`: a column for each class, by its name.
    Probabilities,
    /// `top3`: the three most probable classes and their probabilities; any number.
    Top(usize),
    /// `error`: why an image has no prediction.
    Error,
}

/// Why there is no table of the columns that are asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnError {
    /// Not one of the columns.
    #[error("unknown column `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// Asked for twice.
    #[error("column `{column}` is asked for twice")]
    Twice {
        /// Which.
        column: Column,
    },
    /// No column.
    #[error("a table without columns")]
    None,
    /// More ranks than classes.
    #[error("column `{column}` asks for more classes than there are: {classes}")]
    TooManyRanks {
        /// Which.
        column: Column,
        /// How many classes there are.
        classes: usize,
    },
}

impl ColumnError {
    /// What can be asked for.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::TooManyRanks { classes, .. } => format!("ask for `top{classes}`, or for `probabilities`"),
            _ => {
                "columns are file, class, index, label, confidence, entropy, probabilities, top3 (or another number), error"
                    .to_owned()
            }
        }
    }
}

impl Column {
    /// What a table has when nothing is said: `file,class,probabilities,error`.
    pub const DEFAULT: [Self; 4] = [Self::File, Self::Class, Self::Probabilities, Self::Error];

    const SINGLE: [(&str, Self); 8] = [
        ("file", Self::File),
        ("class", Self::Class),
        ("index", Self::Index),
        ("label", Self::Label),
        ("confidence", Self::Confidence),
        ("entropy", Self::Entropy),
        ("probabilities", Self::Probabilities),
        ("error", Self::Error),
    ];

    /// The columns that it stands for, with their names.
    pub(super) fn contents(self, classes: &[String]) -> Vec<(String, Content)> {
        let one = |content| vec![(self.to_string(), content)];
        match self {
            Self::File => one(Content::File),
            Self::Class => one(Content::Class),
            Self::Index => one(Content::ClassIndex),
            Self::Label => one(Content::Label),
            Self::Confidence => one(Content::Confidence),
            Self::Entropy => one(Content::Entropy),
            Self::Error => one(Content::Error),
            Self::Probabilities => {
                let indices = 0..classes.len();
                indices.map(|index| (classes[index].clone(), Content::Probability(index))).collect()
            }
            Self::Top(count) => {
                let of_rank = |rank: usize| {
                    let name = format!("top{}", rank + 1);
                    let probability = (format!("{name}_probability"), Content::RankedProbability(rank));
                    [(name, Content::RankedClass(rank)), probability]
                };
                (0..count).flat_map(of_rank).collect()
            }
        }
    }
}

pub(super) fn check(columns: &[Column], classes: usize) -> Result<(), ColumnError> {
    if columns.is_empty() {
        return Err(ColumnError::None);
    }
    for (place, &column) in columns.iter().enumerate() {
        let is_same = |other: &Column| match (column, other) {
            // Their first columns are the same.
            (Column::Top(_), Column::Top(_)) => true,
            _ => column == *other,
        };
        if columns[..place].iter().any(is_same) {
            return Err(ColumnError::Twice { column });
        }
        if matches!(column, Column::Top(count) if count > classes) {
            return Err(ColumnError::TooManyRanks { column, classes });
        }
    }
    Ok(())
}

impl FromStr for Column {
    type Err = ColumnError;

    /// Blanks around a name do not matter: `file, class`.
    fn from_str(name: &str) -> Result<Self, ColumnError> {
        let name = name.trim();
        if let Some((_, column)) = Self::SINGLE.iter().find(|(known, _)| *known == name) {
            return Ok(*column);
        }
        let count = name.strip_prefix("top").and_then(|digits| digits.parse().ok());
        let count = count.filter(|&count: &usize| count > 0 && format!("top{count}") == name);
        count.map(Self::Top).ok_or_else(|| ColumnError::Unknown { name: name.to_owned() })
    }
}

impl fmt::Display for Column {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(count) => write!(formatter, "top{count}"),
            _ => {
                let known = Self::SINGLE.iter().find(|(_, column)| column == self);
                formatter.write_str(known.expect("every column but `top` is in the list").0)
            }
        }
    }
}
