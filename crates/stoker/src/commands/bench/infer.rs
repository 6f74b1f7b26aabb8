//! `bench infer`: how long predictions take, and the memory that they take.

use std::time::{Duration, Instant};

use inference::{Merge, PredictOptions, Preset, View, rehearse};
use memory_planner::{BudgetRequest, Checkpointing, Precision, Rung, format_bytes};
use memory_probe::Meter;
use serde::Serialize;
use trainer::Normalization;

use super::Configuration;
use crate::cli::BenchInferArguments;
use crate::commands::predict::{Needs, fitting_batch};
use crate::error::CommandError;
use crate::registry::Network;
use crate::run::compute::Compute;
use crate::run::post_mortem::PostMortem;
use crate::run::precision::check_device;
use crate::run::subject::Subject;
use crate::ui::{self, Progress};

/// Classes of ImageNet, as timm's models have them.
const CLASSES: usize = 1000;

const HEAD: &str = "\
| model | image | precision | TTA | batch | images/s | p50 | p90 | p99 | peak |
|---|---|---|---|---|---|---|---|---|---|";

/// One case, timed.
#[derive(Debug, Clone, Serialize)]
struct Row {
    model: String,
    image_size: usize,
    precision: Precision,
    tta: &'static str,
    views: usize,
    /// Images at once, each in all views.
    batch: usize,
    rounds: usize,
    /// By the median.
    images_per_second: f64,
    latency_ms: Latency,
    /// The most that was held: weights, one pass and its images.
    peak_bytes: u64,
}

/// Milliseconds of a batch with all its views.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Latency {
    min: f64,
    p50: f64,
    p90: f64,
    p99: f64,
}

impl Latency {
    /// Percentiles by the nearest rank: a time that was really taken. At least one time is needed.
    fn of(times: &[Duration]) -> Self {
        let mut times: Vec<f64> = times.iter().map(|time| 1e3 * time.as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        let rank = |share: f64| times[((share * times.len() as f64).ceil() as usize).clamp(1, times.len()) - 1];
        Self { min: times[0], p50: rank(0.5), p90: rank(0.9), p99: rank(0.99) }
    }
}

impl Row {
    fn in_markdown(&self) -> String {
        let Self { model, image_size, precision, tta, batch, images_per_second, latency_ms, .. } = self;
        format!(
            "| {model} | {image_size} | {precision} | {tta} | {batch} | {images_per_second:.1} | {:.1} ms | {:.1} ms | {:.1} ms | {} |",
            latency_ms.p50,
            latency_ms.p90,
            latency_ms.p99,
            format_bytes(self.peak_bytes)
        )
    }
}

/// Times the grid and prints it as a Markdown table, or as JSON.
pub(crate) fn infer(arguments: &BenchInferArguments) -> Result<(), CommandError> {
    let compute = Compute::select(arguments.device)?;
    let configurations = configurations(arguments, &compute)?;
    if !arguments.json {
        ui::out(HEAD)?;
    }
    let mut progress = Progress::start("timing predictions", "models", configurations.len() as u64);
    let mut rows = Vec::new();
    for configuration in &configurations {
        let of_model = time_model(configuration, &compute, arguments)?;
        if !arguments.json {
            // Model by model: a grid takes its time, and what is known is not to be lost.
            ui::out(of_model.iter().map(Row::in_markdown).collect::<Vec<_>>().join("\n"))?;
        }
        rows.extend(of_model);
        progress.advance(1);
    }
    progress.finish("done");
    if arguments.json {
        return ui::out(serde_json::to_string_pretty(&rows).expect("rows have string keys and plain values"));
    }
    Ok(())
}

/// Every model in every size and precision; what cannot be is refused before anything is timed.
fn configurations(arguments: &BenchInferArguments, compute: &Compute) -> Result<Vec<Configuration>, CommandError> {
    let name = compute.selected.describe();
    let mut configurations = Vec::new();
    for model in &arguments.models {
        for &size in &arguments.sizes {
            for &precision in &arguments.precisions {
                check_device(&compute.device, precision, "--precisions", &name)?;
                let rung = Rung { precision, checkpointing: Checkpointing::None };
                configurations.push(Configuration::new(model, size, rung)?);
            }
        }
    }
    Ok(configurations)
}

/// A batch of images in the views of a preset, with the times that it took.
struct Case<'a> {
    preset: Preset,
    options: PredictOptions<'a>,
    batch: usize,
    /// Most images in a pass, each view counted as one.
    at_once: usize,
    times: Vec<Duration>,
    peak_bytes: u64,
}

