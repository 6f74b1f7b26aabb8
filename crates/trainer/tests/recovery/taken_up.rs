//! What a run takes up from the process before it, beside its weights.

use checkpoint::Checkpoint;
use trainer::{OptimizerOptions, SgdOptions, TrainError, TrainOptions};

use crate::stage::{FixedGauge, STEPS_PER_EPOCH, Stage, convnext, options, step};

#[test]
fn an_epoch_that_another_process_began_says_so_and_has_the_rate_of_what_was_left() {
    // Stopped within the first epoch, and before its validation.
    for (stop_after, has_rate) in [(1, true), (STEPS_PER_EPOCH, false)] {
        let stage = Stage::new();
        stage.fit(step(convnext, options(2, 4), 1), &FixedGauge::new(None), Some(stop_after)).unwrap();
        let records = stage.train(options(2, 4)).unwrap().records;
        let taken_up: Vec<bool> = records.iter().map(|record| record.run.taken_up).collect();
        assert_eq!(taken_up, [true, false], "after {stop_after} steps");
        assert_eq!(records[0].run.images_per_second.is_finite(), has_rate, "after {stop_after} steps");
        assert!(records[1].run.images_per_second > 0.0);
    }
}

#[test]
fn a_checkpoint_that_lacks_any_of_the_optimizers_state_is_refused_by_name() {
    let stage = Stage::new();
    stage.train(options(1, 8)).unwrap();
    let path = stage.run_path("checkpoints/last.safetensors");
    let whole = Checkpoint::read(&path).unwrap();
    let state = whole.optimizer.clone().unwrap();
    let resumed = |checkpoint: &Checkpoint| {
        checkpoint.write(&path).unwrap();
        stage.train(options(2, 8))
    };
    let missing_from = |checkpoint: &Checkpoint| match resumed(checkpoint).err() {
        Some(TrainError::NoOptimizerState { missing, .. }) => missing,
        other => panic!("{other:?}"),
    };
    let mut lacks_one = whole.clone();
    let (first, _) = lacks_one.optimizer.as_mut().unwrap().pop_first().unwrap();
    assert_eq!(missing_from(&lacks_one), [first]);
    let none = Checkpoint { optimizer: None, ..whole.clone() };
    let mut missing = missing_from(&none);
    missing.sort();
    assert_eq!(missing, state.into_keys().collect::<Vec<_>>());
    resumed(&whole).unwrap();
}

#[test]
fn an_optimizer_that_keeps_nothing_lacks_nothing() {
    let rule = SgdOptions { momentum: 0.0, ..SgdOptions::default() };
    let plain = |epochs| TrainOptions { optimizer: OptimizerOptions::Sgd(rule), ..options(epochs, 8) };
    let stage = Stage::new();
    stage.train(plain(1)).unwrap();
    let last = Checkpoint::read(&stage.run_path("checkpoints/last.safetensors")).unwrap();
    assert!(last.optimizer.is_none());
    assert_eq!(stage.train(plain(2)).unwrap().records.len(), 2);
}
