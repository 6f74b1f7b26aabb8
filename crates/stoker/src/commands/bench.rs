//! `bench memory`: what is predicted, held against what is really taken. The others have files of their own.

mod data;
mod infer;
mod step;

pub(crate) use data::data;
pub(crate) use infer::infer;

use burn::tensor::Device;
use memory_planner::{Checkpointing, Footprint, Precision, Rung, format_bytes};
use memory_probe::{
    AllocatorModel, CapturedSource, ProbeOptions, dry_run_reserved, measure_peak, measure_training, parameter_memory,
    reserved_by_real_steps,
};
use serde::Serialize;
use trainer::{Normalization, TrainStep};

use crate::cli::{BenchDevice, BenchMemoryArguments};
use crate::config::{DeviceRequest, UserConfig};
use crate::error::CommandError;
use crate::registry::{Architecture, Network};
use crate::run::compute::Compute;
use crate::run::precision::check_device;
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::Subject;
use crate::ui::{self, Progress};

pub(crate) use step::step;

const CLASSES: usize = 10;

const HEAD: &str = "\
| model | image | precision | checkpointing | batch | source | predicted | real | error |
|---|---|---|---|---|---|---|---|---|";

/// One step, predicted and real.
#[derive(Debug, Clone, Serialize)]
struct Row {
    model: String,
    image_size: usize,
    precision: Precision,
    checkpointing: Checkpointing,
    batch: usize,
    /// How the prediction was made.
    source: &'static str,
    predicted_bytes: u64,
    real_bytes: u64,
}

impl Row {
    /// Predicted over real, less one.
    fn error(&self) -> f64 {
        self.predicted_bytes as f64 / self.real_bytes as f64 - 1.0
    }

    fn in_markdown(&self) -> String {
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {:+.1} % |",
            self.model,
            self.image_size,
            self.precision,
            self.checkpointing,
            self.batch,
            self.source,
            format_bytes(self.predicted_bytes),
            format_bytes(self.real_bytes),
            100.0 * self.error()
        )
    }
}

/// Runs the grid and prints it as a Markdown table, or as JSON.
pub(crate) fn memory(arguments: &BenchMemoryArguments) -> Result<(), CommandError> {
    let mut rows = Vec::new();
    let rungs = arguments.rungs();
    let configurations = arguments.models.len() * arguments.sizes.len() * rungs.len();
    let mut done = 0;
    if !arguments.json {
        ui::out(HEAD)?;
    }
    let mut progress = Progress::start("predicting and measuring steps", "configurations", configurations as u64);
    for model in &arguments.models {
        for &size in &arguments.sizes {
            for &rung in &rungs {
                let of_configuration = Configuration::new(model, size, rung)?.rows(arguments)?;
                if !arguments.json {
                    // Row by row: a grid takes its time, and what is known is not to be lost.
                    ui::out(of_configuration.iter().map(Row::in_markdown).collect::<Vec<_>>().join("\n"))?;
                }
                rows.extend(of_configuration);
                done += 1;
                progress.set(done);
            }
        }
    }
    progress.finish("done");
    if arguments.json {
        let text = serde_json::to_string_pretty(&rows).expect("rows have string keys and plain values");
        return ui::out(text);
    }
    for source in ["measured", "dry run", "captured"] {
        let of_source: Vec<&Row> = rows.iter().filter(|row| row.source == source).collect();
        if !of_source.is_empty() {
            ui::out(summary(source, &of_source))?;
        }
    }
    Ok(())
}

/// A model at one image size, computed in one way.
struct Configuration {
    resolved: ResolvedConfig,
    rung: Rung,
}

impl Configuration {
    fn new(model: &str, size: usize, rung: Rung) -> Result<Self, CommandError> {
        let text = format!(
            "data: {{train: images}}\nmodel: {{name: {model}, image_size: {size}}}\ntrain: {{clip_norm: 1.0}}\n"
        );
        let user = UserConfig::from_text(std::path::Path::new("--models"), &text, &[])?;
        let resolved = ResolvedConfig::new(user, std::path::Path::new("bench"));
        resolved.architecture()?;
        Ok(Self { resolved, rung })
    }

    fn subject<'a>(&'a self, architecture: &'a Architecture) -> Subject<'a> {
        Subject { resolved: &self.resolved, architecture, num_classes: CLASSES, train_samples: None, loader_bytes: 0 }
    }

    fn rows(&self, arguments: &BenchMemoryArguments) -> Result<Vec<Row>, CommandError> {
        let architecture = self.resolved.architecture()?;
        let subject = self.subject(&architecture);
        match arguments.device {
            BenchDevice::Of(request) => {
                let compute = Compute::select(request)?;
                check_device(&compute.device, self.rung.precision, "--precisions", &compute.selected.describe())?;
                if compute.is_cpu() {
                    return self.on_cpu(&subject, &compute, arguments);
                }
                let total = compute.total_bytes()?;
                Ok(self.on_card(&subject, &compute.device, AllocatorModel::cuda(total), arguments))
            }
            #[cfg(feature = "wgpu")]
            BenchDevice::Wgpu => {
                let device = wgpu();
                check_device(&device, self.rung.precision, "--precisions", "wgpu")?;
                Ok(self.on_card(&subject, &device, AllocatorModel::software_vulkan(), arguments))
            }
        }
    }

