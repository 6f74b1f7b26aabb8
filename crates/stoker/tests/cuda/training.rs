//! Whole runs on CUDA's runtime: planned dry, trained within the plan, on one card and on two.

use std::fs;

use serde_json::json;

use crate::machine::{GIB, Machine};

/// Of all that follow, so that kernels are compiled and tuned once.
const TRAIN: &str =
    "train --config tiny.yaml --set model.image_size=96 --set train.effective_batch_size=16 --set train.epochs=1";

#[test]
fn a_run_takes_what_its_dry_plan_says_and_goes_on_when_there_is_less() {
    let machine = Machine::with_card(4 * GIB);
    let (stdout, stderr) = machine.succeed(TRAIN);
    assert!(stdout.contains("dry run on the device"), "{stdout}\n{stderr}");
    assert!(stdout.contains("next, predict:"), "{stdout}");
    let counted = machine.statistics();
    assert_eq!(counted.refusals, 0, "{counted:?}");
    assert!(counted.launches > 100 && counted.kernels > 20, "{counted:?}");
    // The first run tuned what validation alone meets, and pools let go of pages meanwhile. What the driver has given away at the end of one that tunes
    // nothing is the plan's to the byte.
    machine.succeed(&format!("{TRAIN} --overwrite"));
    let counted = machine.statistics();
    let plan = machine.read_json("runs/latest/plan.json");
    let predicted = plan["plan"]["predicted_peak_bytes"].as_u64().expect("a plan predicts");
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

/// Numbers mean nothing here: what is seen is that both cards work, that weights and gradients find their way, and that the run comes to its end. Then
/// one card does the same micro-batches alone, for its team has it so, and at last two and three exchange by all-reduces.
#[test]
fn cards_share_a_run_as_planned_either_way_and_one_takes_what_its_team_has() {
    let machine = Machine::with_card(12 * GIB).set("STAND_IN_CARD_COUNT", "3");
    let printed = machine.succeed("plan --config tiny.yaml --gpu-ids 0,1 --test-only").0;
    let each = "NVIDIA GeForce RTX 3060: micro-batch 4 x 2, ";
    assert_eq!(printed.lines().filter(|line| line.contains(each)).count(), 2, "{printed}");
    let together = "global batch 8: 2 x 4 = 8 dealt round 2 cards, as the smallest holds: cuda:0";
    assert!(printed.contains(together), "{printed}");
    // Without an effective batch, a part for each.
    let words = "plan --model convnext_atto --img-size 32 --gpu-ids 0,1 --source captured --max-batch-size 16 --json";
    let plans: serde_json::Value = serde_json::from_str(&machine.succeed(words).0).expect("it is JSON");
    assert_eq!([&plans["shared"]["micro_batches"], &plans["global_batch"]], [&json!([16, 16]), &json!(32)], "{plans}");

    let (stdout, stderr) = machine.succeed("train --config tiny.yaml --gpus 0,1 --exchange host");
    assert_eq!(machine.read_json("runs/latest/plan.json")["plan"]["micro_batches"], json!([4, 4]));
    assert!(stderr.contains("shared with cuda:1"), "{stderr}");
    assert!(stderr.contains("2 micro-batches a step, exchange through the host's memory"), "{stderr}");
    assert!(stdout.contains("next, predict:"), "{stdout}");
    let counted = machine.statistics();
    assert_eq!(counted.refusals, 0, "{counted:?}");
    assert!(counted.launches_elsewhere > 100, "{counted:?}");

    let settings = machine.path("team_settings.yaml");
    machine.succeed("plan --config tiny.yaml --all-gpus --write-team-settings team_settings.yaml");
    let text = fs::read_to_string(&settings).expect("it was just written");
    let (before, of_card) = text.split_once("- card: rtx3060-12gb\n").expect("the catalogue has the card");
    let of_card = of_card.replacen("micro_batch: 8", "micro_batch: 4", 1);
    let of_card = of_card.replacen("accumulation_steps: 1", "accumulation_steps: 2", 1);
    fs::write(&settings, format!("{before}- card: rtx3060-12gb\n{of_card}")).expect("writable");
    let (stdout, _) = machine.succeed("train --config tiny.yaml --overwrite");
    assert!(stdout.contains("what `team_settings.yaml` has for this card"), "{stdout}");
    let plan = &machine.read_json("runs/latest/plan.json")["plan"];
    assert_eq!([&plan["micro_batches"], &plan["effective_batch"]], [&json!([4, 4]), &json!(8)]);
    assert_shared_by_all_reduces(machine);
}

/// Weights and gradients go by all-reduces, each with another that shows whether all cards took part. A card that has no part of a batch adds zeros.
fn assert_shared_by_all_reduces(machine: Machine) {
    const A_STEP: usize = 4;
    const STEPS: usize = 6;
    let machine = machine.with_nccl();
    let (stdout, stderr) = machine.succeed("train --config tiny.yaml --gpus 0,1 --overwrite");
    assert!(stderr.contains("2 micro-batches a step, exchange through NCCL"), "{stderr}");
    assert!(stdout.contains("next, predict:"), "{stdout}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(machine.all_reduces(), 2 * A_STEP * STEPS);

    let three = "train --config tiny.yaml --gpus all --set train.micro_batch_size=4 --overwrite";
    let (_, stderr) = machine.succeed(three);
    assert!(stderr.contains("1 of 3 cards have no work"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(machine.all_reduces(), (2 + 3) * A_STEP * STEPS);

    // What NCCL refuses is no step: cards would go on with weights that are none.
    let machine = machine.set("STAND_IN_NCCL_REFUSES", "1");
    let output = machine.run("train --config tiny.yaml --gpus 0,1 --overwrite");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("of 2 cards 1 took part in a sum by NCCL; `--exchange host` does without it"), "{stderr}");
}

/// Times mean nothing here: what is seen is that both ways of each operation run, that what came of it is kept, and that the next run finds it.
#[test]
fn the_faster_way_is_found_once_for_a_card() {
    let machine = Machine::with_card(4 * GIB);
    let train = format!("{TRAIN} --set kernels=auto --set train.precision=fp32");
    let (stdout, stderr) = machine.succeed(&train);
    assert!(stderr.contains("measuring kernels at "), "{stderr}");
    assert!(!stderr.contains("kernels could not be measured"), "{stderr}");
    let of_kernels = |plan: &serde_json::Value| {
        let choices = plan["plan"]["choices"].as_array().cloned().unwrap_or_default();
        choices.into_iter().find(|choice| choice["name"] == "kernels").expect("a plan says how kernels were chosen")
    };
    let chosen = of_kernels(&machine.read_json("runs/latest/plan.json"));
    assert!(!chosen["reason"].as_str().expect("it is text").contains("could not be measured"), "{chosen}");
    assert!(stdout.contains(chosen["value"].as_str().expect("it is text")), "{stdout}");
    let (_, stderr) = machine.succeed(&format!("{train} --overwrite"));
    assert!(!stderr.contains("measuring kernels at "), "{stderr}");
    assert_eq!(of_kernels(&machine.read_json("runs/latest/plan.json")), chosen);
}

/// The largest batches have buffers that the card does not give at once: a dry run of one would end the process, and the plan would rest on less.
#[test]
fn a_plan_of_predictions_rests_on_a_dry_run() {
    let machine = Machine::with_card(4 * GIB);
    let (stdout, stderr) = machine.succeed("plan --inference --model convnext_atto --img-size 64 --device cuda:0");
    assert!(stdout.contains("dry run on the device"), "{stdout}\n{stderr}");
    assert!(!stderr.contains("did not work"), "{stderr}");
}

/// The tests whose numbers count begin here.
#[test]
#[ignore = "takes minutes, and a C++ compiler: `scripts/run_kernels.sh` runs it"]
fn a_card_that_computes_learns_what_the_cpu_learns() {
    learns_and_predicts_what_the_cpu_does("8.6", 2, "--set model.initialization=fan_in");
}

#[test]
#[ignore = "takes minutes, and a C++ compiler: `scripts/run_kernels.sh` runs it"]
fn a_card_that_computes_learns_windows_as_the_cpu_does() {
    learns_and_predicts_what_the_cpu_does("8.6", 1, "--set model.name=swin_tiny");
}

/// On a card without TF32: at 32 px the last norms are over eight numbers, and make of its ten bits of fraction losses that are 1 to 2 % off, at any rate.
#[test]
#[ignore = "takes minutes, and a C++ compiler: `scripts/run_kernels.sh` runs it"]
fn a_card_that_computes_learns_batch_norms_as_the_cpu_does() {
    learns_and_predicts_what_the_cpu_does("7.5", 1, "--set model.name=efficientnet_b0");
}

/// Of a batch of twelve the first card has two parts and the second one, which is what the first does alone.
#[test]
#[ignore = "takes minutes, and a C++ compiler: `scripts/run_kernels.sh` runs it"]
fn a_card_that_computes_learns_with_another_what_it_learns_alone() {
    let machine = Machine::with_card(4 * GIB).that_computes().set("STAND_IN_CARD_COUNT", "2").with_nccl();
    let settings = "--set train.precision=fp32 --set train.learning_rate=1e-3 --set train.effective_batch_size=12";
    let train = format!("train --config tiny.yaml {settings} --set train.micro_batch_size=4 --overwrite");
    let alone = machine.losses(&format!("{train} --gpus 0"));
    assert_eq!(machine.all_reduces(), 0);
    let together = machine.losses(&format!("{train} --gpus 0,1"));
    assert!(machine.all_reduces() > 0);
    assert_eq!([alone.len(), together.len()], [4, 4]);
    for (one, two) in alone.iter().zip(&together) {
        assert!((one - two).abs() <= 1e-4 * one, "{alone:?} alone, {together:?} together");
    }
}

/// From 8.0 on, products are taken by tensor cores, with 10 bits of fraction, so that losses agree to two or three places. What the card has learnt, both
/// predict.
fn learns_and_predicts_what_the_cpu_does(capability: &str, epochs: usize, settings: &str) {
    let machine = Machine::with_card(4 * GIB).that_computes().set("STAND_IN_CARD_CAPABILITY", capability);
    let train = format!(
        "train --config tiny.yaml --set train.precision=fp32 --set train.learning_rate=1e-4 --set train.epochs={epochs} {settings}"
    );
    let predictions = |device: &str| {
        let output = format!("{device}.csv").replace(':', "");
        let words = "predict --run runs/latest --input data/validation --tta essential --precision fp32";
        machine.succeed(&format!("{words} --device {device} --output {output}"));
        let table = fs::read_to_string(machine.path(&output)).expect("the prediction wrote it");
        let numbers = |line: &str| line.split(',').filter_map(|cell| cell.parse().ok()).collect::<Vec<f64>>();
        table.lines().skip(1).map(numbers).collect::<Vec<_>>().concat()
    };
    let of_card = machine.losses(&train);
    let [predicted, on_cpu] = ["cuda:0", "cpu"].map(predictions);
    let of_cpu = machine.losses(&format!("{train} --overwrite --device cpu"));
    assert_eq!(of_card.len(), 2 * epochs, "{of_card:?}");
    assert!(predicted.len() >= 12, "{predicted:?}");
    for (card, cpu) in of_card.iter().zip(&of_cpu) {
        assert!((card - cpu).abs() <= 5e-3 * cpu, "{of_card:?} on the card, {of_cpu:?} on the CPU");
    }
    assert_eq!(predicted.len(), on_cpu.len());
    for (card, cpu) in predicted.iter().zip(&on_cpu) {
        assert!((card - cpu).abs() <= 5e-3, "{predicted:?} on the card, {on_cpu:?} on the CPU");
    }
}

/// The command that a report from a card has in it, on the smallest model.
#[test]
fn launches_of_a_step_are_counted() {
    let machine = Machine::with_card(4 * GIB);
    let words = "bench step --model convnext_atto --size 32 --batch 2 --device cuda:0 --launches --json";
    let reports: serde_json::Value = serde_json::from_str(&machine.succeed(words).0).expect("it is JSON");
    let report = &reports[0];
    let of_kernels = report["kernels"].as_object().expect("by name").values().filter_map(serde_json::Value::as_u64);
    assert_eq!(report["launches"].as_u64(), Some(of_kernels.sum()), "{report}");
    assert!(report["launches"].as_u64() > Some(100), "{report}");
    assert_eq!(report["precision"], "fp32", "{report}");
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
