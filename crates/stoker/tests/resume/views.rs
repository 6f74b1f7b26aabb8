//! How models look at images: views by name, merge rules, learned weights, and what suits a time and a score.

use std::fs;

use crate::stage::{RUN, Stage};

/// The probabilities in a table of predictions, row after row.
fn numbers(stage: &Stage, file: &str) -> Vec<f64> {
    let text = fs::read_to_string(stage.path(file)).expect("it was written");
    let cells =
        text.lines().skip(1).flat_map(|row| row.split(',').skip(2).take(3).map(str::to_owned).collect::<Vec<_>>());
    cells.map(|cell| cell.parse().expect("a number")).collect()
}

fn predict(stage: &Stage, arguments: &str, file: &str) -> (String, Vec<f64>) {
    let ended = stage.succeed(&format!("predict --input data/test --device cpu --output {file} {arguments}"));
    (ended.stdout, numbers(stage, file))
}

fn refused(stage: &Stage, arguments: &str, said: &str) -> String {
    let ended = stage.run(arguments);
    assert!(ended.code == Some(2) && ended.stderr.contains(said), "`{arguments}`: {}", ended.stderr);
    ended.stderr
}

/// The best macro-F1 on validation of any epoch.
fn best_score(stage: &Stage, run: &str) -> f64 {
    let records = metrics::read_records(&stage.path(run).join("metrics.jsonl")).expect("the run wrote it");
    let scores = records.iter().filter_map(|record| record.validation.as_ref().map(|validation| validation.macro_f1));
    scores.fold(0.0, f64::max)
}

#[test]
fn views_of_the_configuration_hold_until_a_flag_says_otherwise() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml --set train.epochs=1 --set predict.views=[identity,flip_vertical] --set predict.merge=max");
    let (printed, configured) = predict(&stage, &format!("--run {RUN}"), "configured.csv");
    assert!(printed.contains("with TTA, 2 views"), "{printed}");
    let (_, flagged) =
        predict(&stage, &format!("--run {RUN} --views identity,flip_vertical --merge max"), "flagged.csv");
    assert_eq!(configured, flagged);
    let (printed, plain) = predict(&stage, &format!("--run {RUN} --tta none"), "plain.csv");
    assert!(!printed.contains("with TTA") && plain != configured, "{printed}");
    let said = refused(&stage, &format!("predict --run {RUN} --input data/test --views rotate90"), "not a view");
    assert!(said.contains("did you mean `rotate_90`?"), "{said}");
    let wrong = "config-check --config tiny.yaml --set predict.views=[identity]";
    refused(&stage, &format!("{wrong} --set predict.tta=legacy"), "`predict.tta` names one");
}

#[test]
fn runs_of_other_families_and_sizes_are_averaged_and_other_classes_are_refused() {
    let stage = Stage::finished();
    let first = stage.run_folder();
    stage.succeed("train --config tiny.yaml --set name=second --set model.name=efficientnet_b0 --set model.image_size=48 --set train.epochs=1");
    let second = stage.run_folder();
    let (_, one) = predict(&stage, &format!("--run {first} --tta legacy"), "one.csv");
    let (_, other) = predict(&stage, &format!("--run {second} --tta legacy"), "other.csv");
    let (printed, both) = predict(&stage, &format!("--run {first} --run {second} --tta legacy"), "both.csv");
    assert!(printed.contains("with TTA, 3 views"), "{printed}");
    for ((mean, one), other) in both.iter().zip(&one).zip(&other) {
        assert!((mean - (one + other) / 2.0).abs() < 1e-6, "{mean} is not the mean of {one} and {other}");
    }
    // Each counts for its best macro-F1 on validation.
    let scores = [&first, &second].map(|run| best_score(&stage, run));
    assert!((scores[0] - scores[1]).abs() > 1e-3, "equal scores would show nothing: {scores:?}");
    let (_, weighted) =
        predict(&stage, &format!("--run {first} --run {second} --tta legacy --weight-by-score"), "w.csv");
    for ((mean, one), other) in weighted.iter().zip(&one).zip(&other) {
        let expected = (scores[0] * one + scores[1] * other) / (scores[0] + scores[1]);
        assert!((mean - expected).abs() < 1e-6, "{mean} is not {expected}: {one} and {other} by {scores:?}");
    }
    let two = format!("predict --run {first} --run {second} --input data/test");
    refused(&stage, &two, "belong to none of their folders");

    fs::rename(stage.path("data/train/waves"), stage.path("data/train/zigzag")).expect("it is there");
    fs::rename(stage.path("data/validation/waves"), stage.path("data/validation/zigzag")).expect("it is there");
    stage.succeed("train --config tiny.yaml --set name=third --set train.epochs=1");
    let third = stage.run_folder();
    let said = refused(
        &stage,
        &format!("predict --run {first} --run {third} --input data/test --output x.csv"),
        "other classes",
    );
    assert!(said.contains(&first) && said.contains(&third) && said.contains("`zigzag`"), "{said}");
}

