//! Testing and predicting while memory runs out.

use std::fs;

use insta::assert_snapshot;

use crate::stage::{Injected, RUN, Stage, draw_set, told, without_sizes};

#[test]
fn predictions_and_the_test_recover_with_the_same_results() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml", &[]);
    let predict = |file: &str, injected| {
        let stderr = stage.succeed(
            &format!("predict --run {RUN} --input data/test --tta legacy --batch-size 6 --output {file}"),
            injected,
        );
        (stderr, fs::read_to_string(stage.path(file)).expect("it was written"))
    };
    let (stderr, expected) = predict("whole.csv", &[]);
    assert_eq!(told(&stderr), [] as [&str; 0]);
    let (stderr, found) = predict("halved.csv", &[("STOKER_INJECT_OUT_OF_MEMORY", "eval:0,eval:0")]);
    let line = |before, after| {
        format!(
            "warning: out of memory in prediction, {before} images at once: injected by a test; the same images again, {after} at once"
        )
    };
    assert_eq!(told(&stderr), [line(6, 3), line(3, 1)]);
    assert_same_table(&found, &expected);
}

#[test]
fn the_test_at_the_end_recovers_and_is_logged() {
    let stage = Stage::new();
    // Two validations of a batch each; the test counts for itself, and has one batch too.
    let train = "train --config tiny.yaml --set data.test=data/test --set train.epochs=1";
    let stderr = stage.succeed(train, &[("STOKER_INJECT_OUT_OF_MEMORY", "eval:0")]);
    let sizes = stage.events().into_iter().map(|event| (event["step"].clone(), event["micro_batch_after"].clone()));
    // Six images each: after the third step in validation, and without a step at the end.
    assert_eq!(sizes.collect::<Vec<_>>(), [(3.into(), 3.into()), (serde_json::Value::Null, 3.into())]);
    assert_eq!(told(&stderr).len(), 2);
}

/// The same rows in the same order; probabilities may be summed in another order.
fn assert_same_table(found: &str, expected: &str) {
    assert_eq!(found.lines().count(), expected.lines().count());
    for (found, expected) in found.lines().zip(expected.lines()) {
        for (found, expected) in found.split(',').zip(expected.split(',')) {
            match (found.parse::<f64>(), expected.parse::<f64>()) {
                (Ok(found), Ok(expected)) => assert!((found - expected).abs() < 1e-5, "{found} {expected}"),
                _ => assert_eq!(found, expected),
            }
        }
    }
}

/// How far a measured peak may be from the plan, as the memory plans of training are held to.
const TOLERATED_PERCENT: f64 = 8.0;

/// Peaks in MiB of `12 images at once: ..; predicted peak 40.1 MiB of ..` and `peak memory: predicted 40.1 MiB, measured 39.8 MiB (..`.
struct Peaks {
    images: usize,
    predicted: f64,
    measured: f64,
}

impl Peaks {
    fn of(stderr: &str) -> Self {
        let after = |start: &str| {
            let rest =
                &stderr[stderr.find(start).unwrap_or_else(|| panic!("no `{start}` in\n{stderr}")) + start.len()..];
            let (number, rest) = rest.split_once(' ').expect("a number and its unit");
            assert!(rest.starts_with("MiB"), "{stderr}");
            number.parse().expect("a number")
        };
        let line = stderr.lines().find(|line| line.contains(" images at once: ")).expect("the plan is told");
        let images = line.split(' ').next().and_then(|word| word.parse().ok()).expect("it starts with the number");
        Self { images, predicted: after("peak memory: predicted "), measured: after(", measured ") }
    }

    fn error_percent(&self) -> f64 {
        100.0 * (self.predicted - self.measured).abs() / self.measured
    }
}

/// Predicts without a limit, then under one that only a part of the batch fits, then with memory running out behind the plan's back.
fn assert_predictions_keep_to_their_plan(model: &str, tta: &str) {
    let stage = Stage::new();
    let size = "--set model.image_size=96 --set data.prefetch_batches=1";
    stage.succeed(&format!("train --config tiny.yaml --set model.name={model} {size} --set train.epochs=1"), &[]);
    draw_set(&stage.path("data/many"), 70);
    let predict = |file: &str, injected: Injected<'_>| {
        let arguments = format!("predict --run {RUN} --input data/many --tta {tta} --output {file}");
        (stage.succeed(&arguments, injected), fs::read_to_string(stage.path(file)).expect("it was written"))
    };
    let (stderr, expected) = predict("free.csv", &[]);
    let free = Peaks::of(&stderr);
    assert_eq!(free.images, 32, "{stderr}");
    assert!(free.error_percent() <= TOLERATED_PERCENT, "{stderr}");

    let limit = (0.8 * free.measured).round();
    let (stderr, found) = predict("injected.csv", &[("STOKER_INJECT_MEMORY_LIMIT", &format!("{limit}MiB"))]);
    assert!(told(&stderr)[0].starts_with("warning: out of memory in prediction, 32 images at once: "), "{stderr}");
    assert_same_table(&found, &expected);

    limit_run(&stage, &format!("{limit}MiB"));
    let (stderr, found) = predict("limited.csv", &[]);
    let held = Peaks::of(&stderr);
    assert_eq!(told(&stderr), [] as [&str; 0], "planned, memory suffices");
    assert!((1..32).contains(&held.images) && held.measured <= limit, "{stderr}");
    assert!(held.error_percent() <= TOLERATED_PERCENT, "{stderr}");
    assert_same_table(&found, &expected);
}

