//! `bench step --launches`: what a training step launches on a card, counted in a dry run, and the bytes that its kernels read and write. With
//! `--composed`, what it would launch in Burn's own operations stands beside it.

use std::collections::BTreeMap;

use burn::tensor::Device;
use memory_planner::{Checkpointing, Precision, Rung, format_bytes};
use memory_probe::{LaunchLog, LaunchesError, StepRequest, Traffic, step_traffic};
use serde::Serialize;
use vision_nn::in_burns_operations;

use super::Configuration;
use super::step::Place;
use crate::cli::BenchStepArguments;
use crate::error::CommandError;
use crate::run::kernel_cache;
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
    precision: Precision,
    checkpointing: Checkpointing,
    launches: usize,
    /// By the kernel's name.
    kernels: BTreeMap<String, usize>,
    /// The same step in Burn's own operations, where it was asked for.
    composed: Option<Composed>,
    /// Of the recorded graph.
    bytes: u64,
    /// By the kind of operation.
    operations: BTreeMap<String, OfKind>,
}

#[derive(Debug, Serialize)]
struct Composed {
    launches: usize,
    kernels: BTreeMap<String, usize>,
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
    let log = LaunchLog::open(&folder, kernel_cache::settings()).map_err(|error| refused(&error))?;
    let reports = counted(arguments, size, &log);
    // Nobody needs it any more; what is left of it does no harm.
    let _ = std::fs::remove_dir_all(&folder);
    let reports = reports?;
    if arguments.json {
        return ui::out(serde_json::to_string_pretty(&reports).expect("reports have string keys and plain values"));
    }
    ui::out(reports.iter().map(Report::in_markdown).collect::<Vec<_>>().join("\n\n"))
}

/// Who asks for launches of what has none asks wrongly; all else is a failure.
fn refused(error: &LaunchesError) -> CommandError {
    let refused = match error {
        LaunchesError::Silent => CommandError::from_request(error),
        _ => CommandError::from_run(error),
    };
    refused.with_hint(error.hint())
}

fn counted(arguments: &BenchStepArguments, size: usize, log: &LaunchLog) -> Result<Vec<Report>, CommandError> {
    let place = Place::of(arguments.device, arguments.precision)?;
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
    let count = || log.of_step(&request, arguments.batch, &place.device, &build).map_err(|error| refused(&error));
    let kernels = count()?;
    let composed = match arguments.composed {
        true => Some(Composed::of(in_burns_operations(count)?)),
        false => None,
    };
    let traffic = step_traffic(&request, arguments.batch, &build);
    let of_kind = |(kind, Traffic { kernels, bytes })| (kind, OfKind { kernels, bytes });
    Ok(Report {
        model: arguments.model.clone(),
        image_size: request.image[0],
        batch: arguments.batch,
        device: place.name.clone(),
        precision: configuration.rung.precision,
        checkpointing: configuration.rung.checkpointing,
        launches: kernels.values().sum(),
        kernels,
        composed,
        bytes: traffic.values().map(|traffic| traffic.bytes).sum(),
        operations: traffic.into_iter().map(of_kind).collect(),
    })
}

impl Composed {
    fn of(kernels: BTreeMap<String, usize>) -> Self {
        Self { launches: kernels.values().sum(), kernels }
    }
}

/// A table of kernels, those that are launched most first.
fn table(title: &str, kernels: &BTreeMap<String, usize>) -> String {
    let mut text = format!("\n\n| {title} | launches |\n|---|---|");
    let mut kernels: Vec<(&String, &usize)> = kernels.iter().collect();
    kernels.sort_by_key(|(_, launches)| std::cmp::Reverse(**launches));
    for (name, launches) in kernels {
        text.push_str(&format!("\n| `{name}` | {launches} |"));
    }
    text
}

impl Report {
    fn in_markdown(&self) -> String {
        let Self { model, image_size, batch, device, precision, checkpointing, launches, bytes, .. } = self;
        let mut text = format!(
            "{model} at {image_size}x{image_size}, batch {batch}, {precision}, checkpointing {checkpointing}, {device}: {launches} launches a \
             step, {} read and written",
            format_bytes(*bytes)
        );
        if let Some(Composed { launches: composed, .. }) = &self.composed {
            let share = 100.0 * *launches as f64 / (*composed).max(1) as f64;
            text.push_str(&format!("; {composed} launches in Burn's own operations, of which these are {share:.1} %"));
        }
        text.push_str(&table("kernel", &self.kernels));
        if let Some(Composed { kernels, .. }) = &self.composed {
            text.push_str(&table("kernel of Burn's own operations", kernels));
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
