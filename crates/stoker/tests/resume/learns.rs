//! A run learns: from drawn images to scores that chance does not reach.

use metrics::read_records;

use crate::stage::{Stage, draw_set};

/// From scratch, in a short run, without the regularisers that need a long one.
const SETTINGS: &str = "--set data.train=many --set data.validation=held --set data.test=held --set model.initialization=fan_in \
    --set model.drop_path=0 --set augment.quarter_turns=false --set augment.erase=0 --set train.epochs=8 --set train.learning_rate=2e-3 \
    --set train.effective_batch_size=8 --set train.micro_batch_size=auto";

const FLOOR: f64 = 0.9;

#[test]
fn three_textures_are_told_apart_and_the_last_line_is_the_command_to_predict_with() {
    let stage = Stage::new();
    draw_set(&stage.path("many"), 20);
    draw_set(&stage.path("held"), 8);
    let ended = stage.succeed(&format!("train --config tiny.yaml {SETTINGS}"));
    let records = read_records(&stage.run_path("metrics.jsonl")).expect("the run wrote it");
    let scores: Vec<f64> =
        records.iter().map(|record| record.validation.as_ref().map_or(0.0, |v| v.macro_f1)).collect();
    let best = scores.iter().copied().fold(0.0, f64::max);
    assert!(best >= FLOOR, "{scores:?}");
    // The test images are those of validation: scored by the best weights, with the same result.
    let test = ended.stdout.lines().find(|line| line.starts_with("test: ")).expect("there are test images");
    assert!(test.contains(&format!("macro-F1 {best:.4}, ")) && test.ends_with(" over 24 images"), "{test}");
    let run = stage.run_folder();
    let command = format!("  stoker predict --run {run} --input held --tta essential --output predictions.csv");
    assert_eq!(ended.stdout.lines().last(), Some(command.as_str()));
    stage.succeed(command.trim_start().trim_start_matches("stoker "));
}
