//! Training that stops before its last epoch.

use trainer::{EarlyStopping, FitOutcome, TrainOptions};

use crate::stage::{Stage, options};

/// The first epoch is the best, for macro-F1 is never above 1.
fn impatient(epochs: u32) -> TrainOptions {
    TrainOptions { early_stopping: Some(EarlyStopping { patience: 2, min_delta: 2.0 }), ..options(epochs, 8) }
}

#[test]
fn without_improvement_training_stops_and_does_not_go_on_when_resumed() {
    let stage = Stage::new();
    let stopped = stage.train(impatient(9)).unwrap();
    assert_eq!((stopped.outcome, stopped.records.len()), (FitOutcome::StoppedEarly, 3));
    let again = stage.train(impatient(9)).unwrap();
    assert_eq!((again.outcome, again.records.len()), (FitOutcome::StoppedEarly, 3));
}

#[test]
fn patience_is_not_renewed_by_a_resume() {
    let stage = Stage::new();
    // The learning rate of nine epochs, of which two are done at first.
    let two = stage.train(TrainOptions { epochs: 2, ..impatient(9) }).unwrap();
    assert_eq!((two.outcome, two.records.len()), (FitOutcome::Finished, 2));
    let resumed = stage.train(impatient(9)).unwrap();
    assert_eq!((resumed.outcome, resumed.records.len()), (FitOutcome::StoppedEarly, 3));
    assert!(resumed.weights == Stage::new().train(impatient(9)).unwrap().weights);
}
