//! A run that is resumed knows what it has learnt.

use trainer::TrainOptions;

use crate::stage::{STEPS_PER_EPOCH, Stage, options};

#[test]
fn a_resumed_run_keeps_the_reduced_micro_batch() {
    let stage = Stage::new();
    let first = stage.train(TrainOptions { faults: "1,2".parse().unwrap(), ..options(1, 8) }).unwrap();
    assert_eq!(first.micro_batch_size, 2);
    assert_eq!(stage.resumed_micro_batch(options(2, 8)), 2);
    let second = stage.train(options(2, 8)).unwrap();
    assert_eq!((second.micro_batch_size, second.events.len(), second.records.len()), (2, 0, 2));
    let log = std::fs::read_to_string(stage.run_path("memory_events.jsonl")).unwrap();
    assert_eq!(
        log,
        "{\"planned_micro_batch\":8,\"phase\":\"training\",\"step\":1,\"micro_batch_before\":8,\"micro_batch_after\":4,\
         \"reason\":\"injected by a test\",\"limit_bytes\":null}\n\
         {\"planned_micro_batch\":8,\"phase\":\"training\",\"step\":2,\"micro_batch_before\":4,\"micro_batch_after\":2,\
         \"reason\":\"injected by a test\",\"limit_bytes\":null}\n"
    );
}

#[test]
fn a_run_that_is_given_another_micro_batch_begins_with_that() {
    let stage = Stage::new();
    stage.train(TrainOptions { faults: "1".parse().unwrap(), ..options(1, 8) }).unwrap();
    assert_eq!(stage.resumed_micro_batch(options(2, 6)), 6);
}

#[test]
fn a_run_in_which_memory_sufficed_has_no_log() {
    let stage = Stage::new();
    // One step past the end: it never comes.
    stage.train(TrainOptions { faults: STEPS_PER_EPOCH.to_string().parse().unwrap(), ..options(1, 8) }).unwrap();
    assert!(!stage.run_path("memory_events.jsonl").exists());
}
