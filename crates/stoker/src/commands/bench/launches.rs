//! `bench step --launches`: what a training step launches on a card, counted in a dry run, and the bytes that its kernels read and write.

use std::collections::BTreeMap;

use burn::tensor::Device;
use memory_planner::{Checkpointing, Rung, format_bytes};
use memory_probe::{LaunchLog, LaunchesError, StepRequest, Traffic, step_traffic};
use serde::Serialize;

use super::Configuration;
use super::step::Place;
use crate::cli::BenchStepArguments;
use crate::error::CommandError;
use crate::ui;

/// Averages are in the step that is counted, for they are what a run for accuracy has.
const EMA_DECAY: f64 = 0.9999;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    image_size: usize,
    batch: usize,
    device: String,
    checkpointing: Checkpointing,
    launches: usize,
    /// By the kernel's name.
    kernels: BTreeMap<String, usize>,
    /// Of the recorded graph.
    bytes: u64,
    /// By the kind of operation.
    operations: BTreeMap<String, OfKind>,
}

#[derive(Debug, Serialize)]
struct OfKind {
    kernels: usize,
    bytes: u64,
}

/// Counts and prints.
pub(super) fn launches(arguments: &BenchStepArguments, size: usize) -> Result<(), CommandError> {
    // The log must be there before the device is.
    let folder = std::env::temp_dir().join(format!("stoker-launches-{}", std::process::id()));
    let log = LaunchLog::open(&folder).map_err(|error| refused(&error))?;
    let reports = counted(arguments, size, &log);
    // Nobody needs it any more; what is left of it does no harm.
    let _ = std::fs::remove_dir_all(&folder);
    let reports = reports?;
    if arguments.json {
        return ui::out(serde_json::to_string_pretty(&reports).expect("reports have string keys and plain values"));
    }
    ui::out(reports.iter().map(Report::in_markdown).collect::<Vec<_>>().join("\n\n"))
}

fn refused(error: &LaunchesError) -> CommandError {
    CommandError::from_run(error).with_hint(error.hint())
}

fn counted(arguments: &BenchStepArguments, size: usize, log: &LaunchLog) -> Result<Vec<Report>, CommandError> {
    let place = Place::of(arguments.device)?;
    let of = |&checkpointing: &Checkpointing| {
        let rung = Rung { precision: arguments.precision, checkpointing };
        let configuration = Configuration::new(&arguments.model, size, rung)?;
        report(arguments, &configuration, &place, log)
    };
    arguments.checkpointing.iter().map(of).collect()
}

fn report(
    arguments: &BenchStepArguments,
    configuration: &Configuration,
    place: &Place,
    log: &LaunchLog,
) -> Result<Report, CommandError> {
    let architecture = configuration.resolved.architecture()?;
    let subject = configuration.subject(&architecture);
    let mut request: StepRequest = subject.step(configuration.rung);
    request.options.ema_decay = Some(EMA_DECAY);
    let build = |device: &Device| subject.build(device);
    let kernels = log.of_step(&request, arguments.batch, &place.device, &build).map_err(|error| refused(&error))?;
    let traffic = step_traffic(&request, arguments.batch, &build);
    let of_kind = |(kind, Traffic { kernels, bytes })| (kind, OfKind { kernels, bytes });
    Ok(Report {
        model: arguments.model.clone(),
        image_size: request.image[0],
        batch: arguments.batch,
        device: place.name.clone(),
        checkpointing: configuration.rung.checkpointing,
        launches: kernels.values().sum(),
        kernels,
        bytes: traffic.values().map(|traffic| traffic.bytes).sum(),
        operations: traffic.into_iter().map(of_kind).collect(),
    })
}

impl Report {
    fn in_markdown(&self) -> String {
        let Self { model, image_size, batch, device, checkpointing, launches, bytes, .. } = self;
        let mut text = format!(
            "{model} at {image_size}x{image_size}, batch {batch}, checkpointing {checkpointing}, {device}: {launches} launches a step, {} read \
             and written\n\n| kernel | launches |\n|---|---|",
            format_bytes(*bytes)
        );
        let mut kernels: Vec<(&String, &usize)> = self.kernels.iter().collect();
        kernels.sort_by_key(|(_, launches)| std::cmp::Reverse(**launches));
        for (name, launches) in kernels {
            text.push_str(&format!("\n| `{name}` | {launches} |"));
        }
        text.push_str("\n\n| operations of the recorded graph | kernels | bytes |\n|---|---|---|");
        let mut operations: Vec<(&String, &OfKind)> = self.operations.iter().collect();
        operations.sort_by_key(|(_, of_kind)| std::cmp::Reverse(of_kind.bytes));
        for (kind, OfKind { kernels, bytes }) in operations {
            text.push_str(&format!("\n| {kind} | {kernels} | {} |", format_bytes(*bytes)));
        }
        text
    }
}