#[test]
fn folds_count_for_their_scores_where_that_is_asked() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml --set data.validation=null --set data.folds=2 --set train.epochs=2");
    let results = fs::read_to_string(stage.run_path("fold_results.yaml")).expect("the run wrote it");
    let folds = results.split("- fold: ").skip(1);
    let scores: Vec<f64> = folds
        .map(|fold| fold.split("macro_f1: ").nth(1).and_then(|rest| rest.lines().next()).expect("a score"))
        .map(|score| score.parse().expect("a number"))
        .collect();
    assert!(scores.len() == 2 && (scores[0] - scores[1]).abs() > 1e-3, "equal scores would show nothing: {scores:?}");
    let (_, weighted) = predict(&stage, &format!("--fold-results {RUN} --weight-by-score"), "w.csv");
    let alone = [0, 1].map(|fold| predict(&stage, &format!("--run {RUN}/fold_{fold}"), &format!("{fold}.csv")).1);
    for (place, mean) in weighted.iter().enumerate() {
        let expected = (scores[0] * alone[0][place] + scores[1] * alone[1][place]) / (scores[0] + scores[1]);
        assert!((mean - expected).abs() < 1e-6, "{mean} is not {expected}");
    }
}

#[test]
fn one_view_that_is_not_the_image_itself_is_scored_as_augmentation() {
    let stage = Stage::finished();
    let (printed, turned) = predict(&stage, &format!("--run {RUN} --views rotate_90"), "turned.csv");
    assert!(printed.contains("\nwith TTA, 1 view "), "{printed}");
    let (printed, plain) = predict(&stage, &format!("--run {RUN} --views identity"), "plain.csv");
    assert!(!printed.contains("with TTA") && plain != turned, "{printed}");
    let evaluate = format!("evaluate --run {RUN} --input data/test --device cpu --views rotate_90 --output found");
    let printed = stage.succeed(&evaluate).stdout;
    assert!(printed.contains("\nwith TTA, 1 view ") && printed.contains("TTA changed the class of "), "{printed}");
    let scores = fs::read_to_string(stage.path("found/scores.json")).expect("it was written");
    assert!(!scores.contains("\"with_tta\": null"), "{scores}");
}

#[test]
fn any_number_of_workers_predicts_the_same_and_none_is_refused() {
    let stage = Stage::finished();
    let of_config = predict(&stage, &format!("--run {RUN}"), "config.csv").1;
    for workers in ["1", "3", "auto"] {
        let ask = format!("--run {RUN} --workers {workers}");
        assert_eq!(predict(&stage, &ask, &format!("{workers}.csv")).1, of_config, "{workers}");
    }
    refused(&stage, &format!("predict --run {RUN} --input data/test --workers 0"), "--workers");
}

/// bf16 has 8 bits of a number, and these models a dozen layers that round to it: probabilities move in the second digit at most.
const HALF_PRECISION: f64 = 0.03;

