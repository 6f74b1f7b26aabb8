//! Steps whose gradients overflow fp16: they move nothing, are counted, and bring the scale of the loss down.

use checkpoint::{Checkpoint, LossScale};
use memory_planner::Precision;
use trainer::TrainOptions;

use crate::stage::{STEPS_PER_EPOCH, Stage, options};

/// So far up that halving it three times does not help.
const FAR_TOO_LARGE: f64 = (1u64 << 40) as f64;

fn in_fp16(epochs: u32) -> TrainOptions {
    TrainOptions { precision: Precision::Fp16, ..options(epochs, 8) }
}

fn scale_of(stage: &Stage) -> LossScale {
    let saved = Checkpoint::read(&stage.run_path("checkpoints/last.safetensors")).expect("the run wrote it");
    saved.card.progress.loss_scale.expect("fp16 scales the loss")
}

#[test]
fn steps_that_overflow_move_nothing_and_are_counted() {
    let stage = Stage::new();
    let first = stage.train(in_fp16(1)).unwrap();
    assert_eq!(first.records[0].train.skipped_steps, 0);
    assert_eq!(scale_of(&stage), LossScale { factor: 65_536.0, quiet_steps: STEPS_PER_EPOCH as u32 });
    let path = stage.run_path("checkpoints/last.safetensors");
    let mut saved = Checkpoint::read(&path).unwrap();
    saved.card.progress.loss_scale = Some(LossScale { factor: FAR_TOO_LARGE, quiet_steps: 7 });
    saved.write(&path).unwrap();
    let second = stage.train(in_fp16(2)).unwrap();
    assert_eq!((&second.weights, &second.averaged), (&first.weights, &first.averaged));
    assert_eq!(second.records[1].train.skipped_steps, STEPS_PER_EPOCH);
    assert!(second.records[1].train.loss.is_finite() && second.records[1].train.samples > 0);
    assert_eq!(scale_of(&stage), LossScale { factor: FAR_TOO_LARGE / 8.0, quiet_steps: 0 });
    let saved = Checkpoint::read(&path).unwrap();
    assert_eq!((saved.card.progress.step, saved.card.progress.skipped_steps), (2 * STEPS_PER_EPOCH, STEPS_PER_EPOCH));
}

#[test]
fn a_run_resumed_in_fp16_writes_the_same_bytes() {
    let (whole, parts) = (Stage::new(), Stage::new());
    whole.train(in_fp16(2)).unwrap();
    // The schedule knows of both epochs.
    parts.train(TrainOptions { epochs: 1, ..in_fp16(2) }).unwrap();
    parts.train(in_fp16(2)).unwrap();
    let bytes = |stage: &Stage| std::fs::read(stage.run_path("checkpoints/last.safetensors")).unwrap();
    assert!(bytes(&whole) == bytes(&parts), "the checkpoints differ");
}
