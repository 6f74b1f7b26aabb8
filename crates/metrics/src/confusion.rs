//! The confusion matrix and the scores that follow from it, as scikit-learn defines them.

use serde::{Deserialize, Serialize};

use crate::ScoreError;

/// How often each class was predicted for each true class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionMatrix {
    classes: Vec<String>,
    /// Row by row: `counts[label][predicted]`.
    counts: Vec<Vec<u64>>,
}

/// Scores of one class, each 0 to 1; 0 where the quotient is 0/0, as scikit-learn's `zero_division=0`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Of what was predicted as this class, the share that is.
    pub precision: f64,
    /// Of what is this class, the share that was found.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Samples that are this class.
    pub support: u64,
}

/// Scores averaged over classes, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AverageScores {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
    /// Mean F1 (not the F1 of the means).
    pub f1: f64,
}

/// One kind of mistake: samples of class `label` taken for `predicted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confusion {
    /// Index of the true class.
    pub label: usize,
    /// Index of the class that was predicted.
    pub predicted: usize,
    /// How often.
    pub count: u64,
}

impl ConfusionMatrix {
    /// An empty matrix over `classes`, in the order of the model's outputs.
    #[must_use]
    pub fn new(classes: Vec<String>) -> Self {
        let counts = vec![vec![0; classes.len()]; classes.len()];
        Self { classes, counts }
    }

    /// A matrix over `classes` with `counts[label][predicted]`; none where they are not as many.
    #[must_use]
    pub fn from_counts(classes: Vec<String>, counts: Vec<Vec<u64>>) -> Option<Self> {
        let is_square = counts.len() == classes.len() && counts.iter().all(|row| row.len() == classes.len());
        is_square.then_some(Self { classes, counts })
    }

    /// Counts one prediction.
    ///
    /// # Errors
    /// [`ScoreError::UnknownClass`] when either index is not a class; nothing is counted then.
    pub fn record(&mut self, label: usize, predicted: usize) -> Result<(), ScoreError> {
        self.check_class("label", label)?;
        self.check_class("prediction", predicted)?;
        self.counts[label][predicted] += 1;
        Ok(())
    }

