//! `bench step`: how long a forward pass and a training step take, and the memory of the step; `--launches` is in a file of its own.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use memory_planner::{Checkpointing, Precision, Rung, format_bytes};
use memory_probe::{Meter, RealSteps};
use serde::Serialize;
use trainer::{ComputeError, MemoryWatch, storage_type};
use vision_nn::{Classifier, Pass};

use super::Configuration;
use super::launches::launches;
use crate::cli::{BenchDevice, BenchStepArguments};
use crate::error::CommandError;
use crate::registry::Network;
use crate::run::checks::known_architecture;
use crate::run::compute::{Compute, tracked};
use crate::run::precision::check_device;
use crate::ui::{self, Progress};

/// Milliseconds of one thing done several times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Milliseconds {
    pub(super) min: f64,
    pub(super) median: f64,
}

impl Milliseconds {
    pub(super) fn of(times: &[Duration]) -> Self {
        let mut times: Vec<f64> = times.iter().map(|time| 1e3 * time.as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        let middle = times.len() / 2;
        let median = if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2.0 };
        Self { min: times[0], median }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    image_size: usize,
    batch: usize,
    device: String,
    precision: Precision,
    rounds: usize,
    forward_ms: Milliseconds,
    steps: Vec<StepReport>,
}

/// A training step with one way of checkpointing.
#[derive(Debug, Serialize)]
struct StepReport {
    checkpointing: Checkpointing,
    step_ms: Milliseconds,
    /// Of the step, by its median.
    images_per_second: f64,
    peak_bytes: u64,
}

/// Times the steps and prints them as a Markdown table, or as JSON.
pub(crate) fn step(arguments: &BenchStepArguments) -> Result<(), CommandError> {
    let size = match arguments.size {
        Some(size) => size,
        None => known_architecture(&arguments.model)?.image_size,
    };
    if arguments.launches {
        return launches(arguments, size);
    }
    let report = measure(arguments, size)?;
    if arguments.json {
        return ui::out(serde_json::to_string_pretty(&report).expect("a report has string keys and plain values"));
    }
    ui::out(in_markdown(&report))
}

fn measure(arguments: &BenchStepArguments, size: usize) -> Result<Report, CommandError> {
    let rounds = arguments.rounds;
    let configurations: Vec<Configuration> = arguments
        .checkpointing
        .iter()
        .map(|&checkpointing| {
            Configuration::new(&arguments.model, size, Rung { precision: arguments.precision, checkpointing })
        })
        .collect::<Result<_, _>>()?;
    let place = Place::of(arguments.device, arguments.precision)?;
    let total = (configurations.len() * (rounds + 1)) as u64;
    let mut progress = Progress::start("timing steps", "steps", total);
    let mut subjects = Vec::new();
    for configuration in &configurations {
        subjects.push(Timed::new(configuration, &place, arguments.batch)?);
        progress.advance(1);
    }
    let mut forward = Vec::new();
    for _ in 0..rounds {
        forward.push(subjects[0].time_forward(&place)?);
        for turn in 0..subjects.len() {
            let others = subjects.iter().map(|subject| subject.own_bytes).sum::<u64>() - subjects[turn].own_bytes;
            subjects[turn].time_step(&place, others)?;
            progress.advance(1);
        }
    }
    progress.finish("done");
    Ok(Report {
        model: arguments.model.clone(),
        image_size: size,
        batch: arguments.batch,
        device: place.name.clone(),
        precision: arguments.precision,
        rounds,
        forward_ms: Milliseconds::of(&forward),
        steps: subjects.iter().map(Timed::report).collect(),
    })
}

/// Where steps run, and what measures their memory.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) device: Device,
    meter: Box<dyn Meter>,
    /// What the process held before.
    base_bytes: u64,
}

