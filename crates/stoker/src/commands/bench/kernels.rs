//! `bench kernels`: each operation of the models alone, beside what the device copies and multiplies.

mod cases;

use std::cell::RefCell;
use std::time::Duration;

use burn::tensor::{DType, Device, Distribution, Tensor};
use serde::Serialize;
use trainer::{ComputeError, storage_type};
use vision_nn::{Tape, off_tape, scale_all, stored_as};

use super::step::{Milliseconds, Place, failed};
use crate::cli::BenchKernelsArguments;
use crate::error::CommandError;
use crate::ui::{self, Progress};

use cases::{Action, Case, Forward, Passes, Setting, Work, cases};

/// What `--json` prints, for each size and batch.
#[derive(Debug, Serialize)]
struct Report {
    device: String,
    precision: String,
    size: usize,
    batch: usize,
    rounds: usize,
    #[serde(flatten)]
    rates: Rates,
    rows: Vec<Row>,
}

/// What the device does at best.
#[derive(Debug, Clone, Copy, Serialize)]
struct Rates {
    /// Bytes a second, read and written, of a copy.
    copy_rate: f64,
    /// Floating-point operations a second of a large square product.
    matrix_rate: f64,
}

/// An operation's pass at one shape.
#[derive(Debug, Serialize)]
struct Row {
    operation: &'static str,
    model: &'static str,
    shape: String,
    pass: &'static str,
    ms: Milliseconds,
    bytes: f64,
    flops: f64,
    /// By the median time.
    share_of_copy_rate: f64,
    share_of_matrix_rate: f64,
}

/// Times the operations and prints them as Markdown tables, one for each size and batch, or as a list in JSON.
pub(crate) fn kernels(arguments: &BenchKernelsArguments) -> Result<(), CommandError> {
    let place = Place::of(arguments.device, arguments.precision)?;
    refuse_unknown(arguments)?;
    let rates = Rates::measure(&place, storage_type(arguments.precision), arguments.rounds)?;
    let mut reports = Vec::new();
    for &size in &arguments.sizes {
        for &batch in &arguments.batches {
            let report = measure(arguments, &place, rates, size, batch)?;
            if !arguments.json {
                // Table by table: what is known is not to be lost when a larger batch fails.
                let apart = if reports.is_empty() { "" } else { "\n" };
                ui::out(format_args!("{apart}{}", in_markdown(&report)))?;
            }
            reports.push(report);
        }
    }
    if arguments.json {
        return ui::out(serde_json::to_string_pretty(&reports).expect("reports have string keys and plain values"));
    }
    Ok(())
}

fn refuse_unknown(arguments: &BenchKernelsArguments) -> Result<(), CommandError> {
    let is_unknown = |_: &&String| wanted(arguments, arguments.sizes[0], arguments.batches[0]).is_empty();
    let Some(filter) = arguments.filter.as_ref().filter(is_unknown) else { return Ok(()) };
    let message = format!("no operation has `{filter}` in its name or its model's");
    Err(CommandError::wrong_request(message).with_hint("leave it out: all are listed".to_owned()))
}

/// The operations that are asked for, at the shapes of an image size.
fn wanted(arguments: &BenchKernelsArguments, size: usize, batch: usize) -> Vec<Case> {
    let is_wanted = |case: &Case| {
        let named = [case.operation, case.model].join(" of ");
        arguments.filter.as_ref().is_none_or(|part| named.contains(part.as_str()))
    };
    let bytes = storage_type(arguments.precision).size();
    cases(size, batch, bytes).into_iter().filter(is_wanted).collect()
}

fn measure(
    arguments: &BenchKernelsArguments,
    place: &Place,
    rates: Rates,
    size: usize,
    batch: usize,
) -> Result<Report, CommandError> {
    let setting = Setting { device: place.device.clone().autodiff(), storage: storage_type(arguments.precision) };
    let found = wanted(arguments, size, batch);
    let mut progress = Progress::start("timing operations", "operations", found.len() as u64);
    let mut rows = Vec::new();
    for case in &found {
        let passes = timed(case, &setting, place, arguments.rounds)?;
        rows.extend(passes.into_iter().map(|timed| row(case, timed, rates)));
        progress.advance(1);
    }
    progress.finish("done");
    let (precision, rounds) = (arguments.precision.to_string(), arguments.rounds);
    Ok(Report { device: place.name.clone(), precision, size, batch, rounds, rates, rows })
}

/// A pass, and how long it took each time.
struct Timed {
    pass: &'static str,
    work: Work,
    times: Vec<Duration>,
}

