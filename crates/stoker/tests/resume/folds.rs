//! Cross-validation: a run a fold, in one folder.

use std::fs;
use std::path::Path;

use crate::full_disk::run_limited;
use crate::stage::{RUN, Stage};

const TRAIN: &str = "train --config tiny.yaml --set data.validation=null --set data.folds=3 --set train.epochs=1";

fn read(stage: &Stage, path: &str) -> String {
    fs::read_to_string(stage.run_path(path)).expect("the run wrote it")
}

/// Rows below the header, without the column `fold`, in the order of files.
fn files_of(csv: &str) -> Vec<String> {
    let mut files: Vec<String> = csv.lines().skip(1).map(|row| row.split(',').nth(1).unwrap().to_owned()).collect();
    files.sort();
    files
}

#[test]
fn every_image_is_predicted_by_the_model_that_was_not_trained_on_it() {
    let stage = Stage::new();
    let printed = stage.succeed(TRAIN).stdout;
    let csv = read(&stage, "out_of_fold.csv");
    let files = files_of(&csv);
    let unique = files.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!((files.len(), unique), (24, 24), "{csv}");
    assert!(csv.starts_with("fold,file,class,label,dots,stripes,waves,error\n"), "{csv}");
    for row in csv.lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        assert!(Path::new(fields[1]).starts_with(fields[3]), "the folder is the label: {row}");
    }
    for fold in 0..3 {
        let config = read(&stage, &format!("fold_{fold}/config.resolved.yaml"));
        assert!(config.contains(&format!("fold: {fold}\n")) && config.contains("folds: 3\n"), "{config}");
        assert_eq!(csv.lines().filter(|line| line.starts_with(&format!("{fold},"))).count(), 8);
    }
    let results = read(&stage, "fold_results.yaml");
    assert_eq!(results.matches("checkpoint: fold_").count(), 3, "{results}");
    assert!(printed.contains("out of fold") && printed.contains("over 3 of 3 folds"), "{printed}");
    // The table's sums are those of the file: 24 images, and as many right as the rows say.
    let right = csv.lines().skip(1).filter(|row| {
        let mut fields = row.split(',').skip(1);
        let (file, class) = (fields.next().unwrap(), fields.next().unwrap());
        Path::new(file).starts_with(class)
    });
    let accuracy = right.count() as f64 / 24.0;
    assert!(printed.contains(&format!("{accuracy:>10.4} {:>8}\n", 24)), "{accuracy}: {printed}");
}

#[test]
fn folds_go_on_where_they_stopped_and_end_with_the_same_bytes() {
    let whole = Stage::new();
    whole.succeed(TRAIN);
    let parts = Stage::new();
    // Fold 1 alone, then all that is missing.
    parts.succeed(&format!("{TRAIN} --fold 1"));
    assert_eq!(files_of(&read(&parts, "out_of_fold.csv")).len(), 8);
    let again = parts.run(&format!("{TRAIN} --fold 1"));
    assert!(again.code == Some(2) && again.stderr.contains("fold_1` exists and is not empty"), "{}", again.stderr);
    let printed = parts.succeed(&format!("train --resume {RUN}"));
    assert!(printed.stderr.contains("fold 1 is done") && printed.stdout.contains("over 3 of 3 folds"));
    assert_eq!(read(&parts, "fold_results.yaml"), read(&whole, "fold_results.yaml"));
    assert_eq!(read(&parts, "out_of_fold.csv"), read(&whole, "out_of_fold.csv"));
    for fold in 0..3 {
        let last = |stage: &Stage| fs::read(stage.run_path(&format!("fold_{fold}/checkpoints/last.safetensors")));
        assert!(last(&parts).unwrap() == last(&whole).unwrap(), "fold {fold}");
    }
}

/// Two epochs a fold, so that there is a checkpoint to go on from within one.
const TWO_EPOCHS: &str = "train --config tiny.yaml --set data.validation=null --set data.folds=3 --set train.epochs=2";

#[test]
fn a_run_killed_or_stopped_within_a_fold_goes_on_there_and_ends_with_the_same_bytes() {
    let whole = Stage::new();
    whole.succeed(TWO_EPOCHS);
    let stage = Stage::new();
    let mut running = stage.start(TWO_EPOCHS);
    running.wait_for_file("fold_1/checkpoints/last.safetensors");
    running.kill();
    let mut running = stage.start(&format!("train --resume {RUN}"));
    running.wait_for_file("fold_2/checkpoints/last.safetensors");
    let stopped = running.signal("INT");
    assert_eq!(stopped.code, Some(130), "{}", stopped.stderr);
    let go_on = format!("\nhint: go on with: stoker train --resume {}\n", stage.run_folder());
    assert!(stopped.stderr.ends_with(&go_on), "all folds, not the one: {}", stopped.stderr);
    assert!(stopped.stderr.contains("going on after epoch 1 and 0 steps of the next\n"), "{}", stopped.stderr);
    let ended = stage.succeed(&format!("train --resume {RUN}"));
    assert!(ended.stderr.contains("fold 0 is done\nfold 1 is done\n"), "{}", ended.stderr);
    assert_eq!(read(&stage, "fold_results.yaml"), read(&whole, "fold_results.yaml"));
    assert_eq!(read(&stage, "out_of_fold.csv"), read(&whole, "out_of_fold.csv"));
    for fold in 0..3 {
        let last = |stage: &Stage| fs::read(stage.run_path(&format!("fold_{fold}/checkpoints/last.safetensors")));
        assert!(last(&stage).unwrap() == last(&whole).unwrap(), "fold {fold}");
    }
}

