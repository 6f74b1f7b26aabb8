//! Checkpoints that are damaged, gone, or of another model.

use std::fs;

use insta::assert_snapshot;

use crate::stage::Stage;

const PREDICT: &str = "predict --input photos --device cpu --run";

fn checkpoint(stage: &Stage, run: &str, name: &str) -> String {
    format!("{}/checkpoints/{name}.safetensors", stage.run_path(run))
}

/// A stage with the runs `pets` (convnext_atto) and `others` (convnext_femto), the latter with the former's checkpoints.
fn mixed_up() -> Stage {
    let stage = Stage::trained();
    stage.run("train --config x.yaml --set name=others --set model.name=convnext_femto");
    for name in ["best", "last"] {
        let (from, to) = (checkpoint(&stage, "pets", name), checkpoint(&stage, "others", name));
        fs::copy(stage.path(&from), stage.path(&to)).expect("both are there");
    }
    stage
}

/// Makes a checkpoint claim that it is of another model, whose name may have another length.
fn rename_model(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (length, rest) = bytes.split_first_chunk::<8>().expect("safetensors begin with the length of their header");
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = String::from_utf8(header.to_vec()).expect("the header is JSON").replace(from, to);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), tensors].concat()
}

fn truncate(stage: &Stage, path: &str) {
    let bytes = fs::read(stage.path(path)).expect("the run saved it");
    fs::write(stage.path(path), &bytes[..bytes.len() / 3]).expect("writable");
}

#[test]
fn a_checkpoint_copied_from_another_run_is_told() {
    let stage = mixed_up();
    assert_snapshot!(stage.refuse(&format!("{PREDICT} {}", stage.run_path("others"))));
}

#[test]
fn weights_that_do_not_fit_the_model_they_claim_to_be_of_are_refused() {
    let stage = mixed_up();
    let path = checkpoint(&stage, "others", "best");
    let bytes = fs::read(stage.path(&path)).expect("just copied");
    let stage = stage.file(&path, rename_model(&bytes, "convnext_atto", "convnext_femto"));
    assert_snapshot!(stage.refuse(&format!("{PREDICT} {}", stage.run_path("others"))));
}

#[test]
fn a_run_does_not_go_on_from_the_checkpoint_of_another_model() {
    let stage = mixed_up();
    assert_snapshot!(stage.refuse(&format!("train --resume {}", stage.run_path("others"))));
}

#[test]
fn starting_weights_of_another_model_are_refused() {
    let stage = Stage::trained();
    fs::rename(stage.path(&checkpoint(&stage, "pets", "best")), stage.path("atto.safetensors")).expect("writable");
    let settings = "--set name=others --set model.name=convnext_femto --set model.weights=atto.safetensors";
    assert_snapshot!(stage.refuse(&format!("train --config x.yaml {settings}")));
}

#[test]
fn starting_weights_that_are_no_safetensors_are_refused() {
    let stage = Stage::new().file("weights.safetensors", "not weights at all");
    assert_snapshot!(stage.refuse("train --config x.yaml --set model.weights=weights.safetensors"));
}

#[test]
fn a_truncated_checkpoint_points_to_the_other_one() {
    let stage = Stage::trained();
    truncate(&stage, &checkpoint(&stage, "pets", "best"));
    assert_snapshot!(stage.refuse(&format!("{PREDICT} {}", stage.run_path("pets"))));
    let with_last = stage.run(&format!("{PREDICT} {} --checkpoint last", stage.run_path("pets")));
    assert!(with_last.contains("--- exit code 0"), "the hint holds: {with_last}");
}

#[test]
fn a_run_does_not_go_on_from_a_truncated_checkpoint() {
    let stage = Stage::trained();
    truncate(&stage, &checkpoint(&stage, "pets", "last"));
    assert_snapshot!(stage.refuse(&format!("train --resume {}", stage.run_path("pets"))));
}

#[test]
fn a_missing_checkpoint_points_to_the_other_one() {
    let stage = Stage::trained();
    fs::remove_file(stage.path(&checkpoint(&stage, "pets", "best"))).expect("writable");
    assert_snapshot!(stage.refuse(&format!("{PREDICT} {}", stage.run_path("pets"))));
}

/// What becomes of a file on a bad disk or in careless hands; each is no checkpoint any more.
fn damaged(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |at: usize, bit: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= bit;
        bytes
    };
    vec![
        ("empty", Vec::new()),
        ("a text file", b"these are no weights\n".to_vec()),
        ("zeros", vec![0; bytes.len()]),
        ("a bit of the header's length", flipped(1, 0x10)),
        ("the highest bit of the header's length", flipped(7, 0x80)),
        ("a bit of the header's first bracket", flipped(8, 0x01)),
        ("longer than it says", [bytes, &[0; 64]].concat()),
    ]
}

#[test]
fn a_damaged_checkpoint_is_named_and_nothing_is_lost() {
    let stage = Stage::trained();
    let run = stage.run_path("pets");
    for (name, command) in [("best", format!("{PREDICT} {run}")), ("last", format!("train --resume {run}"))] {
        let path = stage.path(&checkpoint(&stage, "pets", name));
        let whole = fs::read(&path).expect("the run saved it");
        for (damage, bytes) in damaged(&whole) {
            fs::write(&path, bytes).expect("writable");
            let printed = stage.refuse(&command);
            let named = format!("checkpoints/{name}.safetensors` is not a complete safetensors file: ");
            assert!(printed.contains(&named), "{damage}: {printed}");
        }
        fs::write(&path, whole).expect("writable");
    }
    let printed = stage.run(&format!("train --resume {run}"));
    assert!(printed.contains("--- exit code 0"), "{printed}");
}
