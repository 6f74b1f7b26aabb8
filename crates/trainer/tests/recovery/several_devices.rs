//! Micro-batches that are dealt out to several devices. All of them are this CPU: what is tested is that the work is divided and added up as by one.

use trainer::{TrainOptions, TrainStep};
use vision_nn::Classifier;

use crate::stage::{End, FixedGauge, STEPS_PER_EPOCH, Stage, convnext, efficientnet, options, step};

const EPOCHS: u32 = 3;

/// Two of the three steps of the second epoch are done then.
const IN_MID_EPOCH: u64 = STEPS_PER_EPOCH + 2;

fn with_faults(faults: &str) -> TrainOptions {
    TrainOptions { faults: faults.parse().unwrap(), ..options(EPOCHS, 4) }
}

fn train(devices: usize, faults: &str) -> End {
    Stage::new().train_on(with_faults(faults), &FixedGauge::new(None), devices).unwrap()
}

/// Stops a run in mid-epoch, and goes on with another step.
fn resumed<M: Classifier>(before: TrainStep<M>, after: TrainStep<M>) -> End {
    let (stage, gauge) = (Stage::new(), FixedGauge::new(None));
    let stopped = stage.fit(before, &gauge, Some(IN_MID_EPOCH)).unwrap();
    assert_eq!((stopped.progress.epochs_done, stopped.progress.batches_done), (1, 2));
    stage.fit(after, &gauge, None).unwrap()
}

fn assert_same(found: &End, expected: &End) {
    assert!(found.weights == expected.weights && found.averaged == expected.averaged, "the weights differ");
    let metrics = |end: &End| end.records.iter().map(metrics::EpochRecord::to_deterministic_json).collect::<Vec<_>>();
    assert_eq!(metrics(found), metrics(expected));
}

/// Effective batches of 10, 10 and 4 in micro-batches of at most 4: rounds that are full, and rounds that are not.
#[test]
fn several_devices_end_bit_for_bit_as_one() {
    let one = train(1, "");
    for devices in [2, 3, 5] {
        assert_same(&train(devices, ""), &one);
    }
}

#[test]
fn memory_that_runs_out_on_any_device_has_all_do_the_batch_again_in_smaller_parts() {
    let one = train(1, "1:1,4:2");
    assert_eq!(one.events.len(), 2);
    let two = train(2, "1:1,4:2");
    assert_same(&two, &one);
    assert_eq!(two.events, one.events);
    assert_eq!(two.micro_batch_size, 1);
}

#[test]
fn a_run_stopped_in_mid_epoch_ends_bit_for_bit_the_same_on_as_many_devices_on_fewer_and_on_more() {
    let through = train(3, "");
    for (before, after) in [(3, 3), (3, 1), (1, 3)] {
        let [before, after] = [before, after].map(|devices| step(convnext, with_faults(""), devices));
        assert_same(&resumed(before, after), &through);
    }
}

/// The second process knows the smaller micro-batch from the run folder alone: its own steps have memory.
#[test]
fn a_run_stopped_after_a_device_ran_out_of_memory_goes_on_in_the_smaller_parts() {
    let through = train(3, "1:1");
    let [before, after] = [3, 2].map(|devices| step(convnext, with_faults("1:1"), devices));
    let resumed = resumed(before, after);
    assert_eq!((resumed.micro_batch_size, resumed.events.len()), (2, 0));
    assert_same(&resumed, &through);
}

/// Running statistics are those of what the first device has seen: another number of devices has others, and what was saved must be taken up on each.
#[test]
fn running_statistics_go_on_bit_for_bit_on_as_many_devices() {
    let build = |devices| step(efficientnet, with_faults(""), devices);
    let through = |devices| Stage::new().fit(build(devices), &FixedGauge::new(None), None).unwrap();
    let two = through(2);
    assert_same(&resumed(build(2), build(2)), &two);
    assert!(two.weights != through(1).weights, "the second device's samples do not show");
}
