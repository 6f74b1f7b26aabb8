//! Ctrl-C, and the polite signal of service managers and batch systems.

use std::fs;
use std::time::Duration;

use crate::stage::{RUN, Stage, undisturbed_end};

/// Images, each in 15 views: more than are done in the moment between the plan and the signal.
const MANY: usize = 400;

/// A stop may come too late on a busy machine; that often in a row it does not.
const ATTEMPTS: usize = 5;

fn assert_saves_within_an_epoch_after(signal: &str) {
    // Each attempt is held to everything else.
    let within = (0..ATTEMPTS).any(|_| stops_within_an_epoch(signal));
    assert!(within, "the run was never stopped within an epoch");
}

/// Stops a run in its second epoch, goes on, and holds the end to the undisturbed run. False when it stopped between two epochs.
fn stops_within_an_epoch(signal: &str) -> bool {
    let stage = Stage::new();
    // Saved after every step, so that the first step of the second epoch is seen.
    let mut running = stage.start("train --config tiny.yaml --set train.checkpoint_minutes=1e-6");
    running.wait_for_progress(|now| now.epochs_done == 1 && now.batches_done > 0);
    let ended = running.signal(signal);
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let said = ended.stderr.replace(&stage.run_folder(), "RUN");
    let end = "error: interrupted; the run is saved in `RUN`\n\n\
               hint: go on with: stoker train --resume RUN\n";
    assert!(said.contains("\nstopping after this step; press Ctrl-C again to stop at once\n"), "{said}");
    assert!(said.ends_with(end), "{said}");
    let resumed = stage.succeed(&format!("train --resume {RUN}")).stderr;
    stage.end().assert_is(undisturbed_end());
    assert!(resumed.contains("\ngoing on after epoch "), "{resumed}");
    !resumed.contains(" and 0 steps of the next\n")
}

#[test]
fn ctrl_c_keeps_the_part_of_the_epoch_that_is_done() {
    assert_saves_within_an_epoch_after("INT");
}

#[test]
fn a_request_to_terminate_is_a_ctrl_c() {
    assert_saves_within_an_epoch_after("TERM");
}

/// `nohup` has hang-ups ignored, and a shell without job control Ctrl-C in what it starts in the background.
#[test]
fn signals_that_a_run_was_started_to_ignore_do_not_stop_it() {
    let stage = Stage::new();
    let mut running = stage.start_after("trap '' HUP INT", "train --config tiny.yaml");
    running.wait_for_epoch_after(1, Duration::ZERO);
    running.send("HUP");
    running.send("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("stopping after this step"), "{}", ended.stderr);
    stage.end().assert_is(undisturbed_end());
}

#[test]
fn a_run_that_is_stopped_while_it_draws_its_sample_pages_leaves_none_of_them_and_no_run() {
    let stage = Stage::new();
    let settings =
        "--set sample_data=document-pages --set data.train=pages/set/train --set data.validation=pages/set/validation";
    let mut running = stage.start(&format!("train --config tiny.yaml {settings}"));
    running.wait_for_entry_of("pages");
    let ended = running.signal("INT");
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let said = "error: interrupted while sample pages were drawn; nothing was saved\n\n\
                hint: the same command draws all of them, from the first on\n";
    assert!(ended.stderr.ends_with(said), "{}", ended.stderr);
    assert_eq!(fs::read_dir(stage.path("pages")).unwrap().count(), 0);
    assert!(!stage.path("runs").exists());
}

#[test]
fn an_evaluation_that_is_interrupted_writes_nothing() {
    let stage = Stage::finished();
    let image = fs::read(stage.path("data/test/dots/0.png")).expect("it was drawn");
    (0..MANY).for_each(|number| stage.write(&format!("many/dots/{number}.png"), &image));
    let mut running = stage.start(&format!("evaluate --run {RUN} --input many --tta comprehensive"));
    running.wait_for_words(" images at once: ");
    let ended = running.signal("INT");
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("error: interrupted; nothing was written\n"), "{}", ended.stderr);
    assert!(!stage.run_path("evaluation").exists());
}