/// Times of each pass of an operation; the first of each is not counted.
fn timed(case: &Case, setting: &Setting, place: &Place, rounds: usize) -> Result<Vec<Timed>, CommandError> {
    let passes = match &case.passes {
        Passes::Both { work, prepare } => both(|| prepare(setting), *work, place, rounds),
        Passes::One { name, work, prepare } => {
            one(|| prepare(setting), place, rounds).map(|times| vec![Timed { pass: name, work: *work, times }])
        }
    };
    let Case { operation, model, shape, .. } = case;
    passes.map_err(|error| failed(&error, format!("cannot time {operation} of {model} at {shape}")))
}

/// The forward pass, and the backward pass from its output on.
fn both(
    prepare: impl FnOnce() -> Forward,
    [forward_work, backward_work]: [Work; 2],
    place: &Place,
    rounds: usize,
) -> Result<Vec<Timed>, ComputeError> {
    let (_, forward) = place.time(prepare)?;
    let (mut forward_times, mut backward_times) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (forward_time, output) = place.time(&*forward)?;
        // The gradient is there before the clock starts.
        let (_, upstream) = place.time(|| Tensor::ones_like(&off_tape(output.clone())))?;
        let (backward_time, ()) = place.time(|| drop(Tape::backward_from(output, upstream)))?;
        if round > 0 {
            forward_times.push(forward_time);
            backward_times.push(backward_time);
        }
    }
    Ok(vec![
        Timed { pass: "forward", work: forward_work, times: forward_times },
        Timed { pass: "backward", work: backward_work, times: backward_times },
    ])
}

fn one(prepare: impl FnOnce() -> Action, place: &Place, rounds: usize) -> Result<Vec<Duration>, ComputeError> {
    let (_, action) = place.time(prepare)?;
    times_of(place, rounds, &*action)
}

fn row(case: &Case, timed: Timed, rates: Rates) -> Row {
    let Timed { pass, work, times } = timed;
    let ms = Milliseconds::of(&times);
    let seconds = ms.median / 1e3;
    Row {
        operation: case.operation,
        model: case.model,
        shape: case.shape.clone(),
        pass,
        ms,
        bytes: work.bytes,
        flops: work.flops,
        share_of_copy_rate: work.bytes / seconds / rates.copy_rate,
        share_of_matrix_rate: work.flops / seconds / rates.matrix_rate,
    }
}

/// Times that a rate is measured at least: it is the best of them.
const LEAST_ROUNDS: usize = 3;

impl Rates {
    fn measure(place: &Place, storage: DType, rounds: usize) -> Result<Self, CommandError> {
        let rounds = rounds.max(LEAST_ROUNDS);
        let copy_rate = copy_rate(place, rounds)
            .map_err(|error| failed(&error, "cannot time a copy, which operations are held against"))?;
        let matrix_rate = matrix_rate(place, storage, rounds)
            .map_err(|error| failed(&error, "cannot time a matrix product, which operations are held against"))?;
        Ok(Self { copy_rate, matrix_rate })
    }
}

/// The best rate at which a tensor that no cache holds is read and written over.
fn copy_rate(place: &Place, rounds: usize) -> Result<f64, ComputeError> {
    let numbers = if is_cpu(&place.device) { 64 << 20 } else { 256 << 20 };
    let (_, tensor) = place.time(|| Tensor::<1>::ones([numbers], &place.device))?;
    let tensors = RefCell::new(vec![tensor]);
    // In place: fresh memory would be faulted in on a CPU.
    let times = times_of(place, rounds, &|| {
        let scaled = scale_all(tensors.take(), 1.0);
        tensors.replace(scaled);
    })?;
    Ok((2 * numbers * size_of::<f32>()) as f64 / (Milliseconds::of(&times).min / 1e3))
}

/// The best rate at which two large square matrices are multiplied.
fn matrix_rate(place: &Place, storage: DType, rounds: usize) -> Result<f64, ComputeError> {
    let side = if is_cpu(&place.device) { 1536 } else { 8192 };
    let random = || stored_as(Tensor::<2>::random([side; 2], Distribution::Default, &place.device), storage);
    let (_, (left, right)) = place.time(|| (random(), random()))?;
    let times = times_of(place, rounds, &|| drop(left.clone().matmul(right.clone())))?;
    Ok(2.0 * (side as f64).powi(3) / (Milliseconds::of(&times).min / 1e3))
}

fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// One time more than is counted: the first compiles, tunes and finds memory.
fn times_of(place: &Place, rounds: usize, work: &dyn Fn()) -> Result<Vec<Duration>, ComputeError> {
    place.time(work)?;
    (0..rounds).map(|_| place.time(work).map(|(time, ())| time)).collect()
}

