//! Whole runs on CUDA's runtime: planned dry, trained within the plan, on one card and on two.

use crate::machine::{GIB, Machine};

/// Of all that follow, so that kernels are compiled and tuned once.
const TRAIN: &str =
    "train --config tiny.yaml --set model.image_size=64 --set train.effective_batch_size=16 --set train.epochs=1";

#[test]
fn a_run_takes_what_its_dry_plan_says_and_goes_on_when_there_is_less() {
    let machine = Machine::with_card(4 * GIB);
    let (stdout, stderr) = machine.succeed(TRAIN);
    assert!(stdout.contains("dry run on the device"), "{stdout}\n{stderr}");
    assert!(stdout.contains("next, predict:"), "{stdout}");
    let counted = machine.statistics();
    assert_eq!(counted.refusals, 0, "{counted:?}");
    assert!(counted.launches > 100 && counted.kernels > 20, "{counted:?}");
    let plan = machine.read_json("runs/latest/plan.json");
    let predicted = plan["plan"]["predicted_peak_bytes"].as_u64().expect("a plan predicts");
    // What the driver has given away when the run ends, to the byte.
    assert_eq!(counted.held_bytes, predicted, "{counted:?}");

    // Predictions meet kernels of their own; another process finds all of them kept.
    let predict = "predict --run runs/latest --input data/validation --device cuda:0 --tta essential --output p.csv";
    machine.succeed(predict);
    let compiled = machine.compiled();
    assert!(compiled > 0);
    machine.succeed(predict);
    assert_eq!(machine.compiled(), compiled, "kernels are compiled once for all processes");

    // The driver tells of memory that is not there: real allocations fail in the middle of a step.
    let there = predicted - (20 << 20);
    let machine = machine.set("STAND_IN_CARD_MEMORY_THERE", &there.to_string());
    let (_, stderr) = machine.succeed(&format!("{TRAIN} --overwrite"));
    assert!(stderr.contains("out of memory in training at step 0, 16 images at once"), "{stderr}");
    assert!(stderr.contains("the same images again, 8 at once"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let event = machine.read_json("runs/latest/memory_events.jsonl");
    assert_eq!([&event["micro_batch_before"], &event["micro_batch_after"]], [16, 8]);
    let counted = machine.statistics();
    assert!(counted.refusals > 0 && counted.held_bytes <= there, "{counted:?}");
}

/// Numbers mean nothing here: what is seen is that both cards work, that weights and gradients find their way, and that the run comes to its end.
#[test]
fn two_cards_share_a_run() {
    let machine = Machine::with_card(4 * GIB).set("STAND_IN_CARD_COUNT", "2");
    let (stdout, stderr) = machine.succeed("train --config tiny.yaml --gpus 0,1 --exchange host");
    assert!(stderr.contains("shared with cuda:1"), "{stderr}");
    assert!(stderr.contains("2 micro-batches a step, exchange through the host's memory"), "{stderr}");
    assert!(stdout.contains("next, predict:"), "{stdout}");
    let counted = machine.statistics();
    assert_eq!(counted.refusals, 0, "{counted:?}");
    assert!(counted.launches_elsewhere > 100, "{counted:?}");
}

#[test]
fn cards_that_are_not_there_are_refused() {
    let machine = Machine::with_card(4 * GIB);
    let output = machine.run("train --config tiny.yaml --gpus 0,1");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("cuda:1"), "{stderr}");
    assert!(!machine.path("runs").exists());
    if device::has_nccl() {
        return;
    }
    let output = machine.run("train --config tiny.yaml --gpus all --exchange nccl");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("`libnccl.so` cannot be loaded") && stderr.contains("leave `--exchange` out"), "{stderr}");
}
