//! Several models as one: which folds count, what is chosen and calibrated for all of them, and what a stopped prediction leaves.

use std::collections::BTreeMap;
use std::fs;

use crate::stage::{RUN, Stage, draw_set};

const FOLDS: &str = "train --config tiny.yaml --set data.validation=null --set data.folds=3 --set train.epochs=1";

/// A second run of another family and size on the same images.
const SECOND: &str = "train --config tiny.yaml --set name=second --set model.name=efficientnet_b0 --set model.image_size=48 --set train.epochs=1";

/// Three folds that are done.
pub(crate) fn of_folds() -> Stage {
    let stage = Stage::new();
    stage.succeed(FOLDS);
    stage
}

/// The probabilities of each file.
fn rows(stage: &Stage, file: &str) -> BTreeMap<String, Vec<f64>> {
    let text = fs::read_to_string(stage.path(file)).expect("it was written");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        (cells[0].to_owned(), cells[2..5].iter().map(|cell| cell.parse().expect("a number")).collect())
    };
    text.lines().skip(1).map(row).collect()
}

fn predict(stage: &Stage, arguments: &str, output: &str) -> BTreeMap<String, Vec<f64>> {
    stage.succeed(&format!("predict {arguments} --input data/test --device cpu --output {output}"));
    rows(stage, output)
}

fn refused(stage: &Stage, arguments: &str, said: &[&str]) {
    let ended = stage.run(arguments);
    assert_eq!(ended.code, Some(2), "`{arguments}`: {}", ended.stderr);
    assert!(!stage.path("x.csv.part").exists(), "a refused request leaves no trace");
    said.iter()
        .for_each(|words| assert!(ended.stderr.contains(words), "`{arguments}`: no `{words}` in\n{}", ended.stderr));
}

/// Two rows of numbers that were averaged or tempered in f64 and written as f32.
#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    let close = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
    assert!(close && found.len() == expected.len(), "{found:?} is not {expected:?}");
}

