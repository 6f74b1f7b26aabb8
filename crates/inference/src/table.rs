//! Predictions as a table: what its columns hold, and the file that it becomes.

mod column;
mod format;
mod json_lines;
mod parquet;
mod thrift;

use std::path::Path;

use checkpoint::{AtomicFile, CheckpointError};
use data_pipeline::Dataset;
use metrics::argmax;

pub use self::column::{Column, ColumnError};
pub use self::format::TableFormat;
use self::format::TableWriter;
use crate::predictions_csv::file_name;
use crate::{Outcome, PredictError, Prediction};

/// A value in a table; none where an image has no prediction, or what it shows is not known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    None,
    Text(String),
    Number(f32),
    Whole(i32),
}

/// What all values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Whole,
}

/// What one column says of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The image's relative path.
    File,
    /// What a template calls the image.
    Id,
    Class,
    ClassIndex,
    Label,
    Confidence,
    Entropy,
    Probability(usize),
    /// From 0.
    RankedClass(usize),
    RankedProbability(usize),
    Error,
}

impl Content {
    fn kind(self) -> Kind {
        match self {
            Self::File | Self::Id | Self::Class | Self::Label | Self::RankedClass(_) | Self::Error => Kind::Text,
            Self::ClassIndex => Kind::Whole,
            Self::Confidence | Self::Entropy | Self::Probability(_) | Self::RankedProbability(_) => Kind::Number,
        }
    }
}

/// The columns of a table in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct TableLayout {
    pub(crate) columns: Vec<(String, Content)>,
    pub(crate) classes: Vec<String>,
    /// What the images are called in a column of ids, in their order.
    pub(crate) ids: Vec<String>,
}

impl TableLayout {
    /// The table of these columns for these classes.
    ///
    /// A column of a class has the class's name; where one is called like another column, all of them have `probability_` before it.
    ///
    /// # Errors
    /// [`ColumnError`] for a column that comes twice, none at all, and more ranks than there are classes.
    pub fn new(columns: &[Column], classes: &[String]) -> Result<Self, ColumnError> {
        column::check(columns, classes.len())?;
        let named: Vec<(String, Content)> = columns.iter().flat_map(|column| column.contents(classes)).collect();
        let is_class = |content: &Content| matches!(content, Content::Probability(_));
        let others: Vec<&String> =
            named.iter().filter(|(_, content)| !is_class(content)).map(|(name, _)| name).collect();
        let collides = named.iter().any(|(name, content)| is_class(content) && others.contains(&name));
        let columns = named.iter().map(|(name, content)| match collides && is_class(content) {
            true => (format!("probability_{name}"), *content),
            false => (name.clone(), *content),
        });
        Ok(Self { columns: columns.collect(), classes: classes.to_vec(), ids: Vec::new() })
    }

    /// The names of the columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// Whether a column says why an image has no prediction.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.columns.iter().any(|(_, content)| *content == Content::Error)
    }

    fn kinds(&self) -> Vec<(String, Kind)> {
        self.columns.iter().map(|(name, content)| (name.clone(), content.kind())).collect()
    }

    fn row(&self, dataset: &Dataset, prediction: &Prediction) -> Vec<Cell> {
        let merged: &[f32] = match &prediction.outcome {
            Outcome::Scored { merged, .. } => merged,
            Outcome::Unreadable { .. } | Outcome::NotFinite { .. } => &[],
        };
        let has_ranks = self
            .columns
            .iter()
            .any(|(_, content)| matches!(content, Content::RankedClass(_) | Content::RankedProbability(_)));
        let ranks = if has_ranks { ranks(merged) } else { Vec::new() };
        let scored = Scored { merged, ranks };
        self.columns.iter().map(|&(_, content)| self.cell(dataset, prediction, &scored, content)).collect()
    }

    fn cell(&self, dataset: &Dataset, prediction: &Prediction, scored: &Scored<'_>, content: Content) -> Cell {
        let class = |index: usize| self.classes.get(index).cloned();
        let text = |text: Option<String>| text.map_or(Cell::None, Cell::Text);
        let number = |number: Option<f32>| number.map_or(Cell::None, Cell::Number);
        let merged = scored.merged;
        let best = || argmax(merged);
        match content {
            Content::File => Cell::Text(file_name(dataset.relative_path(prediction.sample))),
            Content::Id => text(self.ids.get(prediction.sample).cloned()),
            Content::Class => text(best().and_then(class)),
            Content::ClassIndex => best().map_or(Cell::None, |index| Cell::Whole(index as i32)),
            Content::Label => text(dataset.samples[prediction.sample].label.and_then(|label| class(label as usize))),
            Content::Confidence => number(best().map(|index| merged[index])),
            Content::Entropy => number((!merged.is_empty()).then(|| entropy(merged))),
            Content::Probability(index) => number(merged.get(index).copied()),
            Content::RankedClass(rank) => text(scored.ranks.get(rank).copied().and_then(class)),
            Content::RankedProbability(rank) => number(scored.ranks.get(rank).map(|&index| merged[index])),
            Content::Error => text(prediction.outcome.error()),
        }
    }
}

