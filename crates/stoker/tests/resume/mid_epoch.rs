//! Kills between the steps of an epoch, where the run is saved after each of them.

use crate::stage::{RUN, Stage, undisturbed_end};

/// Saved after every step; and all that chance decides about a batch, so that each part of it must come again.
const SETTINGS: &str = "--set train.checkpoint_minutes=1e-6 --set data.sampling=balanced --set data.repeats=2 \
                        --set augment.rand_augment.num_ops=2 --set augment.noise.jpeg=0.5 --set augment.mix.mixup=0.8 \
                        --set augment.mix.cutmix=1 --set augment.mix.mode=pair";

/// A kill may come in the wrong moment on a busy machine; that often in a row it does not.
const KILLS: [f64; 9] = [0.2, 0.4, 0.6, 0.8, 0.3, 0.5, 0.7, 0.9, 0.25];

#[test]
fn a_run_killed_in_mid_epoch_goes_on_from_its_last_step_and_ends_the_same() {
    let train = format!("train --config tiny.yaml {SETTINGS}");
    let expected = Stage::new();
    expected.succeed(&train);

    let stage = Stage::new();
    let mut arguments = train.clone();
    let mut within = 0;
    for share in KILLS {
        let mut running = stage.start(&arguments);
        running.wait_for_epoch_after(0, undisturbed_end().part_of_an_epoch(share));
        let said = running.kill().stderr;
        within += usize::from(said.contains("going on after epoch ") && !said.contains(" and 0 steps of the next\n"));
        arguments = format!("train --resume {RUN}");
    }
    stage.succeed(&arguments);
    assert!(within > 0, "the run was never resumed within an epoch");
    stage.end().assert_is(&expected.end());
}
