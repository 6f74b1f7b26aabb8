//! Everything that can go wrong when a configuration is changed.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use checkpoint::make_room;

use crate::config::error::ConfigError;
use crate::config::position::Position;

/// Why a configuration could not be changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The configuration is not right, or would not be with the new values.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A value is written in a form that cannot be edited.
    #[error("cannot set `{key}` in `{}`{}: {obstacle}", path.display(), At(*position))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key that was to be set.
        key: String,
        /// Where the key is; `None` when it is not there.
        position: Option<Position>,
        /// What stands in the way.
        obstacle: Obstacle,
    },
    /// Read again, the changed text is not the old configuration with the keys set.
    #[error("cannot set {} in `{}` without changing more than that", list(keys), path.display())]
    WouldChange {
        /// The file.
        path: PathBuf,
        /// The keys that were to be set.
        keys: Vec<String>,
    },
    /// Neither a file nor a folder: a pipe or a device.
    #[error("`{}` is not a regular file, and cannot be replaced", path.display())]
    SpecialFile {
        /// What was named.
        path: PathBuf,
    },
    /// A copy would go where the original is.
    #[error("`{}` is the configuration itself, not another file", path.display())]
    SameFile {
        /// The configuration.
        path: PathBuf,
    },
    /// A folder stands where a file is to go.
    #[error("cannot write `{}`: it is a folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder of the new file is not there.
    #[error("cannot write `{}`: folder `{}` does not exist", path.display(), folder.display())]
    NoFolder {
        /// The new file.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// A file that is no configuration would be overwritten.
    #[error("`{}` exists and is not a configuration of stoker", path.display())]
    NotAConfig {
        /// The file.
        path: PathBuf,
        /// Why it is none.
        #[source]
        reason: Box<ConfigError>,
    },
    /// The file is write-protected.
    #[error("cannot write `{}`: it is write-protected", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The original could not be copied, so it was left as it is.
    #[error("cannot keep a copy of the original as `{}`", path.display())]
    Backup {
        /// The copy.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refused to write; what stood there is untouched.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A way to write YAML that cannot be edited without risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// `&name` before a value, or `*name` for it: other keys may share it.
    Anchor,
    /// `!type` before a value.
    Tag,
    /// A value that goes on over several lines.
    SeveralLines,
    /// Brackets or quotes whose end was not found.
    NoEnd,
}

impl EditError {
    /// A way out that can be pasted.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Config(error) => return error.hint(),
            Self::Unsupported { key, obstacle: Obstacle::SeveralLines, .. } => {
                format!("write its value on one line, as in `{}: VALUE`", last_name(key))
            }
            Self::Unsupported { key, .. } => {
                format!("write `{}` without anchors, aliases and tags", key.replace('.', "` and `"))
            }
            Self::WouldChange { keys, .. } => format!("set {} in the file by hand", list(keys)),
            Self::SpecialFile { .. } => "keep the configuration in a file, such as `mine.yaml`".to_owned(),
            Self::SameFile { .. } => {
                "leave `--save-config` out, and the configuration is updated, with a copy kept beside it".to_owned()
            }
            Self::Folder { path } => format!("name a file: `--save-config {}`", path.join("planned.yaml").display()),
            Self::NoFolder { folder, .. } => format!("make it: `mkdir -p {}`", folder.display()),
            Self::NotAConfig { .. } => "choose another name with `--save-config FILE.yaml`".to_owned(),
            Self::ReadOnly { path } => {
                format!("allow it with `chmod u+w {}`, or write another file with `--save-config FILE`", path.display())
            }
            Self::Backup { path, source } | Self::Write { path, source } => return system_hint(path, source),
        };
        Some(hint)
    }

    /// What the message sums up, one line each; see [`ConfigError::details`].
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Config(error) => error.details(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Anchor => "it is written with an anchor (`&`) or an alias (`*`), which other keys may share",
            Self::Tag => "it is written with a tag (`!`)",
            Self::SeveralLines => "its value goes on over several lines",
            Self::NoEnd => "the end of its value cannot be found",
        })
    }
}

/// Where in the file, when that is known.
struct At(Option<Position>);

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Position { line, column }) => write!(formatter, " (line {line}, column {column})"),
            None => Ok(()),
        }
    }
}

fn list(keys: &[String]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

fn last_name(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn system_hint(path: &Path, source: &io::Error) -> Option<String> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Some(format!("{}; the files are as they were", make_room(source.kind(), folder)))
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Some(format!(
            "`{}` cannot be written to: write elsewhere with `--save-config FILE`, or change nothing with `--test-only`",
            folder.display()
        )),
        _ => None,
    }
}
