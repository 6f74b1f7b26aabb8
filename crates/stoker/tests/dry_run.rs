//! The process that a plan has the step run dry in, on Mesa's software Vulkan. What the plan makes of its end is tested beside `run/dry_process.rs`.
//!
//!     cargo test -p stoker --features wgpu --test dry_run

#![cfg(feature = "wgpu")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Two images of 32 pixels at once, and nothing else.
const JOB: &str = r#"{
    "config": "data: {train: images}\nmodel: {name: convnext_atto, image_size: 32}\ntrain: {effective_batch_size: 2}\n",
    "device": "wgpu",
    "num_classes": 10,
    "train_samples": null,
    "rung": {"precision": "fp32", "checkpointing": "none"},
    "pages": [4194304, 65536],
    "budget_bytes": 1073741824,
    "request": {
        "effective_batch": 2, "micro_batch": null, "rounding": "multiple_of_4", "minimum": 2, "maximum": 2, "current": null
    }
}"#;

/// Bytes of convnext_atto's weights with 10 classes: 3,377,730 parameters (timm 1.0.31) in f32.
const WEIGHT_BYTES: u64 = 4 * 3_377_730;

fn dry_run(job: &str, crash: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stoker"));
    command.arg("dry-run").env("STOKER_INJECT_DRY_RUN_CRASH", crash);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A process that crashes does not read its job.
    let _ = child.stdin.take().unwrap().write_all(job.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn the_footprint_of_a_job_comes_back_as_json() {
    let output = dry_run(JOB, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let footprint: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(footprint["source"]["kind"], "dry_run");
    assert_eq!(footprint["fixed"]["weights"], WEIGHT_BYTES);
    let observation = &footprint["source"]["observations"][0];
    assert_eq!(observation["batch"], 2);
    // Weights, two moments and gradients are there at once, and activations of 32 pixels are little beside them.
    let peak_bytes = observation["peak_bytes"].as_u64().unwrap();
    assert!((4 * WEIGHT_BYTES..8 * WEIGHT_BYTES).contains(&peak_bytes), "{peak_bytes}");
}

#[test]
fn a_crash_leaves_no_answer_and_a_status_that_tells() {
    let output = dry_run(JOB, "1");
    assert!(!output.status.success());
    assert_eq!(output.status.code(), None, "ended by a signal, as by a driver");
    assert!(output.stdout.is_empty());
}

#[test]
fn what_is_no_job_is_refused() {
    let output = dry_run("{}", "");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the standard input has no job") && said.contains("missing field"), "{said}");
}
