//! Sets keys in a configuration file and leaves every other byte as it is: comments, blank lines, order, quoting.
//!
//! Written here, on the positions that the YAML reader of this project tells, because no library earned its place (looked at in November
//! 2026). `yamlpatch` and `yamlpath` are well kept, but compile tree-sitter and a grammar in C; `yaml-edit` is 37,000 lines of a second
//! YAML parser, whose insertions are reported to break beside comments and blank lines. What plans need is small: scalars, two levels deep.
//!
//! It does not have to know all of YAML either. Whatever it makes is read again with the project's own reader, and refused unless it is
//! the old configuration with the keys set, so that a form of YAML that it misunderstands costs an error and never a file.

mod error;
mod save;
mod scalar;
mod splice;

use std::path::Path;

use serde_yaml::Mapping;

pub use error::{EditError, Obstacle};
pub use save::{PreparedConfig, SavedConfig, prepare_as, prepare_in_place, save_as, save_in_place};
pub use scalar::Scalar;

use super::check::drop_empty_sections;
use super::keys::KeyTable;
use super::position::{Part, find_position};
use super::source::Source;
use super::{ConfigError, Override, UserConfig};

/// A key and the value that it shall have.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    key: String,
    value: Scalar,
}

impl Edit {
    /// `key` is the full path: `train.micro_batch_size`.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<Scalar>) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    /// What a `--set`, or a flag like it, puts over a file, to be written into the file.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no such key, or the value is not YAML.
    pub fn from_override(given: &Override) -> Result<Self, ConfigError> {
        let value = given.yaml_value(&KeyTable::new())?;
        Ok(Self { key: given.path().to_owned(), value: Scalar::from_yaml(&value) })
    }

    /// The full path of the key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The edit as a flag would ask for it, so that one check serves both.
    fn as_override(&self) -> Override {
        let value = self.value.render("");
        Override::from_flag(&self.key, &value, format!("{}: {value}", self.key))
    }
}

/// The text of a configuration with keys set; `path` is for messages.
///
/// A key that is missing is added at the end of its section, and a section that is missing at the end of the text.
///
/// # Errors
/// [`EditError::Config`] when the text or a value is not right; [`EditError::Unsupported`] for a value that is written in a form that cannot
/// be edited; [`EditError::WouldChange`] when the result would not be the old configuration with the keys set.
pub fn edit_text(path: &Path, text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let overrides: Vec<Override> = edits.iter().map(Edit::as_override).collect();
    let expected = UserConfig::from_text(path, body, &overrides)?;
    let mut edited = body.to_owned();
    for edit in edits {
        edited = apply(path, &edited, edit)?;
    }
    let reads_as_expected = UserConfig::from_text(path, &edited, &[]).is_ok_and(|config| config == expected);
    // The tree also tells a key that was lost from one that has its default.
    if !reads_as_expected || tree(path, &edited, &[])? != tree(path, body, &overrides)? {
        let keys = edits.iter().map(|edit| edit.key.clone()).collect();
        return Err(EditError::WouldChange { path: path.to_owned(), keys });
    }
    let mark = &text[..text.len() - body.len()];
    Ok(format!("{mark}{edited}"))
}

fn apply(path: &Path, text: &str, edit: &Edit) -> Result<String, EditError> {
    let names: Vec<String> = edit.key.split('.').map(str::to_owned).collect();
    let root = Source { path, text, overrides: &[] }.parse()?;
    splice::set(text, &root, &names, &edit.value).map_err(|obstacle| EditError::Unsupported {
        path: path.to_owned(),
        key: edit.key.clone(),
        position: find_position(text, &names, Part::Key),
        obstacle,
    })
}

/// What is written in a text, with settings put over it.
fn tree(path: &Path, text: &str, overrides: &[Override]) -> Result<Mapping, EditError> {
    let keys = KeyTable::new();
    let mut tree = Source { path, text, overrides }.parse()?;
    for given in overrides {
        given.apply(&mut tree, &keys)?;
    }
    drop_empty_sections(&mut tree, &keys);
    Ok(tree)
}

#[cfg(test)]
mod tests;
