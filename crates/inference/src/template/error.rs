use std::path::{Path, PathBuf};

use checkpoint::CheckpointError;

/// Why a template cannot be filled in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("the template cannot be read")]
    File {
        /// Why.
        source: CheckpointError,
    },
    /// Not a table.
    #[error("template `{}`, line {line}: {reason}", path.display())]
    Malformed {
        /// The template.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A header and nothing else.
    #[error("template `{}` has no rows", path.display())]
    NoRows {
        /// The template.
        path: PathBuf,
    },
    /// Ids and nothing else.
    #[error("template `{}` has {columns} column, and needs one for ids and another to fill in", path.display())]
    NothingToFill {
        /// The template.
        path: PathBuf,
        /// How many it has.
        columns: usize,
    },
    /// Two columns of one name.
    #[error("template `{}` has two columns named `{name}`", path.display())]
    TwiceColumn {
        /// The template.
        path: PathBuf,
        /// Their name.
        name: String,
    },
    /// Columns of other classes than the checkpoint's.
    #[error("the columns of template `{}` are not the classes of the checkpoint: {}", path.display(), differences(missing, unknown))]
    OtherClasses {
        /// The template.
        path: PathBuf,
        /// Classes without a column.
        missing: Vec<String>,
        /// Columns that are no classes.
        unknown: Vec<String>,
    },
    /// Several columns that are no classes.
    #[error("template `{}` has {} columns that are no classes of the checkpoint: {}", path.display(), unknown.len(), listed(unknown))]
    OtherColumns {
        /// The template.
        path: PathBuf,
        /// Their names, two at least.
        unknown: Vec<String>,
    },
    /// One probability for more classes than two, or for one.
    #[error("column `{column}` of template `{}` cannot take one probability: the checkpoint has {classes} classes", path.display())]
    OneProbability {
        /// The template.
        path: PathBuf,
        /// The column.
        column: String,
        /// How many classes there are.
        classes: usize,
    },
    /// A label that is neither a class's name nor an index.
    #[error("template `{}`, line {line}: `{column}` is `{value}`, and the checkpoint has no such class", path.display())]
    OtherLabel {
        /// The template.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// The column of labels.
        column: String,
        /// What stands there.
        value: String,
        /// The checkpoint's.
        classes: Vec<String>,
    },
    /// Labels that are names of classes and indices of others.
    #[error("template `{}`, line {line}: `{example}` in `{column}` can be a class's name or an index", path.display())]
    AmbiguousLabels {
        /// The template.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// The column of labels.
        column: String,
        /// What stands there.
        example: String,
    },
    /// No label to go by.
    #[error("column `{column}` of template `{}` is empty, so that it does not show how labels are written", path.display())]
    NoExample {
        /// The template.
        path: PathBuf,
        /// The column of labels.
        column: String,
    },
    /// Two rows for one id.
    #[error("template `{}`, line {line}: id `{id}` comes a second time, first on line {first_line}", path.display())]
    TwiceId {
        /// The template.
        path: PathBuf,
        /// Line of the second, from 1.
        line: u64,
        /// Line of the first.
        first_line: u64,
        /// The id.
        id: String,
    },
    /// Ids without an image.
    #[error("template `{}`, line {line}: no image is named `{id}` ({count} of {ids} ids have none)", path.display())]
    NoImage {
        /// The template.
        path: PathBuf,
        /// Of the first, from 1.
        line: u64,
        /// The first.
        id: String,
        /// How many have none.
        count: usize,
        /// How many there are.
        ids: usize,
        /// The first image of the input, below it.
        image: PathBuf,
    },
    /// An id with two images.
    #[error("template `{}`, line {line}: id `{id}` is `{}` and `{}`", path.display(), first.display(), second.display())]
    TwoImages {
        /// The template.
        path: PathBuf,
        /// Of the id, from 1.
        line: u64,
        /// The id.
        id: String,
        /// An image, below the input.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// Images without an id.
    #[error("template `{}` has no id for `{}`{}", path.display(), image.display(), nor_for_others(*count))]
    NoId {
        /// The template.
        path: PathBuf,
        /// The first image, below the input.
        image: PathBuf,
        /// How many there are.
        count: usize,
    },
}

impl TemplateError {
    /// What can be done.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::File { source: CheckpointError::Missing { .. } } => {
                "name the CSV file to fill in, as in `--template sample_submission.csv`".to_owned()
            }
            Self::File { source } => return source.hint(),
            Self::Malformed { .. } => "a template is a CSV file with commas and a header".to_owned(),
            Self::NoRows { .. } => "give the whole file, with a row for each image".to_owned(),
            Self::NothingToFill { .. } => "a template begins like `id,label`, or `id` and the names of the classes".to_owned(),
            Self::TwiceColumn { .. } => "rename one of them".to_owned(),
            Self::OtherClasses { .. } => {
                "predict with a run that was trained on these classes, or rename the columns; one column that is no class takes the label"
                    .to_owned()
            }
            Self::OtherColumns { .. } => {
                "one such column may be there, and takes the label: remove the others; or predict with a run that was trained on these classes"
                    .to_owned()
            }
            Self::OneProbability { .. } => "give each class a column by its name, or pass `--labels names`".to_owned(),
            Self::OtherLabel { classes, .. } => format!(
                "labels are names of classes ({}) or indices from 0 to {}; if the examples mean nothing, say which: `--labels names`",
                listed(classes),
                classes.len().saturating_sub(1)
            ),
            Self::AmbiguousLabels { .. } | Self::NoExample { .. } => {
                "say how labels are written: `--labels names`, `--labels indices` (from 0), or of two classes `--labels probability`".to_owned()
            }
            Self::TwiceId { line, .. } => format!("remove line {line}"),
            Self::NoImage { image, .. } => format!(
                "ids are paths below the input or file names, with or without their endings; the first image is `{}`",
                image.display()
            ),
            Self::TwoImages { .. } => {
                "give paths below the input as ids, or predict the folders one by one with a template each".to_owned()
            }
            Self::NoId { .. } => {
                "move such images away, or list those of the template in a CSV with the column `file`: `--input LIST.csv`".to_owned()
            }
        };
        Some(text)
    }

    pub(super) fn malformed(path: &Path, error: &csv::Error) -> Self {
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("expected {expected_len} fields as in the first line, found {len}")
            }
            csv::ErrorKind::Utf8 { .. } => "the text is not valid UTF-8".to_owned(),
            _ => error.to_string(),
        };
        Self::Malformed { path: path.to_owned(), line: error.position().map_or(1, csv::Position::line), reason }
    }
}

/// How many names a message shows.
const SHOWN: usize = 6;

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn differences(missing: &[String], unknown: &[String]) -> String {
    let parts = [("no column for", missing), ("no class for", unknown)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    parts.map(|(what, names)| format!("{what} {}", listed(names))).collect::<Vec<_>>().join(", ")
}

fn nor_for_others(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        2 => ", nor for 1 other image".to_owned(),
        _ => format!(", nor for {} other images", count - 1),
    }
}
