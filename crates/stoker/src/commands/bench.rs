//! `bench memory`: what is predicted, held against what is really taken. The others have files of their own.

mod data;
mod infer;
mod kernels;
mod launches;
mod rows;
mod step;

pub(crate) use data::data;
pub(crate) use infer::infer;
pub(crate) use kernels::kernels;

use burn::tensor::Device;
use memory_planner::{Footprint, Rung};
use memory_probe::{
    AllocatorModel, CapturedSource, ProbeOptions, dry_run_reserved, measure_peak, measure_training, parameter_memory,
    reserved_by_real_steps,
};

use crate::cli::{BenchDevice, BenchMemoryArguments};
use crate::config::DeviceRequest;
use crate::error::CommandError;
use crate::registry::Architecture;
use crate::run::compute::Compute;
#[cfg(feature = "wgpu")]
use crate::run::compute::wgpu;
use crate::run::precision::check_device;
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::{Subject, bare_config};
use crate::ui::{self, Progress};

pub(crate) use step::step;

use rows::{Row, Table, errors_in_markdown};

const CLASSES: usize = 10;

/// Runs the grid and prints it as a Markdown table, or as JSON.
pub(crate) fn memory(arguments: &BenchMemoryArguments) -> Result<(), CommandError> {
    let mut rows = Vec::new();
    let rungs = arguments.rungs();
    let configurations = arguments.models.len() * arguments.sizes.len() * rungs.len();
    let mut done = 0;
    let table = arguments.table();
    if !arguments.json {
        ui::out(table.head())?;
    }
    let mut progress = Progress::start("predicting and measuring steps", "configurations", configurations as u64);
    for model in &arguments.models {
        for &size in &arguments.sizes {
            for &rung in &rungs {
                let of_configuration = Configuration::new(model, size, rung)?.rows(arguments)?;
                if !arguments.json {
                    // Line by line: a grid takes its time, and what is known is not to be lost.
                    ui::out(table.lines(&of_configuration))?;
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
    ui::out(format_args!("\n{}", errors_in_markdown(&rows)))
}

/// A model at one image size, computed in one way.
struct Configuration {
    resolved: ResolvedConfig,
    rung: Rung,
}

impl Configuration {
    fn new(model: &str, size: usize, rung: Rung) -> Result<Self, CommandError> {
        let mut resolved = bare_config(model, size)?;
        resolved.config.train.clip_norm = Some(1.0);
        resolved.architecture()?;
        Ok(Self { resolved, rung })
    }

    fn subject<'a>(&'a self, architecture: &'a Architecture) -> Subject<'a> {
        Subject::without_data(&self.resolved, architecture, CLASSES)
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
                let allocator = AllocatorModel::cuda(compute.total_bytes()?);
                let used_bytes = || compute.used_bytes();
                Ok(self.on_card(&subject, &compute.device, allocator, &used_bytes, arguments))
            }
            #[cfg(feature = "wgpu")]
            BenchDevice::Wgpu => {
                let device = wgpu();
                check_device(&device, self.rung.precision, "--precisions", "wgpu")?;
                Ok(self.on_card(&subject, &device, AllocatorModel::software_vulkan(), &|| None, arguments))
            }
        }
    }

    /// Predicted from real steps at batches 1 to 16, against the heap's peak.
    fn on_cpu(
        &self,
        subject: &Subject<'_>,
        compute: &Compute,
        arguments: &BenchMemoryArguments,
    ) -> Result<Vec<Row>, CommandError> {
        let device = compute.tracked(self.rung.checkpointing);
        let meter = compute.meter();
        let base_bytes = device::heap::current_bytes();
        let step = subject.train_step(self.rung, device.clone());
        let mut known = parameter_memory(&step);
        known.overhead = base_bytes;
        let largest_batch = arguments.batches.iter().copied().max().unwrap_or(1);
        let probe = ProbeOptions { image: subject.image(), budget_bytes: u64::MAX, largest_batch };
        let footprint: Footprint = measure_training(step, probe, meter.as_ref(), known).map_err(|error| {
            CommandError::from_run(&error).in_context("cannot measure the memory of a training step")
        })?;
        let rows = arguments.batches.iter().map(|&batch| {
            let step = subject.train_step(self.rung, device.clone());
            let real_bytes = measure_peak(step, subject.image(), batch, meter.as_ref());
            self.row(subject, batch, "measured", [footprint.peak_bytes(batch), real_bytes])
        });
        Ok(rows.collect())
    }

    /// Predicted from the graph and by a dry run, against what the pools really hold reserved, and what a driver says of it: `used_bytes` asks it.
    fn on_card(
        &self,
        subject: &Subject<'_>,
        device: &Device,
        allocator: AllocatorModel,
        used_bytes: &dyn Fn() -> Option<u64>,
        arguments: &BenchMemoryArguments,
    ) -> Vec<Row> {
        let request = subject.step(self.rung);
        let build = |device: &Device| subject.build(device);
        let captured = CapturedSource::record(&request, build);
        let mut rows = Vec::new();
        for &batch in &arguments.batches {
            let dry = dry_run_reserved(&request, batch, device, &build).unwrap_or(u64::MAX);
            let (before, mut after) = (used_bytes(), None);
            let real = reserved_by_real_steps(&request, batch, device, &build, &mut || after = used_bytes());
            let real = real.unwrap_or(u64::MAX);
            let driver_bytes = after.zip(before).map(|(after, before)| after.saturating_sub(before));
            let predicted = captured.reserved_bytes(batch, allocator).unwrap_or(u64::MAX);
            rows.push(Row { driver_bytes, ..self.row(subject, batch, "captured", [predicted, real]) });
            rows.push(Row { driver_bytes, ..self.row(subject, batch, "dry run", [dry, real]) });
        }
        rows
    }

    fn row(
        &self,
        subject: &Subject<'_>,
        batch: usize,
        source: &'static str,
        [predicted_bytes, real_bytes]: [u64; 2],
    ) -> Row {
        Row {
            family: subject.architecture.family,
            model: self.resolved.config.model.name.clone(),
            image_size: self.resolved.image_size(),
            precision: self.rung.precision,
            checkpointing: self.rung.checkpointing,
            batch,
            source,
            predicted_bytes,
            real_bytes,
            driver_bytes: None,
        }
    }
}

impl BenchMemoryArguments {
    /// How the grid is printed.
    fn table(&self) -> Table {
        let on_cpu = matches!(self.device, BenchDevice::Of(DeviceRequest::Cpu));
        Table {
            batches: self.batches.clone(),
            shows_precision: self.precisions.len() > 1,
            shows_source: !on_cpu,
            shows_driver: matches!(self.device, BenchDevice::Of(request) if request != DeviceRequest::Cpu),
        }
    }

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