fn in_markdown(report: &Report) -> String {
    let Report { device, precision, size, batch, rounds, rates: Rates { copy_rate, matrix_rate }, rows } = report;
    let mut text = format!(
        "{device}, {precision}, images of {size}x{size}, batch {batch}, {rounds} rounds\n\
         a copy moves {:.1} GB/s, a matrix product computes {:.0} GFLOP/s\n\n\
         | operation | of | shape | pass | best | median | MB | GFLOP | of the copy rate | of the matrix rate |\n\
         |---|---|---|---|---|---|---|---|---|---|",
        copy_rate / 1e9,
        matrix_rate / 1e9
    );
    for row in rows {
        let Row { operation, model, shape, pass, ms, bytes, flops, .. } = row;
        text.push_str(&format!(
            "\n| {operation} | {model} | {shape} | {pass} | {:.2} ms | {:.2} ms | {:.1} | {:.2} | {:.0} % | {:.0} % |",
            ms.min,
            ms.median,
            bytes / 1e6,
            flops / 1e9,
            100.0 * row.share_of_copy_rate,
            100.0 * row.share_of_matrix_rate
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use memory_planner::Precision;

    use super::*;
    use crate::cli::BenchDevice;
    use crate::config::DeviceRequest;
    use crate::error::Outcome;

    const CPU: BenchDevice = BenchDevice::Of(DeviceRequest::Cpu);

    /// Small maps, so that each operation is run, forward and backward.
    #[test]
    fn every_operation_runs_and_its_work_is_what_its_shape_says() {
        let arguments = BenchKernelsArguments {
            filter: None,
            sizes: vec![32],
            batches: vec![1],
            precision: Precision::Fp32,
            rounds: 1,
            device: CPU,
            json: false,
        };
        let place = Place::of(CPU, Precision::Fp32).unwrap();
        let rates = Rates::measure(&place, DType::F32, 1).unwrap();
        assert!(rates.copy_rate > 0.0 && rates.matrix_rate > 0.0);
        let report = measure(&arguments, &place, rates, 32, 1).unwrap();
        let named = |operation: &str| report.rows.iter().filter(|row| row.operation == operation).collect::<Vec<_>>();
        let depthwise = named("depthwise 7x7");
        assert_eq!(depthwise.len(), 8, "four stages, forward and backward");
        // 8 x 8 x 128 numbers, read and written, by 7 x 7 weights and a bias for each channel; 49 products and sums each.
        assert_eq!(depthwise[0].bytes, 4.0 * (2 * 8192 + 50 * 128) as f64);
        assert_eq!(depthwise[0].flops, 98.0 * 8192.0);
        let product = named("matrix product")[0];
        assert_eq!(product.flops, 2.0 * 64.0 * 128.0 * 512.0);
        assert_eq!(product.bytes, 4.0 * (64 * 128 + 128 * 512 + 512 + 64 * 512) as f64);
        for operation in [
            "window attention",
            "batch norm, SiLU",
            "squeeze-excite",
            "depthwise 5x5, stride 2",
            "cross-entropy",
            "GELU",
            "response norm",
        ] {
            let passes: Vec<&str> = named(operation).iter().map(|row| row.pass).collect();
            assert!(passes.starts_with(&["forward", "backward"]), "{operation}: {passes:?}");
        }
        let alone = [named("pixels to images"), named("AdamW")].concat();
        assert_eq!(alone.iter().map(|row| row.pass).collect::<Vec<_>>(), ["forward", "step"]);
        assert!(report.rows.iter().all(|row| row.ms.min > 0.0 && row.share_of_copy_rate > 0.0));
        assert_eq!(in_markdown(&report).lines().count(), 5 + report.rows.len());
    }

    /// In CubeCL's words, told by a panic as they are when no way of an operation finds room.
    fn run_out_of_memory() {
        panic!("failed to reserve 4096 bytes of device memory");
    }

    #[test]
    fn an_operation_that_fails_is_named_with_its_shape() {
        let prepare = |_: &Setting| -> Action { Box::new(run_out_of_memory) };
        let work = Work { bytes: 1.0, flops: 1.0 };
        let passes = Passes::One { name: "forward", work, prepare: Box::new(prepare) };
        let case = Case { operation: "layer norm", model: "convnext_base", shape: "1x8x8x128".to_owned(), passes };
        let setting = Setting { device: Device::flex().autodiff(), storage: DType::F32 };
        let place = Place::of(CPU, Precision::Fp32).unwrap();
        let error = timed(&case, &setting, &place, 1).map(|passes| passes.len()).unwrap_err();
        assert_eq!(error.message, "cannot time layer norm of convnext_base at 1x8x8x128");
        assert_eq!(error.outcome, Outcome::Failed);
    }
}
