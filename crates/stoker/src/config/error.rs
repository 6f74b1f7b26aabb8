//! Everything that can be wrong with a configuration.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::nearest::nearest_of;
use super::position::Position;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such file; `found` are configurations nearby.
    #[error("cannot find the configuration `{}`", path.display())]
    Missing {
        /// The file that was asked for.
        path: PathBuf,
        /// Configurations beside it, or in `configs`.
        found: Vec<PathBuf>,
    },
    /// A folder stands where a file belongs.
    #[error("the configuration `{}` is a folder, not a file", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Configurations in it.
        found: Vec<PathBuf>,
    },
    /// The system refuses to read it.
    #[error("cannot read the configuration `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        reason: io::Error,
    },
    /// Too large to be a configuration.
    #[error(
        "`{}` is larger than {} MiB, and no configuration is",
        path.display(), limit_bytes >> 20
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Largest size in bytes.
        limit_bytes: u64,
    },
    /// Not text in UTF-8.
    #[error(
        "the configuration `{}` is not UTF-8 text: byte 0x{byte:02X} after {valid_bytes} bytes",
        path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is not UTF-8.
        byte: u8,
        /// Bytes before it.
        valid_bytes: usize,
    },
    /// Nothing but white space and comments.
    #[error("the configuration `{}` is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Broken YAML.
    #[error("the configuration `{}` is not valid YAML", path.display())]
    NotYaml {
        /// The file.
        path: PathBuf,
        /// The YAML reader's reason, with line and column.
        #[source]
        reason: serde_yaml::Error,
    },
    /// YAML, but without keys.
    #[error("the configuration `{}` holds {found}, not keys with values", path.display())]
    NotAMapping {
        /// The file.
        path: PathBuf,
        /// What it holds, in words.
        found: &'static str,
    },
    /// `--set` without a key or without `=`.
    #[error("`--set {text}` is not of the form `--set KEY=VALUE`")]
    OverrideShape {
        /// What followed `--set`.
        text: String,
    },
    /// The value of a `--set` is broken YAML.
    #[error("the value in `{written}` is not valid YAML")]
    OverrideNotYaml {
        /// The flag with its value.
        written: String,
        /// The YAML reader's reason.
        #[source]
        reason: serde_yaml::Error,
    },
    /// `--set train=...`.
    #[error("`{written}` would set a whole section")]
    OverrideOfSection {
        /// The flag with its value.
        written: String,
        /// The section.
        section: String,
        /// One of its keys.
        example: String,
    },
    /// Some settings are wrong.
    #[error("{}", summary(path, problems))]
    Settings {
        /// The file.
        path: PathBuf,
        /// All that is wrong, in the order of the file; never empty.
        problems: Vec<Problem>,
    },
    /// The types refuse what the checks let through.
    #[error("the configuration `{}` cannot be used", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        reason: serde_yaml::Error,
    },
}

/// One wrong setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The full path: `train.epochs`.
    pub key: String,
    /// Where it was written.
    pub place: Place,
    /// What is wrong.
    pub kind: ProblemKind,
    /// What to do about it.
    pub hint: String,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq)]
pub enum ProblemKind {
    /// No type has this key.
    UnknownKey,
    /// It must be given, and is not.
    MissingKey,
    /// Of the wrong kind, or out of its range.
    WrongValue {
        /// As it was written; empty when nothing was.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// Right by itself, wrong beside another; the text says why.
    Conflict(String),
}

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// In a file; the position is unknown for a key that is missing.
    File {
        /// The file.
        path: PathBuf,
        /// Line and column.
        position: Option<Position>,
    },
    /// In a flag, as the user gave it.
    Flag(String),
}

