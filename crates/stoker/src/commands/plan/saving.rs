//! What a plan writes: all of it, or nothing.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use checkpoint::{AtomicFile, CheckpointError};
use memory_planner::{Profile, memory_timeline_svg};

use super::Request;
use super::output::{json, tell_saved, with_liveness};
use crate::cli::{Destination, PlanArgumentsError, PlanTask};
use crate::config::{Edit, EditError, prepare_as, prepare_in_place};
use crate::error::CommandError;
use crate::run::checks::check_output_file;
use crate::run::memory::Planned;
use crate::ui;

/// Whether the files that flags name can be made, and take nothing's place that is read or written beside them: asked before the work that fills them.
pub(super) fn check_places(task: &PlanTask) -> Result<(), CommandError> {
    let (copy, team) = match &task.destination {
        Destination::Copy(path) => (Some(path), None),
        Destination::TeamSettings(path) => (None, Some(path)),
        Destination::Nowhere | Destination::InPlace => (None, None),
    };
    let places = [
        (task.profile.as_ref(), PROFILE, "profile.json"),
        (task.picture.as_ref(), PICTURE, "memory.svg"),
        (team, TEAM, "team_settings.yaml"),
    ];
    let outputs = places.iter().filter_map(|(path, flag, example)| Some(((*path)?, *flag, *example)));
    outputs.clone().try_for_each(|(path, flag, example)| check_output_file(path, flag, example))?;
    let configs = [("--config", task.config.as_ref()), ("--save-config", copy)];
    let configs: Vec<Named<'_>> =
        configs.into_iter().filter_map(|(flag, path)| Some((flag, path?.as_path()))).collect();
    let outputs: Vec<Named<'_>> = outputs.map(|(path, flag, _)| (flag, path.as_path())).collect();
    refuse_one_place(configs.iter().chain(&outputs).copied())?;
    refuse_places_of_copies(&configs, &outputs)
}

const PROFILE: &str = "--save-profile";
const PICTURE: &str = "--save-picture";
const TEAM: &str = "--write-team-settings";

/// A flag, and the file that it names.
type Named<'a> = (&'static str, &'a Path);

/// Refuses two names of one file. The command line compares spellings alone; here links and folders are followed.
fn refuse_one_place<'a>(files: impl Iterator<Item = Named<'a>>) -> Result<(), CommandError> {
    let mut places: Vec<(&'static str, PathBuf)> = Vec::new();
    for (other, path) in files {
        let place = true_place(path);
        if let Some((one, _)) = places.iter().find(|(_, earlier)| *earlier == place) {
            return Err(PlanArgumentsError::SameFile { one, other, path: path.to_path_buf() }.into());
        }
        places.push((other, place));
    }
    Ok(())
}

/// Refuses files that would stand where a configuration's copy is kept, or is about to be: `FILE.bak`, `FILE.bak.1` and so on.
fn refuse_places_of_copies(configs: &[Named<'_>], outputs: &[Named<'_>]) -> Result<(), CommandError> {
    for (flag, path) in outputs {
        let place = true_place(path);
        if let Some((_, config)) = configs.iter().find(|(_, config)| is_copy_of(&place, &true_place(config))) {
            let message = format!(
                "`{flag} {}` has the name under which the original of `{}` is kept",
                path.display(),
                config.display()
            );
            return Err(CommandError::wrong_request(message).with_hint(format!("choose another name for `{flag}`")));
        }
    }
    Ok(())
}

/// Whether the file at `place` has the name of a copy that saving keeps of `config`; both are true places.
fn is_copy_of(place: &Path, config: &Path) -> bool {
    let (Some(name), Some(original)) = (place.file_name(), config.file_name()) else { return false };
    let (name, original) = (name.to_string_lossy(), original.to_string_lossy());
    let ending = name.strip_prefix(&*original).and_then(|rest| rest.strip_prefix(".bak"));
    let is_ending = |ending: &str| match ending.strip_prefix('.') {
        Some(number) => number.parse::<usize>().is_ok(),
        None => ending.is_empty(),
    };
    place.parent() == config.parent() && ending.is_some_and(is_ending)
}

/// Where a file truly is, or will be: with links followed where it is there, and otherwise in its true folder.
fn true_place(path: &Path) -> PathBuf {
    let in_folder = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        path.file_name().map_or_else(|| path.to_owned(), |name| folder.join(name))
    };
    fs::canonicalize(path).unwrap_or_else(|_| in_folder())
}

