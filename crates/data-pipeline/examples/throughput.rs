//! Measures how fast a folder of images is decoded and augmented:
//! `cargo run --release -p data-pipeline --example throughput -- data/sign_digits/train 64 2`
//! (folder, size in pixels, workers).

#![allow(clippy::print_stdout, reason = "an example reports to whoever runs it")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use data_pipeline::{
    Channels, Dataset, Loader, LoaderOptions, ResizeMode, TrainTransform, Transform, batches, epoch_order,
};

const EPOCHS: u64 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("give a folder with one folder per class")?);
    let image_size = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let workers = arguments.next().map_or(Ok(2), |text| text.parse())?;

    let dataset = Arc::new(Dataset::open(&folder)?);
    let plain = TrainTransform::new(image_size, Channels::Rgb, ResizeMode::Squash);
    let crop_and_flip = TrainTransform { scale: (0.7, 1.0), ratio: (0.8, 1.25), horizontal_flip: 0.5, ..plain.clone() };
    let everything = TrainTransform {
        quarter_turns: true,
        rotation_degrees: 10.0,
        brightness: 0.2,
        contrast: 0.2,
        saturation: 0.2,
        erase: 0.25,
        ..crop_and_flip.clone()
    };
    for (name, transform) in [("resize", plain), ("crop and flip", crop_and_flip), ("everything", everything)] {
        transform.check()?;
        let images_per_second = measure(&dataset, Arc::new(transform), workers)?;
        println!("{name:<14} {images_per_second:>8.0} images/s with {workers} workers to {image_size} px");
    }
    Ok(())
}

fn measure(dataset: &Arc<Dataset>, transform: Arc<dyn Transform>, workers: usize) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    let mut images = 0;
    for epoch in 0..EPOCHS {
        let order = epoch_order(dataset.len(), 1, epoch);
        let options = LoaderOptions { workers, epoch, ..Default::default() };
        for batch in Loader::new(Arc::clone(dataset), batches(&order, 32), Arc::clone(&transform), options) {
            images += batch?.len();
        }
    }
    Ok(images as f64 / start.elapsed().as_secs_f64())
}
