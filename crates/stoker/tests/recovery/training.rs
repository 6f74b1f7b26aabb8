//! A training run in which memory runs out.

use insta::assert_snapshot;
use memory_planner::format_bytes;

use crate::stage::{RUN, Stage, assert_same_losses, told};

#[test]
fn injected_moments_are_told_logged_and_change_no_loss() {
    let undisturbed = Stage::new();
    undisturbed.succeed("train --config tiny.yaml", &[]);
    let stage = Stage::new();
    let stderr = stage.succeed("train --config tiny.yaml", &[("STOKER_INJECT_OUT_OF_MEMORY", "1,4:1,eval:0")]);
    assert_snapshot!(told(&stderr).join("\n"));
    assert!(
        stderr.contains("testing: memory will run out at `1,4:1,eval:0` (`STOKER_INJECT_OUT_OF_MEMORY`)\n"),
        "{stderr}"
    );
    assert_eq!(stage.sizes(), [[1, 8, 4], [3, 4, 2], [4, 4, 2]]);
    assert_same_losses(&stage.losses(), &undisturbed.losses());
}

/// No gradients and no activations of a backward pass are held in validation.
#[test]
fn memory_is_told_of_training_and_of_validation_and_the_highest_so_far_is_the_most_of_them() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml", &[]);
    let mut highest = 0;
    for record in stage.records() {
        let peaks = [record.run.train_peak_memory_bytes, record.run.validation_peak_memory_bytes];
        let [train, validation] = peaks.map(|peak| peak.expect("the heap is counted"));
        assert!(0 < validation && validation < train, "{validation} in validation, {train} in training");
        highest = train.max(highest);
        assert_eq!(record.run.peak_memory_bytes, Some(highest));
    }
    let page = std::fs::read_to_string(stage.path(RUN).join("report.html")).unwrap();
    assert!(page.contains("MiB, highest use"));
    assert!(!page.contains(">train and validation<") && !page.contains(">highest so far<"), "a line each");
}

/// The plan would refuse a micro-batch that it knows not to fit. Here it knows of no limit, and one lies between what this micro-batch takes and
/// what a quarter of it takes.
#[test]
fn a_heap_limit_that_the_plan_did_not_know_is_kept_by_smaller_parts() {
    let train = "train --config tiny.yaml --set train.effective_batch_size=24";
    let trained = |micro_batch: usize| {
        let stage = Stage::new();
        stage.succeed(&format!("{train} --set train.micro_batch_size={micro_batch}"), &[]);
        let peaks =
            stage.records().into_iter().map(|record| record.run.peak_memory_bytes.expect("the heap is counted"));
        (peaks.max().expect("there are epochs"), stage.losses())
    };
    let ((whole, losses), (quarter, _)) = (trained(24), trained(6));
    assert!(quarter + (8 << 20) < whole, "{quarter} of {whole}: there is no room for a limit between");
    let limit = ((whole + quarter) / 2).to_string();
    let stage = Stage::new();
    let injected = [("STOKER_INJECT_MEMORY_LIMIT", limit.as_str())];
    let stderr = stage.succeed(&format!("{train} --set train.micro_batch_size=24"), &injected);
    let of = format!(" of at most {}; the same images again, ", format_bytes(limit.parse().unwrap()));
    assert!(!told(&stderr).is_empty() && told(&stderr).iter().all(|line| line.contains(&of)), "{stderr}");
    let events = stage.events();
    // What the optimizer keeps is there before the first gradients.
    assert_eq!((&events[0]["step"], &events[0]["micro_batch_before"]), (&0.into(), &24.into()));
    assert!(events.iter().all(|event| event["limit_bytes"].as_u64() == limit.parse().ok()), "{events:?}");
    assert_same_losses(&stage.losses(), &losses);
}

/// Where the head alone is trained, a step holds little beside the weights, and the copy of a tensor that is saved is more: the limit lies between the two,
/// and no smaller part would help. The images behind the last epoch need a model more than that.
#[test]
fn a_limit_that_saving_passes_is_told() {
    let train = "train --config tiny.yaml --set model.image_size=32 --set train.effective_batch_size=4 \
                 --set train.micro_batch_size=1 --set train.epochs=1 --set model.freeze=[stem,stages]";
    let [without_limit, stage] = [Stage::new(), Stage::new()];
    without_limit.succeed(train, &[]);
    // What steps take differs from processor to processor by what products pack, and from run to run by some KiB. The largest tensor is 1.6 MiB.
    let peak = without_limit.records()[0].run.peak_memory_bytes.expect("the heap is counted");
    let limit = peak + (256 << 10);
    let ended = stage.run(train, &[("STOKER_INJECT_MEMORY_LIMIT", &limit.to_string())]);
    let stderr = ended.stderr;
    assert!(told(&stderr).is_empty(), "no step passed it: {stderr}");
    let passed = "warning: the heap held ";
    let line = stderr.lines().find(|line| line.starts_with(passed)).unwrap_or_else(|| panic!("{stderr}"));
    let of = format!(" of at most {} outside of forward and backward passes, before step ", format_bytes(limit));
    assert!(line.contains(&of), "{line}");
    assert!(line.contains("`memory.limit: "), "{line}");
    assert!(stderr.contains("error: a single image does not fit in memory in prediction"), "{stderr}");
}

