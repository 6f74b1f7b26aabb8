use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use checkpoint::{BestEpoch, Progress, RunningSums, write_atomically};
use data_pipeline::{
    Batch, CorruptImage, Dataset, LoadError, Loader, LoaderOptions, Mixing, Sampling, Transform, batches,
};
use metrics::{EpochRecord, EventWriter, MetricsWriter, RunCosts, TrainScores};
use metrics::{confusion_matrix_svg, curves_svg, keep_first_epochs, read_records};
use vision_nn::Classifier;

use crate::corrupt_list::CorruptList;
use crate::unread_classes::Unread;
use crate::{
    Evaluation, Evaluator, FaultPlan, MemoryGauge, NonFiniteStep, Observer, Phase, Pieces, Scoring, StepReport,
};
use crate::{StepScores, TrainError, TrainSession, evaluate};

/// What a run trains and validates on.
pub struct TrainingData {
    /// Training samples.
    pub train: Arc<Dataset>,
    /// Validation samples.
    pub validation: Arc<Dataset>,
    /// Random transform of training images.
    pub train_transform: Arc<dyn Transform>,
    /// Fixed transform of validation images.
    pub eval_transform: Arc<dyn Transform>,
    /// Workers, prefetch, and what to do at a corrupt image; all else is set by the loop.
    pub loader: LoaderOptions,
    /// Which training samples an epoch shows, and how often.
    pub sampling: Sampling,
    /// How training samples are mixed with each other. Training accuracy then counts the class with the larger share.
    pub mixing: Mixing,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitOutcome {
    /// All epochs are done.
    Finished,
    /// Validation did not improve for so many epochs as early stopping waits.
    StoppedEarly,
    /// The caller's flag was raised; `last` holds the state of that moment.
    Interrupted,
}

/// Trains until all epochs are done, early stopping is out of patience, or `interrupt` is raised.
///
/// Writes `last` and the metrics after every epoch, `best` when validation improves, and everything again on an interrupt.
///
/// # Errors
/// See [`TrainError`]. What was saved before stays.
pub fn fit<M: Classifier>(
    session: TrainSession<M>,
    data: &TrainingData,
    device: &Device,
    interrupt: &Arc<AtomicBool>,
    gauge: &dyn MemoryGauge,
    observer: &mut dyn Observer,
) -> Result<(TrainSession<M>, FitOutcome), TrainError> {
    let mut run = Run::start(session, data, device, interrupt, gauge, observer)?;
    run.take_up_kept();
    while run.session.card.progress.epochs_done < run.session.step.options().epochs {
        if run.is_out_of_patience() {
            return Ok((run.session, FitOutcome::StoppedEarly));
        }
        if run.train_epoch()? == FitOutcome::Interrupted {
            return Ok((run.session, FitOutcome::Interrupted));
        }
    }
    Ok((run.session, FitOutcome::Finished))
}

pub(crate) struct Run<'a, M> {
    pub(crate) session: TrainSession<M>,
    pub(crate) data: &'a TrainingData,
    pub(crate) device: &'a Device,
    interrupt: &'a Arc<AtomicBool>,
    pub(crate) gauge: &'a dyn MemoryGauge,
    pub(crate) observer: &'a mut dyn Observer,
    /// Those of training that have not struck yet.
    pub(crate) faults: FaultPlan,
    /// Remembers from one validation to the next how much fits.
    validation_pieces: Pieces,
    metrics: MetricsWriter,
    events: EventWriter,
    corrupt: CorruptList,
    /// Training images of this epoch.
    unread: Unread,
}

impl<'a, M: Classifier> Run<'a, M> {
    fn start(
        session: TrainSession<M>,
        data: &'a TrainingData,
        device: &'a Device,
        interrupt: &'a Arc<AtomicBool>,
        gauge: &'a dyn MemoryGauge,
        observer: &'a mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let folder = &session.folder;
        let progress = &session.card.progress;
        // A run killed between its metrics line and its checkpoint does that epoch again.
        keep_first_epochs(&folder.metrics(), progress.epochs_done as usize)?;
        let metrics = MetricsWriter::open(&folder.metrics())?;
        let events = EventWriter::resume(&folder.events(), progress.step)?;
        let faults = session.step.options().faults.clone();
        let validation_pieces = Pieces::new(Phase::Evaluation, faults.clone());
        gauge.begin_lap();
        let corrupt = CorruptList::open(folder.corrupt_images());
        observer.corrupt_images_known(corrupt.count_of([&data.train, &data.validation]));
        Ok(Self {
            session,
            data,
            device,
            interrupt,
            gauge,
            observer,
            faults,
            validation_pieces,
            metrics,
            events,
            corrupt,
            unread: Unread::default(),
        })
    }

