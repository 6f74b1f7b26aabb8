//! A training run in which memory runs out.

use insta::assert_snapshot;
use memory_planner::format_bytes;

use crate::stage::{Stage, assert_same_losses, told};

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
    // In the first step the optimizer holds nothing yet.
    assert_eq!((&events[0]["step"], &events[0]["micro_batch_before"]), (&1.into(), &24.into()));
    assert!(events.iter().all(|event| event["limit_bytes"].as_u64() == limit.parse().ok()), "{events:?}");
    assert_same_losses(&stage.losses(), &losses);
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
