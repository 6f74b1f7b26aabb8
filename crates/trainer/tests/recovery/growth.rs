//! A reduced micro-batch grows again: when that is asked for, after a while, and when memory allows it.

use trainer::{MemoryLap, STEPS_BEFORE_GROWTH, TrainOptions};

use crate::stage::{End, FixedGauge, Stage, options};

const MICRO_BATCH: usize = 4;

/// Two images a step, so that steps are quick: 12 of them in an epoch.
const EFFECTIVE_BATCH: usize = 4;
const STEPS_PER_EPOCH: u64 = 6;

/// The least epochs with so many steps.
fn epochs_of(steps: u64) -> u32 {
    steps.div_ceil(STEPS_PER_EPOCH) as u32
}

fn train(epochs: u32, faults: &str, adaptive_batch: bool, gauge: &FixedGauge) -> End {
    let faults = faults.parse().unwrap();
    let more =
        TrainOptions { effective_batch_size: EFFECTIVE_BATCH, adaptive_batch, faults, ..options(epochs, MICRO_BATCH) };
    Stage::new().train_with(more, gauge).unwrap()
}

fn sizes(end: &End) -> Vec<(u64, usize, usize)> {
    let event =
        |event: &trainer::RecoveryEvent| (event.step.unwrap(), event.micro_batch_before, event.micro_batch_after);
    end.events.iter().map(event).collect()
}

/// A lap in which doubling takes from 70 to 90 bytes: 50 that rest, 20 and 40 that pass.
fn lap(allowed_bytes: u64) -> Option<MemoryLap> {
    Some(MemoryLap { peak_bytes: 70, resting_bytes: 50, allowed_bytes })
}

#[test]
fn it_grows_when_memory_allows_it_and_a_failed_growth_is_not_tried_again() {
    let failed = 2;
    let grown = failed + STEPS_BEFORE_GROWTH;
    let gauge = FixedGauge::new(lap(90));
    let end = train(epochs_of(grown + 2 + STEPS_BEFORE_GROWTH + 2), &format!("{failed},{grown}"), true, &gauge);
    assert_eq!(sizes(&end), [(failed, 4, 2), (grown, 2, 4), (grown, 4, 2)]);
    assert_eq!(end.events[1].reason, "it should take 90 B of 90 B");
    assert_eq!(gauge.laps_begun.get(), 1 + 3, "each size is measured by itself");
}

#[test]
fn it_stays_where_memory_would_not_do_or_nobody_knows() {
    for lap in [lap(89), None] {
        let end = train(epochs_of(STEPS_BEFORE_GROWTH + 8), "2", true, &FixedGauge::new(lap));
        assert_eq!(sizes(&end), [(2, 4, 2)]);
    }
}

#[test]
fn it_never_grows_unless_asked_to() {
    let end = train(epochs_of(STEPS_BEFORE_GROWTH + 8), "2", false, &FixedGauge::new(lap(90)));
    assert_eq!(sizes(&end), [(2, 4, 2)]);
}
