//! Kills between the steps of an epoch, where the run is saved after each of them.

use crate::stage::{EPOCHS, RUN, Stage};

/// Saved after every step; and all that chance decides about a batch, so that each part of it must come again.
const SETTINGS: &str = "--set train.checkpoint_minutes=1e-6 --set data.sampling=balanced --set data.repeats=2 \
                        --set augment.rand_augment.num_ops=2 --set augment.noise.jpeg=0.5 --set augment.mix.mixup=0.8 \
                        --set augment.mix.cutmix=1 --set augment.mix.mode=pair";

/// Kills in a row, each after a step that the one before had not saved.
const KILLS: usize = 6;

#[test]
fn a_run_killed_in_mid_epoch_goes_on_from_its_last_step_and_ends_the_same() {
    let train = format!("train --config tiny.yaml {SETTINGS}");
    let expected = Stage::new();
    expected.succeed(&train);

    let stage = Stage::new();
    let mut arguments = train;
    let mut within = 0;
    for _ in 0..KILLS {
        let before = stage.progress().unwrap_or_default();
        if before.epochs_done as usize == EPOCHS {
            break;
        }
        let mut running = stage.start(&arguments);
        running.wait_for_progress(|now| now.step > before.step && now.batches_done > 0);
        let said = running.kill().stderr;
        let (epochs, steps) = (before.epochs_done, before.batches_done);
        let place = format!("going on after epoch {epochs} and {steps} steps of the next\n");
        assert_eq!(said.contains(&place), before.step > 0, "{place}{said}");
        within += usize::from(steps > 0);
        arguments = format!("train --resume {RUN}");
    }
    stage.succeed(&arguments);
    assert!(within > 0, "the run was never resumed within an epoch");
    stage.end().assert_is(&expected.end());
}
