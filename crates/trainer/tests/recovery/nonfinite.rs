//! Steps whose numbers are not finite.

use checkpoint::Checkpoint;
use serde_json::Value;
use trainer::{TrainError, TrainOptions};

use crate::stage::{EFFECTIVE_BATCH, FixedGauge, STEPS_PER_EPOCH, Stage, efficientnet, options, step};

const EPOCHS: u32 = 4;

/// Faults by their names, with what is not finite then: the loss itself, or a gradient beside a loss that is a number.
const FAULTS: [(&str, &str); 2] = [("nan", "loss"), ("gradient", "gradient norm")];

/// A fault at several steps.
fn at(fault: &str, steps: &[u64]) -> String {
    steps.iter().map(|step| format!("{fault}:{step}")).collect::<Vec<_>>().join(",")
}

fn with_faults(faults: &str, max_nonfinite_steps: u64) -> TrainOptions {
    TrainOptions { faults: faults.parse().unwrap(), max_nonfinite_steps, ..options(EPOCHS, 4) }
}

#[test]
fn a_step_without_finite_numbers_moves_nothing_and_is_counted() {
    let undisturbed = Stage::new().train(options(EPOCHS, 4)).unwrap();
    for (fault, what) in FAULTS {
        let end = Stage::new().train(with_faults(&at(fault, &[1, 2, 7]), 3)).unwrap();
        let left_out: Vec<_> = end.left_out.iter().map(|left| (left.step, left.in_a_row, left.what)).collect();
        assert_eq!(left_out, [(1, 1, what), (2, 2, what), (7, 1, what)]);
        let counted: Vec<u64> = end.records.iter().map(|record| record.train.nonfinite_steps).collect();
        assert_eq!(counted, [2, 0, 1, 0]);
        // 24 images in batches of 10, 10 and 4: the second and the third batch are missing, and in the third epoch the second.
        let samples: Vec<u64> = end.records.iter().map(|record| record.train.samples).collect();
        assert_eq!(samples, [10, 24, 14, 24]);
        assert!(end.records.iter().all(|record| record.train.loss.is_finite()));
        let norms = end.records.iter().map(|record| record.train.gradient_norm);
        assert!(norms.clone().all(|norm| norm.is_some_and(|norm| norm.is_finite() && norm > 0.0)), "{norms:?}");
        assert!(end.weights != undisturbed.weights, "`{fault}` changed nothing");
    }
}

/// Two such steps behind the first one leave what stopping after the first one saves: weights, running statistics, averages and moments.
#[test]
fn a_step_without_finite_numbers_leaves_no_trace_in_what_is_saved() {
    let saved = |faults: &str, stop_after: Option<u64>| {
        let (stage, options) = (Stage::new(), TrainOptions { epochs: 1, ..with_faults(faults, 3) });
        stage.fit(step(efficientnet, options, 1), &FixedGauge::new(None), stop_after).unwrap();
        Checkpoint::read(&stage.run_path("checkpoints/last.safetensors")).unwrap()
    };
    let before = saved("", Some(1));
    for (fault, _) in FAULTS {
        let after = saved(&at(fault, &[1, 2]), None);
        assert_eq!((after.card.progress.step, after.card.progress.idle_steps), (STEPS_PER_EPOCH, 2));
        assert!(after.weights == before.weights, "`{fault}`: weights or running statistics moved");
        assert!(after.ema == before.ema, "`{fault}`: the average moved");
        assert!(after.optimizer == before.optimizer, "`{fault}`: the optimizer's state moved");
    }
}

/// Bias correction and averaging count steps: those that were left out must not count after a resume if they did not before.
#[test]
fn a_run_resumed_after_such_a_step_ends_bit_for_bit_the_same() {
    let faults = "nan:1,gradient:4";
    let through = Stage::new().train(with_faults(faults, 3)).unwrap();
    let stage = Stage::new();
    stage.train(TrainOptions { epochs: 2, ..with_faults(faults, 3) }).unwrap();
    let resumed = stage.train(with_faults("", 3)).unwrap();
    assert!(resumed.weights == through.weights && resumed.averaged == through.averaged);
}

#[test]
fn a_row_of_them_is_counted_across_a_resume() {
    let stage = Stage::new();
    let last_of_epoch = STEPS_PER_EPOCH - 1;
    stage.train(TrainOptions { epochs: 1, ..with_faults(&format!("nan:{last_of_epoch}"), 2) }).unwrap();
    let error = stage.train(with_faults(&format!("nan:{STEPS_PER_EPOCH}"), 2)).err().unwrap();
    assert!(matches!(error, TrainError::NotFinite { step: STEPS_PER_EPOCH, in_a_row: 2, epoch: 2, .. }), "{error}");
}

#[test]
fn too_many_in_a_row_end_the_run_with_the_weights_and_samples_of_the_last() {
    for ((fault, what), (value, gradients)) in FAULTS.into_iter().zip([("NaN", 0), ("inf", 1)]) {
        let json = snapshot_of(fault, &format!("the {what} became {value}"));
        assert_eq!((json["what"].as_str(), json["value"].as_str()), (Some(what), Some(value)));
        assert_eq!(json["gradients"].as_array().unwrap().len(), gradients, "{json}");
    }
}

/// Has two steps in a row end a run, looks at what it leaves, and returns what it says of the second.
fn snapshot_of(fault: &str, said: &str) -> Value {
    let stage = Stage::new();
    let error = stage.train(with_faults(&at(fault, &[3, 4, 5]), 2)).err().unwrap();
    let expected = format!("{said} at step 4 (epoch 2), the last of 2 such steps in a row");
    assert_eq!(error.to_string(), expected);
    let TrainError::NotFinite { snapshot, .. } = &error else { panic!("{error}") };
    assert!(error.hint().unwrap().contains(&snapshot.with_extension("json").display().to_string()));
    let last = Checkpoint::read(&stage.run_path("checkpoints/last.safetensors")).unwrap();
    let saved = Checkpoint::read(snapshot).unwrap();
    // Nothing has moved since the end of the first epoch.
    assert!(saved.weights == last.weights && saved.optimizer == last.optimizer);
    let json = std::fs::read_to_string(snapshot.with_extension("json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["step"].as_u64(), json["epoch"].as_u64()), (Some(4), Some(2)));
    let samples = json["samples"].as_array().unwrap();
    assert_eq!(samples.len(), EFFECTIVE_BATCH);
    assert!(samples.iter().all(|sample| std::path::Path::new(sample["path"].as_str().unwrap()).is_file()));
    json
}

/// Weights that run off make numbers that are not finite by themselves, without any help of a test's.
#[test]
fn a_learning_rate_that_is_far_too_high_ends_the_run() {
    let schedule = trainer::Schedule::Constant(trainer::Constant { peak: 1e30, warmup_steps: 0 });
    let diverging = TrainOptions { schedule, max_nonfinite_steps: 3, ..options(EPOCHS, 4) };
    let stage = Stage::new();
    let error = stage.train(diverging).err().unwrap();
    assert!(matches!(error, TrainError::NotFinite { in_a_row: 3, .. }), "{error}");
    let json = std::fs::read_to_string(stage.run_path("nonfinite_step.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(!json["gradients"].as_array().unwrap().is_empty(), "{json}");
}
