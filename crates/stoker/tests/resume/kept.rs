//! Several best epochs and their average, whatever happens to the run that keeps them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use checkpoint::{Checkpoint, RunFolder};

use crate::full_disk::run_limited;
use crate::stage::{Ended, RUN, Stage, undisturbed_end};

const TRAIN: &str = "train --config tiny.yaml --set train.keep_best=2 --set train.average_best=true";

/// In units of 512 or 1024 bytes: `ulimit -f` has either. The weights are some 14 MB.
const LESS_THAN_THE_WEIGHTS: u32 = 5_000;

/// All files of the folder of checkpoints.
fn checkpoints(stage: &Stage) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(stage.run_path("checkpoints")).expect("the run made it");
    let entries = entries.map(|entry| entry.expect("readable"));
    entries
        .map(|entry| (entry.file_name().into_string().expect("ASCII"), fs::read(entry.path()).expect("readable")))
        .collect()
}

/// What a run that nothing happens to has there.
fn undisturbed() -> &'static BTreeMap<String, Vec<u8>> {
    static RUN_ONCE: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    RUN_ONCE.get_or_init(|| {
        let stage = Stage::new();
        stage.succeed(TRAIN);
        checkpoints(&stage)
    })
}

/// Files are too long to be shown, so that each has a message of its own.
fn assert_same_checkpoints(stage: &Stage) {
    let (found, expected) = (checkpoints(stage), undisturbed());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    found.iter().for_each(|(name, bytes)| assert!(*bytes == expected[name], "`{name}` differs"));
}

#[test]
fn the_best_epochs_stay_and_the_average_is_their_mean_and_best_is_what_it_was() {
    let stage = Stage::new();
    let printed = stage.succeed(TRAIN).stdout;
    let folder = RunFolder::open(&stage.run_path("")).unwrap();
    let read = |path: &Path| Checkpoint::read(path).unwrap();
    let last = read(&folder.last());
    let kept: Vec<u32> = last.card.progress.kept.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0], last.card.progress.best.unwrap().epoch);
    assert_eq!(checkpoints(&stage).len(), 5, "two epochs, best, last and averaged");

    let [best, first, second, averaged] =
        [folder.best(), folder.kept(kept[0]), folder.kept(kept[1]), folder.averaged()].map(|path| read(&path));
    assert!(best == first, "the best of them is `best`");
    let plain = Stage::new();
    plain.succeed("train --config tiny.yaml");
    let plain = read(&RunFolder::open(&plain.run_path("")).unwrap().best());
    assert!(best.weights == plain.weights, "keeping more changes nothing about the best");
    for (name, mean) in &averaged.weights {
        let [one, other] = [&first, &second].map(|kept| kept.weights[name].iter::<f64>().collect::<Vec<_>>());
        let expected = one.iter().zip(&other).map(|(one, other)| ((one + other) / 2.0) as f32);
        assert!(mean.iter::<f32>().eq(expected), "{name}");
    }

    let told = printed.lines().find(|line| line.starts_with("average of ")).expect("it is told");
    assert!(told.starts_with(&format!("average of epochs {} and {}: macro-F1 0.", kept[0], kept[1])), "{told}");
    assert!(!told.contains("batch norms"), "this model has none");
    let page = fs::read_to_string(stage.run_path("report.html")).unwrap();
    assert!(page.contains("averaged weights"));
    let predict = format!("predict --run {RUN} --input data/test --output");
    for checkpoint in ["averaged", "best"] {
        stage.succeed(&format!("{predict} {checkpoint}.csv --checkpoint {checkpoint}"));
    }
    let rows = |name: &str| fs::read_to_string(stage.path(name)).unwrap();
    assert_ne!(rows("averaged.csv"), rows("best.csv"));
}

#[test]
fn a_run_killed_while_it_keeps_epochs_ends_the_same() {
    let stage = Stage::new();
    let mut arguments = TRAIN.to_owned();
    for (epochs, share) in [(0, 0.5), (1, 0.2), (2, 0.3)] {
        let mut running = stage.start(&arguments);
        running.wait_for_epoch_after(epochs, undisturbed_end().part_of_an_epoch(share));
        running.kill();
        arguments = format!("train --resume {RUN}");
    }
    stage.succeed(&arguments);
    assert_same_checkpoints(&stage);
}

