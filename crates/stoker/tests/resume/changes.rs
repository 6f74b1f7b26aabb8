//! Going on with other settings than a run began with.

use std::fs;

use crate::stage::{RUN, Stage, undisturbed_end};

/// What its steps are made of does not depend on the number of epochs.
const TRAIN: &str = "train --config tiny.yaml --set train.schedule=constant";

fn config(stage: &Stage) -> String {
    fs::read_to_string(stage.run_path("config.resolved.yaml")).expect("the run wrote it")
}

#[test]
fn a_finished_run_that_gets_more_epochs_ends_as_one_that_had_them_from_the_start() {
    let whole = Stage::new();
    whole.succeed(TRAIN);
    let stage = Stage::new();
    stage.succeed(&format!("{TRAIN} --set train.epochs=1"));
    let begun = config(&stage);
    let longer = stage.succeed(&format!("train --resume {RUN} --set train.epochs=3"));
    assert!(longer.stderr.contains("the run has 3 epochs from now on; "), "{}", longer.stderr);
    stage.end().assert_is(&whole.end());
    assert_eq!(config(&stage), begun.replace("\n  epochs: 1\n", "\n  epochs: 3\n"));
    let again = stage.succeed(&format!("train --resume {RUN}"));
    assert!(again.stderr.contains("all 3 epochs are done"), "{}", again.stderr);
    let fewer = stage.run(&format!("train --resume {RUN} --set train.epochs=2"));
    let said = "error: `train.epochs` can only grow in a run that goes on: 2 is below 3\n";
    assert!(fewer.code == Some(2) && fewer.stderr.starts_with(said), "{}", fewer.stderr);
}

#[test]
fn what_may_not_change_is_refused_by_name_with_the_reason_and_the_run_stays() {
    let stage = Stage::finished();
    let run = stage.run_folder();
    for (setting, reason) in [
        ("train.learning_rate=0.1", "all its steps are made alike"),
        ("model.drop_path=0", "its weights are those of the model that it began with"),
        ("augment.erase=0", "all its epochs have the same images, varied alike"),
        ("name=other", "it stays in its folder"),
        ("predict.tta=legacy", "it is for `predict`, which has flags for it"),
    ] {
        let ended = stage.run(&format!("train --resume {RUN} --set train.epochs=4 --set {setting}"));
        let key = setting.split('=').next().expect("a key");
        let said = format!("error: `{key}` cannot change in a run that goes on: {reason}\n\nhint: what can is ");
        assert!(ended.code == Some(2) && ended.stderr.starts_with(&said), "{}", ended.stderr);
        let anew = format!(
            "`memory.*`; or train anew: stoker train --config {run}/config.resolved.yaml --set name=OTHER --set {setting}\n"
        );
        assert!(ended.stderr.ends_with(&anew), "{}", ended.stderr);
    }
    let unknown = stage.run(&format!("train --resume {RUN} --set train.epoch=4"));
    assert!(unknown.code == Some(2) && unknown.stderr.contains("`train.epochs`"), "{}", unknown.stderr);
    stage.end().assert_is(undisturbed_end());
    assert!(config(&stage).contains("\n  epochs: 3\n"));
}

/// Below the weights nothing is measured; just above them no step fits.
#[test]
fn a_run_that_lacks_memory_is_told_no_setting_that_it_would_refuse() {
    let stage = Stage::finished();
    for limit in ["20MiB", "70MiB"] {
        let ended = stage.run(&format!("train --resume {RUN} --set train.epochs=4 --set memory.limit={limit}"));
        assert!(ended.code == Some(2) && ended.stderr.contains("\nhint: set `memory.limit: "), "{}", ended.stderr);
        for kept in ["train.optimizer", "train.ema_decay", "train.precision", "model.image_size", "model.name"] {
            assert!(!ended.stderr.contains(kept), "{kept}: {}", ended.stderr);
        }
    }
    stage.end().assert_is(undisturbed_end());
}

#[test]
fn where_and_how_a_run_is_computed_may_change_for_one_command() {
    let stage = Stage::finished();
    let before = config(&stage);
    let settings =
        "--set data.workers=1 --set memory.safety_margin=0.3 --set train.checkpoint_minutes=1 --set device=cpu";
    stage.succeed(&format!("train --resume {RUN} {settings}"));
    stage.end().assert_is(undisturbed_end());
    assert_eq!(config(&stage), before);
}

#[test]
fn folds_are_all_of_the_same_length() {
    let stage = Stage::new();
    let folds = "--set data.validation=null --set data.folds=3 --set train.epochs=1 --fold 0";
    stage.succeed(&format!("{TRAIN} {folds}"));
    for run in [RUN.to_owned(), format!("{RUN}/fold_0")] {
        let ended = stage.run(&format!("train --resume {run} --set train.epochs=2"));
        let said = "error: `train.epochs` cannot change in a run of folds: all of them are trained alike\n";
        assert!(ended.code == Some(2) && ended.stderr.starts_with(said), "{}", ended.stderr);
    }
}

#[test]
fn batches_that_the_user_did_not_set_are_not_said_to_be_set() {
    let stage = Stage::new();
    let open = "--set train.epochs=1 --set train.effective_batch_size=1000 --set train.micro_batch_size=auto";
    let begun = stage.succeed(&format!("{TRAIN} {open}")).stdout;
    let all = "all images to train on: `train.effective_batch_size` 1000 is more than that";
    assert!(begun.contains(all) && !begun.contains("set by `train."), "{begun}");
    let resumed = stage.succeed(&format!("train --resume {RUN}")).stdout;
    // The micro-batch, the precision and the checkpointing.
    assert_eq!(resumed.matches("as planned when the run began").count(), 3, "{resumed}");
    assert!(resumed.contains(all) && !resumed.contains("set by `"), "{resumed}");
    let set = Stage::finished().succeed(&format!("train --resume {RUN}")).stdout;
    assert!(set.contains("set by `train.micro_batch_size`: "), "{set}");
}
