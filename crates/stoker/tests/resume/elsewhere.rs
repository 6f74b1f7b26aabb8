//! Going on with less memory than the run was planned for, as on a smaller card.

use std::fs;
use std::time::Duration;

use memory_planner::MemoryAnalysis;
use metrics::{EpochRecord, read_records};
use serde_json::Value;

use crate::stage::{Ended, RUN, Stage, draw_set};

/// All of the training images in one step, and in one micro-batch where memory allows it.
const TRAIN: &str = "train --config tiny.yaml --set model.image_size=96 --set train.effective_batch_size=24";

fn records(stage: &Stage) -> Vec<EpochRecord> {
    read_records(&stage.run_path("metrics.jsonl")).expect("the run wrote it")
}

/// Stops a run after its first epoch, and goes on with memory for less than half of what its micro-batch takes. Returns what it said then.
fn go_on_with_less(stage: &Stage, settings: &str) -> (Option<i32>, String) {
    let mut running = stage.start(&format!("{TRAIN} {settings}"));
    running.wait_for_epoch_after(1, Duration::ZERO);
    assert_eq!(running.signal("INT").code, Some(130));
    lower_limit(stage);
    let ended = stage.run(&format!("train --resume {RUN}"));
    (ended.code, ended.stderr)
}

/// Leaves a run memory for less than half of what its micro-batch takes.
fn lower_limit(stage: &Stage) {
    let plan = fs::read(stage.run_path("plan.json")).expect("the run wrote it");
    let before: MemoryAnalysis = serde_json::from_slice(&plan).expect("written by us");
    assert_eq!(before.plan.micro_batches, [24]);
    let limit = before.footprint.peak_bytes(10) + before.footprint.accumulation_extra;
    assert!(limit < before.plan.predicted_peak_bytes);
    let config = fs::read_to_string(stage.run_path("config.resolved.yaml")).expect("the run wrote it");
    let lower = config.replace("\n  limit: null\n", &format!("\n  limit: {limit}\n"));
    assert_ne!(lower, config);
    fs::write(stage.run_path("config.resolved.yaml"), lower).expect("writable");
}

#[test]
fn a_micro_batch_that_was_planned_is_planned_anew_and_the_effective_batch_and_its_images_stay() {
    let undisturbed = Stage::new();
    undisturbed.succeed(&format!("{TRAIN} --set train.micro_batch_size=auto"));
    let stage = Stage::new();
    let (code, said) = go_on_with_less(&stage, "--set train.micro_batch_size=auto");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("micro-batch 24 is planned anew: it takes "), "{said}");
    let (found, expected) = (records(&stage), records(&undisturbed));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!((found.step, found.train.samples), (expected.step, expected.train.samples), "one step an epoch");
        // Other images would give another loss; sums in parts are rounded otherwise.
        let (loss, whole) = (found.train.loss, expected.train.loss);
        assert!((loss - whole).abs() < 1e-3 * whole, "epoch {}: {loss} and {whole}", found.epoch);
    }
}

