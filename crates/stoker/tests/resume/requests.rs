//! Going on with what there is nothing to go on with.

use std::fs;

use crate::stage::{Ended, RUN, Stage, undisturbed_end};

#[test]
fn a_finished_run_stays_as_it_is_and_tells_how_to_predict() {
    let stage = Stage::finished();
    let ended = stage.succeed(&format!("train --resume {RUN}"));
    let command = format!("stoker predict --run {} --input FOLDER", stage.run_folder());
    assert!(ended.stdout.lines().last().expect("it says something").contains(&command), "{}", ended.stdout);
    stage.end().assert_is(undisturbed_end());
}

#[test]
fn a_run_that_is_not_there_is_a_wrong_request() {
    let ended = Stage::finished().run("train --resume runs/none");
    assert_eq!(ended.code, Some(2));
    let said = "error: `runs/none` does not exist\n\nhint: train first, or name a run folder: `ls experiments/train`\n";
    assert_eq!(ended.stderr, said);
}

#[test]
fn a_folder_without_a_run_is_a_wrong_request() {
    let ended = Stage::finished().run("train --resume data");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.starts_with("error: `data` is not a run folder: it has no `config.resolved.yaml`\n"));
}

#[test]
fn images_that_are_not_there_from_this_folder_are_told_with_the_way_to_find_them() {
    let stage = Stage::finished();
    fs::rename(stage.path("data"), stage.path("elsewhere")).expect("writable");
    let ended = stage.run(&format!("train --resume {RUN} --set train.epochs=4"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let hint = "\n\nhint: `data/train` is looked for from the folder that you are in: \
                go on with the run from the one that it was begun in\n";
    assert!(ended.stderr.ends_with(hint), "{}", ended.stderr);
}

#[test]
fn commands_name_a_folder_with_spaces_in_quotes() {
    let stage = Stage::finished();
    fs::rename(stage.path("runs"), stage.path("my runs")).expect("writable");
    // Arguments of a stage are separated by spaces.
    let resumed = stage.command("train --resume").arg("my runs/2026-01-01/tiny").output().expect("it was built");
    let ended = Ended::of(resumed);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let command = "stoker predict --run 'my runs/2026-01-01/tiny' --input FOLDER";
    assert!(ended.stdout.lines().last().expect("it says something").contains(command), "{}", ended.stdout);
}

#[test]
fn a_checkpoint_cut_short_is_named_with_a_way_out_that_works() {
    let stage = Stage::finished();
    let last = stage.run_path("checkpoints/last.safetensors");
    let bytes = fs::read(&last).unwrap();
    for length in [0, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&last, &bytes[..length]).unwrap();
        let ended = stage.run(&format!("train --resume {RUN}"));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let run = stage.run_folder();
        let error = format!("error: `{run}/checkpoints/last.safetensors` is not a complete safetensors file: ");
        assert!(ended.stderr.contains(&error), "{}", ended.stderr);
        let hint = format!(
            "\n\nhint: `best` may be whole: predict with `--checkpoint best`, or start a new run from it: \
             `--set model.weights={run}/checkpoints/best.safetensors`\n"
        );
        assert!(ended.stderr.ends_with(&hint), "{}", ended.stderr);
    }
    stage.succeed(&format!("predict --run {RUN} --checkpoint best --input data/test --output all.csv"));
    let best = format!("{}/checkpoints/best.safetensors", stage.run_folder());
    stage.succeed(&format!("train --config tiny.yaml --set model.weights={best} --set name=next --set train.epochs=1"));
}
