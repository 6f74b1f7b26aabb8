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

#[test]
fn a_limit_below_the_weights_is_refused_before_measuring() {
    assert_snapshot!(Stage::new().refuse("train --config x.yaml --set memory.limit=1MiB"));
}

#[test]
fn a_limit_just_above_the_weights_leaves_no_room_to_measure() {
    assert_snapshot!(Stage::new().refuse("train --config x.yaml --set memory.limit=54MiB"));
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
}