fn tempered(row: &[f64], temperature: f64) -> Vec<f64> {
    let powers: Vec<f64> = row.iter().map(|probability| probability.powf(1.0 / temperature)).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

fn temperature_in(stage: &Stage, file: &str) -> f64 {
    let text = fs::read_to_string(stage.path(file)).expect("it was written");
    let file: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    file["calibration"]["temperature"].as_f64().expect("a number")
}

#[test]
fn the_file_of_fold_results_that_is_named_decides_which_folds_count() {
    let stage = of_folds();
    let text = fs::read_to_string(stage.run_path("fold_results.yaml")).expect("the run wrote it");
    let third = text.find("- fold: 2\n").expect("the last of three folds");
    stage.write(&format!("{RUN}/two.yaml"), &text.as_bytes()[..third]);
    let two = predict(&stage, &format!("--fold-results {RUN}/two.yaml"), "two.csv");
    let alone = [0, 1].map(|fold| predict(&stage, &format!("--run {RUN}/fold_{fold}"), &format!("{fold}.csv")));
    for (file, mean) in &two {
        let expected: Vec<f64> = alone[0][file].iter().zip(&alone[1][file]).map(|(a, b)| (a + b) / 2.0).collect();
        assert_close(mean, &expected);
    }
    let predict = |file: &str| format!("predict --fold-results {file} --input data/test --output x.csv");
    let no_results = ["is no file of fold results", "name the `fold_results.yaml`"];
    refused(&stage, &predict(&format!("{RUN}/config.resolved.yaml")), &no_results);
    refused(&stage, &predict("data/test/dots/0.png"), &no_results);
    stage.write("elsewhere/fold_results.yaml", text.as_bytes());
    refused(&stage, &predict("elsewhere/fold_results.yaml"), &["`elsewhere` is not a run"]);
}

#[test]
fn the_preset_of_an_ensemble_is_judged_by_all_its_models() {
    let stage = of_folds();
    let auto = format!("predict --fold-results {RUN} --input data/test --device cpu --tta auto --output auto.csv");
    let told = stage.succeed(&auto).stderr;
    let score = |start: &str| {
        let line =
            told.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no `{start}` in {told}"));
        line.split_whitespace().rev().nth(1).expect("a score before the verdict").to_owned()
    };
    let results = fs::read_to_string(stage.run_path("fold_results.yaml")).expect("the run wrote it");
    let out_of_fold = results.split("out_of_fold:").nth(1).and_then(|rest| rest.split("macro_f1: ").nth(1));
    let out_of_fold: f64 =
        out_of_fold.and_then(|rest| rest.lines().next()).expect("a score").parse().expect("a number");
    // Each image by the model that was not trained on it, as when the folds were scored.
    assert_eq!(score("none "), format!("{out_of_fold:.4}"));
    let recommended = stage.succeed(&format!("gpu --recommend-tta --run {RUN} --device cpu --images 100")).stdout;
    assert!(
        recommended.lines().any(|line| line.starts_with("none ") && line.contains(&score("none "))),
        "{recommended}"
    );
}

#[test]
fn views_that_a_later_run_leaves_open_are_chosen_and_the_others_keep_theirs() {
    let stage = Stage::finished();
    let first = stage.run_folder();
    stage.succeed(&format!("{SECOND} --set predict.tta=auto"));
    let both = format!("predict --run {first} --run {RUN} --input data/test --device cpu --output both.csv");
    let told = stage.succeed(&both).stderr;
    assert!(told.contains("has the highest macro-F1"), "{told}");
    refused(&stage, &format!("{both} --tta legacy --min-f1 0.1"), &["a time and a score choose a preset"]);
}

#[test]
fn views_that_were_chosen_stay_when_a_stopped_prediction_is_gone_on_with() {
    let stage = Stage::finished();
    let request = |views: &str| {
        format!("predict --run {RUN} --input data/test --device cpu --batch-size 2 --output rows.csv {views}")
    };
    // No preset has these, so that a measurement cannot come to them again.
    let chosen = "--views identity,zoom_1.3";
    stage.succeed(&request(chosen));
    let whole = fs::read(stage.path("rows.csv")).expect("it was written");
    let part = complete_part(&stage, &request(chosen), "rows.csv.part");
    stage.write("rows.csv.part", &part[..part.len() - 1]);
    let told = stage.succeed(&request("--tta auto --target-time 1h")).stderr;
    assert!(told.contains("the views stay as they were begun: identity, zoom_1.3\n"), "{told}");
    assert!(told.contains("going on after 4 of 6 images"), "{told}");
    assert!(fs::read(stage.path("rows.csv")).expect("it was written") == whole);
}

/// What is kept of a prediction that cannot write its table, whose place in `rows.csv` is free again then.
fn complete_part(stage: &Stage, request: &str, part: &str) -> Vec<u8> {
    stop_before_the_table(stage, request);
    let kept = fs::read(stage.path(part)).expect("all images are done");
    fs::remove_file(stage.path(part)).expect("it is there");
    kept
}

/// Leaves what is kept of a prediction: its table cannot be written.
pub(crate) fn stop_before_the_table(stage: &Stage, request: &str) {
    let _ = fs::remove_file(stage.path("rows.csv"));
    assert_eq!(stage.run_without_table("rows.csv", ":", request).code, Some(1));
}

#[test]
fn what_is_complete_is_written_without_a_plan_or_a_pass() {
    let stage = Stage::finished();
    let request = format!("predict --run {RUN} --input data/test --device cpu --output rows.csv");
    let first = stage.succeed(&request).stderr;
    assert!(first.contains("measuring forward passes") && first.contains("predicting: "), "{first}");
    let whole = fs::read(stage.path("rows.csv")).expect("it was written");
    stop_before_the_table(&stage, &request);
    let told = stage.succeed(&request).stderr;
    assert!(told.contains("going on after 6 of 6 images"), "{told}");
    assert!(!told.contains("measuring") && !told.contains("predicting"), "{told}");
    assert!(fs::read(stage.path("rows.csv")).expect("it was written") == whole);
}

#[test]
fn an_ensemble_that_was_killed_as_it_ended_predicts_no_image_again() {
    let stage = of_folds();
    let request = format!("predict --fold-results {RUN} --input data/test --device cpu --tta legacy --output rows.csv");
    let expected = stage.succeed(&request);
    let whole = fs::read(stage.path("rows.csv")).expect("it was written");
    let left = || {
        fs::read_dir(stage.path(""))
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().contains(".part"))
            .count()
    };
    assert_eq!(left(), 0);
    // The table is in its place, and what was kept is there still.
    stop_before_the_table(&stage, &request);
    assert!(stage.path("rows.csv.part").is_dir(), "all models are in one folder, which goes at once");
    assert_eq!(fs::read_dir(stage.path("rows.csv.part")).unwrap().count(), 3);
    stage.write("rows.csv", &whole);
    let ended = stage.succeed(&request);
    assert!(!ended.stderr.contains("predicting") && !ended.stderr.contains("measuring"), "{}", ended.stderr);
    assert_eq!(ended.stdout, expected.stdout);
    assert!(fs::read(stage.path("rows.csv")).expect("it was written") == whole);
    assert_eq!(left(), 0);
    // Killed as the folder was given up: nothing of it is taken for predictions, and the next one takes it away.
    stage.write("rows.csv.part.done/1", b"a part");
    assert!(stage.succeed(&request).stderr.contains("predicting"));
    assert_eq!(left(), 0);
}

