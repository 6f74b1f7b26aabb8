//! How a template has labels written: by the examples that stand in it.

use std::path::Path;

use super::TemplateError;

/// How a label is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The class's name.
    Names,
    /// Its place among the classes, from 0.
    Indices,
    /// No label: of two classes the probability of one, from 0 to 1.
    Probability,
}

/// What the values of the column show.
#[derive(Debug, Default)]
pub(super) struct Examples {
    /// The first, with its line.
    first: Option<(String, u64)>,
    /// The first that is no class's name, and the first that is no index.
    no_name: Option<(String, u64)>,
    no_index: Option<(String, u64)>,
    /// Whether one is no probability.
    has_others: bool,
}

impl Examples {
    /// An empty one shows nothing.
    pub(super) fn add(&mut self, value: &str, line: u64, classes: &[String]) {
        if value.is_empty() {
            return;
        }
        let example = || (value.to_owned(), line);
        self.first.get_or_insert_with(example);
        if self.no_name.is_none() && !classes.iter().any(|class| class == value) {
            self.no_name = Some(example());
        }
        if self.no_index.is_none() && index(value).is_none_or(|index| index >= classes.len()) {
            self.no_index = Some(example());
        }
        self.has_others |= !is_probability(value);
    }

    /// The reading that the values have. They are probabilities only where `may_be_probabilities`, and where they are no labels.
    pub(super) fn labels(
        &self,
        path: &Path,
        column: &str,
        classes: &[String],
        may_be_probabilities: bool,
    ) -> Result<Labels, TemplateError> {
        let (path, column) = (path.to_owned(), column.to_owned());
        let Some((example, line)) = self.first.clone() else {
            return Err(TemplateError::NoExample { path, column });
        };
        // Names that are numbers, and others than the classes' indices: "1" for the first of the classes 1, 2 and 3.
        let numbers_mislead =
            (0..).zip(classes).any(|(place, class)| class.parse::<u64>().is_ok_and(|number| number != place));
        match (&self.no_name, &self.no_index) {
            (None, None) if !numbers_mislead => Ok(Labels::Names),
            (None, Some(_)) => Ok(Labels::Names),
            (Some(_), None) if !numbers_mislead => Ok(Labels::Indices),
            (_, None) => Err(TemplateError::AmbiguousLabels { path, line, column, example }),
            (Some(_), Some(_)) if may_be_probabilities && !self.has_others => Ok(Labels::Probability),
            (Some((value, line)), Some(_)) => {
                let (value, line) = (value.clone(), *line);
                Err(TemplateError::OtherLabel { path, line, column, value, classes: classes.to_vec() })
            }
        }
    }
}

/// A number from 0 to 1. A whole one is in its usual form: `00` is a name.
fn is_probability(value: &str) -> bool {
    let is_number = index(value).is_some() || value.contains(['.', 'e', 'E']);
    is_number && value.parse().is_ok_and(|number: f64| (0.0..=1.0).contains(&number))
}

/// A number in its usual form: `01` and `+1` are names.
fn index(value: &str) -> Option<usize> {
    value.parse().ok().filter(|index: &usize| index.to_string() == value)
}
