//! Equal seeds give equal bytes.

use crate::stage::{Stage, undisturbed_end};

#[test]
fn two_runs_of_one_seed_are_equal_byte_for_byte() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml");
    stage.end().assert_is(undisturbed_end());
}

#[test]
fn the_number_of_loader_threads_changes_nothing() {
    for workers in [1, 3] {
        let stage = Stage::new();
        stage.succeed(&format!("train --config tiny.yaml --set data.workers={workers}"));
        stage.end().assert_is(undisturbed_end());
    }
}

#[test]
fn another_seed_is_another_run() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml --set seed=8 --set train.epochs=1");
    assert_ne!(stage.end().first_epoch(), undisturbed_end().first_epoch());
}