#[test]
fn half_precision_agrees_with_full_precision_and_both_can_be_asked_for() {
    let stage = Stage::finished();
    let (_, full) = predict(&stage, &format!("--run {RUN} --tta legacy --precision fp32"), "fp32.csv");
    assert_eq!(predict(&stage, &format!("--run {RUN} --tta legacy"), "auto.csv").1, full, "the CPU's own choice");
    for precision in ["bf16", "fp16"] {
        let ask = format!("--run {RUN} --tta legacy --precision {precision}");
        let (_, half) = predict(&stage, &ask, &format!("{precision}.csv"));
        let difference = half.iter().zip(&full).map(|(half, full)| (half - full).abs()).fold(0.0, f64::max);
        assert!(difference > 0.0 && difference < HALF_PRECISION, "{precision}: {difference}");
    }
    refused(&stage, &format!("predict --run {RUN} --input data/test --precision fp8"), "fp8");
}

#[test]
fn learned_weights_serve_the_views_that_they_were_learned_for() {
    let stage = Stage::finished();
    let weighted = format!("predict --run {RUN} --input data/test --device cpu --merge weighted");
    let said = refused(&stage, &format!("{weighted} --tta legacy"), "view_weights.json` does not exist");
    assert!(said.contains("--merge weighted"), "{said}");
    let fitted = stage.succeed(&format!("calibrate --run {RUN} --device cpu --tta legacy --merge weighted"));
    assert!(fitted.stdout.contains("rotate_90") && fitted.stdout.contains("on images held out"), "{}", fitted.stdout);
    assert!(fitted.stdout.contains("--tta legacy --merge weighted --use-calibration"), "{}", fitted.stdout);
    let file = fs::read_to_string(stage.run_path("view_weights.json")).expect("it was written");
    let file: serde_json::Value = serde_json::from_str(&file).expect("it is JSON");
    let loss = |name: &str| file[name].as_f64().expect("a number");
    assert!(loss("weighted_loss") <= loss("mean_loss"), "{file}");
    assert!(file["learned"] == false || loss("held_out_loss") <= loss("mean_loss"), "{file}");
    stage.succeed(&format!("{weighted} --tta legacy --use-calibration --output w.csv"));
    refused(&stage, &format!("{weighted} --tta essential"), "was fitted with views");
    let by_mean = format!("predict --run {RUN} --input data/test --device cpu --tta legacy --use-calibration");
    refused(&stage, &by_mean, "was fitted with merge rule weighted, but mean is predicted with");
    refused(&stage, &format!("calibrate --run {RUN} --tta auto"), "must know them before");
}

#[test]
fn a_preset_is_recommended_for_a_time_and_a_score_or_what_comes_closest() {
    let stage = Stage::finished();
    let ask = format!("gpu --recommend-tta --run {RUN} --device cpu --images 100");
    let found = stage.succeed(&format!("{ask} --target-time 1h")).stdout;
    for preset in ["none", "legacy", "essential", "comprehensive"] {
        assert!(found.lines().any(|line| line.starts_with(preset) && line.ends_with("fits")), "{found}");
    }
    assert!(found.contains("measured on cpu") && found.contains("has the highest macro-F1 of those within"), "{found}");
    assert!(found.contains(&format!("predict --run {}", stage.run_folder())), "{found}");
    let nothing = stage.run(&format!("{ask} --target-time 1ms"));
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.stdout.matches("too slow").count() == 4, "{}", nothing.stdout);
    assert!(nothing.stderr.contains("no preset predicts 100 images within 1 ms"), "{}", nothing.stderr);
    assert!(nothing.stderr.contains("comes closest") && nothing.stderr.contains("or take a faster device"));
    let estimated = stage.succeed(&format!("{ask} --gpu rtx3060")).stdout;
    assert!(estimated.contains("RTX 3060") && estimated.contains("ESTIMATE"), "{estimated}");
    let unknown = refused(&stage, &format!("{ask} --gpu rtx9999"), "rtx9999");
    assert!(unknown.contains("--gpu rtx") && !unknown.contains("--gpu-memory"), "`gpu` has no such flag: {unknown}");
    refused(&stage, &format!("gpu --recommend-tta --run {RUN} --device cpu"), "names no test images");
}

