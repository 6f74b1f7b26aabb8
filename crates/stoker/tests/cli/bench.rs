//! `bench`: requests that are refused before anything is measured.

use insta::assert_snapshot;

use crate::stage::Stage;

#[test]
fn steps_that_cannot_be_timed_are_refused() {
    let stage = Stage::new();
    assert_snapshot!("bench_step_of_an_unknown_model", stage.run("bench step --model convnext_tny"));
    assert_snapshot!("bench_step_of_an_unknown_way", stage.run("bench step --checkpointing none,all"));
    assert_snapshot!("bench_step_of_no_images", stage.run("bench step --batch 0"));
}
