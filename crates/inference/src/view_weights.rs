//! Weights of views, learned on labelled images, kept in a file, applied to others.

use std::collections::BTreeMap;
use std::path::Path;

use data_pipeline::{Dataset, Loader};
use serde::{Deserialize, Deserializer, Serialize};
use trainer::{Pieces, Scoring};
use vision_nn::Classifier;

use crate::calibration::{FittedTo, read_json, write_json};
use crate::passes::score_batch;
use crate::{CalibrationError, PredictError, PredictOptions};

/// Parts that the labelled images are cut into: the weights fitted to all but one are judged by that one.
pub const WEIGHT_FOLDS: usize = 5;

/// Passes of expectation and maximisation. Each raises the likelihood; so many leave nothing to see.
const PASSES: usize = 500;

/// A pass that moves no weight by more ends the fit.
const SETTLED: f64 = 1e-9;

/// What the views of labelled images say of the true classes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ViewLikelihoods {
    /// The probability of the true class: `[images][views]`.
    rows: Vec<Vec<f64>>,
    /// The part that each image belongs to; images of one group share it.
    folds: Vec<usize>,
}

/// Weights of views, why they are to be trusted, and what they were fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewWeights {
    /// One a view, in the order of the views; they sum to 1.
    pub weights: Vec<f64>,
    /// Whether they were learned. They are all alike where what was learned did worse than the mean on images that it was not fitted to.
    pub learned: bool,
    /// Number of images.
    pub images: usize,
    /// The plain mean's negative log-likelihood on all images, nats.
    pub mean_loss: f64,
    /// That of these weights; never above the mean's.
    pub weighted_loss: f64,
    /// Of weights fitted to the other folds: each image is judged by weights that do not know it. Infinite where there are too few for that.
    #[serde(deserialize_with = "infinite_where_null")]
    pub held_out_loss: f64,
    /// The views and the weights of the model.
    pub fitted_to: FittedTo,
}

/// JSON has no infinity, which is written as null.
fn infinite_where_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

