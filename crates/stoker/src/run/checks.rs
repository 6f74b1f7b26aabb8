//! What can be refused before anything is measured or written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use checkpoint::{CheckpointError, RunFolder, shell_word};
use memory_planner::{Budget, FixedMemory, format_bytes};

use crate::error::CommandError;
use crate::registry::{Architecture, find_architecture};
use crate::run::subject::Subject;

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
        (true, _) => ("it is a folder".to_owned(), format!("name a file: `{flag} {}`", shell_word(path.join(example)))),
        (_, false) if parent.exists() => {
            (format!("`{}` is a file", parent.display()), format!("choose another place with `{flag} FILE`"))
        }
        (_, false) => (
            format!("folder `{}` does not exist", parent.display()),
            format!("make it: `mkdir -p {}`", shell_word(parent)),
        ),
        (false, true) => {
            let (what, flag) = (format!("`{}`", path.display()), format!("{flag} FILE"));
            return check_writable(parent).map_err(|reason| unwritable(&what, parent, &reason, &flag));
        }
    };
    Err(CommandError::wrong_request(format!("cannot write `{}`: {problem}", path.display())).with_hint(hint))
}

/// Whether files can be made in the folder `path`, which `flag` names and which may be missing, before the work that fills them.
pub(crate) fn check_output_folder(path: &Path, flag: &str) -> Result<(), CommandError> {
    // A relative path ends in the working directory.
    match path.ancestors().find(|above| above.exists()).unwrap_or(Path::new(".")) {
        above if !above.is_dir() => {
            let message = format!("cannot write into `{}`: `{}` is a file", path.display(), above.display());
            Err(CommandError::wrong_request(message).with_hint(format!("choose another place with `{flag} FOLDER`")))
        }
        above => {
            let (what, flag) = (format!("into `{}`", path.display()), format!("{flag} FOLDER"));
            check_writable(above).map_err(|reason| unwritable(&what, above, &reason, &flag))
        }
    }
}

/// The error for `what`, which would go into a folder that takes no file.
fn unwritable(what: &str, folder: &Path, reason: &io::Error, flag: &str) -> CommandError {
    let message = format!("cannot write {what}: nothing can be written into `{}`", folder.display());
    CommandError::wrong_request(message)
        .with_causes(vec![reason.to_string()])
        .with_hint(format!("choose another place with `{flag}`"))
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

/// The way out of a run that goes on where there is not enough memory.
pub(crate) const KEEPS_ITS_MODEL: &str = "free memory, or go on where there is more, as on another device with `--device`: a run that goes on keeps its model and \
     its images as they are";

/// The error for a model that takes more than the budget whatever the batch: `fixed`, of what a step of one image takes in all, about `enough_bytes`.
pub(crate) fn no_room_for_model(
    subject: &Subject<'_>,
    fixed: &FixedMemory,
    enough_bytes: u64,
    budget: &Budget,
) -> CommandError {
    let message = format!(
        "`{}` needs more than {}, but the budget is {} ({})",
        subject.resolved.config.model.name,
        format_bytes(fixed.total()),
        format_bytes(budget.budget_bytes),
        budget.reason
    );
    let parts = format!(
        "weights {}, gradients {}, optimizer {}, before any activations",
        format_bytes(fixed.weights),
        format_bytes(fixed.gradients),
        format_bytes(fixed.optimizer)
    );
    let other_model = (subject.may_change)("model.name");
    let hint = match budget.change_for(enough_bytes) {
        Some(change) if other_model => format!("{} or more, or choose a smaller `model.name`", change.hint()),
        Some(change) => format!("{} or more", change.hint()),
        None if !other_model => KEEPS_ITS_MODEL.to_owned(),
        None if budget.would_hold(enough_bytes) => {
            "choose a smaller `model.name`, or free memory and run again".to_owned()
        }
        None => "choose a smaller `model.name`".to_owned(),
    };
    CommandError::wrong_request(message).with_causes(vec![parts]).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use memory_planner::{BudgetRequest, MemoryReading};

    use super::*;
    use crate::run::subject::bare_config;

    #[test]
    fn a_place_that_is_asked_about_is_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        check_output_file(&folder.path().join("rows.csv"), "--output", "rows.csv").expect("it can be written");
        check_output_folder(&folder.path().join("deeper/scores"), "--output").expect("it can be made");
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
    }

    /// Below `/proc` even the superuser can make no file.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_takes_no_files_is_told_before_the_work_with_the_flag_for_another() {
        let refused = [
            check_output_file(Path::new("/proc/rows.csv"), "--output", "rows.csv"),
            check_output_folder(Path::new("/proc/deeper/scores"), "--output"),
        ];
        let told = refused.map(|refused| refused.expect_err("nothing can be written there"));
        assert_eq!(told[0].message, "cannot write `/proc/rows.csv`: nothing can be written into `/proc`");
        assert_eq!(told[1].message, "cannot write into `/proc/deeper/scores`: nothing can be written into `/proc`");
        let hints = told.map(|error| error.hint.expect("a way out"));
        assert_eq!(hints, ["FILE", "FOLDER"].map(|what| format!("choose another place with `--output {what}`")));
    }

    const MIB: u64 = 1 << 20;

    /// Of 1000 MiB, 900 are free.
    fn hint_of(request: &BudgetRequest, enough_mib: u64, may_change: fn(&str) -> bool) -> String {
        let reading = MemoryReading { total_bytes: 1_000 * MIB, free_bytes: 900 * MIB, own_bytes: 0 };
        let budget = Budget::for_host(reading, request).unwrap();
        let fixed = FixedMemory { weights: 50 * MIB, ..FixedMemory::default() };
        let resolved = bare_config("convnext_atto", 64).unwrap();
        let architecture = resolved.architecture().unwrap();
        let subject = Subject { may_change, ..Subject::without_data(&resolved, &architecture, 10) };
        no_room_for_model(&subject, &fixed, enough_mib * MIB, &budget).hint.expect("there is always one")
    }

    fn hint(request: &BudgetRequest, enough_mib: u64) -> String {
        hint_of(request, enough_mib, |_| true)
    }

    #[test]
    fn a_run_that_keeps_its_model_is_not_told_to_choose_another() {
        let goes_on = |key: &str| key.starts_with("memory.");
        let limit = BudgetRequest { limit_bytes: Some(MIB), ..BudgetRequest::default() };
        assert_eq!(hint_of(&limit, 88, goes_on), "set `memory.limit: 88MiB` or more");
        for enough_mib in [750, 2_000] {
            assert_eq!(hint_of(&BudgetRequest::default(), enough_mib, goes_on), KEEPS_ITS_MODEL);
        }
    }

    #[test]
    fn a_model_without_room_is_told_which_setting_gives_it_enough() {
        let limit = BudgetRequest { limit_bytes: Some(MIB), ..BudgetRequest::default() };
        assert!(hint(&limit, 88).starts_with("set `memory.limit: 88MiB` or more, or "));
        let fraction = BudgetRequest { memory_fraction: Some(0.001), ..BudgetRequest::default() };
        assert!(hint(&fraction, 88).starts_with("raise `memory.fraction` to 0.088 or more, or "));
        let free = BudgetRequest::default();
        assert!(hint(&free, 750).ends_with(", or free memory and run again"));
        assert_eq!(hint(&free, 2_000), "choose a smaller `model.name`");
        assert_eq!(hint(&fraction, 2_000), "choose a smaller `model.name`", "no fraction is enough");
    }
}