/// An image's probabilities, empty where it has none.
struct Scored<'a> {
    merged: &'a [f32],
    /// Classes from the most probable on, where they are wanted.
    ranks: Vec<usize>,
}

/// Classes from the most probable on; the lower index first in a tie, as `argmax` has it.
fn ranks(probabilities: &[f32]) -> Vec<usize> {
    let mut ranks: Vec<usize> = (0..probabilities.len()).collect();
    ranks.sort_by(|&one, &other| probabilities[other].total_cmp(&probabilities[one]));
    ranks
}

/// In nats: 0 where one class is certain, the logarithm of their number where all are alike.
fn entropy(probabilities: &[f32]) -> f32 {
    let terms =
        probabilities.iter().map(|&probability| f64::from(probability)).filter(|&probability| probability > 0.0);
    // A sum of nothing but certainties is -0.
    (terms.map(|probability| -probability * probability.ln()).sum::<f64>().max(0.0)) as f32
}

/// A table that is written row by row, and appears whole or not at all.
pub struct PredictionTable<'a> {
    path: &'a Path,
    layout: &'a TableLayout,
    dataset: &'a Dataset,
    writer: TableWriter<AtomicFile>,
    rows: usize,
}

impl<'a> PredictionTable<'a> {
    /// Begins the file.
    ///
    /// # Errors
    /// [`PredictError::Write`].
    pub fn create(
        path: &'a Path,
        format: TableFormat,
        layout: &'a TableLayout,
        dataset: &'a Dataset,
    ) -> Result<Self, PredictError> {
        let refused = |source| CheckpointError::Write { path: path.to_owned(), source };
        let file = AtomicFile::create(path)?;
        let writer = TableWriter::new(format, layout.kinds(), file).map_err(refused)?;
        Ok(Self { path, layout, dataset, writer, rows: 0 })
    }

    /// Adds the row of the next image.
    ///
    /// # Errors
    /// [`PredictError::OtherPredictions`] for another image, or one of other classes; [`PredictError::Write`].
    pub fn push(&mut self, prediction: &Prediction) -> Result<(), PredictError> {
        let is_other_width = match &prediction.outcome {
            Outcome::Scored { merged, .. } => merged.len() != self.layout.classes.len(),
            Outcome::Unreadable { .. } | Outcome::NotFinite { .. } => false,
        };
        if prediction.sample != self.rows || self.rows >= self.dataset.len() || is_other_width {
            return Err(self.other());
        }
        let row = self.layout.row(self.dataset, prediction);
        self.writer.push(row).map_err(|source| CheckpointError::Write { path: self.path.to_owned(), source })?;
        self.rows += 1;
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`PredictError::OtherPredictions`] where images are missing, [`PredictError::Write`].
    pub fn finish(self) -> Result<(), PredictError> {
        if self.rows != self.dataset.len() {
            return Err(self.other());
        }
        let refused = |source| CheckpointError::Write { path: self.path.to_owned(), source };
        Ok(self.writer.finish().map_err(refused)?.commit()?)
    }

    fn other(&self) -> PredictError {
        let (samples, classes) = (self.dataset.len(), self.layout.classes.len());
        PredictError::OtherPredictions { index: self.rows, samples, classes }
    }
}

#[cfg(test)]
mod tests;
