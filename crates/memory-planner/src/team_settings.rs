//! What each card of a team trains with, so that all of them keep the same effective batch.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Budget, Checkpointing, LARGEST_EFFECTIVE_BATCH, Plan, Precision, Rung, format_bytes};

/// The settings of a model for every card of a team: `configs/team_settings.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeamSettings {
    /// What they were planned for.
    pub made_for: TeamIdentity,
    /// One row a card.
    pub cards: Vec<TeamRow>,
}

/// What settings were planned for. Under any other configuration they are stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeamIdentity {
    /// The model's name.
    pub model: String,
    /// Its images are so many pixels wide and high.
    pub image_size: usize,
    /// Samples per optimizer step, on any card: those of the plan, which has no more of them than there are to train on. 0 in a table of plans that
    /// each card chose for itself; such a table is shown, and no run takes it.
    #[serde(default, skip_serializing_if = "is_none_in_common")]
    pub effective_batch_size: usize,
    /// A digest of all else in the configuration that changes the memory of a step (classes, optimizer, averaging). The
    /// caller chooses it and compares it; here it is a text.
    pub config_digest: String,
}

/// A card, and how it trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeamRow {
    /// The card's name in the catalogue: `rtx3060-12gb`.
    pub card: String,
    /// What a step may hold.
    pub budget_bytes: u64,
    /// How a step is cut, or why it cannot be.
    #[serde(flatten)]
    pub outcome: TeamOutcome,
}

/// How a card trains, or why it cannot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TeamOutcome {
    /// It fits.
    Fits(TeamPlan),
    /// It does not.
    DoesNotFit {
        /// Why, in a sentence.
        does_not_fit: String,
    },
}

/// How a card trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeamPlan {
    /// The format that a step computes in.
    pub precision: Precision,
    /// What it keeps for its backward pass.
    pub checkpointing: Checkpointing,
    /// Samples per forward pass.
    pub micro_batch: usize,
    /// Forward passes per optimizer step.
    pub accumulation_steps: usize,
    /// Samples per optimizer step.
    pub effective_batch: usize,
    /// The most that a step is predicted to hold.
    pub peak_bytes: u64,
    /// That, as a share of all the card's memory.
    pub share_of_memory: f64,
}

impl TeamRow {
    /// The row of a card that holds `plan`.
    pub fn fits(card: impl Into<String>, budget: &Budget, rung: Rung, plan: &Plan) -> Self {
        let share = plan.predicted_peak_bytes as f64 / budget.total_bytes.max(1) as f64;
        Self {
            card: card.into(),
            budget_bytes: budget.budget_bytes,
            outcome: TeamOutcome::Fits(TeamPlan {
                precision: rung.precision,
                checkpointing: rung.checkpointing,
                micro_batch: plan.micro_batch,
                accumulation_steps: plan.accumulation_steps,
                effective_batch: plan.effective_batch,
                peak_bytes: plan.predicted_peak_bytes,
                // Four digits are enough to read, and a file that is compared with the last one does not flicker.
                share_of_memory: (share * 10_000.0).round() / 10_000.0,
            }),
        }
    }

    /// The row of a card that is too small, and `why`.
    pub fn does_not_fit(card: impl Into<String>, budget: &Budget, why: impl ToString) -> Self {
        let outcome = TeamOutcome::DoesNotFit { does_not_fit: why.to_string() };
        Self { card: card.into(), budget_bytes: budget.budget_bytes, outcome }
    }
}