/// What is loaded lies in the memory of the step on the CPU: a plan that left it out would write a micro-batch that the run refuses.
#[test]
fn a_plan_counts_what_loading_takes_as_the_run_does() {
    let stage = Stage::new();
    // 65 batches of 24 images of 64 pixels: 18 MiB.
    let settings =
        "--set train.effective_batch_size=24 --set train.micro_batch_size=auto --set data.prefetch_batches=64";
    let planned = stage.output(&format!("plan --config tiny.yaml {settings} --test-only --json"));
    let planned: serde_json::Value = serde_json::from_slice(&planned).unwrap();
    stage.succeed(&format!("train --config tiny.yaml {settings} --set train.epochs=1"), &[]);
    let run = std::fs::read_to_string(stage.path(RUN).join("plan.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    let overhead = |of: &serde_json::Value| of["footprint"]["fixed"]["overhead"].as_u64().unwrap() as f64;
    assert!(overhead(&planned) > f64::from(18 << 20), "{}", overhead(&planned));
    let share = overhead(&planned) / overhead(&run);
    // The run has its data sets in memory, too.
    assert!((0.95..1.05).contains(&share), "{share}");
}

/// A limit at which the batch must be cut is kept, and what it allows is used.
#[test]
fn a_run_under_a_limit_never_runs_out_of_memory_and_uses_most_of_it() {
    // What steps take differs from processor to processor: on a Xeon without AMX the 12 images of half a batch take 111.6 MiB, too little of 132.
    for limit_mib in [120u64, 128] {
        let stage = Stage::new();
        let train = format!(
            "train --config tiny.yaml --set model.image_size=96 --set train.effective_batch_size=24 \
             --set train.micro_batch_size=auto --set memory.limit={limit_mib}MiB"
        );
        let stderr = stage.succeed(&train, &[]);
        assert!(told(&stderr).is_empty() && !stderr.contains("the heap held "), "{limit_mib} MiB: {stderr}");
        let peak = stage.records().into_iter().filter_map(|record| record.run.peak_memory_bytes).max().unwrap();
        let share = peak as f64 / (limit_mib << 20) as f64;
        assert!((0.85..=1.0).contains(&share), "{limit_mib} MiB: {share:.3} of it");
        let plan = std::fs::read_to_string(stage.path(RUN).join("plan.json")).unwrap();
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        assert!(plan["plan"]["accumulation_steps"].as_u64() > Some(1), "the limit is to cut the batch: {plan}");
    }
}

#[test]
fn a_micro_batch_grows_back_when_that_is_asked_for() {
    let stage = Stage::new();
    // 12 steps an epoch: the 100 quiet ones end in the ninth.
    let config = "--set model.image_size=32 --set train.effective_batch_size=2 --set train.micro_batch_size=2 \
                  --set train.epochs=9 --set train.adaptive_batch=true";
    let injected = [("STOKER_INJECT_OUT_OF_MEMORY", "3")];
    let stderr = stage.succeed(&format!("train --config tiny.yaml {config}"), &injected);
    assert_eq!(stage.sizes(), [[3, 2, 1], [103, 1, 2]]);
    let told = told(&stderr);
    assert!(told.len() == 2 && told[1].starts_with("micro-batch 1 becomes 2 at step 103: it should take "), "{told:?}");
}

#[test]
fn a_moment_that_is_none_is_a_wrong_request() {
    let stage = Stage::new();
    for (name, value) in [("STOKER_INJECT_OUT_OF_MEMORY", "soon"), ("STOKER_INJECT_MEMORY_LIMIT", "little")] {
        let ended = stage.run("train --config tiny.yaml", &[(name, value)]);
        assert_eq!(ended.code, Some(2));
        assert_snapshot!(name, ended.stderr);
    }
    assert!(!stage.path("runs").exists());
}