/// The first two epochs are the best so far when they end: each is written.
#[test]
fn a_run_killed_while_it_writes_a_kept_epoch_or_the_average_ends_the_same() {
    let stage = Stage::new();
    let mut arguments = TRAIN.to_owned();
    for file in ["best_epoch_1", "best_epoch_2", "averaged"] {
        let mut running = stage.start(&arguments);
        running.wait_for_writing(&format!("checkpoints/{file}.safetensors"));
        running.kill();
        arguments = format!("train --resume {RUN}");
    }
    // As if it had been killed before it removed an epoch that is no longer among the best, and while it wrote one that never was.
    for leftover in ["best_epoch_9.safetensors", "best_epoch_8.safetensors.1.writing"] {
        fs::write(stage.run_path("checkpoints").join(leftover), "of another time").unwrap();
    }
    stage.succeed(&arguments);
    assert_same_checkpoints(&stage);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_no_epoch_that_was_kept() {
    let stage = Stage::new();
    let mut running = stage.start(TRAIN);
    running.wait_for_epoch_after(1, Duration::ZERO);
    running.kill();
    let before = checkpoints(&stage);
    assert!(before.contains_key("best_epoch_1.safetensors"));
    let resume = format!("train --resume {RUN}");
    let ended = run_limited(&stage, &resume, LESS_THAN_THE_WEIGHTS);
    assert_stopped_at(&ended, "best_epoch_2", "File too large");
    assert!(checkpoints(&stage) == before, "nothing was touched");
    let full = format!("ln -s /dev/full {RUN}/checkpoints/averaged.safetensors.$$.writing");
    assert_stopped_at(&stage.run_after(&full, &resume), "averaged", "No space left on device");
    let finished = checkpoints(&stage);
    assert!(finished["best.safetensors"] == undisturbed()["best.safetensors"]);
    assert!(finished["last.safetensors"] == undisturbed()["last.safetensors"]);
    stage.succeed(&resume);
    assert_same_checkpoints(&stage);
}

fn assert_stopped_at(ended: &Ended, file: &str, reason: &str) {
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&format!("checkpoints/{file}.safetensors`\n  caused by: {reason}")),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.ends_with("; what was saved before is whole\n"), "{}", ended.stderr);
}

#[test]
fn an_epoch_that_is_damaged_is_named_and_one_that_is_gone_is_left_out() {
    let stage = Stage::new();
    stage.succeed(TRAIN);
    let kept = checkpoints(&stage).into_keys().find(|name| name.starts_with("best_epoch_")).expect("two are kept");
    let path = stage.run_path("checkpoints").join(&kept);
    fs::write(&path, &fs::read(&path).unwrap()[..1000]).unwrap();
    let resume = format!("train --resume {RUN}");
    let ended = stage.run(&resume);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let named = format!("{}/checkpoints/{kept}", stage.run_folder());
    assert!(
        ended.stderr.contains(&format!("error: `{named}` is not a complete safetensors file: ")),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.ends_with(&format!("hint: remove it, and the average is of the others: `rm {named}`\n")));
    fs::remove_file(&path).unwrap();
    let printed = stage.succeed(&resume).stdout;
    assert!(printed.contains("average of epoch ") && printed.contains(" alone: macro-F1 "), "{printed}");
}

#[test]
fn an_average_of_one_epoch_is_said_to_be_without_effect_and_none_is_written() {
    let stage = Stage::new();
    let said = stage.succeed("train --config tiny.yaml --set train.epochs=1 --set train.average_best=true").stderr;
    assert!(said.contains("`train.average_best` has no effect, because `train.keep_best` is 1"), "{said}");
    let ended = stage.run(&format!("predict --run {RUN} --checkpoint averaged --input data/test"));
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("averaged.safetensors` does not exist"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: a run writes `averaged` at its end with `train.average_best: true`"));
}
