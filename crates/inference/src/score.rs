//! How good predictions are, where the truth is known.

use data_pipeline::Dataset;
use metrics::{ConfusionMatrix, argmax};

use crate::{Outcome, Prediction};

/// Scores without and with the views, over the same images.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Of the image as it is.
    pub plain: ConfusionMatrix,
    /// Of the mean over the views.
    pub merged: ConfusionMatrix,
    /// Images with a label but without probabilities; both matrices leave them out.
    pub left_out: usize,
}

/// Scores the predictions whose samples have a label; none where not one has.
#[must_use]
pub fn score(dataset: &Dataset, predictions: &[Prediction]) -> Option<Scores> {
    let matrix = ConfusionMatrix::new(dataset.classes.clone());
    let mut scores = Scores { plain: matrix.clone(), merged: matrix, left_out: 0 };
    let mut has_labels = false;
    for prediction in predictions {
        let label = dataset.samples.get(prediction.sample).and_then(|sample| sample.label);
        let Some(label) = label else { continue };
        has_labels = true;
        scores.record(label as usize, &prediction.outcome);
    }
    has_labels.then_some(scores)
}

impl Scores {
    /// Adds the scores of other predictions by the same classes.
    ///
    /// # Panics
    /// When the classes are others.
    pub fn merge(&mut self, other: &Self) {
        const SAME: &str = "scores of one data set are of the same classes";
        self.plain.merge(&other.plain).expect(SAME);
        self.merged.merge(&other.merged).expect(SAME);
        self.left_out += other.left_out;
    }

    fn record(&mut self, label: usize, outcome: &Outcome) {
        let classes = 0..self.plain.classes().len();
        let highest = match outcome {
            Outcome::Scored { plain, merged } => argmax(plain).zip(argmax(merged)),
            Outcome::Unreadable { .. } | Outcome::NotFinite { .. } => None,
        };
        match highest {
            Some((plain, merged)) if [label, plain, merged].iter().all(|class| classes.contains(class)) => {
                self.plain.record(label, plain).expect("both classes are among the matrix's");
                self.merged.record(label, merged).expect("both classes are among the matrix's");
            }
            _ => self.left_out += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use data_pipeline::Sample;

    use super::*;

    fn dataset(labels: &[Option<u32>]) -> Dataset {
        let sample = |&label| Sample { path: PathBuf::from("x.png"), label, group: None };
        Dataset {
            root: PathBuf::new(),
            classes: vec!["cat".to_owned(), "dog".to_owned()],
            samples: labels.iter().map(sample).collect(),
            ignored_files: 0,
        }
    }

    /// `plain` and `merged` are the probabilities of the first of two classes.
    fn scored(sample: usize, plain: f32, merged: f32) -> Prediction {
        let outcome = Outcome::Scored { plain: vec![plain, 1.0 - plain], merged: vec![merged, 1.0 - merged] };
        Prediction { sample, outcome }
    }

    #[test]
    fn plain_and_merged_are_counted_apart_over_the_labelled_images() {
        let dataset = dataset(&[Some(0), Some(1), None, Some(1)]);
        let unreadable = Prediction { sample: 3, outcome: Outcome::Unreadable { reason: "cut short".to_owned() } };
        let predictions = [scored(0, 0.4, 0.6), scored(1, 0.3, 0.2), scored(2, 0.9, 0.9), unreadable];
        let scores = score(&dataset, &predictions).unwrap();
        assert_eq!(scores.plain.counts(), [[0, 1], [0, 1]]);
        assert_eq!(scores.merged.counts(), [[1, 0], [0, 1]]);
        assert_eq!(scores.left_out, 1);
    }

    #[test]
    fn without_labels_there_are_no_scores() {
        assert_eq!(score(&dataset(&[None, None]), &[scored(0, 0.4, 0.6), scored(1, 0.4, 0.6)]), None);
    }

    #[test]
    fn predictions_of_other_data_do_not_panic() {
        let of_three_classes = Outcome::Scored { plain: vec![0.0, 0.0, 1.0], merged: vec![0.0, 0.0, 1.0] };
        let predictions = [Prediction { sample: 0, outcome: of_three_classes }, scored(7, 0.5, 0.5)];
        assert_eq!(score(&dataset(&[Some(1)]), &predictions).unwrap().left_out, 1);
    }
}
