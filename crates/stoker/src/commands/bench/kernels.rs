//! `bench kernels`: each operation of the models alone, beside what the device copies and multiplies.

mod cases;

use std::cell::RefCell;
use std::time::Duration;

use burn::tensor::{DType, Device, Distribution, Tensor};
use serde::Serialize;
use trainer::storage_type;
use vision_nn::{Tape, off_tape, scale_all, stored_as};

use super::step::{Milliseconds, Place};
use crate::cli::BenchKernelsArguments;
use crate::error::CommandError;
use crate::run::precision::check_device;
use crate::ui::{self, Progress};

use cases::{Case, Setting, Work, cases};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    device: String,
    precision: String,
    size: usize,
    batch: usize,
    rounds: usize,
    /// Bytes a second, read and written, of a copy.
    copy_rate: f64,
    /// Floating-point operations a second of a large square product.
    matrix_rate: f64,
    rows: Vec<Row>,
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

/// Times the operations and prints them as a Markdown table, or as JSON.
pub(crate) fn kernels(arguments: &BenchKernelsArguments) -> Result<(), CommandError> {
    let place = Place::of(arguments.device)?;
    check_device(&place.device, arguments.precision, "--precision", &place.name)?;
    if let Some(filter) = arguments.filter.as_ref().filter(|_| wanted(arguments, arguments.sizes[0]).is_empty()) {
        let message = format!("no operation has `{filter}` in its name or its model's");
        return Err(CommandError::wrong_request(message).with_hint("leave it out: all are listed".to_owned()));
    }
    for &size in &arguments.sizes {
        let report = measure(arguments, &place, size);
        match arguments.json {
            true => ui::out(serde_json::to_string_pretty(&report).expect("a report has string keys and plain values"))?,
            false => ui::out(in_markdown(&report))?,
        }
    }
    Ok(())
}

/// The operations that are asked for, at the shapes of an image size.
fn wanted(arguments: &BenchKernelsArguments, size: usize) -> Vec<Case> {
    let is_wanted = |case: &Case| {
        let named = [case.operation, case.model].join(" of ");
        arguments.filter.as_ref().is_none_or(|part| named.contains(part.as_str()))
    };
    let bytes = storage_type(arguments.precision).size();
    cases(size, arguments.batch, bytes).into_iter().filter(is_wanted).collect()
}

fn measure(arguments: &BenchKernelsArguments, place: &Place, size: usize) -> Report {
    let storage = storage_type(arguments.precision);
    let setting = Setting { device: place.device.clone().autodiff(), storage };
    let found = wanted(arguments, size);
    let mut progress = Progress::start("timing operations", "operations", found.len() as u64);
    let (copy_rate, matrix_rate) = (copy_rate(place, arguments.rounds), matrix_rate(place, storage, arguments.rounds));
    let mut rows = Vec::new();
    for case in &found {
        for (pass, work, times) in timed(case, &setting, place, arguments.rounds) {
            rows.push(row(case, pass, work, &times, [copy_rate, matrix_rate]));
        }
        progress.advance(1);
    }
    progress.finish("done");
    let (precision, batch, rounds) = (arguments.precision.to_string(), arguments.batch, arguments.rounds);
    Report { device: place.name.clone(), precision, size, batch, rounds, copy_rate, matrix_rate, rows }
}

/// Times of the forward pass, and of the backward pass from its output on; the first of each is not counted.
fn timed(case: &Case, setting: &Setting, place: &Place, rounds: usize) -> [(&'static str, Work, Vec<Duration>); 2] {
    let forward = case.prepare(setting);
    let (mut forward_times, mut backward_times) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let mut output = None;
        let forward_time = place.time(|| output = Some(forward()));
        let output = output.expect("the work is done when its time is known");
        let upstream = Tensor::ones_like(&off_tape(output.clone()));
        place.time(|| ()); // the gradient is there before the clock starts
        let backward_time = place.time(|| drop(Tape::backward_from(output, upstream)));
        if round > 0 {
            forward_times.push(forward_time);
            backward_times.push(backward_time);
        }
    }
    [("forward", case.forward, forward_times), ("backward", case.backward, backward_times)]
}