/// Writes a limit into the configuration of the run.
fn limit_run(stage: &Stage, limit: &str) {
    let config = stage.path(RUN).join("config.resolved.yaml");
    let text = fs::read_to_string(&config).expect("the run wrote it");
    let limited = text.replace("\nmemory:\n", &format!("\nmemory:\n  limit: {limit}\n")).replace("  limit: null\n", "");
    assert_ne!(limited, text);
    fs::write(&config, limited).expect("writable");
}

/// A heap that does not even hold the weights, and behind the plan's back: nothing is left to halve, and the limit that is named suffices. A plan that
/// knows the limit refuses it with the same reasons.
#[test]
fn one_image_that_does_not_fit_in_prediction_is_explained() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml --set train.epochs=1", &[]);
    let predict = format!("predict --run {RUN} --input data/test --tta none --output predicted.csv");
    let error_of = |injected: Injected<'_>, code: i32| {
        let ended = stage.run(&predict, injected);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        let error = ended.stderr.find("error: ").expect("it failed");
        stage.scrub(&ended.stderr[error..])
    };
    let error = error_of(&[("STOKER_INJECT_MEMORY_LIMIT", "5MiB")], 1);
    assert_snapshot!(without_sizes(&error));
    let enough = error.split_once("set `memory.limit: ").and_then(|(_, rest)| rest.split_once("MiB`"));
    let enough = enough.expect("it names an amount").0;
    let stderr = stage.succeed(&predict, &[("STOKER_INJECT_MEMORY_LIMIT", &format!("{enough}MiB"))]);
    assert!(stderr.contains("testing: "), "{stderr}");

    limit_run(&stage, "5MiB");
    assert_snapshot!(without_sizes(&error_of(&[], 2)));
}

#[test]
fn predictions_of_a_convnext_keep_to_their_plan() {
    assert_predictions_keep_to_their_plan("convnext_atto", "legacy");
}

#[test]
fn predictions_of_an_efficientnet_keep_to_their_plan() {
    assert_predictions_keep_to_their_plan("efficientnet_b0", "legacy");
}

/// Views that are zoomed and lit hold more for a while than those that are turned: the heaviest is what the plan is made with.
#[test]
fn predictions_in_fifteen_views_keep_to_their_plan() {
    assert_predictions_keep_to_their_plan("convnext_atto", "comprehensive");
}

#[test]
fn the_views_of_one_image_are_one_pass_where_it_fits() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml --set train.epochs=1", &[]);
    let image = stage.path("data/test/dots/0.png");
    let predict = |more: &str, file: &str| {
        let input = image.to_str().expect("a path in letters");
        let arguments = format!("predict --run {RUN} --input {input} --tta comprehensive --output {file} {more}");
        let stderr = stage.succeed(arguments.trim_end(), &[]);
        (stderr, fs::read_to_string(stage.path(file)).expect("it was written"))
    };
    let (stderr, together) = predict("", "together.csv");
    assert!(stderr.contains("\n15 images at once: all of them in all views; "), "{stderr}");
    let (_, one_by_one) = predict("--batch-size 1", "one_by_one.csv");
    assert_same_table(&together, &one_by_one);
}

/// Two runs of one kind and 140 images, and the flags that name the runs.
fn two_runs() -> (Stage, String) {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml --set train.epochs=1", &[]);
    let first = fs::read_link(stage.path(RUN)).expect("a run was started");
    stage.succeed("train --config tiny.yaml --set name=second --set train.epochs=1", &[]);
    draw_set(&stage.path("data/many"), 70);
    let runs = format!("--run runs/{} --run {RUN}", first.display());
    (stage, runs)
}

#[test]
fn models_that_are_in_memory_at_once_keep_to_their_plan_and_recover_each_by_itself() {
    let (stage, runs) = two_runs();
    let predict = |file: &str, injected: Injected<'_>| {
        let arguments = format!("predict {runs} --input data/many --tta legacy --output {file}");
        (stage.succeed(&arguments, injected), fs::read_to_string(stage.path(file)).expect("it was written"))
    };
    let (stderr, expected) = predict("free.csv", &[]);
    assert!(stderr.contains("\n2 models are in memory at once"), "{stderr}");
    let free = Peaks::of(&stderr);
    assert!(free.images == 32 && free.error_percent() <= TOLERATED_PERCENT, "{stderr}");

    let (stderr, found) = predict("halved.csv", &[("STOKER_INJECT_OUT_OF_MEMORY", "eval:1")]);
    assert_eq!(told(&stderr).len(), 2, "{stderr}");
    assert!(told(&stderr).iter().all(|line| line.ends_with("the same images again, 16 at once")), "{stderr}");
    assert_same_table(&found, &expected);

    let limit = (0.9 * free.measured).round();
    let (stderr, found) = predict("injected.csv", &[("STOKER_INJECT_MEMORY_LIMIT", &format!("{limit}MiB"))]);
    assert!(told(&stderr)[0].starts_with("warning: out of memory in prediction, 32 images at once: "), "{stderr}");
    assert_same_table(&found, &expected);
}

/// The sums of the first model's answers lie beside those of the second: the plan of each knows what is there.
#[test]
fn an_evaluation_of_several_models_keeps_to_their_plans() {
    let (stage, runs) = two_runs();
    let stderr = stage.succeed(&format!("evaluate {runs} --input data/many --tta legacy --output found"), &[]);
    let plans: Vec<usize> = stderr.match_indices(" images at once: ").map(|(place, _)| place).collect();
    assert_eq!(plans.len(), 2, "{stderr}");
    let second = stderr[..plans[1]].rfind('\n').expect("a line before");
    for of_model in [&stderr[..second], &stderr[second..]] {
        let peaks = Peaks::of(of_model);
        assert!(peaks.images == 32 && peaks.error_percent() <= TOLERATED_PERCENT, "{of_model}");
    }
}
