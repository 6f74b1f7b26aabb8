//! `report.html`: what a finished run has come to, on one page.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use checkpoint::{Progress, RunFolder, write_atomically};
use data_pipeline::{Dataset, Loader, LoaderOptions, OnCorrupt, Transform, batches};
use inference::{Merge, PredictError, PredictOptions, Prediction, View, predict, score};
use memory_planner::{MemoryAnalysis, Precision, format_bytes};
use metrics::{ConfusionMatrix, EpochRecord, PlannedMemory, RunReport, ValidationScores, read_records, report_html};
use trainer::{Normalization, Pieces, Scoring};

use crate::error::CommandError;
use crate::registry::Network;
use crate::run::mistakes::{worst_mistakes, wrong_predictions};
use crate::run::recovery::tell_out_of_memory;
use crate::run::resolved::ResolvedConfig;
use crate::ui::{Progress as ProgressBar, short_time};

/// What the page is made of, beside the validation images as the best weights see them.
pub(crate) struct ReportPage<'a> {
    pub(crate) folder: &'a RunFolder,
    pub(crate) resolved: &'a ResolvedConfig,
    pub(crate) analysis: &'a MemoryAnalysis,
    pub(crate) progress: &'a Progress,
    pub(crate) test: Option<&'a ValidationScores>,
    /// Of the averaged weights, in validation.
    pub(crate) averaged: Option<&'a ValidationScores>,
    /// None where no step was made.
    pub(crate) measured_peak_bytes: Option<u64>,
    pub(crate) next: &'a str,
}

/// The best weights and what they are to see.
pub(crate) struct BestOnValidation<'a> {
    pub(crate) model: &'a Network,
    pub(crate) validation: &'a Arc<Dataset>,
    pub(crate) transform: Arc<dyn Transform>,
    pub(crate) normalization: &'a Normalization,
    pub(crate) device: &'a Device,
    pub(crate) precision: Precision,
    pub(crate) batch_size: usize,
    pub(crate) loader: LoaderOptions,
    pub(crate) interrupt: &'a Arc<AtomicBool>,
}

impl BestOnValidation<'_> {
    /// Probabilities of every validation image; none when interrupted.
    pub(crate) fn predict(&self, pieces: &mut Pieces) -> Result<Option<Vec<Prediction>>, CommandError> {
        let order: Vec<usize> = (0..self.validation.len()).collect();
        let loader = LoaderOptions {
            interrupt: Some(self.interrupt.clone()),
            on_corrupt: OnCorrupt::Skip,
            ..self.loader.clone()
        };
        let all = batches(&order, self.batch_size);
        let mut loader = Loader::new(self.validation.clone(), all, self.transform.clone(), loader);
        let options = PredictOptions {
            views: &[View::IDENTITY],
            merge: &Merge::Mean,
            normalization: self.normalization,
            device: self.device,
            precision: self.precision,
            classes: &self.validation.classes,
            fixed_shapes: false,
        };
        let total = self.validation.len() as u64;
        let mut progress = ProgressBar::start("looking for the worst mistakes", "images", total);
        let mut heard = |scoring: Scoring<'_>| match scoring {
            Scoring::Done(done) => progress.set(done as u64),
            Scoring::OutOfMemory(event) => tell_out_of_memory(event),
        };
        match predict(self.model, self.validation, &mut loader, &options, pieces, &mut heard) {
            Err(PredictError::Load(data_pipeline::LoadError::Interrupted)) => Ok(None),
            predictions => {
                predictions.map(Some).map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))
            }
        }
    }
}