impl Place {
    /// The device that is asked for, to compute in `precision`.
    ///
    /// # Errors
    /// When it is not there, or does not compute in that.
    pub(super) fn of(asked: BenchDevice, precision: Precision) -> Result<Self, CommandError> {
        let (name, device, meter) = match asked {
            BenchDevice::Of(request) => {
                let compute = Compute::select(request)?;
                (compute.selected.describe(), compute.device.clone(), compute.meter())
            }
            #[cfg(feature = "wgpu")]
            BenchDevice::Wgpu => {
                let device = crate::run::compute::wgpu();
                let meter: Box<dyn Meter> = Box::new(memory_probe::PoolMeter::new(&device));
                ("wgpu".to_owned(), device, meter)
            }
        };
        check_device(&device, precision, "--precision", &name)?;
        let base_bytes = meter.current_bytes();
        Ok(Self { name, device, meter, base_bytes })
    }

    /// Does `work`, and tells how long that takes until the device is done with it.
    ///
    /// # Errors
    /// When the device failed at it, or at what was begun before and not waited for. It says so once: a time beside an error would be that of nothing.
    pub(super) fn time<T>(&self, work: impl FnOnce() -> T) -> Result<(Duration, T), ComputeError> {
        let watch = MemoryWatch::begin(&self.device);
        let start = Instant::now();
        let done = watch.run(work)?;
        Ok((start.elapsed(), done))
    }
}

/// What could not be done, since the device failed; fewer images are a way out where memory ran out.
pub(super) fn failed(error: &ComputeError, what: impl Into<String>) -> CommandError {
    let is_memory = matches!(error, ComputeError::OutOfMemory(_));
    let hint = is_memory.then(|| "pass a smaller `--batch`".to_owned());
    CommandError::from_run(error).in_context(what).with_hint(hint)
}

/// A model that is trained in one way, with the times that it took.
struct Timed {
    checkpointing: Checkpointing,
    precision: Precision,
    steps: RealSteps<Network>,
    image: [usize; 3],
    batch: usize,
    /// What it holds between steps: weights and optimizer.
    own_bytes: u64,
    peak_bytes: u64,
    times: Vec<Duration>,
}

impl Timed {
    /// The model after its first step, which makes the optimizer's state and, on a card, tunes the kernels.
    fn new(configuration: &Configuration, place: &Place, batch: usize) -> Result<Self, CommandError> {
        let before = place.meter.current_bytes();
        let architecture = configuration.resolved.architecture()?;
        let subject = configuration.subject(&architecture);
        let (rung, image) = (configuration.rung, subject.image());
        let device = tracked(&place.device, rung.checkpointing);
        let steps = RealSteps::new(subject.train_step(rung, device.clone()), image);
        let Rung { checkpointing, precision } = rung;
        let mut timed =
            Self { checkpointing, precision, steps, image, batch, own_bytes: 0, peak_bytes: 0, times: Vec::new() };
        timed.run(place)?;
        timed.own_bytes = place.meter.current_bytes().saturating_sub(before);
        Ok(timed)
    }

    /// A forward pass as a prediction in the step's precision makes it.
    fn time_forward(&self, place: &Place) -> Result<Duration, CommandError> {
        let cannot =
            |error: ComputeError| failed(&error, format!("cannot time a forward pass of {} images", self.batch));
        let model = self.steps.step().evaluation_model();
        let [height, width, channels] = self.image;
        let images = || Tensor::<4>::ones([self.batch, channels, height, width], &place.device);
        // The images are there before the clock starts.
        let (_, images) = place.time(images).map_err(cannot)?;
        let mut pass = Pass::evaluation().storing(storage_type(self.precision));
        let (time, ()) = place.time(|| drop(model.forward(images, &mut pass))).map_err(cannot)?;
        Ok(time)
    }