    /// Predicted from real steps at batches 1 to 8, against the heap's peak.
    fn on_cpu(
        &self,
        subject: &Subject<'_>,
        compute: &Compute,
        arguments: &BenchMemoryArguments,
    ) -> Result<Vec<Row>, CommandError> {
        let device = compute.tracked(self.rung.checkpointing);
        let meter = compute.meter();
        let base_bytes = device::heap::current_bytes();
        let step = train_step(subject, self.rung, &device);
        let mut known = parameter_memory(&step);
        known.overhead = base_bytes;
        let largest_batch = arguments.batches.iter().copied().max().unwrap_or(1);
        let probe = ProbeOptions { image: subject.image(), budget_bytes: u64::MAX, largest_batch };
        let footprint: Footprint = measure_training(step, probe, meter.as_ref(), known).map_err(|error| {
            CommandError::from_run(&error).in_context("cannot measure the memory of a training step")
        })?;
        let rows = arguments.batches.iter().map(|&batch| {
            let step = train_step(subject, self.rung, &device);
            let real_bytes = measure_peak(step, subject.image(), batch, meter.as_ref());
            self.row(batch, "measured", footprint.peak_bytes(batch), real_bytes)
        });
        Ok(rows.collect())
    }

    /// Predicted from the graph and by a dry run, against what the pools really hold reserved.
    fn on_card(
        &self,
        subject: &Subject<'_>,
        device: &Device,
        allocator: AllocatorModel,
        arguments: &BenchMemoryArguments,
    ) -> Vec<Row> {
        let request = subject.step(self.rung);
        let build = |device: &Device| subject.build(device);
        let captured = CapturedSource::record(&request, build);
        let mut rows = Vec::new();
        for &batch in &arguments.batches {
            let dry = dry_run_reserved(&request, batch, device, &build).unwrap_or(u64::MAX);
            let real = reserved_by_real_steps(&request, batch, device, &build).unwrap_or(u64::MAX);
            let predicted = captured.reserved_bytes(batch, allocator).unwrap_or(u64::MAX);
            rows.push(self.row(batch, "captured", predicted, real));
            rows.push(self.row(batch, "dry run", dry, real));
        }
        rows
    }

    fn row(&self, batch: usize, source: &'static str, predicted_bytes: u64, real_bytes: u64) -> Row {
        let model = &self.resolved.config.model;
        Row {
            model: model.name.clone(),
            image_size: model.image_size,
            precision: self.rung.precision,
            checkpointing: self.rung.checkpointing,
            batch,
            source,
            predicted_bytes,
            real_bytes,
        }
    }
}

fn train_step(subject: &Subject<'_>, rung: Rung, device: &Device) -> TrainStep<Network> {
    let request = subject.step(rung);
    let normalization = Normalization::imagenet(request.image[2]);
    TrainStep::new(subject.build(device), request.options, normalization, device.clone())
}

/// Median and 95th percentile of the absolute error, and how often the prediction was too low.
fn summary(source: &str, rows: &[&Row]) -> String {
    let mut errors: Vec<f64> = rows.iter().map(|row| row.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    let at = |share: f64| 100.0 * errors[((errors.len() - 1) as f64 * share).round() as usize];
    let low = rows.iter().filter(|row| row.predicted_bytes < row.real_bytes).count();
    let worst_low = rows.iter().map(|row| row.error()).fold(0.0, f64::min);
    format!(
        "{source}: {} steps, error median {:.2} %, 95th percentile {:.2} %, largest {:.2} %; too low in {low} ({:.1} %), by {:.2} % at most",
        rows.len(),
        at(0.5),
        at(0.95),
        at(1.0),
        100.0 * low as f64 / rows.len() as f64,
        100.0 * worst_low.abs()
    )
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Device {
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}

impl BenchMemoryArguments {
    /// Each precision with each way of checkpointing.
    fn rungs(&self) -> Vec<Rung> {
        let each = |&precision| self.checkpointing.iter().map(move |&checkpointing| Rung { precision, checkpointing });
        self.precisions.iter().flat_map(each).collect()
    }
}

impl BenchDevice {
    /// The device of a name: `cpu`, `cuda:0`; `wgpu` where that is compiled.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        #[cfg(feature = "wgpu")]
        if text == "wgpu" {
            return Ok(Self::Wgpu);
        }
        text.parse::<DeviceRequest>().map(Self::Of).map_err(|error| error.to_string())
    }
}
