use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use vision_nn::AssignError;

use crate::run_folder::RESOLVED_CONFIG;
use crate::shell_word;

/// Why a checkpoint or run folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file or folder is not there.
    #[error("`{}` does not exist", path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// The system refused to read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system refused to write; what stood there before is untouched.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is cut short or is not safetensors.
    #[error("`{}` is not a complete safetensors file: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tensors of a checkpoint are not those that were written.
    #[error("`{}` is damaged: its tensors were written with the checksum {expected}, and have {found} now", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The checksum in the file.
        expected: String,
        /// That of the tensors.
        found: String,
    },
    /// The file holds tensors but no card of ours.
    #[error("`{}` has weights but no description of the run that made them", path.display())]
    NoCard {
        /// The file.
        path: PathBuf,
    },
    /// The card was written by a newer version.
    #[error("`{}` is in format {found}, but this program reads format {supported}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: u64,
        /// The newest that is understood.
        supported: u32,
    },
    /// A tensor in a number type that weights do not come in.
    #[error("tensor `{name}` in `{}` is stored as {dtype}, expected F32, F16, BF16 or F64", path.display())]
    NumberType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type, in safetensors' words.
        dtype: String,
    },
    /// The file is of `torch.save`, or pretends to be, and no weights could be read from it.
    #[error("no weights can be read from `{}`: {reason}", path.display())]
    NotAStateDict {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is not an array that can be read.
    #[error("no array can be read from `{}`: {reason}", path.display())]
    NotAnArray {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Weights of another model.
    #[error("the weights in `{}` do not fit `{model}`", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model that was to take them.
        model: String,
        /// What does not fit.
        source: Box<AssignError>,
    },
    /// A run would overwrite another.
    #[error("run folder `{}` exists and is not empty", path.display())]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// Two processes in one run folder would write over each other's checkpoints.
    #[error("another process trains in `{}`", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A folder without the files of a run.
    #[error("`{}` is not a run folder: it has no `{missing}`", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// The file that it would have.
        missing: &'static str,
    },
}

impl CheckpointError {
    /// A way out that can be typed, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { path } if path.extension().is_none() => {
                Some("train first, or name a run folder: `ls experiments/train`".to_owned())
            }
            Self::Missing { path } => match kept_as(path)? {
                Kept::Best => {
                    Some("a run has no `best` before its first epoch ends: try `--checkpoint last`".to_owned())
                }
                Kept::Averaged => Some(
                    "a run writes `averaged` at its end with `train.average_best: true` and `train.keep_best` above 1: try `--checkpoint best`"
                        .to_owned(),
                ),
                Kept::Epoch => None,
                Kept::Last => Some(format!(
                    "a run saves `last` when an epoch ends: `stoker train --resume {}`",
                    shell_word(run_of(path))
                )),
            },
            Self::Write { path, source } if is_full(source.kind()) => Some(no_space(path, source.kind())),
            Self::Write { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some("choose a folder that you may write to, for example `--set output=/tmp/stoker`".to_owned())
            }
            Self::Malformed { path, .. } | Self::Damaged { path, .. } => match kept_as(path)? {
                Kept::Averaged => Some("`best` may be whole: predict with `--checkpoint best`".to_owned()),
                Kept::Epoch => {
                    Some(format!("remove it, and the average is of the others: `rm {}`", shell_word(path)))
                }
                Kept::Best => Some("`last` may be whole: predict with `--checkpoint last`".to_owned()),
                Kept::Last => Some(format!(
                    "`best` may be whole: predict with `--checkpoint best`, or start a new run from it: `--set model.weights={}`",
                    shell_word(path.with_file_name("best.safetensors"))
                )),
            },
            Self::NoCard { .. } => Some("load it as starting weights: `--set model.weights=FILE`".to_owned()),
            Self::NotAStateDict { path, .. } => Some(format!(
                "in Python: `safetensors.torch.save_file(model.state_dict(), \"{}\")`",
                path.with_extension("safetensors").display()
            )),
            Self::NotAnArray { .. } => {
                Some("in Python: `numpy.save(FILE, numpy.ascontiguousarray(array, dtype=\"<f4\"))`".to_owned())
            }
            Self::Version { .. } => Some("update stoker".to_owned()),
            Self::OtherModel { .. } => {
                Some("set `model.name` to the architecture that the file was made with".to_owned())
            }
            Self::RunExists { path } => Some(format!(
                "go on with it: `--resume {0}`, replace it: `--overwrite`, or keep both: `--set name=OTHER`",
                shell_word(path)
            )),
            Self::Busy { path } => Some(format!(
                "let it end, or stop it with Ctrl-C, and go on with it: `stoker train --resume {}`; a run beside it has another name: `--set name=OTHER`",
                shell_word(path)
            )),
            Self::NotARun { path, .. } => Some(no_run(path)),
            Self::Read { .. } | Self::Write { .. } | Self::NumberType { .. } => None,
        }
    }
}

/// What files of weights end in, of any program.
const WEIGHTS: [&str; 4] = ["safetensors", "pth", "pt", "bin"];