impl ReportPage<'_> {
    /// Writes the page.
    pub(crate) fn write(&self, validation: &Dataset, predictions: &[Prediction]) -> Result<(), CommandError> {
        let history = read_records(&self.folder.metrics())
            .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
        let unscored = || ConfusionMatrix::new(validation.classes.clone());
        let confusion = score(validation, predictions).map_or_else(unscored, |scores| scores.plain);
        let mistakes = worst_mistakes(validation, &wrong_predictions(validation, predictions));
        let config = self.resolved.to_yaml();
        let facts = self.facts(&history);
        let page = report_html(&RunReport {
            title: self.resolved.config.name.as_deref().unwrap_or("training run"),
            subtitle: &format!("{} on {}", self.analysis.model, self.analysis.device),
            facts: &facts,
            history: &history,
            memory: PlannedMemory {
                predicted_peak_bytes: self.analysis.plan.predicted_peak_bytes,
                budget_bytes: self.analysis.budget.budget_bytes,
            },
            confusion: &confusion,
            mistakes: &mistakes,
            config: &config,
            next: self.next,
        });
        write_atomically(&self.folder.report_page(), page.as_bytes())
            .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))
    }

    fn facts(&self, history: &[EpochRecord]) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        if let Some(best) = self.progress.best {
            facts.push(("best macro-F1, validation", format!("{:.4}, epoch {}", best.macro_f1, best.epoch)));
            facts.push(("its loss", format!("{:.4} nats", best.loss)));
        }
        if let Some(averaged) = self.averaged {
            facts.push(("macro-F1, validation, averaged weights", format!("{:.4}", averaged.macro_f1)));
        }
        if let Some(test) = self.test {
            facts.push(("macro-F1, test", format!("{:.4}", test.macro_f1)));
            facts.push(("accuracy, test", format!("{:.4} of {} images", test.accuracy, test.samples)));
        }
        let plan = &self.analysis.plan;
        facts.push(("effective batch", format!("{}, {} at once", plan.effective_batch, plan.micro_batch)));
        facts.push(("predicted peak memory", format_bytes(plan.predicted_peak_bytes)));
        if let Some(peak) = self.measured_peak_bytes {
            facts.push(("measured peak memory", format_bytes(peak)));
        }
        let left_out: u64 = history.iter().map(|record| record.train.nonfinite_steps).sum();
        if left_out > 0 {
            facts.push(("steps left out, not finite", format!("{left_out} of {}", self.progress.step)));
        }
        facts.push(("time of all epochs", time_of(history)));
        facts
    }
}

/// How long the epochs took, as far as it is known: of an epoch that was gone on with, the time of the process that ended it alone.
fn time_of(history: &[EpochRecord]) -> String {
    let seconds: f64 = history.iter().map(|record| record.run.seconds).filter(|seconds| seconds.is_finite()).sum();
    let time = short_time(seconds);
    match history.iter().filter(|record| record.run.taken_up).count() {
        0 => time,
        1 => format!("{time}, without the part of one epoch that was done before it was resumed"),
        epochs => format!("{time}, without the parts of {epochs} epochs that were done before they were resumed"),
    }
}

#[cfg(test)]
mod tests {
    use metrics::{RunCosts, TrainScores};

    use super::*;

    #[test]
    fn the_time_says_of_how_many_epochs_a_part_is_not_in_it() {
        let record = |taken_up| EpochRecord {
            epoch: 1,
            step: 1,
            learning_rate: 0.1,
            train: TrainScores {
                loss: 1.0,
                accuracy: 0.5,
                samples: 2,
                skipped: 0,
                nonfinite_steps: 0,
                gradient_norm: None,
            },
            validation: None,
            run: RunCosts {
                seconds: 30.0,
                images_per_second: 1.0,
                data_wait_share: 0.0,
                peak_memory_bytes: None,
                train_peak_memory_bytes: None,
                validation_peak_memory_bytes: None,
                taken_up,
            },
        };
        assert_eq!(time_of(&[record(false), record(false)]), short_time(60.0));
        let told = time_of(&[record(true), record(false)]);
        assert!(told.starts_with(&short_time(60.0)) && told.contains("the part of one epoch"), "{told}");
        assert!(time_of(&[record(true), record(true)]).contains("the parts of 2 epochs"));
    }
}