#[test]
fn one_model_does_not_go_on_with_several_and_several_not_with_one() {
    let stage = of_folds();
    let request = |runs: &str| format!("predict {runs} --input data/test --device cpu --output rows.csv");
    let (all, one) = (request(&format!("--fold-results {RUN}")), request(&format!("--run {RUN}/fold_0")));
    stop_before_the_table(&stage, &all);
    refused(&stage, &one, &["keeps predictions that were begun with several models", "`rm -r rows.csv.part`"]);
    fs::remove_dir_all(stage.path("rows.csv.part")).expect("it is there");
    stop_before_the_table(&stage, &one);
    refused(&stage, &all, &["keeps predictions that were begun with one model", "`rm rows.csv.part`"]);
}

#[test]
fn an_ensemble_that_was_stopped_in_its_second_model_ends_with_the_same_bytes() {
    let stage = of_folds();
    draw_set(&stage.path("data/many"), 20);
    let request =
        format!("predict --fold-results {RUN} --input data/many --device cpu --batch-size 4 --output rows.csv");
    stage.succeed(&request);
    let whole = fs::read(stage.path("rows.csv")).expect("it was written");
    fs::remove_file(stage.path("rows.csv")).expect("it is there");
    let mut running = stage.start(&request);
    running.wait_for_bytes("rows.csv.part/1", 600);
    running.kill();
    let told = stage.succeed(&request).stderr;
    assert!(told.contains("going on after 60 of 60 images: `rows.csv.part/0`"), "{told}");
    assert!(fs::read(stage.path("rows.csv")).expect("it was written") == whole);
}