/// Predicts the labelled images of `dataset` with each view of `options` by itself; images without label, or that cannot be read or scored,
/// are left out. The rule that views are merged by does not matter.
///
/// # Errors
/// Those of [`predict`](crate::predict), but for images that the loader leaves out.
pub fn view_likelihoods(
    model: &impl Classifier,
    dataset: &Dataset,
    loader: &mut Loader,
    options: &PredictOptions,
    pieces: &mut Pieces,
    progress: &mut dyn FnMut(Scoring<'_>),
) -> Result<ViewLikelihoods, PredictError> {
    options.check_classes(dataset)?;
    let mut found = BTreeMap::new();
    let mut done = 0;
    for batch in loader {
        let batch = batch?;
        done += batch.len() + batch.corrupt.len();
        if !batch.is_empty() {
            options.check_images(batch.size)?;
            let scored = score_batch(model, &batch, options, pieces, progress)?;
            let labelled = batch.samples.iter().zip(&batch.labels).zip(scored);
            found.extend(labelled.filter_map(|((&sample, label), scores)| {
                Some((sample, scores.likelihoods((*label)? as usize, options.views)?))
            }));
        }
        progress(Scoring::Done(done));
    }
    Ok(ViewLikelihoods::grouped(found, |sample| dataset.samples.get(sample)?.group.clone()))
}

impl ViewLikelihoods {
    /// Images in the order of the data set, which has class after class: dealt out in turn, every part has all classes.
    fn grouped<G: Ord>(found: BTreeMap<usize, Vec<f64>>, group: impl Fn(usize) -> Option<G>) -> Self {
        let mut of_group = BTreeMap::new();
        let mut likelihoods = Self::default();
        for (place, (sample, row)) in found.into_iter().enumerate() {
            let next = place % WEIGHT_FOLDS;
            let fold = group(sample).map_or(next, |group| *of_group.entry(group).or_insert(next));
            likelihoods.rows.push(row);
            likelihoods.folds.push(fold);
        }
        likelihoods
    }

    /// Weights for the mean of the views' probabilities: those with the highest likelihood, kept where weights fitted in the same way to a
    /// part of the images do no worse than the plain mean on the others; else all alike. None without an image.
    #[must_use]
    pub fn fit(&self, fitted_to: FittedTo) -> Option<ViewWeights> {
        let views = self.rows.first()?.len();
        let uniform = vec![1.0 / views as f64; views];
        let all: Vec<&Vec<f64>> = self.rows.iter().collect();
        let (fitted, held_out_loss) = (fit(&all, &uniform), self.held_out_loss(&uniform));
        let (mean_loss, fitted_loss) = (loss(&all, &uniform), loss(&all, &fitted));
        let learned = held_out_loss <= mean_loss && fitted_loss <= mean_loss;
        let (weights, weighted_loss) = if learned { (fitted, fitted_loss) } else { (uniform, mean_loss) };
        let images = all.len();
        Some(ViewWeights { weights, learned, images, mean_loss, weighted_loss, held_out_loss, fitted_to })
    }

    /// Mean over all images, each with weights fitted to the other folds. Too few images for that leave no weight to learn: infinite.
    fn held_out_loss(&self, uniform: &[f64]) -> f64 {
        let part = |fold: usize, held_out: bool| -> Vec<&Vec<f64>> {
            let rows = self.rows.iter().zip(&self.folds);
            rows.filter(|(_, own)| (**own == fold) == held_out).map(|(row, _)| row).collect()
        };
        let mut sum = 0.0;
        for fold in 0..WEIGHT_FOLDS {
            let (others, held_out) = (part(fold, false), part(fold, true));
            if others.is_empty() || held_out.is_empty() {
                return f64::INFINITY;
            }
            sum += loss(&held_out, &fit(&others, uniform)) * held_out.len() as f64;
        }
        sum / self.rows.len() as f64
    }
}

/// Shares of a mixture by expectation and maximisation, which lowers the loss in every pass (Dempster, Laird and Rubin, 1977). The loss is
/// convex in the weights, so that where it starts does not matter.
fn fit(rows: &[&Vec<f64>], start: &[f64]) -> Vec<f64> {
    let mut weights = start.to_vec();
    for _ in 0..PASSES {
        let mut shares = vec![0.0; weights.len()];
        for row in rows {
            let sum = mixture(row, &weights);
            if sum > 0.0 {
                shares.iter_mut().zip(*row).zip(&weights).for_each(|((share, p), weight)| *share += weight * p / sum);
            }
        }
        let total: f64 = shares.iter().sum();
        if total <= 0.0 {
            return weights;
        }
        shares.iter_mut().for_each(|share| *share /= total);
        let moved = shares.iter().zip(&weights).map(|(new, old)| (new - old).abs()).fold(0.0, f64::max);
        weights = shares;
        if moved < SETTLED {
            break;
        }
    }
    weights
}

/// Mean negative log-likelihood, nats.
fn loss(rows: &[&Vec<f64>], weights: &[f64]) -> f64 {
    let sum: f64 = rows.iter().map(|row| -mixture(row, weights).max(f64::MIN_POSITIVE).ln()).sum();
    sum / rows.len() as f64
}

fn mixture(row: &[f64], weights: &[f64]) -> f64 {
    row.iter().zip(weights).map(|(probability, weight)| probability * weight).sum()
}

impl ViewWeights {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likelihoods(rows: Vec<Vec<f64>>) -> ViewLikelihoods {
        ViewLikelihoods::grouped(rows.into_iter().enumerate().collect(), |_| None::<usize>)
    }

    fn fitted_to() -> FittedTo {
        let views = vec!["a".to_owned(), "b".to_owned()];
        FittedTo { views, checkpoint: "best".to_owned(), step: 7, weights: Some("0123456789abcdef".to_owned()) }
    }

    /// Numbers in (0, 1) without order.
    fn scattered(count: usize) -> Vec<f64> {
        (0..count).map(|place| ((place * 7919 + 13) % 1009) as f64 / 1009.0 + 1e-4).collect()
    }

    #[test]
    fn a_view_that_is_always_better_takes_the_weight() {
        let rows = scattered(50).into_iter().map(|p| vec![0.5 + p / 3.0, p / 3.0]).collect();
        let fitted = likelihoods(rows).fit(fitted_to()).unwrap();
        assert!(fitted.learned && fitted.weights[0] > 0.999, "{fitted:?}");
        assert!(fitted.weighted_loss < fitted.mean_loss && fitted.held_out_loss < fitted.mean_loss);
    }

    #[test]
    fn shares_of_a_mixture_are_found_where_they_are_known() {
        // Each of two views alone knows some images: by symmetry of the loss, weights are the shares of images.
        let rows = (0..40).map(|place| if place % 4 == 0 { vec![0.0, 0.9] } else { vec![0.9, 0.0] }).collect();
        let fitted = likelihoods(rows).fit(fitted_to()).unwrap();
        assert!((fitted.weights[0] - 0.75).abs() < 1e-6, "{fitted:?}");
    }

    #[test]
    fn weights_are_never_worse_than_the_mean_and_sum_to_one() {
        for views in 1..6 {
            let rows = scattered(60 * views).chunks(views).map(<[f64]>::to_vec).collect();
            let fitted = likelihoods(rows).fit(fitted_to()).unwrap();
            assert!(fitted.weighted_loss <= fitted.mean_loss, "{fitted:?}");
            assert!((fitted.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{fitted:?}");
        }
    }

    #[test]
    fn what_does_not_hold_for_other_images_is_not_learned() {
        // In each fold another view is right: what the others say of it misleads.
        let rows: Vec<Vec<f64>> = (0..25)
            .map(|place| (0..WEIGHT_FOLDS).map(|view| if view == place % WEIGHT_FOLDS { 0.9 } else { 0.1 }).collect())
            .collect();
        let mut likelihoods = likelihoods(rows);
        // Uneven, so that weights fitted to all differ from the mean.
        likelihoods.rows.push(vec![0.9, 0.1, 0.1, 0.1, 0.1]);
        likelihoods.folds.push(0);
        let fitted = likelihoods.fit(fitted_to()).unwrap();
        assert!(!fitted.learned && fitted.held_out_loss > fitted.mean_loss, "{fitted:?}");
        assert_eq!((fitted.weights, fitted.weighted_loss), (vec![0.2; 5], fitted.mean_loss));
    }

    #[test]
    fn too_few_images_teach_nothing_and_none_give_none() {
        let fitted = likelihoods(vec![vec![0.9, 0.1]]).fit(fitted_to()).unwrap();
        assert_eq!((fitted.learned, fitted.weights), (false, vec![0.5, 0.5]));
        assert_eq!(likelihoods(vec![]).fit(fitted_to()), None);
        let impossible = likelihoods(vec![vec![0.0, 0.0]; 10]).fit(fitted_to()).unwrap();
        assert!(impossible.weights == [0.5, 0.5] && impossible.mean_loss.is_finite());
    }

    #[test]
    fn images_of_one_group_are_held_out_together() {
        let found = (0..12).map(|sample| (sample, vec![0.5])).collect();
        let likelihoods = ViewLikelihoods::grouped(found, |sample| (sample > 1).then_some(sample / 4));
        assert_eq!(likelihoods.folds, [0, 1, 2, 2, 4, 4, 4, 4, 3, 3, 3, 3]);
    }

    #[test]
    fn weights_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("view_weights.json");
        let written = likelihoods(scattered(40).chunks(2).map(<[f64]>::to_vec).collect()).fit(fitted_to()).unwrap();
        written.write(&path).unwrap();
        assert_eq!(ViewWeights::read(&path).unwrap(), written);
        let unnamed = ViewWeights { fitted_to: FittedTo { weights: None, ..fitted_to() }, ..written };
        unnamed.write(&path).unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("0123456789abcdef"));
        assert_eq!(ViewWeights::read(&path).unwrap(), unnamed, "from before the weights were named");
        let few = likelihoods(vec![vec![0.9, 0.1]]).fit(fitted_to()).unwrap();
        few.write(&path).unwrap();
        assert_eq!((ViewWeights::read(&path).unwrap(), few.held_out_loss), (few, f64::INFINITY));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(ViewWeights::read(&path), Err(CalibrationError::Malformed { .. })));
    }
}