/// The newest run of all is another one's.
#[test]
fn presets_are_compared_for_the_newest_run_of_the_configuration_which_is_named() {
    let stage = Stage::finished();
    let other = stage.path("runs/2026-02-02/other");
    fs::create_dir_all(other.join("checkpoints")).expect("writable");
    for file in ["config.resolved.yaml", "checkpoints/best.safetensors"] {
        fs::copy(stage.run_path(file), other.join(file)).expect("the run wrote it");
    }
    fs::remove_file(stage.path(RUN)).expect("it is a link");
    std::os::unix::fs::symlink("2026-02-02/other", stage.path(RUN)).expect("writable");
    let text = fs::read_to_string(stage.path("tiny.yaml")).expect("it is there");
    stage.write("third.yaml", text.replace("name: tiny", "name: third").as_bytes());
    let ask = |config: &str| stage.succeed(&format!("gpu --recommend-tta --config {config} --device cpu --images 100"));
    let own = ask("tiny.yaml");
    assert!(own.stdout.starts_with("runs/2026-01-01/tiny: measured on cpu"), "{}", own.stdout);
    let newest = ask("third.yaml");
    assert!(newest.stdout.starts_with("runs/2026-02-02/other: measured on cpu"), "{}", newest.stdout);
    assert!(newest.stderr.contains("note: no run in `runs` is called `third`: taking"), "{}", newest.stderr);
}

/// The word of a line that starts so, by its place from the line's end.
fn word_from_end<'p>(printed: &'p str, start: &str, place: usize) -> &'p str {
    let line = printed.lines().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("no `{start}`: {printed}"));
    line.split_whitespace().rev().nth(place).expect("the line has as many words")
}

#[test]
fn presets_are_compared_by_the_rule_that_is_asked_for() {
    let stage = Stage::finished();
    let ask = format!("gpu --recommend-tta --run {RUN} --device cpu --images 100");
    for rule in ["max", "geometric"] {
        let compared = stage.succeed(&format!("{ask} --merge {rule}")).stdout;
        let predict = format!("predict --run {RUN} --device cpu --input data/validation --tta comprehensive");
        let predicted = stage.succeed(&format!("{predict} --merge {rule} --output {rule}.csv")).stdout;
        // Before the verdict; before accuracy and the number of images.
        let expected = word_from_end(&predicted, "with TTA, 15 views", 2);
        assert_eq!(word_from_end(&compared, "comprehensive ", 1), expected, "{rule}: {compared}");
        assert!(compared.trim_end().ends_with(&format!(" --merge {rule}")), "the next command has it: {compared}");
    }
    refused(&stage, &format!("{ask} --merge weighted"), "learned weights belong to one list of views");
    refused(&stage, "gpu --merge max", "--recommend-tta");
}

#[test]
fn auto_takes_the_preset_that_does_best_on_validation() {
    let stage = Stage::finished();
    let ended =
        stage.succeed(&format!("predict --run {RUN} --input data/test --device cpu --tta auto --target-time 1h"));
    assert!(ended.stderr.contains("has the highest macro-F1"), "{}", ended.stderr);
    let said = "a time and a score choose a preset";
    refused(&stage, &format!("predict --run {RUN} --input data/test --tta legacy --target-time 1h"), said);
}

#[test]
fn the_devices_at_hand_are_listed_with_what_is_taken() {
    let stage = Stage::new();
    let short = stage.succeed("gpu").stdout;
    let lines: Vec<&str> = short.lines().collect();
    assert!(lines[0].starts_with("device") && short.contains("\ncpu ") && short.contains("fp32"), "{short}");
    assert!(lines.last().expect("there are lines").starts_with("stoker takes "), "{short}");
    let detailed = stage.succeed("gpu --detailed").stdout;
    assert!(detailed.contains("a run may take") && !short.contains("a run may take"), "{detailed}");
}