#[test]
fn folds_share_one_temperature_that_is_fitted_out_of_fold_and_applied_to_their_mean() {
    let stage = Stage::new();
    stage.succeed(&FOLDS.replace("epochs=1", "epochs=4"));
    let calibrated =
        format!("predict --fold-results {RUN} --input data/test --device cpu --use-calibration --output c.csv");
    refused(&stage, &calibrated, &["calibration.json` does not exist", "calibrate --run runs/"]);
    let printed = stage.succeed(&format!("calibrate --fold-results {RUN}/fold_results.yaml --device cpu")).stdout;
    assert!(printed.contains("fitted on 24 images out of fold in one view each"), "{printed}");
    assert!(printed.contains("--fold-results") && printed.contains("--use-calibration"), "{printed}");
    assert!(stage.run_path("reliability.svg").exists());
    let temperature = temperature_in(&stage, &format!("{RUN}/calibration.json"));

    // It is the best for what the folds said of images that they were not trained on.
    let text = fs::read_to_string(stage.run_path("out_of_fold.csv")).expect("the run wrote it");
    let classes = ["dots", "stripes", "waves"];
    let said: Vec<(Vec<f64>, usize)> = text
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            let label = classes.iter().position(|class| cells[1].starts_with(class)).expect("a folder for each class");
            (cells[4..7].iter().map(|cell| cell.parse().expect("a number")).collect(), label)
        })
        .collect();
    let loss = |temperature: f64| said.iter().map(|(row, label)| -tempered(row, temperature)[*label].ln()).sum::<f64>();
    assert_eq!(said.len(), 24);
    let least = loss(temperature) - 1e-9; // of a loss that hardly moves where the optimum is far off
    // The search ends at a million: folds that know nothing yet have their optimum beyond it.
    let further = (temperature * 1.02).min(1e6);
    assert!(least <= loss(further) && least <= loss(temperature / 1.02), "{temperature}");

    let plain = predict(&stage, &format!("--fold-results {RUN}"), "plain.csv");
    stage.succeed(&calibrated);
    for (file, row) in rows(&stage, "c.csv") {
        assert_close(&row, &tempered(&plain[&file], temperature));
    }
    let other_views = format!("{calibrated} --tta legacy");
    refused(
        &stage,
        &other_views,
        &["was fitted with views identity, but identity, rotate_90, rotate_270 is predicted"],
    );
    refused(&stage, &format!("{calibrated} --checkpoint last --weight-by-score"), &["was fitted with"]);
    let evaluated =
        stage.succeed(&format!("evaluate --fold-results {RUN} --input data/test --use-calibration --output e"));
    assert!(evaluated.stdout.contains("the last row is at temperature "), "{}", evaluated.stdout);
}

#[test]
fn runs_are_calibrated_together_by_the_images_that_all_validate_on() {
    let stage = Stage::finished();
    let first = stage.run_folder();
    stage.succeed(SECOND);
    let second = stage.run_folder();
    let both = format!("--run {first} --run {second} --tta legacy");
    refused(&stage, &format!("calibrate {both}"), &["belongs to none of their folders", "--output both.json"]);
    let printed = stage.succeed(&format!("calibrate {both} --device cpu --output both.json")).stdout;
    assert!(printed.contains("fitted on 12 common validation images in 3 views each"), "{printed}");
    assert!(printed.contains("--tta legacy --calibration both.json"), "{printed}");
    assert!(stage.path("both.svg").exists());
    let temperature = temperature_in(&stage, "both.json");
    let plain = predict(&stage, &both, "plain.csv");
    for (file, row) in predict(&stage, &format!("{both} --calibration both.json"), "calibrated.csv") {
        assert_close(&row, &tempered(&plain[&file], temperature));
    }
    let turned_round = format!("--run {second} --run {first} --tta legacy --calibration both.json");
    predict(&stage, &turned_round, "turned_round.csv");
    let ask = |runs: &str| format!("predict {runs} --input data/test --device cpu --output x.csv");
    refused(&stage, &ask(&format!("{both} --use-calibration")), &["belongs to none of their folders"]);
    refused(&stage, &ask(&format!("{both} --merge max --calibration both.json")), &["merge rule mean, but max"]);
    refused(&stage, &ask(&format!("{both} --calibration none.json")), &["does not exist", "--output none.json"]);
    let one = format!("--run {first} --tta legacy --calibration both.json");
    refused(&stage, &ask(&one), &["is not a calibration"]);
    fs::write(stage.path("damaged.json"), "{").expect("writable");
    let damaged = format!("--run {first} --calibration damaged.json");
    let way_out = "hint: move it away, then fit it to what is predicted with: stoker calibrate";
    refused(&stage, &ask(&damaged), &["`damaged.json` is not a calibration", way_out, "--output damaged.json"]);

    fs::rename(stage.path("data/validation"), stage.path("data/other")).expect("it is there");
    draw_set(&stage.path("data/validation"), 4);
    stage.succeed("train --config tiny.yaml --set name=third --set train.epochs=1 --set data.validation=data/other");
    let strangers = format!("calibrate --run {first} --run {RUN} --device cpu --output x.json");
    refused(&stage, &strangers, &["no image was held out by all runs", "data.validation"]);
}

