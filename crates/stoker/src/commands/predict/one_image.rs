//! A single image that does not fit: what takes most in its pass, and what would help.

use data_pipeline::LoadError;
use inference::PredictError;

use super::trained_run::{TrainedRun, prediction_precision};
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::post_mortem::PostMortem;
use crate::run::precision::Arithmetic;
use crate::run::recovery::explain_prediction;
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::Subject;

impl TrainedRun {
    /// Why there are no predictions, as the user reads it. Other models in memory take `other_models_bytes`.
    pub(super) fn failed(&self, error: &PredictError, compute: &Compute, other_models_bytes: u64) -> CommandError {
        match error {
            PredictError::Load(LoadError::Interrupted) => CommandError::interrupted("interrupted; nothing was written"),
            PredictError::OutOfMemory { reason } => {
                let (failed, post_mortem) = (CommandError::from_run(error), self.post_mortem(compute));
                // `predict` takes the limit from the run.
                let config = self.folder.resolved_config();
                explain_prediction(failed, reason, &post_mortem, other_models_bytes, &config)
            }
            error => CommandError::from_run(error).with_hint(error.hint()),
        }
    }

    /// What takes most in the pass of one image, and what would help; nothing where it cannot be recorded, for there is an error to be told anyway.
    pub(super) fn post_mortem(&self, compute: &Compute) -> PostMortem {
        self.recorded(compute).unwrap_or_default()
    }

    fn recorded(&self, compute: &Compute) -> Result<PostMortem, CommandError> {
        let resolved = ResolvedConfig::new(self.config.clone(), &self.folder.resolved_config())?;
        let architecture = self.architecture()?;
        let subject = Subject::without_data(&resolved, &architecture, self.card.classes.len());
        let precision = prediction_precision(&self.config, compute)?;
        let half = Arithmetic::of(&compute.selected).half_of_prediction();
        Ok(PostMortem::of_prediction(&subject, precision, half))
    }
}