fn row(case: &Case, pass: &'static str, work: Work, times: &[Duration], [copy_rate, matrix_rate]: [f64; 2]) -> Row {
    let ms = Milliseconds::of(times);
    let seconds = ms.median / 1e3;
    Row {
        operation: case.operation,
        model: case.model,
        shape: case.shape.clone(),
        pass,
        ms,
        bytes: work.bytes,
        flops: work.flops,
        share_of_copy_rate: work.bytes / seconds / copy_rate,
        share_of_matrix_rate: work.flops / seconds / matrix_rate,
    }
}

/// The best rate at which a tensor that no cache holds is read and written over.
fn copy_rate(place: &Place, rounds: usize) -> f64 {
    let numbers = if is_cpu(&place.device) { 64 << 20 } else { 256 << 20 };
    let tensors = RefCell::new(vec![Tensor::<1>::ones([numbers], &place.device)]);
    // In place: fresh memory would be faulted in on a CPU.
    let times = times_of(place, rounds, &|| {
        let scaled = scale_all(tensors.take(), 1.0);
        tensors.replace(scaled);
    });
    (2 * numbers * size_of::<f32>()) as f64 / (Milliseconds::of(&times).min / 1e3)
}

/// The best rate at which two large square matrices are multiplied.
fn matrix_rate(place: &Place, storage: DType, rounds: usize) -> f64 {
    let side = if is_cpu(&place.device) { 1536 } else { 8192 };
    let random = || stored_as(Tensor::<2>::random([side; 2], Distribution::Default, &place.device), storage);
    let (left, right) = (random(), random());
    let times = times_of(place, rounds, &|| drop(left.clone().matmul(right.clone())));
    2.0 * (side as f64).powi(3) / (Milliseconds::of(&times).min / 1e3)
}

fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

fn times_of(place: &Place, rounds: usize, work: &dyn Fn()) -> Vec<Duration> {
    place.time(work);
    (0..rounds.max(3)).map(|_| place.time(work)).collect()
}

fn in_markdown(report: &Report) -> String {
    let Report { device, precision, size, batch, rounds, copy_rate, matrix_rate, rows } = report;
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

    /// Small maps, so that each operation is run, forward and backward.
    #[test]
    fn every_operation_runs_and_its_work_is_what_its_shape_says() {
        let arguments = BenchKernelsArguments {
            filter: None,
            sizes: vec![32],
            batch: 1,
            precision: Precision::Fp32,
            rounds: 1,
            device: BenchDevice::Of(DeviceRequest::Cpu),
            json: false,
        };
        let place = Place::of(arguments.device).unwrap();
        let report = measure(&arguments, &place, 32);
        assert!(report.copy_rate > 0.0 && report.matrix_rate > 0.0);
        let named = |operation: &str| report.rows.iter().filter(|row| row.operation == operation).collect::<Vec<_>>();
        let depthwise = named("depthwise 7x7");
        assert_eq!(depthwise.len(), 8, "four stages, forward and backward");
        // 8 x 8 x 128 numbers, read and written; 49 products and sums each.
        assert_eq!((depthwise[0].bytes, depthwise[0].flops), (2.0 * 8192.0 * 4.0, 98.0 * 8192.0));
        let product = named("matrix product")[0];
        assert_eq!(product.flops, 2.0 * 64.0 * 128.0 * 512.0);
        assert_eq!(product.bytes, 4.0 * (64 * 128 + 128 * 512 + 64 * 512) as f64);
        for operation in
            ["window attention", "batch norm, SiLU", "squeeze-excite", "depthwise 5x5, stride 2", "cross-entropy"]
        {
            assert!(!named(operation).is_empty(), "{operation}");
        }
        assert!(report.rows.iter().all(|row| row.ms.min > 0.0 && row.share_of_copy_rate > 0.0));
        assert_eq!(in_markdown(&report).lines().count(), 5 + report.rows.len());
    }
}
