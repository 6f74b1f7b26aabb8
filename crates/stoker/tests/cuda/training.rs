//! A whole run on CUDA's runtime: planned dry, trained within the plan, and out of memory when somebody else takes the card's.

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

#[test]
fn a_card_that_somebody_else_fills_is_trained_on_in_smaller_pieces() {
    // Enough launches for the plan and the first steps; then so little is left that no new page can be had.
    let machine = Machine::with_card(4 * GIB).set("STAND_IN_CARD_THIEF", "3000:4194304000");
    let output = machine.run("train --config tiny.yaml --set train.epochs=8");
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    println!("{stdout}\n{stderr}\n{:?}", machine.statistics());
    assert!(output.status.success(), "{stdout}\n{stderr}");
}
