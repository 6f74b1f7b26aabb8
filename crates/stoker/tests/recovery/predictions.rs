//! Testing and predicting while memory runs out.

use std::fs;

use crate::stage::{RUN, Stage, told};

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
