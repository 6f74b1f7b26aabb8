//! A learning rate that falls when validation does not improve.

use trainer::{Plateau, Schedule, TrainOptions};

use crate::stage::{Stage, options};

const EPOCHS: u32 = 4;

/// At such a rate no epoch is better than the first by a ten-thousandth.
fn impatient() -> TrainOptions {
    let plateau = Plateau { peak: 1e-7, minimum: 0.0, warmup_steps: 0, factor: 0.5, patience: 0 };
    TrainOptions { schedule: Schedule::Plateau(plateau), ..options(EPOCHS, 8) }
}

#[test]
fn what_a_plateau_led_to_is_taken_up_again() {
    let through = Stage::new().train(impatient()).unwrap();
    let rates: Vec<f64> = through.records.iter().map(|record| record.learning_rate).collect();
    assert_eq!(rates, [1e-7, 1e-7, 0.5e-7, 0.25e-7]);
    let stage = Stage::new();
    stage.train(TrainOptions { epochs: 2, ..impatient() }).unwrap();
    let resumed = stage.train(impatient()).unwrap();
    assert_eq!(resumed.records.iter().map(|record| record.learning_rate).collect::<Vec<f64>>(), rates);
    assert!(resumed.weights == through.weights && resumed.averaged == through.averaged);
}
