//! What is told of a run whose epochs are over.

use checkpoint::{BestEpoch, Progress, RunFolder};
use memory_planner::{MemoryAnalysis, PlanCheck};
use metrics::read_records;
use trainer::FitOutcome;

use super::{Fitted, Run};
use crate::error::CommandError;
use crate::ui;

impl Run {
    /// Prints how training went. Weights that give no numbers are an error: there is nothing to test, to average or to predict with.
    pub(super) fn tell_outcome(
        &self,
        folder: &RunFolder,
        analysis: &MemoryAnalysis,
        fitted: &Fitted,
    ) -> Result<(), CommandError> {
        let progress = fitted.session.progress();
        if fitted.outcome == FitOutcome::StoppedEarly {
            ui::out(stopped_early(progress))?;
        }
        if fitted.trained {
            let check = PlanCheck {
                predicted_peak_bytes: analysis.plan.predicted_peak_bytes,
                measured_peak_bytes: fitted.peak_bytes,
                budget_bytes: analysis.budget.budget_bytes,
            };
            ui::out(format_args!("\n{}", check.render().trim_end()))?;
        }
        if fitted.corrupt > 0 {
            let list = folder.corrupt_images();
            ui::out(format_args!("corrupt images skipped: {}, listed in {}", fitted.corrupt, list.display()))?;
        }
        let left_out = steps_left_out(folder)?;
        if left_out > 0 {
            let steps = progress.step;
            ui::out(format_args!("steps left out because their numbers were not finite: {left_out} of {steps}"))?;
        }
        let Some(best) = progress.best else { return Ok(()) };
        ui::out(format_args!("best epoch {}: macro-F1 {:.4}, loss {:.4}", best.epoch, best.macro_f1, best.loss))?;
        if best.loss.is_finite() { Ok(()) } else { Err(diverged(&best)) }
    }
}

fn stopped_early(progress: &Progress) -> String {
    let waited = progress.early_stopping.epochs_without;
    format!("stopped early after epoch {}: macro-F1 was not better for {waited} epochs", progress.epochs_done)
}

/// Over all epochs, whichever process did them.
fn steps_left_out(folder: &RunFolder) -> Result<u64, CommandError> {
    let records = read_records(&folder.metrics());
    let records = records.map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    Ok(records.iter().map(|record| record.train.nonfinite_steps).sum())
}

/// A finite loss wins over every other, so that no epoch had one.
fn diverged(best: &BestEpoch) -> CommandError {
    let BestEpoch { epoch, loss, .. } = best;
    let message =
        format!("training came to no usable weights: the validation loss of the best epoch, {epoch}, is {loss}");
    CommandError::failed(message).with_hint(
        "lower the learning rate (`--set train.learning_rate=..`), warm up longer (`--set train.warmup_epochs=..`), clip \
         (`--set train.clip_norm=1`), or leave half precision (`--set train.precision=fp32`), and train anew: `--overwrite`"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_finite_loss_is_told_with_ways_out() {
        let error = diverged(&BestEpoch { epoch: 2, macro_f1: 0.0, loss: f64::NAN });
        assert!(error.message.ends_with("the validation loss of the best epoch, 2, is NaN"), "{}", error.message);
        let hint = error.hint.expect("there are ways out");
        let keys = ["learning_rate", "warmup_epochs", "clip_norm", "precision"];
        assert!(keys.iter().all(|key| hint.contains(&format!("--set train.{key}="))), "{hint}");
    }
}