    /// Adds the counts of another matrix over the same classes.
    ///
    /// # Errors
    /// [`ScoreError::OtherClasses`] when the class lists differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), ScoreError> {
        if self.classes != other.classes {
            return Err(ScoreError::OtherClasses { expected: self.classes.len(), found: other.classes.len() });
        }
        for (row, other_row) in self.counts.iter_mut().zip(&other.counts) {
            row.iter_mut().zip(other_row).for_each(|(count, other_count)| *count += other_count);
        }
        Ok(())
    }

    /// Class names, by index.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Counts as `[label][predicted]`.
    #[must_use]
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// Samples recorded.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Share of samples predicted right, 0 to 1; NaN when nothing was recorded.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes.len()).map(|class| self.counts[class][class]).sum();
        right as f64 / self.total() as f64
    }

    /// Scores of each class, by index; `precision_recall_fscore_support(labels=range(num_classes), zero_division=0)`.
    #[must_use]
    pub fn per_class(&self) -> Vec<ClassScores> {
        (0..self.classes.len()).map(|class| self.class_scores(class)).collect()
    }

    /// Mean F1 over the classes that occur in the labels or the predictions; `f1_score(average="macro")`. NaN when
    /// nothing was recorded.
    #[must_use]
    pub fn macro_f1(&self) -> f64 {
        self.macro_scores().f1
    }

    /// Means over the classes that occur in the labels or the predictions; `average="macro"`.
    #[must_use]
    pub fn macro_scores(&self) -> AverageScores {
        self.average(|matrix, class, scores| f64::from(u8::from(scores.support + matrix.predicted_count(class) > 0)))
    }

    /// Means weighted by support; `average="weighted"`.
    #[must_use]
    pub fn weighted_scores(&self) -> AverageScores {
        self.average(|_, _, scores| scores.support as f64)
    }

    /// The most frequent mistakes, most frequent first, then in class order; at most `limit`.
    #[must_use]
    pub fn worst_confusions(&self, limit: usize) -> Vec<Confusion> {
        let mut confusions: Vec<Confusion> =
            self.cells().filter(|confusion| confusion.label != confusion.predicted && confusion.count > 0).collect();
        confusions.sort_by_key(|confusion| std::cmp::Reverse(confusion.count)); // stable: keeps class order
        confusions.truncate(limit);
        confusions
    }

    /// The counts as CSV: a header `true \ predicted,<classes>`, then one line a true class.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut csv = String::from("true \\ predicted");
        for class in &self.classes {
            csv.push(',');
            csv.push_str(&csv_field(class));
        }
        csv.push('\n');
        for (class, row) in self.classes.iter().zip(&self.counts) {
            csv.push_str(&csv_field(class));
            row.iter().for_each(|count| csv.push_str(&format!(",{count}")));
            csv.push('\n');
        }
        csv
    }

    pub(crate) fn predicted_count(&self, class: usize) -> u64 {
        self.counts.iter().map(|row| row[class]).sum()
    }

    /// Every cell, row by row.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Confusion> + '_ {
        self.counts.iter().enumerate().flat_map(|(label, row)| {
            row.iter().enumerate().map(move |(predicted, &count)| Confusion { label, predicted, count })
        })
    }

    #[cfg(test)]
    pub(crate) fn counts_mut(&mut self) -> &mut [Vec<u64>] {
        &mut self.counts
    }

    fn class_scores(&self, class: usize) -> ClassScores {
        let right = self.counts[class][class];
        let support: u64 = self.counts[class].iter().sum();
        let predicted = self.predicted_count(class);
        ClassScores {
            precision: share(right, predicted),
            recall: share(right, support),
            f1: share(2 * right, support + predicted),
            support,
        }
    }

    fn average(&self, weight_of: impl Fn(&Self, usize, &ClassScores) -> f64) -> AverageScores {
        let mut sum = AverageScores { precision: 0.0, recall: 0.0, f1: 0.0 };
        let mut total_weight = 0.0;
        for (class, scores) in self.per_class().iter().enumerate() {
            let weight = weight_of(self, class, scores);
            sum.precision += weight * scores.precision;
            sum.recall += weight * scores.recall;
            sum.f1 += weight * scores.f1;
            total_weight += weight;
        }
        AverageScores {
            precision: sum.precision / total_weight,
            recall: sum.recall / total_weight,
            f1: sum.f1 / total_weight,
        }
    }

    fn check_class(&self, role: &'static str, index: usize) -> Result<(), ScoreError> {
        let num_classes = self.classes.len();
        if index < num_classes { Ok(()) } else { Err(ScoreError::UnknownClass { role, index, num_classes }) }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A field of a CSV line, in quotes where it needs them.
pub(crate) fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(classes: &[&str], predictions: &[(usize, usize)]) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(classes.iter().map(|&class| class.to_owned()).collect());
        predictions.iter().for_each(|&(label, predicted)| matrix.record(label, predicted).unwrap());
        matrix
    }

    #[test]
    fn a_class_outside_the_list_is_refused_and_not_counted() {
        let mut matrix = matrix(&["cat", "dog"], &[]);
        let error = matrix.record(0, 2).unwrap_err();
        assert_eq!(error.to_string(), "prediction 2 is not a class: there are 2 classes, 0 to 1");
        assert_eq!(matrix.total(), 0);
    }

    #[test]
    fn nothing_recorded_scores_nan_rather_than_zero() {
        let matrix = matrix(&["cat", "dog"], &[]);
        assert!(matrix.accuracy().is_nan() && matrix.macro_f1().is_nan());
    }

    #[test]
    fn a_class_that_never_occurs_does_not_lower_macro_f1() {
        assert_eq!(matrix(&["cat", "dog", "newt"], &[(0, 0), (1, 1)]).macro_f1(), 1.0);
    }

    #[test]
    fn worst_confusions_come_first_and_ties_keep_class_order() {
        let matrix = matrix(&["a", "b", "c"], &[(0, 0), (2, 1), (2, 1), (0, 2), (0, 1)]);
        let pairs: Vec<_> = matrix.worst_confusions(3).iter().map(|c| (c.label, c.predicted, c.count)).collect();
        assert_eq!(pairs, [(2, 1, 2), (0, 1, 1), (0, 2, 1)]);
    }

    #[test]
    fn merged_matrices_count_both() {
        let mut left = matrix(&["a", "b"], &[(0, 0)]);
        left.merge(&matrix(&["a", "b"], &[(1, 0), (0, 0)])).unwrap();
        assert_eq!(left.counts(), [[2, 0], [1, 0]]);
        assert!(left.merge(&matrix(&["a", "c"], &[])).is_err());
    }

    #[test]
    fn csv_quotes_class_names_that_need_it() {
        let csv = matrix(&["a,b", "say \"c\""], &[(0, 1)]).to_csv();
        assert_eq!(csv, "true \\ predicted,\"a,b\",\"say \"\"c\"\"\"\n\"a,b\",0,1\n\"say \"\"c\"\"\",0,0\n");
    }
}
