//! A kill that gives the process no time for anything.

use std::time::Duration;

use crate::stage::{EPOCHS, RUN, Stage, undisturbed_end};

/// Kills the run in the epoch after `epochs` recorded ones, so late in it, and holds what comes of it to the undisturbed run.
fn assert_survives_a_kill(epochs: usize, delay: Duration) {
    let stage = Stage::new();
    let mut running = stage.start("train --config tiny.yaml");
    running.wait_for_epoch_after(epochs, delay);
    running.kill();
    stage.succeed(&format!("train --resume {RUN}"));
    stage.end().assert_is(undisturbed_end());
}

#[test]
fn a_run_killed_in_its_first_epoch_starts_over() {
    assert_survives_a_kill(0, undisturbed_end().part_of_an_epoch(0.4));
}

#[test]
fn a_run_killed_in_its_second_epoch_ends_the_same() {
    assert_survives_a_kill(1, undisturbed_end().part_of_an_epoch(0.5));
}

#[test]
fn a_run_killed_in_its_last_epoch_ends_the_same() {
    assert_survives_a_kill(EPOCHS - 1, undisturbed_end().part_of_an_epoch(0.6));
}

/// At that moment metrics are ahead of the checkpoint: the epoch is done again, and must not stand there twice.
#[test]
fn a_run_killed_as_soon_as_an_epoch_is_recorded_ends_the_same() {
    let stage = Stage::new();
    let mut running = stage.start("train --config tiny.yaml");
    running.wait_for_record_of(2);
    running.kill();
    stage.succeed(&format!("train --resume {RUN}"));
    stage.end().assert_is(undisturbed_end());
}

#[test]
fn a_run_killed_over_and_over_ends_the_same() {
    let stage = Stage::new();
    let mut arguments = "train --config tiny.yaml".to_owned();
    for epochs in 0..EPOCHS {
        for share in [0.1, 0.9] {
            let mut running = stage.start(&arguments);
            running.wait_for_epoch_after(epochs, undisturbed_end().part_of_an_epoch(share));
            running.kill();
            arguments = format!("train --resume {RUN}");
        }
    }
    stage.succeed(&arguments);
    stage.end().assert_is(undisturbed_end());
}

/// Kills a run with other settings once in each epoch, and holds what comes of it to the same run undisturbed. Steps are saved as they come, so that kills
/// are within an epoch for the checkpoint, too.
fn assert_survives_kills_with(settings: &str) {
    let train = format!("train --config tiny.yaml --set train.checkpoint_minutes=1e-6 {settings}");
    let undisturbed = Stage::new();
    undisturbed.succeed(&train);
    let expected = undisturbed.end();
    let stage = Stage::new();
    let mut arguments = train;
    for (epochs, share) in [(0, 0.6), (1, 0.3), (2, 0.5)] {
        let mut running = stage.start(&arguments);
        running.wait_for_epoch_after(epochs, expected.part_of_an_epoch(share));
        running.kill();
        arguments = format!("train --resume {RUN}");
    }
    stage.succeed(&arguments);
    stage.end().assert_is(&expected);
}

#[test]
fn a_killed_run_of_a_model_with_running_statistics_ends_the_same() {
    assert_survives_kills_with("--set model.name=efficientnet_b0");
}

#[test]
fn a_killed_run_in_bf16_ends_the_same() {
    assert_survives_kills_with("--set train.precision=bf16");
}

#[test]
fn a_run_killed_while_it_writes_a_checkpoint_ends_the_same() {
    let stage = Stage::new();
    let mut arguments = "train --config tiny.yaml".to_owned();
    for (epochs, file) in [(0, "best"), (0, "last"), (1, "last"), (2, "last")] {
        let mut running = stage.start(&arguments);
        running.wait_for_epoch_after(epochs, Duration::ZERO);
        running.wait_for_writing(&format!("checkpoints/{file}.safetensors"));
        running.kill();
        arguments = format!("train --resume {RUN}");
    }
    stage.succeed(&arguments);
    stage.end().assert_is(undisturbed_end());
}