    /// A training step, while other models hold `other_bytes`.
    fn time_step(&mut self, place: &Place, other_bytes: u64) -> Result<(), CommandError> {
        place.meter.reset();
        let time = self.run(place)?;
        self.times.push(time);
        let peak_bytes = place.meter.peak_bytes().saturating_sub(other_bytes + place.base_bytes);
        self.peak_bytes = self.peak_bytes.max(peak_bytes);
        Ok(())
    }

    /// A training step, and how long it takes.
    fn run(&mut self, place: &Place) -> Result<Duration, CommandError> {
        let Self { batch, checkpointing, .. } = *self;
        let steps = &mut self.steps;
        let (time, ()) = place.time(|| steps.run(batch)).map_err(|error| {
            failed(&error, format!("cannot time a step of {batch} images, checkpointing {checkpointing}"))
        })?;
        Ok(time)
    }

    fn report(&self) -> StepReport {
        let step_ms = Milliseconds::of(&self.times);
        let images_per_second = 1e3 * self.batch as f64 / step_ms.median;
        StepReport { checkpointing: self.checkpointing, step_ms, images_per_second, peak_bytes: self.peak_bytes }
    }
}

fn in_markdown(report: &Report) -> String {
    let Report { model, image_size, batch, device, precision, rounds, forward_ms, .. } = report;
    let mut text = format!(
        "{model} at {image_size}x{image_size}, batch {batch}, {device}, {precision}, {rounds} rounds\n\
         forward pass: {:.0} ms at best, {:.0} ms in the median, {:.2} images/s\n\n\
         | checkpointing | step, best | step, median | images/s | peak | time against the first |\n\
         |---|---|---|---|---|---|",
        forward_ms.min,
        forward_ms.median,
        1e3 * *batch as f64 / forward_ms.median
    );
    for step in &report.steps {
        let against_first = step.step_ms.median / report.steps[0].step_ms.median;
        text.push_str(&format!(
            "\n| {} | {:.0} ms | {:.0} ms | {:.2} | {} | {:+.1} % |",
            step.checkpointing,
            step.step_ms.min,
            step.step_ms.median,
            step.images_per_second,
            format_bytes(step.peak_bytes),
            100.0 * (against_first - 1.0)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceRequest;
    use crate::error::Outcome;

    #[test]
    fn the_median_of_an_even_count_is_between_the_middle_two() {
        let of =
            |times: &[u64]| Milliseconds::of(&times.iter().copied().map(Duration::from_millis).collect::<Vec<_>>());
        assert_eq!(of(&[9, 1, 4]), Milliseconds { min: 1.0, median: 4.0 });
        assert_eq!(of(&[9, 1, 4, 6]), Milliseconds { min: 1.0, median: 5.0 });
    }

    /// In CubeCL's words, told by a panic as they are when no way of an operation finds room.
    fn run_out_of_memory() {
        panic!("failed to reserve 4096 bytes of device memory");
    }

    #[test]
    fn work_that_fails_has_no_time() {
        let place = Place::of(BenchDevice::Of(DeviceRequest::Cpu), Precision::Fp32).unwrap();
        let error = failed(&place.time(run_out_of_memory).unwrap_err(), "cannot time a step of 8 images");
        assert_eq!((error.message.as_str(), error.outcome), ("cannot time a step of 8 images", Outcome::Failed));
        assert!(error.causes[0].contains("failed to reserve 4096 bytes"), "{:?}", error.causes);
        assert_eq!(error.hint.as_deref(), Some("pass a smaller `--batch`"));
        assert!(place.time(|| ()).is_ok(), "what failed once is over");
    }

    /// Shaders of WebGPU know no bf16.
    #[cfg(feature = "wgpu")]
    #[test]
    fn a_precision_that_the_device_lacks_is_refused() {
        let error = Place::of(BenchDevice::Wgpu, Precision::Bf16).map(|place| place.name).unwrap_err();
        assert_eq!(error.outcome, Outcome::WrongRequest);
        assert_eq!(error.message, "wgpu does not compute in `--precision: bf16`");
    }
}