#[test]
fn one_fold_is_replaced_on_request_and_the_others_stay() {
    let stage = Stage::new();
    stage.succeed(&format!("{TRAIN} --fold 0"));
    stage.succeed(&format!("{TRAIN} --fold 1"));
    let results = read(&stage, "fold_results.yaml");
    let leftovers = ["fold_0/leftover.txt", "fold_1/leftover.txt"].map(|path| stage.run_path(path));
    leftovers.iter().for_each(|path| fs::write(path, "of the old run").expect("writable"));
    fs::rename(stage.path("data/train"), stage.path("data/elsewhere")).expect("writable");
    let wrong = stage.run(&format!("{TRAIN} --fold 1 --overwrite"));
    fs::rename(stage.path("data/elsewhere"), stage.path("data/train")).expect("writable");
    assert!(wrong.code == Some(2) && leftovers[1].exists(), "a wrong request replaces nothing: {}", wrong.stderr);
    stage.succeed(&format!("{TRAIN} --fold 1 --overwrite"));
    assert_eq!(leftovers.map(|path| path.exists()), [true, false]);
    assert_eq!(read(&stage, "fold_results.yaml"), results, "the same run again");
    // Stopped before it is done, it is not among the results.
    let mut running = stage.start(&format!("{TRAIN} --fold 1 --overwrite"));
    running.wait_for_words("epoch 1 of 1");
    running.kill();
    assert!(!read(&stage, "fold_results.yaml").contains("fold_1"), "it is gone");
    let other = stage.run(&format!("{TRAIN} --set train.learning_rate=0.01 --fold 1 --overwrite"));
    assert!(other.code == Some(2) && other.stderr.contains("`--overwrite` without `--fold`"), "{}", other.stderr);
}

/// More than `best` and less than `last` takes, in units of 512 or 1024 bytes.
const LESS_THAN_LAST: u32 = 40_000;

#[test]
fn a_fold_that_failed_is_gone_on_with_by_all_folds_and_by_itself_tells_what_is_left() {
    let stage = Stage::new();
    let failed = run_limited(&stage, TRAIN, LESS_THAN_LAST);
    let group = stage.run_folder();
    let way_out = format!("then go on with `stoker train --resume {group}`; what was saved before is whole\n");
    assert!(failed.code == Some(1) && failed.stderr.ends_with(&way_out), "{}", failed.stderr);
    let alone = stage.succeed(&format!("train --resume {RUN}/fold_0")).stdout;
    let left = format!("next, train the other folds:\n  stoker train --resume {group}\n");
    assert!(alone.contains("over 1 of 3 folds") && alone.ends_with(&left), "{alone}");
    let all = stage.succeed(&format!("train --resume {RUN}"));
    assert!(all.stderr.contains("fold 0 is done") && all.stdout.contains("over 3 of 3 folds"), "{}", all.stdout);
}

#[test]
fn folds_of_another_configuration_are_refused() {
    let stage = Stage::new();
    stage.succeed(&format!("{TRAIN} --fold 1"));
    let other = stage.run(&format!("{TRAIN} --set train.learning_rate=0.01 --fold 2"));
    assert_eq!(other.code, Some(2));
    assert!(other.stderr.contains("holds folds of another configuration"), "{}", other.stderr);
    let all = stage.run(TRAIN);
    assert!(all.code == Some(2) && all.stderr.contains("exists and is not empty"), "{}", all.stderr);
}

#[test]
fn all_folds_predict_together() {
    let stage = Stage::new();
    stage.succeed(TRAIN);
    let predict = |source: &str, output: &str| {
        stage.succeed(&format!("predict {source} --input data/test --device cpu --output {output}"));
        let text = fs::read_to_string(stage.path(output)).expect("it was written");
        let number = |row: &str| row.split(',').nth(2).unwrap().parse::<f64>().unwrap();
        text.lines().skip(1).map(number).collect::<Vec<f64>>()
    };
    let together = predict(&format!("--fold-results {RUN}/fold_results.yaml"), "all.csv");
    assert_eq!(predict(&format!("--run {RUN}"), "group.csv"), together);
    let alone: Vec<Vec<f64>> =
        (0..3).map(|fold| predict(&format!("--run {RUN}/fold_{fold}"), &format!("{fold}.csv"))).collect();
    for (image, &mean) in together.iter().enumerate() {
        let expected = alone.iter().map(|fold| fold[image]).sum::<f64>() / 3.0;
        assert!((mean - expected).abs() < 1e-6, "image {image}: {mean} is not the mean {expected}");
    }
    let ended = stage.run("predict --fold-results nowhere/fold_results.yaml --input data/test");
    assert!(ended.code == Some(2) && ended.stderr.contains("fold_results.yaml` does not exist"), "{}", ended.stderr);
}
