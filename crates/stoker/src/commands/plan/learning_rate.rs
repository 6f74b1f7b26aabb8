//! The learning rate of a plan that changes the effective batch.

use memory_planner::{Choice, LearningRateRule, LearningRateScaling as Scaling, Plan};

use crate::cli::{LearningRateScaling, PlanTask};
use crate::config::{TrainSection, UserConfig};
use crate::error::CommandError;

const EFFECTIVE_BATCH: &str = "train.effective_batch_size";

/// The rate that the configuration has, for the effective batch that it has without the flags.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    rule: LearningRateRule,
    /// Samples per optimizer step; none where the plan chooses them.
    batch: Option<usize>,
}

impl Rate {
    /// Of a configuration with its overrides in place.
    pub(super) fn of(task: &PlanTask, user: &UserConfig) -> Self {
        let scaling = match task.learning_rate_scaling {
            LearningRateScaling::None => Scaling::None,
            LearningRateScaling::Sqrt => Scaling::Sqrt,
            LearningRateScaling::Linear => Scaling::Linear,
        };
        let rule = LearningRateRule {
            base_rate: user.train.highest_learning_rate(),
            base_batch: base_batch(task, user),
            scaling,
        };
        let is_free = task.config.is_none() && task.effective_batch_size.is_none();
        let batch = task.effective_batch_size.unwrap_or(user.train.effective_batch_size);
        Self { rule, batch: (!is_free).then_some(batch) }
    }

    /// The rate for so many samples per optimizer step, and why.
    pub(super) fn at(&self, batch: usize) -> Result<(f64, Choice), CommandError> {
        self.rule.for_batch(batch).map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))
    }

    /// Whether a rate is not the configuration's.
    pub(super) fn is_changed(&self, rate: f64) -> bool {
        rate != self.rule.base_rate
    }

    /// What becomes of the rate in a plan; none where nothing is asked of it.
    pub(super) fn choice(&self, plan: &Plan) -> Result<Option<Choice>, CommandError> {
        match self.batch {
            None if self.rule.scaling == Scaling::None => Ok(None),
            None => {
                let refused = |error: memory_planner::LearningRateError| {
                    CommandError::from_request(&error).with_hint(error.hint())
                };
                self.rule.for_plan(plan).map(|(_, choice)| Some(choice)).map_err(refused)
            }
            // The rate is that of the batch which is asked for, whatever a smaller data set leaves of it.
            Some(batch) if batch != self.rule.base_batch => {
                let (_, choice) = self.at(batch)?;
                Ok(Some(with_all_images(choice, batch, plan.effective_batch)))
            }
            Some(_) => Ok(None),
        }
    }

    /// The rate for a step that several cards share, so many samples in all; none where no rule is asked for.
    pub(super) fn of_all_cards(&self, global_batch: usize) -> Result<Option<Choice>, CommandError> {
        match self.rule.scaling {
            Scaling::None => Ok(None),
            _ => Ok(Some(self.at(global_batch)?.1)),
        }
    }
}

/// The choice for `batch` samples a step, where a step has only the `images` that there are: both are told.
fn with_all_images(choice: Choice, batch: usize, images: usize) -> Choice {
    if images >= batch {
        return choice;
    }
    let asked = format!("and a step has {batch}");
    let told = format!("and `{EFFECTIVE_BATCH}` is {batch}, of which a step has {images}: all images to train on");
    Choice { reason: choice.reason.replace(&asked, &told), ..choice }
}

/// The effective batch that the file has, without what `--set` puts over it.
fn base_batch(task: &PlanTask, user: &UserConfig) -> usize {
    let with_it = user.train.effective_batch_size;
    if !task.overrides.iter().any(|given| given.path() == EFFECTIVE_BATCH) {
        return with_it;
    }
    let kept: Vec<_> = task.overrides.iter().filter(|given| given.path() != EFFECTIVE_BATCH).cloned().collect();
    match &task.config {
        // Settings that are wrong without it are right with it: then the batch is part of what the rate was chosen for.
        Some(path) => UserConfig::load(path, &kept).map_or(with_it, |file| file.train.effective_batch_size),
        None => TrainSection::default().effective_batch_size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_fewer_images_than_the_batch_names_both() {
        let rule = LearningRateRule { base_rate: 0.001, base_batch: 32, scaling: Scaling::Linear };
        let (_, choice) = rule.for_batch(64).unwrap();
        let told = with_all_images(choice.clone(), 64, 24);
        assert_eq!(told.value, "0.002");
        let reason = "scaled with the batch: 0.001 for 32, and `train.effective_batch_size` is 64, of which a step has 24: \
            all images to train on";
        assert_eq!(told.reason, reason);
        assert_eq!(with_all_images(choice.clone(), 64, 64), choice);
    }
}
