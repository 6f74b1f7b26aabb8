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
}

/// What the values of the column show.
#[derive(Debug, Default)]
pub(super) struct Examples {
    /// The first, with its line.
    first: Option<(String, u64)>,
    /// The first that is no class's name, and the first that is no index.
    no_name: Option<(String, u64)>,
    no_index: Option<(String, u64)>,
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
    }

    /// The reading that the values have.
    pub(super) fn labels(&self, path: &Path, column: &str, classes: &[String]) -> Result<Labels, TemplateError> {
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
            (Some((value, line)), Some(_)) => {
                let (value, line) = (value.clone(), *line);
                Err(TemplateError::OtherLabel { path, line, column, value, classes: classes.to_vec() })
            }
        }
    }
}

/// A number in its usual form: `01` and `+1` are names.
fn index(value: &str) -> Option<usize> {
    value.parse().ok().filter(|index: &usize| index.to_string() == value)
}
