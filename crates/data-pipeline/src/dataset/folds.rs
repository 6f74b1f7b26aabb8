//! Folds for cross-validation with the same share of every class, and no group in two of them.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{Dataset, DatasetError};
use crate::random::{Stream, shuffled};

impl Dataset {
    /// The fold of each sample, 0 to `folds` - 1, as [`stratified_folds`] with the groups that a CSV names. Images without a
    /// group are groups of their own.
    ///
    /// # Errors
    /// [`DatasetError::BadFolds`] for fewer than two folds or more than there are groups, [`DatasetError::FoldsAboveClasses`] where no class has an image
    /// for each, [`DatasetError::ClassTooSmall`] for a class that cannot be both trained on and validated, [`DatasetError::NoLabel`].
    pub fn stratified_folds(&self, folds: usize, seed: u64) -> Result<Vec<usize>, DatasetError> {
        let label = |sample: &super::Sample| {
            let label = sample.label.filter(|&label| (label as usize) < self.classes.len());
            label.ok_or_else(|| DatasetError::NoLabel { path: sample.path.clone() })
        };
        let labels = self.samples.iter().map(label).collect::<Result<Vec<u32>, _>>()?;
        let has_groups = self.samples.iter().any(|sample| sample.group.is_some());
        let groups = has_groups.then(|| self.group_numbers());
        self.refuse_small_classes(&labels, groups.as_deref())?;
        let parts = groups.as_ref().map_or(labels.len(), |groups| groups.iter().max().map_or(0, |last| last + 1));
        if folds < 2 || folds > parts {
            return Err(DatasetError::BadFolds { folds, parts, grouped: has_groups });
        }
        self.refuse_folds_above_classes(folds)?;
        Ok(stratified_folds(&labels, groups.as_deref(), folds, seed))
    }

    /// As scikit-learn's `StratifiedKFold`: with more folds than the largest class has images, every fold lacks some of each class.
    fn refuse_folds_above_classes(&self, folds: usize) -> Result<(), DatasetError> {
        let largest = self.class_counts().into_iter().zip(&self.classes).max_by_key(|(images, _)| *images);
        match largest {
            Some((images, class)) if images < folds => {
                Err(DatasetError::FoldsAboveClasses { class: class.clone(), images, folds })
            }
            _ => Ok(()),
        }
    }

    /// Training and validation set of one fold: `folds` tells the fold of each sample. Both keep the original order.
    #[must_use]
    pub fn split_fold(&self, folds: &[usize], fold: usize) -> (Self, Self) {
        let part = |is_wanted: &dyn Fn(usize) -> bool| Self {
            samples: self.samples.iter().zip(folds).filter(|(_, of)| is_wanted(**of)).map(|(s, _)| s.clone()).collect(),
            ignored_files: 0,
            root: self.root.clone(),
            classes: self.classes.clone(),
        };
        (part(&|of| of != fold), part(&|of| of == fold))
    }

    /// Numbers groups from 0 in the order of their first image.
    pub(super) fn group_numbers(&self) -> Vec<usize> {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut next = 0;
        let mut of_sample = Vec::with_capacity(self.len());
        for sample in &self.samples {
            let number = match sample.group.as_deref() {
                Some(group) => *numbers.entry(group).or_insert(next),
                None => next,
            };
            next = next.max(number + 1);
            of_sample.push(number);
        }
        of_sample
    }

    pub(super) fn refuse_small_classes(&self, labels: &[u32], groups: Option<&[usize]>) -> Result<(), DatasetError> {
        // The first group of each class, and whether there is another one.
        let mut seen: Vec<Option<(usize, bool)>> = vec![None; self.classes.len()];
        for (sample, &label) in labels.iter().enumerate() {
            let group = groups.map_or(sample, |groups| groups[sample]);
            let place = &mut seen[label as usize];
            *place = Some(place.map_or((group, false), |(first, more)| (first, more || first != group)));
        }
        match seen.iter().position(|seen| matches!(seen, Some((_, false)))) {
            None => Ok(()),
            Some(class) => {
                let images = labels.iter().filter(|&&label| label as usize == class).count();
                let class = self.classes[class].clone();
                Err(match groups {
                    Some(_) => DatasetError::ClassOfOneGroup { class, images },
                    None => DatasetError::ClassTooSmall { class, images },
                })
            }
        }
    }
}

