//! What can be refused before anything is measured or written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use checkpoint::{CheckpointError, RunFolder};
use memory_planner::{Budget, FixedMemory, format_bytes};

use crate::error::CommandError;
use crate::registry::{Architecture, find_architecture};

/// Whether a new run can go to `root`: asked before any data is drawn and any step is measured.
pub(crate) fn check_root(root: &Path, overwrite: bool) -> Result<(), CommandError> {
    let refused = |error: CheckpointError| CommandError::from_request(&error).with_hint(error.hint());
    if RunFolder::is_occupied(root) {
        if !overwrite {
            return Err(refused(CheckpointError::RunExists { path: root.to_owned() }));
        }
        let keep = "`--overwrite` replaces runs only; go elsewhere with `--set name=OTHER`, or move the folder away";
        RunFolder::open(root).map_err(|error| refused(error).with_hint(keep.to_owned()))?;
    }
    // A relative path ends in the working directory.
    match root.ancestors().find(|above| above.exists()).unwrap_or(Path::new(".")) {
        above if !above.is_dir() => {
            let message = format!("cannot make run folder `{}`: `{}` is a file", root.display(), above.display());
            let hint = "choose another folder with `--set output=FOLDER`, or another name with `--set name=OTHER`";
            Err(CommandError::wrong_request(message).with_hint(hint.to_owned()))
        }
        above => check_writable(above).map_err(|reason| {
            let above = above.display();
            let message = format!("cannot make run folder `{}`: nothing can be written into `{above}`", root.display());
            let hint = "choose a folder that you may write to with `--set output=FOLDER`";
            CommandError::wrong_request(message).with_causes(vec![reason.to_string()]).with_hint(hint.to_owned())
        }),
    }
}

/// Whether a folder takes a file, which is the one way to know: rights, file systems that are only read, and full disks all say so there alone.
fn check_writable(folder: &Path) -> io::Result<()> {
    let probe = folder.join(format!(".stoker-{}.writing", std::process::id()));
    let mut file = File::create(&probe)?;
    let written = file.write_all(b"?").and_then(|()| file.sync_all());
    fs::remove_file(&probe).and(written)
}

/// Whether a file can be made at `path`, which `flag` names, before the work that fills it. `example` is a file's name.
pub(crate) fn check_output_file(path: &Path, flag: &str, example: &str) -> Result<(), CommandError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (problem, hint) = match (path.is_dir(), parent.is_dir()) {
        (true, _) => ("it is a folder".to_owned(), format!("name a file: `{flag} {}/{example}`", path.display())),
        (_, false) if parent.exists() => {
            (format!("`{}` is a file", parent.display()), format!("choose another place with `{flag} FILE`"))
        }
        (_, false) => (
            format!("folder `{}` does not exist", parent.display()),
            format!("make it: `mkdir -p {}`", parent.display()),
        ),
        (false, true) => return Ok(()),
    };
    Err(CommandError::wrong_request(format!("cannot write `{}`: {problem}", path.display())).with_hint(hint))
}

/// Whether files can be made in the folder `path`, which `flag` names and which may be missing, before the work that fills them.
pub(crate) fn check_output_folder(path: &Path, flag: &str) -> Result<(), CommandError> {
    match path.ancestors().find(|above| above.exists()) {
        Some(above) if !above.is_dir() => {
            let message = format!("cannot write into `{}`: `{}` is a file", path.display(), above.display());
            Err(CommandError::wrong_request(message).with_hint(format!("choose another place with `{flag} FOLDER`")))
        }
        _ => Ok(()),
    }
}

/// The architecture of that name or alias.
pub(crate) fn known_architecture(name: &str) -> Result<Architecture, CommandError> {
    find_architecture(name).map_err(|nearest| {
        let hint = match nearest {
            Some(near) => format!("did you mean `{near}`? `stoker models` lists all"),
            None => "`stoker models` lists all".to_owned(),
        };
        CommandError::wrong_request(format!("unknown model `{name}`")).with_hint(hint)
    })
}

/// The architecture of that name or alias, for images of that height and width.
pub(crate) fn architecture_for(name: &str, [height, width]: [usize; 2]) -> Result<Architecture, CommandError> {
    known_architecture(name)?.at_image_size(height, width).map_err(|refused| {
        CommandError::wrong_request(format!("`{name}` cannot take images of {height}x{width}"))
            .with_causes(vec![refused.reason])
            .with_hint(refused.hint)
    })
}

/// The error for a model that takes more than the budget whatever the batch.
pub(crate) fn no_room_for_model(model: &str, fixed: &FixedMemory, budget: &Budget) -> CommandError {
    let message = format!(
        "`{model}` needs more than {}, but the budget is {} ({})",
        format_bytes(fixed.total()),
        format_bytes(budget.budget_bytes),
        budget.reason
    );
    no_room(message, fixed, budget)
}

/// The error for a budget in which no steps can be measured: they take `fixed` and their activations.
pub(crate) fn no_room_to_measure(model: &str, fixed: &FixedMemory, budget: &Budget) -> CommandError {
    let message = format!(
        "training steps of `{model}` cannot be measured within {} ({})",
        format_bytes(budget.budget_bytes),
        budget.reason
    );
    no_room(message, fixed, budget)
}

fn no_room(message: String, fixed: &FixedMemory, budget: &Budget) -> CommandError {
    let parts = format!(
        "weights {}, gradients {}, optimizer {}, before any activations",
        format_bytes(fixed.weights),
        format_bytes(fixed.gradients),
        format_bytes(fixed.optimizer)
    );
    // As much again for activations is room enough to measure in.
    let enough = (2 * fixed.total()).div_ceil(1 << 20);
    let hint = match budget.user_limit_bytes {
        Some(_) => format!("set `memory.limit: {enough}MiB` or more, or choose a smaller `model.name`"),
        None => "choose a smaller `model.name`, or free memory and run again".to_owned(),
    };
    CommandError::wrong_request(message).with_causes(vec![parts]).with_hint(hint)
}
