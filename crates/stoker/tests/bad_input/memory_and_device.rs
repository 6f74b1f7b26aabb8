//! Models that are unknown or too large, and devices that are not there.

use std::path::Path;

use insta::assert_snapshot;

use crate::scrub::scrub_numbers;
use crate::stage::Stage;

#[test]
fn an_unknown_model_is_refused_with_the_nearest_one() {
    assert_snapshot!(Stage::new().refuse("train --config x.yaml --set model.name=convnext_ato"));
}

#[test]
fn a_model_like_no_other_is_told_where_all_are_listed() {
    assert_snapshot!(Stage::new().refuse("train --config x.yaml --set model.name=resnet50"));
}

/// Below the weights nothing is measured; just above them no step fits. Both times the limit that the hint names is one to train under.
#[test]
fn a_limit_near_the_weights_is_told_one_that_suffices() {
    let stage = Stage::new();
    let below = stage.refuse("train --config x.yaml --set memory.limit=1MiB");
    // What the process holds beside them differs a little from time to time.
    let (_, needs) = below.split_once("error: `convnext_atto` needs more than 5").unwrap_or_else(|| panic!("{below}"));
    assert!(needs.contains(" MiB, but the budget is 1.0 MiB (`memory.limit` 1.0 MiB)"), "{below}");
    assert!(
        below.contains("weights 12.9 MiB, gradients 12.9 MiB, optimizer 25.8 MiB, before any activations"),
        "{below}"
    );
    let above = stage.refuse("train --config x.yaml --set memory.limit=54MiB");
    for (name, refused) in ["below", "above"].into_iter().zip([below, above]) {
        let (_, rest) = refused.split_once("hint: set `memory.limit: ").unwrap_or_else(|| panic!("{refused}"));
        let (enough, _) = rest.split_once("MiB`").unwrap_or_else(|| panic!("{refused}"));
        let train = format!("train --config x.yaml --set name={name} --set memory.limit={enough}MiB");
        let trained = stage.run(&train);
        assert!(trained.contains("exit code 0"), "{trained}");
    }
}

/// The card has memory: what is in the way is a setting, and the value that the hint names is enough.
#[test]
fn a_fraction_that_is_too_small_is_told_one_that_suffices() {
    let stage = Stage::new();
    let plan = "plan --model convnext_atto --img-size 64 --gpu rtx3060 --memory-fraction";
    let refused = stage.refuse(&format!("{plan} 0.001"));
    let (_, rest) = refused.split_once("hint: raise `memory.fraction` to ").unwrap_or_else(|| panic!("{refused}"));
    let (enough, _) = rest.split_once(": that holds ").unwrap_or_else(|| panic!("{refused}"));
    let planned = stage.run(&format!("{plan} {enough}"));
    assert!(planned.contains("exit code 0"), "{planned}");
}

#[test]
fn a_card_that_is_not_here_and_too_small_for_any_run_has_no_process_to_end() {
    let refused = Stage::new().refuse("plan --model convnext_atto --gpu rtx3060 --gpu-memory 500MiB");
    assert!(refused.contains("error: a card with 500.0 MiB has no memory left for a run"), "{refused}");
    assert!(!refused.contains("process"), "{refused}");
}

/// What was asked for is named, and not a setting that saves something of a step of one image.
#[test]
fn a_minimum_that_no_card_of_that_size_holds_is_named() {
    let plan = "plan --model convnext_atto --img-size 224 --gpu gtx1060-3gb --min-batch-size 1500";
    let refused = Stage::new().refuse(plan);
    let named = "hint: ask for fewer than `--min-batch-size 1500` images at once";
    assert!(refused.contains(named) && !refused.contains("of one image"), "{refused}");
}

#[test]
fn a_limit_below_one_sample_says_what_would_do() {
    let printed = Stage::new().refuse("train --config x.yaml --set model.image_size=256 --set memory.limit=60MiB");
    assert!(printed.contains("does not fit in 60.0 MiB (`memory.limit` 60.0 MiB)"), "{printed}");
    // What a step takes was measured.
    let (command, rest) = printed.split_once('\n').expect("the command is a line");
    assert_snapshot!(format!("{command}\n{}", scrub_numbers(rest)));
}

#[test]
fn a_card_without_a_driver_is_refused() {
    if Path::new("/dev/nvidiactl").exists() || cfg!(not(target_os = "linux")) {
        return; // there is a driver, or its file has another name
    }
    let stage = Stage::new();
    assert_snapshot!(stage.refuse("train --config x.yaml --device cuda"));
    // The flag comes before any `device`, so that setting one is no way out.
    for cards in ["0,1", "all"] {
        let refused = stage.refuse(&format!("train --config x.yaml --gpus {cards}"));
        assert!(refused.ends_with(", or leave `--gpus` out") && !refused.contains("device: "), "{refused}");
    }
}
