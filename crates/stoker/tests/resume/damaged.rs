//! Checkpoints whose numbers are not those that were saved.

use std::fs;

use checkpoint::{Checkpoint, RunFolder};

use crate::stage::{EPOCHS, RUN, Stage, undisturbed_end};

#[test]
fn a_checkpoint_whose_numbers_changed_on_disk_is_not_gone_on_with() {
    let stage = Stage::finished();
    let last = stage.run_path("checkpoints/last.safetensors");
    let whole = fs::read(&last).unwrap();
    let (middle, end) = (whole.len() / 2, whole.len());
    let mut flipped = whole.clone();
    // The lowest bits of two numbers: all stay what could be weights.
    (flipped[middle], flipped[end - 4]) = (whole[middle] ^ 1, whole[end - 4] ^ 1);
    let mut not_a_number = whole.clone();
    not_a_number[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    for damaged in [flipped, not_a_number] {
        fs::write(&last, damaged).unwrap();
        let ended = stage.run(&format!("train --resume {RUN}"));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let run = stage.run_folder();
        let said = format!(
            "error: `{run}/checkpoints/last.safetensors` is damaged: its tensors were written with the checksum "
        );
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: `best` may be whole"), "{}", ended.stderr);
        let predict = format!("predict --run {RUN} --input data/test --output all.csv --checkpoint");
        assert_eq!(stage.run(&format!("{predict} last")).code, Some(2));
        stage.succeed(&format!("{predict} best"));
    }
    fs::write(&last, whole).unwrap();
    stage.succeed(&format!("train --resume {RUN}"));
}

#[test]
fn a_checkpoint_without_the_optimizers_state_is_not_gone_on_with() {
    let stage = Stage::finished();
    let path = RunFolder::open(&stage.run_path("")).unwrap().last();
    let mut last = Checkpoint::read(&path).unwrap();
    let state = last.optimizer.take().expect("AdamW keeps two moments");
    last.write(&path).unwrap();
    let ended = stage.run(&format!("train --resume {RUN}"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let said =
        format!("lacks {} tensors that the optimizer keeps, the first of them `optimizer/moment_1/", state.len());
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: put the run's own checkpoint back"), "{}", ended.stderr);
}

#[test]
fn a_run_whose_last_checkpoint_is_gone_keeps_its_epochs_and_another_starts_from_its_best() {
    let stage = Stage::finished();
    let best = stage.run_path("checkpoints/best.safetensors");
    let epoch = Checkpoint::read(&best).unwrap().card.progress.best.expect("an epoch was validated").epoch;
    fs::remove_file(stage.run_path("checkpoints/last.safetensors")).unwrap();
    let kept = || [&best, &stage.run_path("metrics.jsonl")].map(|path| fs::read(path).unwrap());
    let before = kept();
    let ended = stage.run(&format!("train --resume {RUN}"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(kept() == before, "`best` or the metrics were touched");
    let run = stage.run_folder();
    let anew = format!("train --config {run}/config.resolved.yaml --set name=OTHER --set model.weights={run}");
    let said = format!(
        "error: `{run}/checkpoints/last.safetensors` is missing, and the run has {EPOCHS} epochs to lose; `best`, of epoch {epoch}, is whole\n\n\
         hint: put the run's own checkpoint back, or train a new run from its weights: stoker {anew}\n"
    );
    assert!(ended.stderr.ends_with(&said), "{}", ended.stderr);
    stage.succeed(&anew);
}

#[test]
fn a_run_that_ended_between_its_first_record_and_its_first_checkpoint_starts_over() {
    let stage = Stage::finished();
    fs::remove_file(stage.run_path("checkpoints/last.safetensors")).unwrap();
    let metrics = fs::read_to_string(stage.run_path("metrics.jsonl")).unwrap();
    let first = metrics.split_inclusive('\n').next().expect("there are epochs");
    fs::write(stage.run_path("metrics.jsonl"), first).unwrap();
    stage.succeed(&format!("train --resume {RUN}"));
    stage.end().assert_is(undisturbed_end());
}
