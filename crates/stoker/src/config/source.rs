//! A configuration file as text: reading it, parsing it, and finding places in it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use super::error::{ConfigError, Place, Problem};
use super::overrides::Override;
use super::position::{Part, find_position};

/// A configuration is some kilobytes; this stops before a data set is read by mistake.
const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// YAML files that lie beside configurations and are none: the catalogue of cards, and what a team's cards run.
const NO_CONFIGURATIONS: [&str; 2] = ["gpus.yaml", TEAM_SETTINGS_FILE];

/// Where `train` looks for a team's settings: beside its configuration.
pub(crate) const TEAM_SETTINGS_FILE: &str = "team_settings.yaml";

/// Where settings come from, so that a message can say it.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
    pub(crate) overrides: &'a [Override],
}

impl Source<'_> {
    /// The file as a mapping.
    pub(crate) fn parse(&self) -> Result<Mapping, ConfigError> {
        let path = self.path.to_owned();
        let value: Value =
            serde_yaml::from_str(self.text).map_err(|reason| ConfigError::NotYaml { path: path.clone(), reason })?;
        let found = match value {
            Value::Mapping(mapping) => return Ok(mapping),
            Value::Null => return Err(ConfigError::Empty { path }),
            Value::Sequence(_) => "a list",
            Value::Tagged(_) => "a tagged value",
            _ => "a single value",
        };
        Err(ConfigError::NotAMapping { path, found })
    }

    /// Where a setting was written: in the flag that gave it, or in the file.
    pub(crate) fn place(&self, keys: &[String], part: Part) -> Place {
        let path = keys.join(".");
        match self.overrides.iter().rev().find(|given| given.path() == path) {
            Some(given) => Place::Flag(given.written().to_owned()),
            None => Place::File { path: self.path.to_owned(), position: find_position(self.text, keys, part) },
        }
    }

    pub(crate) fn all_fine(&self, problems: Vec<Problem>) -> Result<(), ConfigError> {
        match problems.is_empty() {
            true => Ok(()),
            false => Err(ConfigError::Settings { path: self.path.to_owned(), problems }),
        }
    }
}

/// Reads a file that should be a small UTF-8 text.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let owned = || path.to_owned();
    if path.is_dir() {
        return Err(ConfigError::Folder { path: owned(), found: yaml_files(path) });
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
            return Err(ConfigError::Missing { path: owned(), found: yaml_files_near(path) });
        }
        Err(reason) => return Err(ConfigError::Unreadable { path: owned(), reason }),
        Ok(length) if length as u64 > LARGEST_FILE_BYTES => {
            return Err(ConfigError::TooLarge { path: owned(), limit_bytes: LARGEST_FILE_BYTES });
        }
        Ok(_) => {}
    }
    String::from_utf8(bytes).map_err(|reason| {
        let valid_bytes = reason.utf8_error().valid_up_to();
        ConfigError::NotUtf8 { path: owned(), byte: reason.as_bytes()[valid_bytes], valid_bytes }
    })
}

/// The configurations in a folder, by name; none when it cannot be read.
pub(crate) fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_yaml = |path: &PathBuf| {
        let is_other = path.file_name().is_some_and(|name| NO_CONFIGURATIONS.iter().any(|other| name == *other));
        path.is_file() && path.extension().is_some_and(|end| end == "yaml" || end == "yml") && !is_other
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_yaml).collect();
    files.sort();
    files
}

/// The configurations beside a path that does not exist, or else those in `configs`.
fn yaml_files_near(path: &Path) -> Vec<PathBuf> {
    let beside = match path.parent() {
        Some(folder) if folder != Path::new("") => yaml_files(folder),
        _ => yaml_files(Path::new(".")).iter().map(|file| file.strip_prefix(".").unwrap_or(file).to_owned()).collect(),
    };
    match beside.is_empty() {
        true => yaml_files(Path::new("configs")),
        false => beside,
    }
}