impl ConfigError {
    /// A way out that can be pasted.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { path, found } | Self::Folder { path, found } => {
                hint_from_files(path, found).unwrap_or_else(|| LEAST_NEEDED.to_owned())
            }
            Self::Unreadable { path, .. } => format!("check it with `ls -l {}`", path.display()),
            Self::Refused { .. } => REFERENCE.to_owned(),
            Self::TooLarge { .. } => "pass a configuration with `--config FILE.yaml`".to_owned(),
            Self::NotUtf8 { .. } => "save the file as UTF-8 in your editor".to_owned(),
            Self::Empty { .. } | Self::NotAMapping { .. } => LEAST_NEEDED.to_owned(),
            Self::NotYaml { reason, .. } => yaml_hint(&reason.to_string()).to_owned(),
            Self::OverrideShape { .. } => "for example `--set train.epochs=3`".to_owned(),
            Self::OverrideNotYaml { .. } => {
                "quote it for the shell, for example `--set 'augment.scale=[0.5, 1.0]'`".to_owned()
            }
            Self::OverrideOfSection { section, example, .. } => {
                format!("set the keys of `{section}` one by one, as in `--set {example}=VALUE`")
            }
            Self::Settings { problems, .. } => match &problems[..] {
                [only] => only.hint.clone(),
                _ => REFERENCE.to_owned(),
            },
        };
        Some(hint)
    }

    /// What the message sums up, one line each; empty when the message says it all.
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Settings { problems, .. } if problems.len() > 1 => {
                problems.iter().map(|problem| format!("{problem}: {}", problem.hint)).collect()
            }
            _ => Vec::new(),
        }
    }
}

const REFERENCE: &str = "`stoker config-reference` explains every key";

const LEAST_NEEDED: &str = "a configuration needs at least `data: {train: FOLDER}`; \
    `stoker config-reference` explains every key";

/// The YAML reader gives its reasons as text only.
fn yaml_hint(reason: &str) -> &'static str {
    match reason {
        _ if reason.contains("duplicate entry") => "give each key once in a section",
        _ if reason.contains("more than one document") => "keep one of the parts that `---` separates",
        _ if reason.contains("invalid type: integer") => "write a smaller number",
        _ => "indent with spaces, not tabs, and write `key: value` with a space after the colon",
    }
}

fn summary(path: &Path, problems: &[Problem]) -> String {
    match problems {
        [only] => only.to_string(),
        many => format!("{} settings in `{}` cannot be used", many.len(), path.display()),
    }
}

/// More names than this are a list to scroll through, not a hint.
const MOST_FILES: usize = 8;

fn hint_from_files(path: &Path, found: &[PathBuf]) -> Option<String> {
    let written = path.display().to_string();
    let names: Vec<String> = found.iter().map(|file| file.display().to_string()).collect();
    if let Some(near) = nearest_of(&written, names.iter().map(String::as_str)) {
        return Some(format!("did you mean `{near}`?"));
    }
    let quoted: Vec<String> = names.iter().take(MOST_FILES).map(|name| format!("`{name}`")).collect();
    (!quoted.is_empty()).then(|| format!("pass a file, such as {}", quoted.join(", ")))
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, place, kind, .. } = self;
        match kind {
            ProblemKind::UnknownKey => write!(formatter, "unknown key `{key}` in {place}"),
            ProblemKind::MissingKey => write!(formatter, "`{key}` is missing in {place}"),
            ProblemKind::WrongValue { value, expected } if value.is_empty() => {
                write!(formatter, "`{key}` in {place} is empty, but must be {expected}")
            }
            ProblemKind::WrongValue { value, expected } => {
                write!(formatter, "`{key}` in {place} is `{value}`, but must be {expected}")
            }
            ProblemKind::Conflict(reason) => write!(formatter, "`{key}` in {place}: {reason}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(written) => write!(formatter, "`{written}`"),
            Self::File { path, position: None } => write!(formatter, "`{}`", path.display()),
            Self::File { path, position: Some(position) } => {
                write!(formatter, "`{}` (line {}, column {})", path.display(), position.line, position.column)
            }
        }
    }
}
