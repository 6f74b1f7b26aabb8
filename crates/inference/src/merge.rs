//! From what each view says of an image to one answer.

use crate::{Outcome, View};

/// One image's probabilities, gathered view by view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Merge {
    plain: Vec<f32>,
    /// In f64, so that the mean of one view is that view, bit for bit, and the order of views does not show.
    sum: Vec<f64>,
    views: usize,
    not_finite: Option<View>,
}

impl Merge {
    pub(crate) fn set_plain(&mut self, row: Vec<f32>) {
        self.check(View::IDENTITY, &row);
        self.plain = row;
    }

    pub(crate) fn add(&mut self, view: View, row: Vec<f32>) {
        self.check(view, &row);
        self.sum.resize(row.len(), 0.0);
        self.sum.iter_mut().zip(&row).for_each(|(sum, &probability)| *sum += f64::from(probability));
        self.views += 1;
        if view == View::IDENTITY {
            self.plain = row;
        }
    }

    /// Softmax shows a score that is not finite as NaN, or is right about it: a class at minus infinity has probability 0.
    fn check(&mut self, view: View, row: &[f32]) {
        if self.not_finite.is_none() && row.iter().any(|probability| probability.is_nan()) {
            self.not_finite = Some(view);
        }
    }

    pub(crate) fn finish(self) -> Outcome {
        let views = self.views as f64;
        match self.not_finite {
            Some(view) => Outcome::NotFinite { view },
            None => {
                let merged = self.sum.iter().map(|sum| (sum / views) as f32).collect();
                Outcome::Scored { plain: self.plain, merged }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_view_without_finite_scores_is_the_one_that_is_told() {
        let brighter = View::Brightness { factor: 1.1 };
        let mut merge = Merge::default();
        merge.add(View::IDENTITY, vec![0.5, 0.5]);
        merge.add(brighter, vec![f32::NAN, f32::NAN]);
        merge.add(View::Zoom { factor: 1.1 }, vec![f32::NAN, f32::NAN]);
        let outcome = merge.finish();
        assert_eq!(outcome, Outcome::NotFinite { view: brighter });
        assert_eq!(outcome.error().unwrap(), "the model's scores are not finite in view `brightness_1.1`");
    }
}