/// Has a run end at a step whose loss is no number: what the run folder then has of that step, and what was said.
fn end_at(stage: &Stage, arguments: &str, step: u64) -> (Value, String) {
    let mut command = stage.command(arguments);
    command.env("STOKER_INJECT_OUT_OF_MEMORY", format!("nan:{step}"));
    let ended = Ended::of(command.output().expect("the binary was built for this test"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let written = fs::read(stage.run_path("nonfinite_step.json")).expect("the run wrote it");
    let written: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(written["step"].as_u64(), Some(step), "{written}");
    (written, ended.stderr)
}

/// Epoch, the seed of its chance, and the images in their order: what a step computes, however it is cut.
fn content(step: &Value) -> (u64, u64, Vec<u64>) {
    let number = |value: &Value| value.as_u64().expect("a whole number");
    let images = step["samples"].as_array().expect("samples").iter().map(|sample| number(&sample["index"]));
    (number(&step["epoch"]), number(&step["step_seed"]), images.collect())
}

/// 48 images make two steps an epoch, and each step is saved. The run goes on within its second epoch; what its steps are made of is held to what they are
/// made of where memory stays as it was.
#[test]
fn smaller_micro_batches_get_the_images_that_larger_ones_would_have_had_in_the_same_order() {
    let each_saved = "--set train.micro_batch_size=auto --set train.max_nonfinite_steps=1 \
                      --set train.checkpoint_minutes=1e-6";
    let [stage, with_all_of_it] = [(); 2].map(|()| Stage::new());
    for stage in [&stage, &with_all_of_it] {
        draw_set(&stage.path("data/train"), 16);
    }
    let train = format!("{TRAIN} {each_saved}");
    let expected = [(3, &stage), (5, &with_all_of_it)].map(|(step, stage)| end_at(stage, &train, step).0);
    assert_ne!(content(&expected[0]).2, content(&expected[1]).2, "each epoch is shuffled anew");
    lower_limit(&stage);
    for (step, expected) in [3, 5].into_iter().zip(&expected) {
        let (found, said) = end_at(&stage, &format!("train --resume {RUN}"), step);
        // A step that ends the run is not saved.
        assert!(said.contains("\ngoing on after epoch 1 and 1 steps of the next\n"), "{said}");
        assert!(found["micro_batch_size"].as_u64() < expected["micro_batch_size"].as_u64(), "{found}");
        assert_eq!(content(&found), content(expected));
    }
}

/// As if a card had begun the run: its name is in the plan, and what suited it is in the configuration.
fn stopped_on_a_card(precision: &str) -> Stage {
    let stage = Stage::new();
    let settings = format!("--set train.micro_batch_size=auto --set train.precision={precision}");
    let mut running = stage.start(&format!("{TRAIN} {settings}"));
    running.wait_for_epoch_after(1, Duration::ZERO);
    assert_eq!(running.signal("INT").code, Some(130));
    let edit = |file: &str, changes: &[(&str, &str)]| {
        let text = fs::read_to_string(stage.run_path(file)).expect("the run wrote it");
        let edited = changes.iter().fold(text.clone(), |text, (from, to)| text.replace(from, to));
        assert_ne!(edited, text, "{text}");
        fs::write(stage.run_path(file), edited).expect("writable");
    };
    let mut plan: serde_json::Value =
        serde_json::from_slice(&fs::read(stage.run_path("plan.json")).expect("the run wrote it")).expect("JSON");
    plan["device"] = "NVIDIA A100".into();
    fs::write(stage.run_path("plan.json"), plan.to_string()).expect("writable");
    edit(
        "config.resolved.yaml",
        &[("# train.precision fp32:", "# train.precision bf16:"), ("precision: fp32", "precision: bf16")],
    );
    stage
}

fn precision_of(printed: &str) -> String {
    let line = printed.lines().find(|line| line.starts_with("  precision ")).expect("the plan is printed");
    line.split_whitespace().nth(1).expect("a value").to_owned()
}

#[test]
fn what_suited_another_device_is_planned_anew_the_precision_too() {
    let stage = stopped_on_a_card("auto");
    let ended = stage.succeed(&format!("train --resume {RUN}"));
    assert!(ended.stderr.contains("micro-batch 24 is planned anew: it was for NVIDIA A100\n"), "{}", ended.stderr);
    assert_eq!(precision_of(&ended.stdout), "fp32", "{}", ended.stdout);
    assert_eq!(records(&stage).len(), 3);
}

/// The user's micro-batch stays, and the precision is nobody's choice all the same.
#[test]
fn a_precision_that_was_found_is_chosen_anew_beside_a_micro_batch_that_was_set() {
    let stage = stopped_on_a_card("auto --set train.micro_batch_size=8");
    let ended = stage.succeed(&format!("train --resume {RUN}"));
    assert!(!ended.stderr.contains("planned anew"), "{}", ended.stderr);
    assert_eq!(precision_of(&ended.stdout), "fp32", "{}", ended.stdout);
}

#[test]
fn a_precision_that_the_user_set_is_kept_on_another_device() {
    let stage = stopped_on_a_card("fp32");
    let ended = stage.succeed(&format!("train --resume {RUN}"));
    assert_eq!(precision_of(&ended.stdout), "bf16", "it stands in the configuration: {}", ended.stdout);
}

/// `auto` found a card when the run began. Here it finds another device; where a flag names one, that is taken.
#[test]
fn a_device_that_was_found_is_looked_for_again_and_one_that_was_asked_for_is_not() {
    let stage = Stage::new();
    let mut running = stage.start(&format!("{TRAIN} --device cpu --set train.micro_batch_size=auto"));
    running.wait_for_epoch_after(1, Duration::ZERO);
    assert_eq!(running.signal("INT").code, Some(130));
    let asked = fs::read_to_string(stage.run_path("config.resolved.yaml")).expect("the run wrote it");
    let on_a_card = asked.replace("\ndevice: cpu\n", "\ndevice: cuda:63\n");
    assert_ne!(on_a_card, asked);
    fs::write(stage.run_path("config.resolved.yaml"), &on_a_card).expect("writable");
    let refused = stage.run(&format!("train --resume {RUN}"));
    assert!(refused.code == Some(2) && refused.stderr.contains("cuda:63"), "{}", refused.stderr);
    let found = format!("# device cuda:63: what `auto` found\n{on_a_card}");
    fs::write(stage.run_path("config.resolved.yaml"), found).expect("writable");
    stage.succeed(&format!("train --resume {RUN}"));
    stage.succeed(&format!("train --resume {RUN} --device cpu"));
}

#[test]
fn a_micro_batch_that_the_user_set_is_kept_or_refused() {
    let stage = Stage::new();
    let (code, said) = go_on_with_less(&stage, "--set train.micro_batch_size=24");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("`train.micro_batch_size") && !said.contains("planned anew"), "{said}");
}