/// All cases of a model, in turn, again and again.
fn time_model(
    configuration: &Configuration,
    compute: &Compute,
    arguments: &BenchInferArguments,
) -> Result<Vec<Row>, CommandError> {
    let meter = compute.meter();
    let base_bytes = meter.current_bytes();
    let architecture = configuration.resolved.architecture()?;
    let subject = Subject { num_classes: CLASSES, ..configuration.subject(&architecture) };
    let (image, model) = (subject.image(), subject.build(&compute.device));
    let normalization = Normalization::imagenet(image[2]);
    let classes: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
    let views: Vec<(Preset, Vec<View>)> = arguments.tta.iter().map(|&preset| (preset, preset.views())).collect();
    let mut cases = Vec::new();
    for (preset, views) in &views {
        let precision = configuration.rung.precision;
        let (normalization, device) = (&normalization, &compute.device);
        let options = PredictOptions {
            views,
            merge: &Merge::Mean,
            normalization,
            device,
            precision,
            classes: &classes,
            fixed_shapes: !compute.is_cpu(),
        };
        let planned = match arguments.batch.exactly() {
            Some(batch) => batch,
            None => planned_batch(&model, image, &options, compute)?,
        };
        // A single image has all its views in one pass, as in a prediction, unless memory allows one at a time.
        let is_tight = planned == 1 && arguments.batch.exactly().is_none();
        let alone = (1, if is_tight { 1 } else { views.len() });
        let batches = if planned == 1 { vec![alone] } else { vec![alone, (planned, planned)] };
        let case =
            |(batch, at_once)| Case { preset: *preset, options, batch, at_once, times: Vec::new(), peak_bytes: 0 };
        cases.extend(batches.into_iter().map(case));
    }
    for round in 0..=arguments.rounds {
        for case in &mut cases {
            case.run(&model, image, meter.as_ref(), round > 0)?;
        }
    }
    Ok(cases.iter().map(|case| case.row(configuration, base_bytes)).collect())
}

/// The batch that a prediction of many images would plan.
fn planned_batch(
    model: &Network,
    image: [usize; 3],
    options: &PredictOptions<'_>,
    compute: &Compute,
) -> Result<usize, CommandError> {
    let budget = compute.budget(&BudgetRequest::default())?;
    let (images, work) = (usize::MAX, usize::MAX);
    let needs = Needs { images, work, later_bytes: 0, beside: &|_| 0, post_mortem: &PostMortem::default };
    fitting_batch(model, image, options, compute, &budget, &needs).map(|fitting| fitting.at_once)
}

impl Case<'_> {
    fn run(
        &mut self,
        model: &Network,
        image: [usize; 3],
        meter: &dyn Meter,
        is_counted: bool,
    ) -> Result<(), CommandError> {
        meter.reset();
        let start = Instant::now();
        // Reading the scores waits for the device.
        rehearse(model, image, self.batch, self.at_once, &self.options)
            .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
        if is_counted {
            self.times.push(start.elapsed());
            self.peak_bytes = self.peak_bytes.max(meter.peak_bytes());
        }
        Ok(())
    }

    fn row(&self, configuration: &Configuration, base_bytes: u64) -> Row {
        let latency_ms = Latency::of(&self.times);
        Row {
            model: configuration.resolved.config.model.name.clone(),
            image_size: configuration.resolved.image_size(),
            precision: configuration.rung.precision,
            tta: self.preset.name(),
            views: self.options.views.len(),
            batch: self.batch,
            rounds: self.times.len(),
            images_per_second: 1e3 * self.batch as f64 / latency_ms.p50,
            latency_ms,
            peak_bytes: self.peak_bytes.saturating_sub(base_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_taken() {
        let of = |count: u64| Latency::of(&(1..=count).rev().map(Duration::from_millis).collect::<Vec<_>>());
        assert_eq!(of(1), Latency { min: 1.0, p50: 1.0, p90: 1.0, p99: 1.0 });
        assert_eq!(of(20), Latency { min: 1.0, p50: 10.0, p90: 18.0, p99: 20.0 });
        assert_eq!(of(1000), Latency { min: 1.0, p50: 500.0, p90: 900.0, p99: 990.0 });
    }
}
