//! Whole runs on CUDA's runtime: planned dry, trained within the plan, on one card and on two.

use crate::machine::{GIB, Machine};

#[test]
fn a_run_is_planned_dry_and_stays_within_its_plan() {
    let machine = Machine::with_card(4 * GIB);
    let (stdout, stderr) = machine.succeed("train --config tiny.yaml");
    assert!(stdout.contains("dry run on the device"), "{stdout}\n{stderr}");
    assert!(stdout.contains("next, predict:"), "{stdout}");
    let counted = machine.statistics();
    assert_eq!(counted.refusals, 0, "{counted:?}");
    assert!(counted.launches > 100 && counted.kernels > 20, "{counted:?}");
    let plan = std::fs::read_to_string(machine.path("runs/latest/plan.json")).expect("the run wrote it");
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("it is JSON");
    let budget = plan["budget"]["budget_bytes"].as_u64().expect("a plan has a budget");
    assert!(counted.peak_bytes <= budget, "{counted:?}, budget {budget}");
}

/// Numbers mean nothing here: what is seen is that both cards work, that weights and gradients find their way, and that the run comes to its end.
#[test]
fn two_cards_share_a_run_and_each_stays_within_its_plan() {
    let machine = Machine::with_card(4 * GIB).set("STAND_IN_CARD_COUNT", "2");
    let (stdout, stderr) = machine.succeed("train --config tiny.yaml --gpus 0,1 --exchange host");
    assert!(stderr.contains("shared with cuda:1"), "{stderr}");
    assert!(stderr.contains("2 micro-batches a step, exchange through the host's memory"), "{stderr}");
    assert!(stdout.contains("next, predict:"), "{stdout}");
    let counted = machine.statistics();
    assert_eq!(counted.refusals, 0, "{counted:?}");
    assert!(counted.launches_elsewhere > 100, "{counted:?}");
    assert!(
        counted.launches_elsewhere < counted.launches / 2,
        "the first also plans, moves the weights and evaluates: {counted:?}"
    );
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