/// Writes the profile, the picture and the configuration. Everything is checked and lies beside its place before the first file takes its own.
pub(super) fn save(request: &Request<'_>, planned: &Planned) -> Result<(), CommandError> {
    let refused = |error: EditError| CommandError::from_request(&error).with_hint(error.hint());
    let edits = request.edits(planned)?;
    let config = match (&request.task.config, &request.task.destination) {
        (Some(config), Destination::InPlace) => Some(prepare_in_place(config, &edits).map_err(refused)?),
        (Some(config), Destination::Copy(path)) => Some(prepare_as(config, path, &edits).map_err(refused)?),
        _ => None,
    };
    let figures = staged_figures(request, planned)?;
    let saved = config.map(|config| config.commit().map_err(refused)).transpose()?;
    for figure in figures {
        figure.place()?;
    }
    match saved {
        Some(saved) => tell_saved(&saved, &edits.iter().map(Edit::key).collect::<Vec<_>>()),
        None => Ok(()),
    }
}

/// The footprint with its timeline, and the picture, where they are asked for.
fn staged_figures(request: &Request<'_>, planned: &Planned) -> Result<Vec<Staged>, CommandError> {
    let (profile, picture) = (&request.task.profile, &request.task.picture);
    if profile.is_none() && picture.is_none() {
        return Ok(Vec::new());
    }
    let analysis = &planned.analysis;
    with_liveness(request, planned, planned.rung, |liveness| {
        let mut staged = Vec::new();
        if let Some(path) = profile {
            let profile = Profile::of(liveness, &analysis.device, &analysis.model, analysis.plan.micro_batch)
                .with_footprint(analysis.footprint.clone())
                .with_plan(analysis.plan.clone());
            staged.push(Staged::new((PROFILE, path), &json(&profile))?);
        }
        if let Some(path) = picture {
            let subject = format!("{}, batch {}", analysis.model, analysis.plan.micro_batch);
            let drawn = memory_timeline_svg(liveness, &subject, Some(analysis.budget.budget_bytes));
            staged.push(Staged::new((PICTURE, path), &drawn)?);
        }
        Ok(staged)
    })
}

/// Writes a team's settings, whole or not at all.
pub(super) fn save_team(path: &Path, text: &str) -> Result<(), CommandError> {
    Staged::new((TEAM, path), text)?.place()
}

/// A file that lies beside its place.
struct Staged {
    file: AtomicFile,
    flag: &'static str,
    path: PathBuf,
}

impl Staged {
    fn new((flag, path): Named<'_>, text: &str) -> Result<Self, CommandError> {
        let mut file = AtomicFile::create(path).map_err(|error| not_written(&error, flag))?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.flush());
        written.map_err(|source| not_written(&CheckpointError::Write { path: path.to_owned(), source }, flag))?;
        Ok(Self { file, flag, path: path.to_owned() })
    }

    fn place(self) -> Result<(), CommandError> {
        self.file.commit().map_err(|error| not_written(&error, self.flag))?;
        ui::note(format_args!("wrote `{}`", self.path.display()));
        Ok(())
    }
}

/// Checkpoints would go elsewhere by a setting; these files go where their flag says.
fn not_written(error: &CheckpointError, flag: &str) -> CommandError {
    CommandError::from_run(error).with_hint(format!("choose another place with `{flag} FILE`"))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn copies_are_known_by_their_names_beside_the_configuration() {
        let config = Path::new("/mine/x.yaml");
        for copy in ["/mine/x.yaml.bak", "/mine/x.yaml.bak.1", "/mine/x.yaml.bak.27"] {
            assert!(is_copy_of(Path::new(copy), config), "{copy}");
        }
        for other in ["/mine/x.yaml", "/mine/x.bak", "/mine/x.yaml.bak.json", "/other/x.yaml.bak", "/mine/y.yaml.bak"] {
            assert!(!is_copy_of(Path::new(other), config), "{other}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_yet_has_one_place_however_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        let plain = true_place(&folder.path().join("p.json"));
        assert_eq!(true_place(&folder.path().join("inner/../p.json")), plain);
        fs::write(folder.path().join("p.json"), "{}").unwrap();
        assert_eq!(true_place(&folder.path().join("inner/../p.json")), plain, "nor when it is");
        assert_ne!(true_place(&folder.path().join("inner/p.json")), plain);
    }

    #[test]
    fn a_file_that_may_not_be_written_is_sent_elsewhere_by_its_flag() {
        let error = CheckpointError::Write { path: "p.json".into(), source: ErrorKind::PermissionDenied.into() };
        let hint = not_written(&error, PROFILE).hint.unwrap();
        assert!(hint.contains("`--save-profile FILE`") && !hint.contains("--set"), "{hint}");
    }
}