impl TeamSettings {
    /// Checks what a file may have wrong: a card twice, batches that do not make up the effective one, shares that are none.
    ///
    /// # Errors
    /// A [`TeamSettingsError`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), TeamSettingsError> {
        let effective = self.made_for.effective_batch_size;
        if !(1..=LARGEST_EFFECTIVE_BATCH).contains(&effective) || self.made_for.image_size == 0 {
            return Err(TeamSettingsError::NoSize);
        }
        let mut seen = BTreeSet::new();
        for row in &self.cards {
            if !seen.insert(row.card.as_str()) {
                return Err(TeamSettingsError::CardTwice { card: row.card.clone() });
            }
            if let TeamOutcome::Fits(plan) = &row.outcome {
                plan.check(&row.card, effective)?;
            }
        }
        Ok(())
    }

    /// The plan of a card, for a run of `configuration`.
    ///
    /// # Errors
    /// A [`TeamSettingsError`] when the settings were made for something else, do not name the card, or say that the model
    /// does not fit it. The caller then plans by itself, and says so.
    pub fn entry_for(&self, card: &str, configuration: &TeamIdentity) -> Result<&TeamPlan, TeamSettingsError> {
        self.check()?;
        if let Some((what, found, expected)) = self.made_for.difference(configuration) {
            return Err(TeamSettingsError::Stale { what, found, expected });
        }
        let unknown = || TeamSettingsError::CardMissing { card: card.to_owned() };
        match &self.cards.iter().find(|row| row.card == card).ok_or_else(unknown)?.outcome {
            TeamOutcome::Fits(plan) => Ok(plan),
            TeamOutcome::DoesNotFit { does_not_fit } => {
                Err(TeamSettingsError::DoesNotFit { card: card.to_owned(), reason: does_not_fit.clone() })
            }
        }
    }

    /// A table with a line a card, closed by a line break.
    pub fn render(&self) -> String {
        let of = &self.made_for;
        let samples = match of.effective_batch_size {
            0 => "as many samples a step as are recommended for each card".to_owned(),
            samples => format!("{samples} samples a step"),
        };
        let mut text = format!("{} at {s}x{s}, {samples}\n", of.model, s = of.image_size);
        let header =
            ["card", "budget", "precision", "checkpointing", "batch", "passes", "peak", "memory"].map(str::to_owned);
        let rows: Vec<[String; 8]> = std::iter::once(header).chain(self.cards.iter().map(TeamRow::cells)).collect();
        let widths: [usize; 8] =
            std::array::from_fn(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0));
        for (index, row) in rows.iter().enumerate() {
            let line = match index.checked_sub(1).map(|card| &self.cards[card].outcome) {
                Some(TeamOutcome::DoesNotFit { does_not_fit }) => {
                    format!("  {:<2$}  {:>3$}  does not fit: {does_not_fit}", row[0], row[1], widths[0], widths[1])
                }
                _ => aligned(row, &widths),
            };
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

impl TeamRow {
    fn cells(&self) -> [String; 8] {
        let (card, budget) = (self.card.clone(), format_bytes(self.budget_bytes));
        match &self.outcome {
            TeamOutcome::Fits(plan) => [
                card,
                budget,
                plan.precision.to_string(),
                plan.checkpointing.to_string(),
                plan.micro_batch.to_string(),
                plan.accumulation_steps.to_string(),
                format_bytes(plan.peak_bytes),
                format!("{:.1} %", 100.0 * plan.share_of_memory),
            ],
            TeamOutcome::DoesNotFit { .. } => {
                let mut cells: [String; 8] = Default::default();
                (cells[0], cells[1]) = (card, budget);
                cells
            }
        }
    }
}

impl TeamPlan {
    fn check(&self, card: &str, effective: usize) -> Result<(), TeamSettingsError> {
        let passes = if self.micro_batch == 0 { 0 } else { effective.div_ceil(self.micro_batch) };
        let is_exact = self.effective_batch == effective && passes > 0 && self.accumulation_steps == passes;
        if !is_exact {
            return Err(TeamSettingsError::NotTheEffectiveBatch {
                card: card.to_owned(),
                micro_batch: self.micro_batch,
                accumulation_steps: self.accumulation_steps,
                effective,
            });
        }
        if !(0.0..=1.0).contains(&self.share_of_memory) {
            return Err(TeamSettingsError::ShareOutOfRange { card: card.to_owned(), value: self.share_of_memory });
        }
        Ok(())
    }
}

impl TeamIdentity {
    /// What differs first: its name, the value here, the other's.
    fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let pairs = [
            ("model.name", self.model.clone(), other.model.clone()),
            ("model.image_size", self.image_size.to_string(), other.image_size.to_string()),
            (
                "train.effective_batch_size",
                self.effective_batch_size.to_string(),
                other.effective_batch_size.to_string(),
            ),
            ("the rest of the configuration", self.config_digest.clone(), other.config_digest.clone()),
        ];
        pairs.into_iter().find(|(_, found, expected)| found != expected)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none_in_common(effective_batch_size: &usize) -> bool {
    *effective_batch_size == 0
}

fn aligned(row: &[String; 8], widths: &[usize; 8]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
        // Words to the left, numbers to the right.
        0 | 2 | 3 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    format!("  {}", cells.collect::<Vec<_>>().join("  "))
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// Why team settings do not serve.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TeamSettingsError {
    /// A batch or an image of nothing, or more than there can be.
    #[error("team settings are made for an image size or an effective batch that is none")]
    NoSize,
    /// Two rows for a card.
    #[error("team settings name the card `{card}` twice")]
    CardTwice {
        /// Which.
        card: String,
    },
    /// Batches that make up another effective batch.
    #[error(
        "team settings for `{card}` have {accumulation_steps} passes of {micro_batch}, which do not make up the effective \
         batch of {effective}"
    )]
    NotTheEffectiveBatch {
        /// Which card.
        card: String,
        /// Samples per forward pass.
        micro_batch: usize,
        /// Forward passes per optimizer step.
        accumulation_steps: usize,
        /// Samples per optimizer step.
        effective: usize,
    },
    /// Not a share.
    #[error("team settings for `{card}` have a share of memory of {value}, but it must be from 0 to 1")]
    ShareOutOfRange {
        /// Which card.
        card: String,
        /// What was given.
        value: f64,
    },
    /// Made for another configuration.
    #[error("team settings are stale: {what} was `{found}` when they were made, and is `{expected}`")]
    Stale {
        /// The setting that differs.
        what: &'static str,
        /// Its value in the settings.
        found: String,
        /// Its value in the run.
        expected: String,
    },
    /// No row for this card.
    #[error("team settings have no row for the card `{card}`")]
    CardMissing {
        /// Which.
        card: String,
    },
    /// A row that says no.
    #[error("team settings say that the model does not fit `{card}`: {reason}")]
    DoesNotFit {
        /// Which card.
        card: String,
        /// Why.
        reason: String,
    },
}

impl TeamSettingsError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::DoesNotFit { .. } => "lower `model.image_size`, or choose a smaller `model.name`".to_owned(),
            _ => "write them anew: `stoker plan --all-gpus --config C --write-team-settings F`".to_owned(),
        })
    }
}
