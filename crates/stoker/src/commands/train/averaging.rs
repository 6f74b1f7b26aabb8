//! The average of a finished run's best epochs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::RunFolder;
use metrics::ValidationScores;
use trainer::{AveragedWeights, FaultPlan, TrainSession};

use super::Run;
use super::scoring::{Exam, stopped};
use crate::error::CommandError;
use crate::registry::Network;
use crate::ui;

impl Run {
    /// Writes the average of the best epochs' weights, where it is wanted, and tells how it does in validation. `best` stays what it is, whichever is
    /// better.
    pub(super) fn average(
        &self,
        folder: &RunFolder,
        session: &TrainSession<Network>,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Option<ValidationScores>, CommandError> {
        if !self.request.resolved.config.train.average_best {
            return Ok(None);
        }
        let Some(averaged) = self.averaged_weights(session, interrupt).map_err(|error| stopped(&error, folder))? else {
            return Ok(None);
        };
        let exam = Exam {
            task: "validating the averaged weights",
            model: &averaged.model,
            images: &self.data.training.validation,
            batch_size: session.micro_batch_size(),
            // Injected failures are for the run's own passes, which count them.
            faults: FaultPlan::default(),
        };
        let scores =
            self.score(folder, exam, interrupt)?.scores(self.request.resolved.config.train.ema_decay.is_some());
        ui::out(format_args!(
            "average of {}: macro-F1 {:.4}, loss {:.4}{}",
            epochs(&averaged.epochs),
            scores.macro_f1,
            scores.loss,
            if averaged.statistics_measured { ", batch norms measured anew" } else { "" }
        ))?;
        ui::out("`predict` takes `best`, and the average with `--checkpoint averaged`")?;
        Ok(Some(scores))
    }

    fn averaged_weights(
        &self,
        session: &TrainSession<Network>,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Option<AveragedWeights<Network>>, trainer::TrainError> {
        let training = &self.data.training;
        let mut progress = ui::Progress::start("averaging weights", "images", training.train.len() as u64);
        session.average_kept(training, &self.compute.device, interrupt, &mut |done| progress.set(done as u64))
    }
}

/// `epochs 3, 7 and 5`.
fn epochs(epochs: &[u32]) -> String {
    let numbers: Vec<String> = epochs.iter().map(u32::to_string).collect();
    match numbers.split_last() {
        Some((last, [])) => format!("epoch {last} alone"),
        Some((last, others)) => format!("epochs {} and {last}", others.join(", ")),
        None => "no epoch".to_owned(),
    }
}