/// The fold of each sample. Without groups, counts of a class in two folds differ by at most one, and so do the sizes of
/// folds, as scikit-learn's `StratifiedKFold` with shuffling has it. With groups, each group stands in one fold whole, and
/// shares of classes are as close as `StratifiedGroupKFold`'s rule makes them: groups of unlike classes first, each to the
/// fold where the shares then differ least.
///
/// `groups` are numbers from 0, one a sample; `folds` is at least 1.
#[must_use]
pub fn stratified_folds(labels: &[u32], groups: Option<&[usize]>, folds: usize, seed: u64) -> Vec<usize> {
    let folds = folds.max(1);
    match groups {
        Some(groups) => grouped(labels, groups, folds, seed),
        None => ungrouped(labels, folds, seed),
    }
}

/// Deals the samples out class by class, going on where the class before stopped.
fn ungrouped(labels: &[u32], folds: usize, seed: u64) -> Vec<usize> {
    let mut order = shuffled(labels.len(), Stream::Fold.seed(seed, 0, 0));
    order.sort_by_key(|&sample| labels[sample]);
    let mut fold_of = vec![0; labels.len()];
    for (place, sample) in order.into_iter().enumerate() {
        fold_of[sample] = place % folds;
    }
    fold_of
}

fn grouped(labels: &[u32], groups: &[usize], folds: usize, seed: u64) -> Vec<usize> {
    let classes = labels.iter().max().map_or(0, |&last| last as usize + 1);
    let group_count = groups.iter().max().map_or(0, |last| last + 1);
    let mut counts = vec![vec![0usize; classes]; group_count];
    for (&label, &group) in labels.iter().zip(groups) {
        counts[group][label as usize] += 1;
    }
    let mut order = shuffled(group_count, Stream::Fold.seed(seed, 1, 0));
    // Stable: groups that are equally unlike stay in the drawn order.
    order.sort_by_key(|&group| Reverse(spread(&counts[group])));
    let mut deal = Deal::new(labels, classes, folds);
    let mut fold_of_group = vec![0; group_count];
    for group in order {
        fold_of_group[group] = deal.take(&counts[group]);
    }
    groups.iter().map(|&group| fold_of_group[group]).collect()
}

/// The squared number of classes times the variance of the counts: whole, so that equal groups compare equal.
pub(super) fn spread(counts: &[usize]) -> usize {
    let (sum, squares) = counts.iter().fold((0, 0), |(sum, squares), count| (sum + count, squares + count * count));
    counts.len() * squares - sum * sum
}

/// What each fold holds so far.
struct Deal {
    /// Images of each class in the whole set.
    totals: Vec<f64>,
    /// Images by fold and class.
    held: Vec<Vec<usize>>,
}

impl Deal {
    fn new(labels: &[u32], classes: usize, folds: usize) -> Self {
        let mut totals = vec![0.0; classes];
        for &label in labels {
            totals[label as usize] += 1.0;
        }
        Self { totals, held: vec![vec![0; classes]; folds] }
    }

    /// Gives a group to the fold where it makes shares differ least; where several are as good, to the smallest one.
    fn take(&mut self, counts: &[usize]) -> usize {
        let judged = (0..self.held.len()).map(|fold| {
            let size: usize = self.held[fold].iter().sum();
            (self.difference_with(fold, counts), size, fold)
        });
        let best = judged.min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let fold = best.map_or(0, |(_, _, fold)| fold);
        for (held, count) in self.held[fold].iter_mut().zip(counts) {
            *held += count;
        }
        fold
    }

    /// By how much the deviation between folds grows, summed over classes. Only those of the group change.
    fn difference_with(&self, fold: usize, counts: &[usize]) -> f64 {
        let touched = (0..counts.len()).filter(|&class| counts[class] > 0);
        let change = |class: usize| self.deviation(class, fold, counts[class]) - self.deviation(class, fold, 0);
        // Rounded, so that folds that are equal but for the order of sums count as equal.
        (touched.map(change).sum::<f64>() * 1e9).round()
    }

    /// Between folds, of their shares of a class, if `fold` got so many more of it.
    fn deviation(&self, class: usize, fold: usize, more: usize) -> f64 {
        let folds = self.held.len();
        let share = |of: usize| (self.held[of][class] + if of == fold { more } else { 0 }) as f64 / self.totals[class];
        let mean = (0..folds).map(share).sum::<f64>() / folds as f64;
        ((0..folds).map(|of| (share(of) - mean).powi(2)).sum::<f64>() / folds as f64).sqrt()
    }
}

#[cfg(test)]
mod tests;
