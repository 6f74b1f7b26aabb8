//! `test_scores.json`: what the best weights score on the test images, for programs to read.

use std::path::PathBuf;

use checkpoint::{RunFolder, write_atomically};
use metrics::{TopKAccuracy, ValidationScores};
use serde::Serialize;

use crate::error::CommandError;

/// What the file has. A number that is not finite is `null`.
#[derive(Serialize)]
struct TestScores {
    /// The epoch whose weights were scored, from 1.
    epoch: u32,
    /// Images scored.
    images: u64,
    /// Corrupt images left out.
    skipped: u64,
    /// Share predicted right, 0 to 1.
    accuracy: f64,
    /// 0 to 1.
    macro_f1: f64,
    /// Mean loss an image: cross-entropy, nats.
    loss: f64,
    /// Share with the label among the k highest scores.
    top_k: TopKAccuracy,
}

/// Writes the file into the run folder, in the place of what a resumed run had there.
pub(super) fn write_test_scores(folder: &RunFolder, epoch: u32, scores: &ValidationScores) -> Result<(), CommandError> {
    let scores = TestScores {
        epoch,
        images: scores.samples,
        skipped: scores.skipped,
        accuracy: scores.accuracy,
        macro_f1: scores.macro_f1,
        loss: scores.loss,
        top_k: scores.top_k,
    };
    let mut text = serde_json::to_string_pretty(&scores).expect("scores have string keys and plain numbers");
    text.push('\n');
    write_atomically(&place(folder), text.as_bytes())
        .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))
}

fn place(folder: &RunFolder) -> PathBuf {
    folder.root().join("test_scores.json")
}
