//! Going on with less memory than the run was planned for, as on a smaller card.

use std::fs;
use std::time::Duration;

use memory_planner::MemoryAnalysis;
use metrics::{EpochRecord, read_records};

use crate::stage::{RUN, Stage};

/// All of the training images in one step, and in one micro-batch where memory allows it.
const TRAIN: &str = "train --config tiny.yaml --set model.image_size=64 --set train.effective_batch_size=24";

fn records(stage: &Stage) -> Vec<EpochRecord> {
    read_records(&stage.run_path("metrics.jsonl")).expect("the run wrote it")
}

/// Stops a run after its first epoch, and goes on with memory for less than half of what its micro-batch takes. Returns what it said then.
fn go_on_with_less(stage: &Stage, settings: &str) -> (Option<i32>, String) {
    let mut running = stage.start(&format!("{TRAIN} {settings}"));
    running.wait_for_epoch_after(1, Duration::ZERO);
    assert_eq!(running.signal("INT").code, Some(130));
    let plan = fs::read(stage.run_path("plan.json")).expect("the run wrote it");
    let before: MemoryAnalysis = serde_json::from_slice(&plan).expect("written by us");
    assert_eq!(before.plan.micro_batches, [24]);
    let limit = before.footprint.peak_bytes(10) + before.footprint.accumulation_extra;
    assert!(limit < before.plan.predicted_peak_bytes);
    let config = fs::read_to_string(stage.run_path("config.resolved.yaml")).expect("the run wrote it");
    let lower = config.replace("\n  limit: null\n", &format!("\n  limit: {limit}\n"));
    assert_ne!(lower, config);
    fs::write(stage.run_path("config.resolved.yaml"), lower).expect("writable");
    let ended = stage.run(&format!("train --resume {RUN}"));
    (ended.code, ended.stderr)
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
        // Other images, or others together, would give another loss; sums in parts are rounded otherwise.
        let (loss, whole) = (found.train.loss, expected.train.loss);
        assert!((loss - whole).abs() < 1e-3 * whole, "epoch {}: {loss} and {whole}", found.epoch);
    }
}

#[test]
fn a_micro_batch_that_the_user_set_is_kept_or_refused() {
    let stage = Stage::new();
    let (code, said) = go_on_with_less(&stage, "--set train.micro_batch_size=24");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("`train.micro_batch_size") && !said.contains("planned anew"), "{said}");
}
