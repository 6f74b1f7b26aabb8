//! `bench activations`: what each model keeps of a sample between its forward and its backward pass.

use memory_planner::{Checkpointing, Precision, Rung, format_bytes};
use memory_probe::{SavedActivations, SavedPart, saved_activations};
use serde::Serialize;

use super::models::matching;
use crate::cli::BenchActivationsArguments;
use crate::error::CommandError;
use crate::registry::Architecture;
use crate::run::subject::{ASSUMED_CLASSES, Subject, bare_config};
use crate::ui::{self, Progress};

/// One model.
#[derive(Debug, Serialize)]
struct Row {
    model: &'static str,
    image_size: usize,
    bytes_per_sample: u64,
    /// With `--parts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Part {
    layer: String,
    made_by: String,
    tensors: usize,
    bytes_per_sample: u64,
}

impl Part {
    fn of(part: SavedPart) -> Self {
        let SavedPart { layer, made_by, count, bytes_per_sample } = part;
        Self { layer, made_by, tensors: count, bytes_per_sample }
    }
}

/// Records each model and prints a table, or JSON.
pub(crate) fn print(arguments: &BenchActivationsArguments) -> Result<(), CommandError> {
    let shown = matching(arguments.filter.as_deref())?;
    if !arguments.json {
        ui::out("| model | image | saved for backward, a sample |\n|---|---|---|")?;
    }
    let mut progress = Progress::start("recording steps", "models", shown.len() as u64);
    let mut rows = Vec::new();
    for (done, architecture) in shown.iter().enumerate() {
        let row = row(architecture, arguments)?;
        if !arguments.json {
            ui::out(row.in_markdown())?;
        }
        rows.push(row);
        progress.set(done as u64 + 1);
    }
    progress.finish("done");
    if arguments.json {
        return ui::out(serde_json::to_string_pretty(&rows).expect("rows have string keys and plain values"));
    }
    Ok(())
}

fn row(architecture: &Architecture, arguments: &BenchActivationsArguments) -> Result<Row, CommandError> {
    let image_size = arguments.img_size.unwrap_or(architecture.image_size);
    let resolved = bare_config(architecture.name, image_size)?;
    let sized = resolved.architecture()?;
    // As many classes as the published weights have, and PyTorch's side of the comparison.
    let subject = Subject::without_data(&resolved, &sized, ASSUMED_CLASSES);
    let step = subject.step(Rung { precision: Precision::Fp32, checkpointing: Checkpointing::None });
    let SavedActivations { bytes_per_sample, parts } = saved_activations(&step, &|device| subject.build(device));
    let parts = if arguments.parts { parts.into_iter().map(Part::of).collect() } else { Vec::new() };
    Ok(Row { model: architecture.name, image_size, bytes_per_sample, parts })
}

impl Row {
    fn in_markdown(&self) -> String {
        let head = format!("| {} | {} | {} |", self.model, self.image_size, format_bytes(self.bytes_per_sample));
        let part = |part: &Part| {
            format!(
                "| - {} | {} x {} | {} |",
                if part.layer.is_empty() { "outside the model" } else { &part.layer },
                part.tensors,
                part.made_by,
                format_bytes(part.bytes_per_sample)
            )
        };
        std::iter::once(head).chain(self.parts.iter().map(part)).collect::<Vec<_>>().join("\n")
    }
}