    fn is_out_of_patience(&self) -> bool {
        let stopping = self.session.step.options().early_stopping;
        stopping.is_some_and(|stopping| stopping.is_over(&self.session.card.progress.early_stopping))
    }

    /// Trains the epoch that progress stands in, from the batch where it stands, then validates and records it.
    fn train_epoch(&mut self) -> Result<FitOutcome, TrainError> {
        let start = Instant::now();
        let samples_before = self.session.card.progress.sums.samples;
        let batches_before = self.session.card.progress.batches_done;
        let (outcome, wait_seconds) = self.train_batches(start)?;
        // Before weights are scored or saved that the device did not finish.
        self.check_update()?;
        if outcome == FitOutcome::Interrupted {
            self.session.save_last()?;
            return Ok(outcome);
        }
        let train_seconds = start.elapsed().as_secs_f64();
        let train_peak_memory_bytes = self.gauge.end_stretch();
        let Some(evaluation) = self.validate_or_save()? else { return Ok(FitOutcome::Interrupted) };
        let sums = self.session.card.progress.sums;
        let is_trained_here = self.session.card.progress.batches_done > batches_before;
        let samples = if is_trained_here { (sums.samples - samples_before) as f64 } else { f64::NAN };
        let costs = RunCosts {
            seconds: start.elapsed().as_secs_f64(),
            images_per_second: samples / train_seconds,
            data_wait_share: wait_seconds / train_seconds,
            peak_memory_bytes: self.gauge.peak_bytes(),
            train_peak_memory_bytes,
            validation_peak_memory_bytes: self.gauge.end_stretch(),
            taken_up: batches_before > 0,
        };
        self.finish_epoch(&evaluation, sums, costs)?;
        Ok(FitOutcome::Finished)
    }

    /// As [`validate`](Self::validate); where that comes to no scores, the steps of the epoch are saved, so that a resumed run goes on after them.
    fn validate_or_save(&mut self) -> Result<Option<Evaluation>, TrainError> {
        let evaluation = self.validate();
        match &evaluation {
            Ok(Some(_)) => {}
            Ok(None) => self.session.save_last()?,
            // Weights on a device that failed may not come back from it.
            Err(TrainError::Device { .. }) => {}
            Err(_) => {
                // What went wrong first is told, also where the disk is full.
                let _ = self.session.save_last();
            }
        }
        evaluation
    }

    /// Runs the effective batches that are left of the epoch. Returns also the seconds spent waiting for data.
    fn train_batches(&mut self, start: Instant) -> Result<(FitOutcome, f64), TrainError> {
        let options = self.session.step.options();
        let (seed, epochs) = (options.seed, options.epochs);
        let epoch = self.session.card.progress.epochs_done + 1;
        let order = self.data.sampling.order(&self.data.train, seed, u64::from(epoch));
        let all = batches(&order, options.effective_batch_size);
        let total = all.len();
        self.observer.epoch_started(epoch, epochs, total);
        let options = LoaderOptions {
            epoch: u64::from(epoch),
            first_batch: self.session.card.progress.batches_done,
            mixing: self.data.mixing,
            leaves_last_steps: self.finishes_images(),
            ..self.loader_options()
        };
        let mut loader = Loader::new(self.data.train.clone(), all, self.data.train_transform.clone(), options);
        let samples_before = self.session.card.progress.sums.samples;
        let mut saved = Instant::now();
        self.unread = Unread::default();
        while let Some(batch) = loader.next() {
            let batch = match batch {
                Err(LoadError::Interrupted) => return Ok((FitOutcome::Interrupted, loader.wait_seconds())),
                batch => batch?,
            };
            let report = self.train_batch(&batch, epoch, total)?;
            let samples = self.session.card.progress.sums.samples - samples_before;
            let seconds = start.elapsed().as_secs_f64();
            let (images_per_second, data_wait_share) = (samples as f64 / seconds, loader.wait_seconds() / seconds);
            self.observer.step_done(&StepReport { images_per_second, data_wait_share, ..report });
            self.save_in_mid_epoch(&mut saved)?;
            if self.interrupt.load(Ordering::Relaxed) {
                return Ok((FitOutcome::Interrupted, loader.wait_seconds()));
            }
        }
        self.check_readable()?;
        Ok((FitOutcome::Finished, loader.wait_seconds()))
    }

