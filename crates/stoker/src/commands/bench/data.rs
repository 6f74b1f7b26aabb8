//! `bench data`: how fast images are read, varied and put into batches.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use data_pipeline::{Dataset, Loader, LoaderOptions, batches};
use serde::Serialize;
use trainer::TrainError;

use crate::cli::BenchDataArguments;
use crate::commands::config;
use crate::config::UserConfig;
use crate::error::CommandError;
use crate::run::observer::tell_skipped;
use crate::run::resolved::ResolvedConfig;
use crate::ui;

/// What was measured.
#[derive(Debug, Serialize)]
struct Speed {
    /// That were loaded, over all epochs.
    images: usize,
    /// Files that could not be read; no time counts them.
    corrupt: usize,
    workers: usize,
    seconds: f64,
    images_per_second: f64,
}

/// Loads the training images as training would, throws them away, and prints how fast that was.
pub(crate) fn data(arguments: &BenchDataArguments) -> Result<(), CommandError> {
    let overrides = arguments.overrides()?;
    let user = match &arguments.config {
        Some(path) => config::load(path, &overrides)?,
        None => UserConfig::from_text(Path::new("--train"), "data: {}\n", &overrides)?,
    };
    let mut resolved = ResolvedConfig::new(user, Path::new("bench"))?;
    resolved.decide_workers(std::thread::available_parallelism().map_or(1, usize::from));
    let opened = Dataset::open(&resolved.config.data.train);
    let dataset = opened.map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    let speed = measure(&resolved, &Arc::new(dataset), arguments.epochs)?;
    if arguments.json {
        return ui::out(serde_json::to_string(&speed).expect("plain numbers under string keys"));
    }
    let Speed { images, corrupt, workers, seconds, images_per_second } = speed;
    let size = resolved.image_size();
    let left_out = match corrupt {
        0 => String::new(),
        1 => "; 1 file could not be read".to_owned(),
        files => format!("; {files} files could not be read"),
    };
    ui::out(format_args!(
        "{images_per_second:.0} images/s: {images} to {size} px in {seconds:.2} s with {workers} workers{left_out}"
    ))
}

fn measure(resolved: &ResolvedConfig, dataset: &Arc<Dataset>, epochs: u64) -> Result<Speed, CommandError> {
    let config = &resolved.config;
    let mut images = 0;
    let mut corrupt = BTreeSet::new();
    let start = Instant::now();
    for epoch in 1..=epochs {
        let order = resolved.sampling().order(dataset, config.seed, epoch);
        let batches = batches(&order, config.train.effective_batch_size);
        let mixing = resolved.mixing();
        let options = LoaderOptions { seed: config.seed, epoch, mixing, ..resolved.loader_options() };
        for batch in Loader::new(dataset.clone(), batches, Arc::new(resolved.train_transform()), options) {
            let batch = batch.map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
            images += batch.len();
            for image in batch.corrupt {
                if corrupt.insert(image.sample) {
                    tell_skipped(corrupt.len(), &image.path, &image.reason);
                }
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let workers = resolved.loader_options().workers;
    let corrupt = corrupt.len();
    if images == 0 {
        return Err(CommandError::from_request(&TrainError::NothingReadable { samples: corrupt as u64 }));
    }
    Ok(Speed { images, corrupt, workers, seconds, images_per_second: images as f64 / seconds })
}
