//! Two parts of a data set that share no group.

use std::cmp::Reverse;

use super::folds::spread;
use crate::random::{Stream, shuffled};

/// Deals whole groups out to a held-out part and a kept one.
pub(super) struct GroupSplit {
    /// Images by group and class.
    counts: Vec<Vec<usize>>,
    /// Images of each class in the whole set.
    totals: Vec<usize>,
    /// What is wanted of each class in the held-out part, 0 to 1.
    share: f64,
}

impl GroupSplit {
    /// `groups` are numbers from 0, one a sample, as `labels` are.
    pub(super) fn new(labels: &[u32], groups: &[usize], classes: usize, share: f64) -> Self {
        let group_count = groups.iter().max().map_or(0, |last| last + 1);
        let mut counts = vec![vec![0; classes]; group_count];
        let mut totals = vec![0; classes];
        for (&label, &group) in labels.iter().zip(groups) {
            counts[group][label as usize] += 1;
            totals[label as usize] += 1;
        }
        Self { counts, totals, share }
    }

    /// Whether each group is held out. Groups of unlike classes come first, as in folds, and each is held out where that brings the shares nearer to what is
    /// wanted; then groups change sides until each class is on both.
    ///
    /// # Errors
    /// A class that stays on one side.
    pub(super) fn choose(&self, seed: u64) -> Result<Vec<bool>, usize> {
        let mut order = shuffled(self.counts.len(), Stream::Split.seed(seed, u64::MAX, 0));
        // Stable: groups that are equally unlike stay in the drawn order.
        order.sort_by_key(|&group| Reverse(spread(&self.counts[group])));
        let mut is_held_out = vec![false; self.counts.len()];
        let mut held = vec![0; self.totals.len()];
        for &group in &order {
            let with: Vec<usize> = held.iter().zip(&self.counts[group]).map(|(held, count)| held + count).collect();
            if self.deviation(&with) < self.deviation(&held) {
                (is_held_out[group], held) = (true, with);
            }
        }
        for class in 0..self.totals.len() {
            for side in [true, false] {
                self.bring(class, side, &order, &mut is_held_out)?;
            }
        }
        Ok(is_held_out)
    }

    /// Moves a group with that class to a side that has none of it: the one after which the shares are best, of those that take no other class away.
    fn bring(&self, class: usize, side: bool, order: &[usize], is_held_out: &mut [bool]) -> Result<(), usize> {
        let here = self.on_side(side, is_held_out);
        let there = self.on_side(!side, is_held_out);
        if self.totals[class] == 0 || here[class] > 0 {
            return Ok(());
        }
        let takes_none_away = |group: &usize| {
            let counts = self.counts[*group].iter();
            counts.zip(&there).all(|(&count, &there)| count == 0 || count < there)
        };
        let deviation = |group: usize| {
            let held = self.on_side(true, is_held_out);
            let moved = held.iter().zip(&self.counts[group]);
            let moved: Vec<usize> = moved.map(|(held, count)| if side { held + count } else { held - count }).collect();
            self.deviation(&moved)
        };
        let with_it = order.iter().copied().filter(|&group| self.counts[group][class] > 0);
        let judged = with_it.filter(takes_none_away).map(|group| (deviation(group), group));
        let (_, group) = judged.min_by(|one, other| one.0.total_cmp(&other.0)).ok_or(class)?;
        is_held_out[group] = side;
        Ok(())
    }

    /// Images of each class on one side.
    fn on_side(&self, side: bool, is_held_out: &[bool]) -> Vec<usize> {
        let mut sum = vec![0; self.totals.len()];
        for (counts, _) in self.counts.iter().zip(is_held_out).filter(|(_, is_held_out)| **is_held_out == side) {
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        sum
    }

    /// Squared distances of the held-out shares from what is wanted, summed over classes.
    fn deviation(&self, held: &[usize]) -> f64 {
        let shares = held.iter().zip(&self.totals).filter(|(_, total)| **total > 0);
        shares.map(|(&held, &total)| (held as f64 / total as f64 - self.share).powi(2)).sum()
    }
}