#[test]
fn a_run_may_have_its_temperature_in_a_file_of_its_own() {
    let stage = Stage::finished();
    stage.succeed(&format!("calibrate --run {RUN} --device cpu --output mine.json"));
    assert!(!stage.run_path("calibration.json").exists() && stage.path("mine.svg").exists());
    let temperature = temperature_in(&stage, "mine.json");
    let plain = predict(&stage, &format!("--run {RUN}"), "plain.csv");
    for (file, row) in predict(&stage, &format!("--run {RUN} --calibration mine.json"), "calibrated.csv") {
        assert_close(&row, &tempered(&plain[&file], temperature));
    }
}

/// The words behind `stoker` in the first line that tells this command.
fn told<'t>(text: &'t str, command: &str) -> &'t str {
    let start = format!("stoker {command} ");
    let place = text.find(&start).unwrap_or_else(|| panic!("no `{start}` in {text}"));
    text[place + "stoker ".len()..].lines().next().expect("it was found in a line")
}

#[test]
fn the_command_after_a_calibration_of_a_run_and_folds_predicts_with_their_shares() {
    let stage = of_folds();
    let folds = stage.run_folder();
    draw_set(&stage.path("data/more"), 8);
    // All images of the folds are held out from it.
    let sets = "--set data.train=data/more --set data.validation=data/train";
    stage.succeed(&format!("train --config tiny.yaml --set name=second --set train.epochs=1 {sets}"));
    let both = format!("--run {} --run {folds} ", stage.run_folder());
    let printed = stage.succeed(&format!("calibrate {both}--device cpu --output b.json")).stdout;
    let command = told(&printed, "predict");
    assert!(command.contains(&both), "{command}");
    stage.succeed(&format!("{} --device cpu --output x.csv", command.replace("FOLDER", "data/test")));
}

#[test]
fn the_command_in_a_hint_fits_what_is_predicted_with() {
    let stage = of_folds();
    let text = fs::read_to_string(stage.run_path("fold_results.yaml")).expect("the run wrote it");
    let third = text.find("- fold: 2\n").expect("the last of three folds");
    stage.write(&format!("{RUN}/fewer.yaml"), &text.as_bytes()[..third]);
    let fewer = format!("--fold-results {RUN}/fewer.yaml --checkpoint last --tta legacy --merge max");
    let predict = format!("predict {fewer} --input data/test --device cpu --output x.csv");
    let ended = stage.run(&format!("{predict} --use-calibration"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let (calibrate, file) = (told(&ended.stderr, "calibrate"), format!("{RUN}/fewer.calibration.json"));
    assert_eq!(calibrate, format!("calibrate {fewer} --output {file}"));
    assert!(ended.stderr.contains(&format!("pass `--calibration {file}`")), "{}", ended.stderr);
    stage.succeed(&format!("{calibrate} --device cpu"));
    stage.succeed(&format!("{predict} --calibration {file}"));

    // Views that a measurement chose are named, for a calibration chooses none.
    let auto = format!("predict --run {RUN}/fold_0 --input data/test --device cpu --tta auto --use-calibration");
    let ended = stage.run(&format!("{auto} --output x.csv"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let calibrate = told(&ended.stderr, "calibrate");
    assert!(calibrate.contains(" --views ") && !calibrate.contains("auto"), "{calibrate}");
    stage.succeed(&format!("{calibrate} --device cpu"));
}