/// Which of a run's checkpoints a file is.
enum Kept {
    Best,
    Last,
    Averaged,
    /// One of the best epochs.
    Epoch,
}

fn kept_as(path: &Path) -> Option<Kept> {
    match path.file_name()?.to_str()? {
        "best.safetensors" => Some(Kept::Best),
        "last.safetensors" => Some(Kept::Last),
        "averaged.safetensors" => Some(Kept::Averaged),
        name => name.starts_with(crate::run_folder::KEPT_PREFIX).then_some(Kept::Epoch),
    }
}

/// The run folder that a file lies in; checkpoints have a folder of their own there.
fn run_of(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(path);
    match folder.file_name() {
        Some(name) if name == "checkpoints" => folder.parent().unwrap_or(folder),
        _ => folder,
    }
}

/// A quota or a limit on a file's size stops a run as a full disk does.
fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// What a file needs that could not be written into a folder: room on its disk, or, where `kind` says so, a higher limit on the size of a file.
pub fn make_room(kind: ErrorKind, folder: &Path) -> String {
    match kind {
        ErrorKind::FileTooLarge => "lift the limit on the size of a file (`ulimit -f unlimited`)".to_owned(),
        _ => format!("free some space there (`df -h {}`)", shell_word(folder)),
    }
}

/// A run is named by its folder; what is no run's file can be what a run starts from.
fn no_run(path: &Path) -> String {
    let printed = "name the folder that `stoker train` printed";
    let run = run_of(path);
    let is_weights = |ending: &OsStr| WEIGHTS.iter().any(|known| ending.eq_ignore_ascii_case(known));
    match path.is_file() {
        true if !run.as_os_str().is_empty() && run.join(RESOLVED_CONFIG).exists() => {
            format!("name the folder of its run: `{}`", shell_word(run))
        }
        true if path.extension().is_some_and(is_weights) => format!(
            "{printed}, or start a run from these weights: `stoker train --config FILE --set model.weights={}`",
            shell_word(path)
        ),
        _ => format!("{printed}, for example `experiments/train/latest`"),
    }
}

fn no_space(path: &Path, kind: ErrorKind) -> String {
    // A relative path ends in the working directory.
    let run = Some(run_of(path)).filter(|run| !run.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (typed, room) = (shell_word(run), make_room(kind, run));
    // Before its configuration is there, it is no run that one could go on with.
    if !run.join(RESOLVED_CONFIG).exists() {
        return format!("{room}, then start again");
    }
    format!("{room}, then go on with `stoker train --resume {typed}`; what was saved before is whole")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_a_run_folder_is_told_what_it_is_good_for() {
        let folder = tempfile::tempdir().expect("writable");
        let make = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("it is below the folder")).expect("writable");
            std::fs::write(&path, "").expect("writable");
            path
        };
        let hint = |path: PathBuf| CheckpointError::NotARun { path, missing: "config.resolved.yaml" }.hint().unwrap();
        let weights = make("eff.safetensors");
        let from_them = format!("--set model.weights={}`", shell_word(&weights));
        assert!(hint(weights).ends_with(&from_them));
        let printed = "name the folder that `stoker train` printed, for example `experiments/train/latest`";
        assert_eq!(hint(make("rows.csv")), printed);
        assert_eq!(hint(folder.path().to_owned()), printed);
        let run = make("pets/config.resolved.yaml").with_file_name("");
        let named = hint(make("pets/checkpoints/best.safetensors"));
        assert_eq!(named, format!("name the folder of its run: `{}`", shell_word(run.components().as_path())));
    }

    #[test]
    fn a_limit_on_the_size_of_a_file_is_no_full_disk() {
        let run = Path::new("runs/pets");
        assert_eq!(make_room(ErrorKind::StorageFull, run), "free some space there (`df -h runs/pets`)");
        let file = run.join("checkpoints/last.safetensors");
        let hint = |kind: ErrorKind| CheckpointError::Write { path: file.clone(), source: kind.into() }.hint();
        let lifted = hint(ErrorKind::FileTooLarge).expect("there is a way to go on");
        assert!(lifted.starts_with("lift the limit on the size of a file (`ulimit -f unlimited`), then "), "{lifted}");
        assert!(hint(ErrorKind::QuotaExceeded).is_some_and(|hint| hint.starts_with("free some space there (`df -h ")));
    }

    #[test]
    fn commands_in_hints_can_be_pasted_where_a_path_has_spaces() {
        let folder = tempfile::tempdir().expect("writable");
        let run = folder.path().join("my runs");
        std::fs::create_dir_all(&run).expect("writable");
        std::fs::write(run.join(RESOLVED_CONFIG), "").expect("writable");
        let last = run.join("checkpoints/last.safetensors");
        let errors = [
            CheckpointError::Busy { path: run.clone() },
            CheckpointError::Missing { path: last.clone() },
            CheckpointError::Write { path: last, source: ErrorKind::StorageFull.into() },
        ];
        let command = format!("`stoker train --resume '{}'`", run.display());
        for error in errors {
            let hint = error.hint().expect("there is a way to go on");
            assert!(hint.contains(&command), "{hint}");
        }
    }
}
