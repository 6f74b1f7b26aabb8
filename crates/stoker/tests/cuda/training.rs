//! A whole run on CUDA's runtime: planned dry, trained within the plan.

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
