//! A run whose device takes the last steps of augmentation is the run whose loader takes them.

use data_pipeline::{MixMode, Mixing};
use trainer::TrainOptions;

use crate::stage::{EFFECTIVE_BATCH, End, Stage, options};

const EPOCHS: u32 = 2;

/// A run on images that are mixed or not; with `finishes_images` as it is asked for.
fn trained(mixing: Mixing, finishes_images: bool, more: &TrainOptions) -> End {
    let options = TrainOptions { finishes_images, ..more.clone() };
    Stage::new().with_mixing(mixing).train(options).unwrap_or_else(|error| panic!("{error}"))
}

/// One that mixes most images, each with a draw of its own.
fn mixed() -> Mixing {
    let mode = MixMode::Element;
    Mixing { mixup_alpha: 0.8, cutmix_alpha: 1.0, probability: 0.8, mode, ..Mixing::default() }
}

/// To the bit: a step has the same numbers before it. Whole batches are mixed by the device, cut ones by the loader, and those that are cut for lack of
/// memory by the thread that trains.
#[test]
fn a_run_is_the_same_whoever_takes_the_last_steps() {
    for (micro_batch_size, faults) in [(EFFECTIVE_BATCH, ""), (3, ""), (EFFECTIVE_BATCH, "1,4")] {
        let more = TrainOptions { faults: faults.parse().unwrap(), ..options(EPOCHS, micro_batch_size) };
        let mut weights = Vec::new();
        for mixing in [Mixing::default(), mixed()] {
            let (found, expected) = (trained(mixing, true, &more), trained(mixing, false, &more));
            assert_eq!(found.events.len(), faults.split(',').filter(|step| !step.is_empty()).count());
            assert_eq!(
                (&found.weights, &found.averaged),
                (&expected.weights, &expected.averaged),
                "{faults} {mixing:?}"
            );
            let losses = |end: &End| end.records.iter().map(|record| record.train.loss).collect::<Vec<f64>>();
            assert_eq!(losses(&found), losses(&expected));
            weights.push(found.weights);
        }
        assert_ne!(weights[0], weights[1], "nothing was mixed");
    }
}
