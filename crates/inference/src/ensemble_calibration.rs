//! The temperature of an ensemble: fitted to what its models say together, kept in a file with the models that it holds for.

use std::path::Path;

use metrics::Calibration;
use serde::{Deserialize, Serialize};

use crate::CalibrationError;
use crate::calibration::{read_json, short, write_json};

/// One model of an ensemble, as it predicts in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedMember {
    /// The run folder. It may be moved: the weights alone are compared.
    pub run: String,
    /// Fingerprint of the file of weights; see [`weights_fingerprint`](crate::weights_fingerprint).
    pub weights: String,
    /// The views, by their names.
    pub views: Vec<String>,
    /// How they are merged.
    pub merge: String,
    /// What it counts for; all together count 1.
    pub share: f64,
}

/// A temperature for the mean of several models' probabilities. It holds for these models, views and shares, in any order, alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleCalibration {
    /// The temperature and what it does.
    pub calibration: Calibration,
    /// The models.
    pub members: Vec<FittedMember>,
}

/// Shares that differ by less are the same: they are written in decimals.
const SAME_SHARE: f64 = 1e-9;

impl EnsembleCalibration {
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

    /// Whether it is for the ensemble of `wanted`; `path` is where it was read.
    ///
    /// # Errors
    /// [`CalibrationError::Other`] with the first that differs.
    pub fn check(&self, wanted: &[FittedMember], path: &Path) -> Result<(), CalibrationError> {
        let other = |what, fitted: String, wanted: String| {
            Err(CalibrationError::Other { path: path.to_owned(), what, fitted, wanted })
        };
        if self.members.len() != wanted.len() {
            return other("model count", self.members.len().to_string(), wanted.len().to_string());
        }
        for (fitted, wanted) in by_weights(&self.members).into_iter().zip(by_weights(wanted)) {
            if fitted.weights != wanted.weights {
                return other("weights of", fitted.named(), wanted.named());
            }
            if fitted.views != wanted.views {
                return other("views", fitted.views.join(", "), wanted.views.join(", "));
            }
            if fitted.merge != wanted.merge {
                return other("merge rule", fitted.merge.clone(), wanted.merge.clone());
            }
            if (fitted.share - wanted.share).abs() > SAME_SHARE {
                return other("share", fitted.share.to_string(), wanted.share.to_string());
            }
        }
        Ok(())
    }
}

impl FittedMember {
    /// The run, and enough of the fingerprint to tell weights that were changed in their place.
    fn named(&self) -> String {
        format!("`{}` ({})", self.run, short(&self.weights))
    }
}

/// The mean is the same in any order.
fn by_weights(members: &[FittedMember]) -> Vec<&FittedMember> {
    let mut members: Vec<&FittedMember> = members.iter().collect();
    members.sort_by(|one, other| one.weights.cmp(&other.weights));
    members
}

#[cfg(test)]
mod tests {
    use metrics::LabelledProbabilities;

    use super::*;

    fn member(run: &str, share: f64) -> FittedMember {
        let (views, merge) = (vec!["identity".to_owned()], "mean".to_owned());
        FittedMember { run: run.to_owned(), weights: format!("{run}0123456789"), views, merge, share }
    }

    fn fitted() -> EnsembleCalibration {
        let mut samples = LabelledProbabilities::default();
        for (row, label) in [([0.9, 0.1], 0), ([0.9, 0.1], 1), ([0.2, 0.8], 1)] {
            samples.push(&row, label).unwrap();
        }
        let calibration = samples.fit_temperature().unwrap();
        EnsembleCalibration { calibration, members: vec![member("a", 1.0 / 3.0), member("b", 2.0 / 3.0)] }
    }

    #[test]
    fn it_reads_back_and_serves_the_same_models_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration.json");
        fitted().write(&path).unwrap();
        let read = EnsembleCalibration::read(&path).unwrap();
        assert_eq!(read.members.len(), 2);
        assert!(read.check(&[member("b", 2.0 / 3.0), member("a", 1.0 / 3.0)], &path).is_ok());
        let moved = FittedMember { run: "elsewhere/a".to_owned(), ..member("a", 1.0 / 3.0) };
        assert!(read.check(&[moved, member("b", 2.0 / 3.0)], &path).is_ok());
    }

    #[test]
    fn other_models_views_merges_and_shares_are_refused() {
        let of_a = || member("a", 1.0 / 3.0);
        let of_b = || member("b", 2.0 / 3.0);
        let (views, merge) = (vec!["rotate_90".to_owned()], "max".to_owned());
        let others = [
            vec![of_a()],
            vec![of_a(), member("c", 2.0 / 3.0)],
            vec![of_a(), FittedMember { views, ..of_b() }],
            vec![of_a(), FittedMember { merge, ..of_b() }],
            vec![member("a", 0.5), member("b", 0.5)],
        ];
        let said = others.map(|wanted| fitted().check(&wanted, Path::new("c.json")).unwrap_err().to_string());
        let expected = [
            "`c.json` was fitted with model count 2, but 1 is predicted with",
            "`c.json` was fitted with weights of `b` (b0123456), but `c` (c0123456) is predicted with",
            "`c.json` was fitted with views identity, but rotate_90 is predicted with",
            "`c.json` was fitted with merge rule mean, but max is predicted with",
        ];
        assert_eq!(said[..4], expected);
        assert!(said[4].starts_with("`c.json` was fitted with share 0.333"), "{}", said[4]);
    }
}