    /// After the steps of an epoch: whether it had images at all, and those of each class that has some.
    fn check_readable(&self) -> Result<(), TrainError> {
        let sums = &self.session.card.progress.sums;
        if sums.samples == 0 && sums.nonfinite_steps == 0 {
            return Err(TrainError::NothingReadable { samples: sums.skipped });
        }
        self.unread.first_class(&self.data.train).map_or(Ok(()), Err)
    }

    /// Whether the device takes the last steps of augmentation. Mixed images must be on it together, else this thread had to mix them while the device waits,
    /// where the loader's threads do it beforehand.
    fn finishes_images(&self) -> bool {
        let options = self.session.step.options();
        let takes_whole_batches = self.session.micro_batch.size() >= options.effective_batch_size;
        options.finishes_images && (takes_whole_batches || !self.data.mixing.is_on())
    }

    /// Saves `last` where the time for it has come.
    fn save_in_mid_epoch(&mut self, saved: &mut Instant) -> Result<(), TrainError> {
        if self.session.step.options().save_interval.is_some_and(|interval| saved.elapsed() >= interval) {
            // Not what the device did not finish.
            self.check_update()?;
            self.session.save_last()?;
            *saved = Instant::now();
        }
        Ok(())
    }

    /// One optimizer step and its bookkeeping. A batch without a readable sample counts as done and moves nothing.
    fn train_batch(&mut self, batch: &Batch, epoch: u32, batches: usize) -> Result<StepReport, TrainError> {
        self.list_corrupt(&batch.corrupt)?;
        self.unread.add(&batch.corrupt);
        self.check_labels(batch)?;
        let progress = &self.session.card.progress;
        let (step, in_a_row) = (progress.step, progress.nonfinite_in_a_row + 1);
        let learning_rate = self.session.step.options().schedule.at(step, &progress.plateau);
        let mut gradient_norm = 0.0;
        if !batch.is_empty() {
            let (gradients, scores) = self.gradients(batch, step)?;
            gradient_norm = scores.gradient_norm;
            let overflowed = self.session.step.overflowed(&scores);
            match scores.nonfinite() {
                Some(_) if overflowed => count_overflow(&mut self.session.card.progress, &scores),
                Some((what, value)) => {
                    self.leave_out(batch, &gradients, NonFiniteStep { step, what, value, in_a_row })?;
                }
                None => {
                    self.update(gradients, gradient_norm, learning_rate, step)?;
                    self.session.card.progress.nonfinite_in_a_row = 0;
                    count(&mut self.session.card.progress, &scores);
                    let sums = &mut self.session.card.progress.sums;
                    sums.gradient_norms += gradient_norm;
                    sums.moved_steps += 1;
                }
            }
            self.session.step.note_step(overflowed);
        } else {
            self.session.card.progress.idle_steps += 1;
        }
        let progress = &mut self.session.card.progress;
        progress.sums.skipped += batch.corrupt.len() as u64;
        progress.batches_done += 1;
        progress.step += 1;
        let mean_loss = progress.sums.loss / progress.sums.samples as f64;
        Ok(StepReport {
            epoch,
            batches_done: progress.batches_done,
            batches,
            samples_done: progress.sums.samples,
            step: progress.step,
            mean_loss,
            learning_rate,
            gradient_norm,
            images_per_second: 0.0,
            data_wait_share: 0.0,
        })
    }

