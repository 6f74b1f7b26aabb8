//! What a plan writes: all of it, or nothing.

use std::io::Write as _;
use std::path::Path;

use checkpoint::{AtomicFile, CheckpointError};
use memory_planner::{Profile, memory_timeline_svg};

use super::Request;
use super::output::{json, tell_saved, with_liveness};
use crate::cli::{Destination, PlanTask};
use crate::config::{Edit, EditError, prepare_as, prepare_in_place};
use crate::error::CommandError;
use crate::run::checks::check_output_file;
use crate::run::memory::Planned;
use crate::ui;

/// Whether the files that flags name can be made, before the work that fills them.
pub(super) fn check_places(task: &PlanTask) -> Result<(), CommandError> {
    let team = match &task.destination {
        Destination::TeamSettings(path) => Some(path),
        _ => None,
    };
    let places = [
        (task.profile.as_ref(), "--save-profile", "profile.json"),
        (task.picture.as_ref(), "--save-picture", "memory.svg"),
        (team, "--write-team-settings", "team_settings.yaml"),
    ];
    places.into_iter().try_for_each(|(path, flag, example)| match path {
        Some(path) => check_output_file(path, flag, example),
        None => Ok(()),
    })
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
            staged.push(Staged::new(path, &json(&profile))?);
        }
        if let Some(path) = picture {
            let subject = format!("{}, batch {}", analysis.model, analysis.plan.micro_batch);
            staged
                .push(Staged::new(path, &memory_timeline_svg(liveness, &subject, Some(analysis.budget.budget_bytes)))?);
        }
        Ok(staged)
    })
}

/// A file that lies beside its place.
struct Staged {
    file: AtomicFile,
    path: std::path::PathBuf,
}

impl Staged {
    fn new(path: &Path, text: &str) -> Result<Self, CommandError> {
        let mut file = AtomicFile::create(path).map_err(|error| not_written(&error))?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.flush());
        written.map_err(|source| not_written(&CheckpointError::Write { path: path.to_owned(), source }))?;
        Ok(Self { file, path: path.to_owned() })
    }

    fn place(self) -> Result<(), CommandError> {
        self.file.commit().map_err(|error| not_written(&error))?;
        ui::note(format_args!("wrote `{}`", self.path.display()));
        Ok(())
    }
}

fn not_written(error: &CheckpointError) -> CommandError {
    CommandError::from_run(error).with_hint(error.hint())
}
