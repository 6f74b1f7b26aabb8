//! Temperature scaling: fitted to labelled predictions, kept in a file, applied to others.

use std::path::{Path, PathBuf};

use checkpoint::CheckpointError;
use data_pipeline::Dataset;
use metrics::{Calibration, LabelledProbabilities, ScoreError, temper};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Merge, Outcome, Prediction};

/// A temperature and what it was fitted to. It holds for these weights, seen in these views and merged by this rule, alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedCalibration {
    /// The temperature and what it does.
    pub calibration: Calibration,
    /// The views whose probabilities were merged.
    pub views: Vec<String>,
    /// The rule that merged them, by its name.
    #[serde(default = "mean")]
    pub merge: String,
    /// Which checkpoint of the run: `best` or `last`.
    pub checkpoint: String,
    /// Optimizer steps in its weights.
    pub step: u64,
    /// As [`FittedTo::weights`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

/// What merged the views before there was a choice.
fn mean() -> String {
    Merge::Mean.name().to_owned()
}

/// Views and the weights of a model: what a fit to labelled images holds for, and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedTo {
    /// The views, by their names.
    pub views: Vec<String>,
    /// Which checkpoint of the run: `best` or `last`.
    pub checkpoint: String,
    /// Optimizer steps in its weights.
    pub step: u64,
    /// Fingerprint of the file of weights; see [`weights_fingerprint`](crate::weights_fingerprint). None in files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

impl FittedTo {
    /// Whether what was fitted to this, and is in the file at `path`, is for `wanted`. Fingerprints are compared where both are there.
    ///
    /// # Errors
    /// [`CalibrationError::Other`] with the first that differs.
    pub fn check(&self, wanted: &Self, path: &Path) -> Result<(), CalibrationError> {
        let pairs = [
            ("views", self.views.join(", "), wanted.views.join(", ")),
            ("checkpoint", self.checkpoint.clone(), wanted.checkpoint.clone()),
            ("weights of step", self.step.to_string(), wanted.step.to_string()),
        ];
        match pairs.into_iter().find(|(_, fitted, wanted)| fitted != wanted) {
            Some((what, fitted, wanted)) => {
                Err(CalibrationError::Other { path: path.to_owned(), what, fitted, wanted })
            }
            None => self.check_weights(wanted, path),
        }
    }

    /// Another training of as many steps has other weights.
    fn check_weights(&self, wanted: &Self, path: &Path) -> Result<(), CalibrationError> {
        match (&self.weights, &wanted.weights) {
            (Some(fitted), Some(wanted)) if fitted != wanted => {
                let (fitted, wanted) = (short(fitted).to_owned(), short(wanted).to_owned());
                Err(CalibrationError::Other { path: path.to_owned(), what: "weights", fitted, wanted })
            }
            _ => Ok(()),
        }
    }
}

/// Enough of a fingerprint to tell it from another.
pub(crate) fn short(fingerprint: &str) -> &str {
    const SHOWN: usize = 8;
    fingerprint.get(..SHOWN).unwrap_or(fingerprint)
}

/// Why there is no temperature to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// Nothing to fit it to.
    #[error("a temperature is fitted to labelled images, and none of the {images} could be scored with its label")]
    NoLabels {
        /// How many images there are.
        images: usize,
    },
    /// A label that the model has no class for.
    #[error("the labels do not fit the model's classes")]
    Labels {
        /// Which.
        source: ScoreError,
    },
    /// There is no such file.
    #[error("`{}` does not exist", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// The file is no calibration.
    #[error("`{}` is not a calibration", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It was fitted to something else than what is predicted.
    #[error("`{}` was fitted with {what} {fitted}, but {wanted} is predicted with", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// `views`, `merge rule`, `checkpoint`, `weights of step` or `weights`, say.
        what: &'static str,
        /// In the file.
        fitted: String,
        /// Now.
        wanted: String,
    },
}

