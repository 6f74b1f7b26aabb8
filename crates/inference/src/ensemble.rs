//! Several models' predictions of the same images, as one.

use crate::{Outcome, PredictError, Prediction};

/// The weighted mean of the members' probabilities, image by image. A member's weight is 0 or more, and one at least is above; only their
/// proportions matter. An image that a member has no probabilities for has none: the first reason is kept.
///
/// # Errors
/// [`PredictError::OtherPredictions`] where a member's images or classes are not those of the first, [`PredictError::NoViews`] without a member.
pub fn average(members: Vec<(f64, Vec<Prediction>)>) -> Result<Vec<Prediction>, PredictError> {
    let mut averaging = Averaging::default();
    members.into_iter().try_for_each(|(weight, predictions)| averaging.add(weight, predictions))?;
    averaging.finish()
}

/// A weighted mean that takes up one member after the other. However many there are, it holds what one of them said, in f64.
#[derive(Debug, Default)]
pub struct Averaging {
    /// Of all members; none before the first.
    weights: Option<f64>,
    images: Vec<ImageSums>,
}

/// What the members said of one image.
#[derive(Debug)]
struct ImageSums {
    sample: usize,
    said: Result<Sums, Outcome>,
}

/// Probabilities by their weights, without and with the views.
#[derive(Debug)]
struct Sums {
    plain: Vec<f64>,
    merged: Vec<f64>,
}

impl Averaging {
    /// Takes up a member's predictions, with its weight.
    ///
    /// # Errors
    /// [`PredictError::OtherPredictions`] where its images or classes are not those of the first.
    pub fn add(&mut self, weight: f64, predictions: Vec<Prediction>) -> Result<(), PredictError> {
        let Some(weights) = &mut self.weights else {
            self.weights = Some(weight);
            self.images = predictions.into_iter().map(|prediction| ImageSums::new(weight, prediction)).collect();
            return Ok(());
        };
        *weights += weight;
        if predictions.len() != self.images.len() {
            return Err(self.other(predictions.len().min(self.images.len())));
        }
        for (place, prediction) in predictions.into_iter().enumerate() {
            if self.images[place].add(weight, prediction).is_none() {
                return Err(self.other(place));
            }
        }
        Ok(())
    }

    /// The mean of those that were taken up.
    ///
    /// # Errors
    /// [`PredictError::NoViews`] without a member.
    pub fn finish(self) -> Result<Vec<Prediction>, PredictError> {
        let weights = self.weights.ok_or(PredictError::NoViews)?;
        Ok(self.images.into_iter().map(|image| image.mean(weights)).collect())
    }

    fn other(&self, index: usize) -> PredictError {
        let width = |image: &ImageSums| image.said.as_ref().ok().map(|sums| sums.merged.len());
        let classes = self.images.iter().find_map(width).unwrap_or(0);
        PredictError::OtherPredictions { index, samples: self.images.len(), classes }
    }
}

impl ImageSums {
    fn new(weight: f64, prediction: Prediction) -> Self {
        let weighed = |row: Vec<f32>| row.into_iter().map(|own| weight * f64::from(own)).collect();
        let said = match prediction.outcome {
            Outcome::Scored { plain, merged } => Ok(Sums { plain: weighed(plain), merged: weighed(merged) }),
            failed => Err(failed),
        };
        Self { sample: prediction.sample, said }
    }

    /// None where it is another image, or of other classes.
    fn add(&mut self, weight: f64, prediction: Prediction) -> Option<()> {
        if self.sample != prediction.sample {
            return None;
        }
        match (&mut self.said, prediction.outcome) {
            (Ok(sums), Outcome::Scored { plain, merged }) => {
                add(&mut sums.plain, &plain, weight)?;
                add(&mut sums.merged, &merged, weight)
            }
            (Ok(_), failed) => {
                self.said = Err(failed);
                Some(())
            }
            (Err(_), _) => Some(()),
        }
    }

    fn mean(self, weights: f64) -> Prediction {
        let finish = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / weights) as f32).collect();
        let outcome = match self.said {
            Ok(Sums { plain, merged }) => Outcome::Scored { plain: finish(plain), merged: finish(merged) },
            Err(failed) => failed,
        };
        Prediction { sample: self.sample, outcome }
    }
}

fn add(sums: &mut [f64], row: &[f32], weight: f64) -> Option<()> {
    (sums.len() == row.len()).then(|| sums.iter_mut().zip(row).for_each(|(sum, &own)| *sum += weight * f64::from(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(sample: usize, plain: [f32; 2], merged: [f32; 2]) -> Prediction {
        Prediction { sample, outcome: Outcome::Scored { plain: plain.to_vec(), merged: merged.to_vec() } }
    }

    fn unreadable(sample: usize) -> Prediction {
        Prediction { sample, outcome: Outcome::Unreadable { reason: "cut short".to_owned() } }
    }

    #[test]
    fn probabilities_are_averaged_by_weight() {
        let one = vec![scored(0, [1.0, 0.0], [0.5, 0.5]), unreadable(1)];
        let other = vec![scored(0, [0.0, 1.0], [0.25, 0.75]), unreadable(1)];
        let mean = average(vec![(3.0, one.clone()), (1.0, other)]).unwrap();
        assert_eq!(mean, [scored(0, [0.75, 0.25], [0.4375, 0.5625]), unreadable(1)]);
        assert_eq!(average(vec![(0.1, one.clone())]).unwrap(), one, "alone, a model is itself");
    }

    #[test]
    fn the_first_reason_is_kept_whoever_has_it() {
        let fine = || vec![scored(0, [1.0, 0.0], [1.0, 0.0])];
        let other_reason = Outcome::Unreadable { reason: "no picture".to_owned() };
        let members = vec![
            (1.0, fine()),
            (1.0, vec![unreadable(0)]),
            (1.0, vec![Prediction { sample: 0, outcome: other_reason }]),
        ];
        assert_eq!(average(members).unwrap(), [unreadable(0)]);
        assert_eq!(average(vec![(1.0, vec![unreadable(0)]), (1.0, fine())]).unwrap(), [unreadable(0)]);
    }

    #[test]
    fn other_images_or_classes_are_refused() {
        let one = vec![scored(0, [1.0, 0.0], [1.0, 0.0])];
        let others = [
            vec![scored(1, [1.0, 0.0], [1.0, 0.0])],
            vec![],
            vec![scored(0, [1.0, 0.0], [1.0, 0.0]), unreadable(1)],
            vec![Prediction { sample: 0, outcome: Outcome::Scored { plain: vec![1.0], merged: vec![1.0] } }],
        ];
        for other in others {
            let error = average(vec![(1.0, one.clone()), (1.0, other)]).unwrap_err();
            assert!(matches!(error, PredictError::OtherPredictions { samples: 1, classes: 2, .. }), "{error}");
        }
        assert!(matches!(average(Vec::new()), Err(PredictError::NoViews)));
    }
}
