//! What a finished run keeps of its test images.

use serde_json::Value;

use crate::stage::{RUN, Stage};

#[test]
fn test_scores_are_kept_as_they_are_printed_and_stay_the_same_when_the_run_is_resumed() {
    let stage = Stage::new();
    let printed = stage.succeed("train --config tiny.yaml --set data.test=data/test --set train.epochs=2").stdout;
    let kept = || std::fs::read(stage.run_path("test_scores.json")).expect("the run wrote it");
    let bytes = kept();
    let scores: Value = serde_json::from_slice(&bytes).expect("JSON");
    let number = |key: &str| scores[key].as_f64().expect("a number");
    let line = format!(
        "\ntest: accuracy {:.4}, macro-F1 {:.4}, loss {:.4} over {} images\n",
        number("accuracy"),
        number("macro_f1"),
        number("loss"),
        scores["images"]
    );
    assert!(printed.contains(&line), "{line} in {printed}");
    assert!(printed.contains(&format!("best epoch {}: ", scores["epoch"])), "{scores} in {printed}");
    assert_eq!((scores["images"].as_u64(), scores["skipped"].as_u64()), (Some(6), Some(0)));
    stage.succeed(&format!("train --resume {RUN}"));
    assert!(kept() == bytes);
}

#[test]
fn without_test_images_there_are_no_test_scores() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml --set train.epochs=1");
    assert!(!stage.run_path("test_scores.json").exists());
}
