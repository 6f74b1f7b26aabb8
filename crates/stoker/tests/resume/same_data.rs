//! Going on with other images, or with the state of another run.

use std::fs;
use std::time::Duration;

use crate::stage::{Ended, RUN, Stage};

/// Holds images out of the training images, so that one more would deal them out anew.
const TRAIN: &str = "train --config tiny.yaml --set data.validation=null --set data.validation_share=0.25";

/// A run that was stopped after its first epoch.
fn stopped() -> Stage {
    let stage = Stage::new();
    let mut running = stage.start(TRAIN);
    running.wait_for_epoch_after(1, Duration::ZERO);
    assert_eq!(running.signal("INT").code, Some(130));
    stage
}

/// Goes on with the run, which must be refused without a trace.
fn refused(stage: &Stage) -> Ended {
    let last = || fs::read(stage.run_path("checkpoints/last.safetensors")).expect("an epoch was saved");
    let before = last();
    let ended = stage.run(&format!("train --resume {RUN}"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(last() == before, "`last` was touched");
    ended
}

fn assert_told(ended: &Ended, stage: &Stage, causes: &[&str]) {
    let run = stage.run_folder();
    let causes: String = causes.iter().map(|cause| format!("  caused by: {cause}\n")).collect();
    let told = format!(
        "error: the images are not those that the run `{run}` was begun with\n{causes}\n\
         hint: put them back, or train a new run from its weights: stoker train --config {run}/config.resolved.yaml --set name=OTHER --set model.weights={run}\n"
    );
    assert!(ended.stderr.ends_with(&told), "{}\n--- expected\n{told}", ended.stderr);
    assert!(!ended.stdout.contains("memory of"), "nothing was measured for it");
}

#[test]
fn a_class_that_was_renamed_is_refused() {
    let stage = stopped();
    // Behind the others now: every label would mean another class.
    fs::rename(stage.path("data/train/dots"), stage.path("data/train/zigzags")).expect("writable");
    let ended = refused(&stage);
    assert!(
        ended.stderr.contains("8 are gone: `dots/0.png`, `dots/1.png`, `dots/2.png` and 5 more"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("8 are new: `zigzags/"), "{}", ended.stderr);
}

#[test]
fn images_that_are_new_or_gone_are_refused_by_name_and_the_way_out_works() {
    let stage = stopped();
    fs::rename(stage.path("data/train/dots/3.png"), stage.path("data/train/dots/99.png")).expect("writable");
    let ended = refused(&stage);
    assert!(ended.stderr.contains("caused by: 1 is gone: `dots/3.png`\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("caused by: 1 is new: `dots/99.png`\n"), "{}", ended.stderr);
    let run = stage.run_folder();
    let anew = format!(
        "train --config {run}/config.resolved.yaml --set name=other --set model.weights={run} --set train.epochs=1"
    );
    stage.succeed(&anew);
    fs::rename(stage.path("data/train/dots/99.png"), stage.path("data/train/dots/3.png")).expect("writable");
    stage.succeed(&format!("train --resume {run}"));
}

#[test]
fn images_that_another_image_puts_on_the_other_side_of_the_split_are_told() {
    let stage = stopped();
    fs::copy(stage.path("data/test/waves/0.png"), stage.path("data/train/waves/7b.png")).expect("writable");
    let ended = refused(&stage);
    assert!(ended.stderr.contains("caused by: 1 is new: `waves/7b.png`\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains(" on the other side of the split: `waves/"), "{}", ended.stderr);
}

#[test]
fn a_table_with_another_label_is_refused() {
    let rows = |label_of: &dyn Fn(&str, u32) -> String| {
        let classes = ["dots", "stripes", "waves"].iter();
        let row = |class: &&str, number| format!("{class}/{number}.png,{}\n", label_of(class, number));
        let rows = classes.flat_map(|class| (0..8).map(move |number| row(class, number)));
        format!("file,label\n{}", rows.collect::<String>())
    };
    let stage = Stage::new();
    stage.write("data/train/labels.csv", rows(&|class, _| class.to_owned()).as_bytes());
    stage.succeed(&format!("{TRAIN} --set data.train=data/train/labels.csv --set train.epochs=1"));
    let other =
        |class: &str, number| if number == 0 && class == "dots" { "waves".to_owned() } else { class.to_owned() };
    stage.write("data/train/labels.csv", rows(&other).as_bytes());
    let ended = refused(&stage);
    assert!(ended.stderr.contains("1 is of another class: `dots/0.png` from `dots` to `waves`\n"), "{}", ended.stderr);
}

#[test]
fn a_data_set_may_lie_elsewhere_when_a_run_goes_on() {
    let stage = stopped();
    fs::rename(stage.path("data"), stage.path("moved")).expect("writable");
    let config = fs::read_to_string(stage.run_path("config.resolved.yaml")).expect("the run wrote it");
    fs::write(stage.run_path("config.resolved.yaml"), config.replace("data/train", "moved/train")).expect("writable");
    stage.succeed(&format!("train --resume {RUN}"));
}

#[test]
fn the_state_of_another_run_of_the_same_shape_is_refused() {
    let stage = stopped();
    let saved = fs::read(stage.run_path("checkpoints/last.safetensors")).expect("an epoch was saved");
    stage.succeed(&format!("{TRAIN} --set name=other --set seed=8 --set train.epochs=1"));
    assert!(stage.run_folder().ends_with("/other"));
    fs::write(stage.run_path("checkpoints/last.safetensors"), saved).expect("writable");
    let ended = refused(&stage);
    let run = stage.run_folder();
    let told =
        format!("error: `{run}/checkpoints/last.safetensors` is of another run: the fingerprint of its images is `");
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    let way_out =
        "\nhint: put the run's own checkpoint back, or train a new run from its weights: stoker train --config ";
    assert!(ended.stderr.contains(way_out), "{}", ended.stderr);
}

/// Of before there were lists: the run goes on, for nothing is known against it.
#[test]
fn a_run_without_a_list_of_its_images_goes_on() {
    let stage = stopped();
    fs::remove_file(stage.run_path("images.jsonl")).expect("the run wrote it");
    stage.succeed(&format!("train --resume {RUN}"));
}

#[test]
fn a_fold_is_not_dealt_from_other_images_than_those_before_it() {
    const FOLDS: &str = "train --config tiny.yaml --set data.validation=null --set data.folds=3 --set train.epochs=1";
    let stage = Stage::new();
    stage.succeed(&format!("{FOLDS} --fold 0"));
    let extra = stage.path("data/train/waves/99.png");
    fs::copy(stage.path("data/test/waves/0.png"), &extra).expect("writable");
    let ended = stage.run(&format!("{FOLDS} --fold 1"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let run = stage.run_folder();
    let told = format!(
        "error: the images are not those that the run `{run}/fold_0` was dealt from\n  caused by: 1 is new: `waves/99.png`\n\n\
         hint: put them back, or train all folds on what is there now: stoker train --config {run}/config.resolved.yaml --set name=OTHER\n"
    );
    assert!(ended.stderr.ends_with(&told), "{}\n--- expected\n{told}", ended.stderr);
    assert!(!stage.run_path("fold_1").exists(), "a refused request leaves no trace");
    fs::remove_file(extra).expect("it is there");
    stage.succeed(&format!("train --resume {RUN}"));
}

#[test]
fn what_is_refused_is_told_whole() {
    let stage = stopped();
    fs::remove_file(stage.path("data/train/dots/3.png")).expect("it is there");
    let ended = refused(&stage);
    let moved = ended.stderr.lines().find(|line| line.contains("other side of the split"));
    let moved = moved.map(|line| line.trim_start_matches("  caused by: "));
    assert_told(&ended, &stage, &[&["1 is gone: `dots/3.png`"][..], moved.as_slice()].concat());
}