    /// Scores the evaluated weights on the validation set; `None` when interrupted.
    fn validate(&mut self) -> Result<Option<Evaluation>, TrainError> {
        let validation = &self.data.validation;
        let order: Vec<usize> = (0..validation.len()).collect();
        let batch_size = self.session.micro_batch.size();
        let transform = self.data.eval_transform.clone();
        let loader = Loader::new(validation.clone(), batches(&order, batch_size), transform, self.loader_options());
        let evaluator = Evaluator {
            normalization: self.session.step.normalization(),
            device: &self.device.clone().inner(),
            precision: self.session.step.options().precision,
            top_k: self.session.step.options().top_k,
        };
        let model = self.session.step.evaluation_model();
        let mut recoveries = Vec::new();
        let observer = &mut self.observer;
        let mut progress = |scoring: Scoring<'_>| match scoring {
            Scoring::Done(done) => observer.validating(done, validation.len()),
            Scoring::OutOfMemory(event) => recoveries.push(event.clone()),
        };
        let result = evaluate(&model, validation, loader, &evaluator, &mut self.validation_pieces, &mut progress);
        self.record_validation_recoveries(recoveries)?;
        match result {
            Err(TrainError::Load(LoadError::Interrupted)) => Ok(None),
            evaluation => evaluation.map(Some),
        }
    }

    /// Records the epoch, keeps the best weights, and saves.
    fn finish_epoch(&mut self, evaluation: &Evaluation, sums: RunningSums, run: RunCosts) -> Result<(), TrainError> {
        self.list_corrupt(&evaluation.corrupt)?;
        self.tell_unread_in_validation(&evaluation.corrupt);
        let options = self.session.step.options();
        let scores = evaluation.scores(options.ema_decay.is_some());
        let progress = &mut self.session.card.progress;
        let epoch = progress.epochs_done + 1;
        let own = BestEpoch { epoch, macro_f1: scores.macro_f1, loss: scores.loss };
        progress.epochs_done = epoch;
        progress.batches_done = 0;
        progress.sums = RunningSums::default();
        let record = EpochRecord {
            epoch,
            step: progress.step,
            learning_rate: options.schedule.at(progress.step.saturating_sub(1), &progress.plateau),
            train: TrainScores {
                loss: sums.loss / sums.samples as f64,
                accuracy: sums.correct as f64 / sums.samples as f64,
                samples: sums.samples,
                skipped: sums.skipped,
                nonfinite_steps: sums.nonfinite_steps,
                gradient_norm: (sums.moved_steps > 0).then(|| sums.gradient_norms / sums.moved_steps as f64),
            },
            validation: Some(scores),
            run,
        };
        options.schedule.observe(&mut progress.plateau, progress.step, own.loss);
        if let Some(stopping) = options.early_stopping {
            stopping.observe(&mut progress.early_stopping, own.macro_f1);
        }
        let improved = self.keep_if_good(own)?;
        if improved {
            let matrix = confusion_matrix_svg(&evaluation.confusion);
            write_atomically(&self.session.folder.confusion_matrix(), matrix.as_bytes())?;
        }
        self.metrics.append(&record)?;
        self.events.add_epoch(&record)?;
        let history = read_records(self.metrics.path())?;
        write_atomically(&self.session.folder.curves(), curves_svg(&history).as_bytes())?;
        self.session.save_last()?;
        self.remove_others();
        self.observer.epoch_done(&record, improved);
        Ok(())
    }

    /// Tells the observer of corrupt images that it has not heard of, and lists all of them in the run folder.
    fn list_corrupt(&mut self, corrupt: &[CorruptImage]) -> Result<(), TrainError> {
        for image in self.corrupt.add(corrupt)? {
            self.observer.corrupt_image(&image.path, &image.reason);
        }
        Ok(())
    }

    /// Tells the observer of classes that the scores know nothing of.
    fn tell_unread_in_validation(&mut self, corrupt: &[CorruptImage]) {
        let validation = &self.data.validation;
        let mut unread = Unread::default();
        unread.add(corrupt);
        for class in unread.classes(validation) {
            self.observer.class_not_validated(&validation.classes[class], validation.class_counts()[class]);
        }
    }

    fn check_labels(&self, batch: &Batch) -> Result<(), TrainError> {
        let classes = self.session.card.classes.len();
        let unlabelled = batch.labels.iter().position(|label| label.is_none_or(|label| label as usize >= classes));
        match unlabelled {
            None => Ok(()),
            Some(row) => {
                let path = self.data.train.samples[batch.samples[row]].path.clone();
                Err(TrainError::NoLabel { path, classes })
            }
        }
    }

    /// Of validation: nothing is drawn. Training sets the rest.
    fn loader_options(&self) -> LoaderOptions {
        LoaderOptions {
            seed: self.session.step.options().seed,
            interrupt: Some(self.interrupt.clone()),
            ..self.data.loader.clone()
        }
    }
}

/// Adds a step's scores to the epoch's sums.
fn count(progress: &mut Progress, scores: &StepScores) {
    progress.sums.loss += scores.loss_sum;
    progress.sums.correct += scores.correct;
    progress.sums.samples += scores.samples;
}

/// A step whose gradients overflowed fp16 moves nothing, and its samples count where their loss is a number: the scale of the loss is to blame.
fn count_overflow(progress: &mut Progress, scores: &StepScores) {
    progress.idle_steps += 1;
    progress.sums.nonfinite_steps += 1;
    if scores.loss_sum.is_finite() {
        count(progress, scores);
    }
}

/// A seed of its own for each optimizer step.
pub(crate) fn step_seed(seed: u64, step: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step
}
