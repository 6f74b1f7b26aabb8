//! Micro-batches that are dealt out to several devices. All of them are this CPU: what is tested is that the work is divided and added up as by one.

use crate::stage::{End, FixedGauge, Stage, options};

const EPOCHS: u32 = 3;

fn train(devices: usize, faults: &str) -> End {
    let options = trainer::TrainOptions { faults: faults.parse().unwrap(), ..options(EPOCHS, 4) };
    Stage::new().train_on(options, &FixedGauge::new(None), devices).unwrap()
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