/// Labelled predictions of `dataset`, as they are merged over the views; those without label or probabilities are left out.
///
/// # Errors
/// [`CalibrationError::NoLabels`], [`CalibrationError::Labels`].
pub fn labelled(dataset: &Dataset, predictions: &[Prediction]) -> Result<LabelledProbabilities, CalibrationError> {
    let mut samples = LabelledProbabilities::default();
    for prediction in predictions {
        let label = dataset.samples.get(prediction.sample).and_then(|sample| sample.label);
        let (Some(label), Outcome::Scored { merged, .. }) = (label, &prediction.outcome) else { continue };
        samples.push(merged, label as usize).map_err(|source| CalibrationError::Labels { source })?;
    }
    if samples.is_empty() {
        return Err(CalibrationError::NoLabels { images: dataset.len() });
    }
    Ok(samples)
}

impl FittedCalibration {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`CalibrationError::Missing`], [`CalibrationError::File`], [`CalibrationError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, CalibrationError> {
        read_json(path)
    }

    /// Replaces the file at `path`, whole or not at all.
    ///
    /// # Errors
    /// [`CalibrationError::File`].
    pub fn write(&self, path: &Path) -> Result<(), CalibrationError> {
        write_json(self, path)
    }

    /// Whether it is for predictions with `wanted`, merged by the rule of this name, whatever temperature that has; `path` is where it was
    /// read.
    ///
    /// # Errors
    /// [`CalibrationError::Other`] with the first that differs.
    pub fn check(&self, wanted: &FittedTo, merge: &str, path: &Path) -> Result<(), CalibrationError> {
        let Self { views, checkpoint, step, weights, .. } = self.clone();
        FittedTo { views, checkpoint, step, weights }.check(wanted, path)?;
        if self.merge != merge {
            let (fitted, wanted) = (self.merge.clone(), merge.to_owned());
            return Err(CalibrationError::Other { path: path.to_owned(), what: "merge rule", fitted, wanted });
        }
        Ok(())
    }
}

/// Puts probabilities at this temperature, above 0, in the place of the merged ones. What is most probable stays so.
pub fn temper_merged(predictions: &mut [Prediction], temperature: f64) {
    for prediction in predictions {
        if let Outcome::Scored { merged, .. } = &mut prediction.outcome {
            *merged = temper(merged, temperature);
        }
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CalibrationError> {
    let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => CalibrationError::Missing { path: path.to_owned() },
        _ => CheckpointError::Read { path: path.to_owned(), source }.into(),
    })?;
    serde_json::from_str(&text).map_err(|source| CalibrationError::Malformed { path: path.to_owned(), source })
}

pub(crate) fn write_json(fitted: &impl Serialize, path: &Path) -> Result<(), CalibrationError> {
    let text = serde_json::to_string_pretty(fitted).expect("what is fitted has string keys and plain values");
    Ok(checkpoint::write_atomically(path, format!("{text}\n").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use data_pipeline::Sample;

    use super::*;

    fn prediction(sample: usize, merged: [f32; 2]) -> Prediction {
        Prediction { sample, outcome: Outcome::Scored { plain: vec![0.5, 0.5], merged: merged.to_vec() } }
    }

    fn dataset(labels: &[Option<u32>]) -> Dataset {
        let sample = |&label| Sample { path: PathBuf::from("x.png"), label, group: None };
        let classes = vec!["cat".to_owned(), "dog".to_owned()];
        Dataset { root: PathBuf::new(), classes, samples: labels.iter().map(sample).collect(), ignored_files: 0 }
    }

    fn fitted() -> FittedCalibration {
        let predictions = [prediction(0, [0.9, 0.1]), prediction(1, [0.9, 0.1]), prediction(2, [0.2, 0.8])];
        let samples = labelled(&dataset(&[Some(0), Some(1), None]), &predictions).unwrap();
        assert_eq!(samples.len(), 2, "one has no label");
        let calibration = samples.fit_temperature().unwrap();
        let (views, merge) = (vec!["identity".to_owned()], "mean".to_owned());
        let weights = Some("0123456789abcdef".to_owned());
        FittedCalibration { calibration, views, merge, checkpoint: "best".to_owned(), step: 7, weights }
    }

    fn fitted_to(views: &str, checkpoint: &str, step: u64, weights: Option<&str>) -> FittedTo {
        let (views, weights) = (vec![views.to_owned()], weights.map(str::to_owned));
        FittedTo { views, checkpoint: checkpoint.to_owned(), step, weights }
    }

    #[test]
    fn a_calibration_reads_back_and_serves_only_what_it_was_fitted_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration.json");
        assert!(matches!(FittedCalibration::read(&path), Err(CalibrationError::Missing { .. })));
        let written = fitted();
        written.write(&path).unwrap();
        let read = FittedCalibration::read(&path).unwrap();
        assert_eq!(read, written);
        let to = |views: &str, checkpoint: &str, step| fitted_to(views, checkpoint, step, read.weights.as_deref());
        assert!(read.check(&to("identity", "best", 7), "mean", &path).is_ok());
        let others = [
            read.check(&to("flip", "best", 7), "mean", &path),
            read.check(&to("identity", "last", 7), "mean", &path),
            read.check(&to("identity", "best", 8), "mean", &path),
            read.check(&to("identity", "best", 7), "max", &path),
        ];
        let what = others.map(|result| match result.unwrap_err() {
            CalibrationError::Other { what, .. } => what,
            error => panic!("{error}"),
        });
        assert_eq!(what, ["views", "checkpoint", "weights of step", "merge rule"]);
        let older = std::fs::read_to_string(&path).unwrap().replace("  \"merge\": \"mean\",\n", "");
        std::fs::write(&path, older).unwrap();
        assert_eq!(FittedCalibration::read(&path).unwrap(), written, "from before there was a choice");
        std::fs::write(&path, "{\"temperature\": 1}").unwrap();
        assert!(matches!(FittedCalibration::read(&path), Err(CalibrationError::Malformed { .. })));
    }

    #[test]
    fn weights_of_another_training_of_as_many_steps_are_refused_unless_the_file_does_not_name_its_own() {
        let path = Path::new("c.json");
        let wanted = |weights: &str| fitted_to("identity", "best", 7, Some(weights));
        assert!(fitted().check(&wanted("0123456789abcdef"), "mean", path).is_ok());
        let refused = fitted().check(&wanted("fedcba9876543210"), "mean", path).unwrap_err().to_string();
        assert_eq!(refused, "`c.json` was fitted with weights 01234567, but fedcba98 is predicted with");
        let older = FittedCalibration { weights: None, ..fitted() };
        assert!(older.check(&wanted("fedcba9876543210"), "mean", path).is_ok());
        let text = serde_json::to_string(&older).unwrap();
        assert!(!text.contains("weights"), "{text}");
        assert_eq!(serde_json::from_str::<FittedCalibration>(&text).unwrap(), older);
    }

    #[test]
    fn calibration_changes_probabilities_but_no_class() {
        let mut predictions = [prediction(0, [0.9, 0.1]), prediction(1, [0.3, 0.7])];
        temper_merged(&mut predictions, fitted().calibration.temperature);
        let merged = |prediction: &Prediction| match &prediction.outcome {
            Outcome::Scored { merged, .. } => merged.clone(),
            outcome => panic!("{outcome:?}"),
        };
        // Right in one of two, so that no confidence is warranted: the temperature is as high as it may be.
        assert!((merged(&predictions[0])[0] - 0.5).abs() < 0.01 && merged(&predictions[0])[0] > 0.5);
        assert!(merged(&predictions[1])[1] > 0.5);
    }

    #[test]
    fn predictions_without_labels_give_no_temperature() {
        let error = labelled(&dataset(&[None]), &[prediction(0, [0.9, 0.1])]).unwrap_err();
        assert!(matches!(error, CalibrationError::NoLabels { images: 1 }));
    }
}
