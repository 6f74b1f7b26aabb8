//! Two processes in one run folder: the second is refused, and the first does not notice.

use std::time::Duration;

use crate::stage::{RUN, Stage, undisturbed_end};

/// Runs what must find `folder` taken.
fn assert_finds_taken(stage: &Stage, arguments: &str, folder: &str) {
    let ended = stage.run(arguments);
    assert_eq!(ended.code, Some(2), "`stoker {arguments}`\n{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("error: another process trains in `{folder}`\n")), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("go on with it: `stoker train --resume {folder}`")), "{}", ended.stderr);
}

#[test]
fn a_run_that_is_trained_is_neither_resumed_nor_replaced_by_another_process() {
    let stage = Stage::new();
    let mut running = stage.start("train --config tiny.yaml");
    running.wait_for_epoch_after(1, Duration::ZERO);
    // It holds still, so that it is not over before the others ask.
    running.send("STOP");
    let folder = stage.run_folder();
    assert_finds_taken(&stage, &format!("train --resume {RUN}"), &folder);
    assert_finds_taken(&stage, "train --config tiny.yaml --overwrite", &folder);
    running.send("CONT");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    stage.end().assert_is(undisturbed_end());
}

#[test]
fn of_folds_those_that_are_trained_are_held_and_the_others_are_not() {
    let stage = Stage::new();
    let train = "train --config tiny.yaml --set data.validation=null --set data.folds=3 --set train.epochs=1";
    let mut running = stage.start(&format!("{train} --fold 0"));
    running.wait_for_file("fold_0/checkpoints/last.safetensors");
    running.send("STOP");
    let group = stage.run_folder();
    assert_finds_taken(&stage, &format!("train --resume {RUN}/fold_0"), &format!("{group}/fold_0"));
    assert_finds_taken(&stage, &format!("{train} --overwrite"), &format!("{group}/fold_0"));
    stage.succeed(&format!("{train} --fold 1"));
    running.send("CONT");
    assert_eq!(running.end().code, Some(0));
    // Each has put its own into what they share.
    let results = std::fs::read_to_string(stage.run_path("fold_results.yaml")).expect("both are done");
    assert!(results.contains("fold: 0\n") && results.contains("fold: 1\n"), "{results}");
}
