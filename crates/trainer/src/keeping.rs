//! Which epochs' weights stay on disk.

use checkpoint::BestEpoch;
use vision_nn::Classifier;

use crate::TrainError;
use crate::fit::Run;

impl<M: Classifier> Run<'_, M> {
    /// Saves the weights of an epoch that was just validated, where they are among the best. Returns whether they are the best of all.
    ///
    /// A file is whole before `last` knows of it, and is removed only after `last` no longer does ([`remove_others`](Self::remove_others)): so what
    /// `last` lists is there, whenever a run is killed.
    pub(crate) fn keep_if_good(&mut self, epoch: BestEpoch) -> Result<bool, TrainError> {
        let keep_best = self.session.step.options().keep_best;
        let progress = &mut self.session.card.progress;
        let improved = progress.best.is_none_or(|best| is_better(&epoch, &best));
        if improved {
            progress.best = Some(epoch);
        }
        let kept = keep_best > 1 && enter(&mut progress.kept, epoch, keep_best);
        if kept || improved {
            let folder = &self.session.folder;
            let paths = [(kept, folder.kept(epoch.epoch)), (improved, folder.best())];
            let wanted = paths.iter().filter(|(wanted, _)| *wanted);
            wanted.map(|(_, path)| path).try_for_each(|path| self.session.write_evaluated(path))?;
        }
        Ok(improved)
    }

    /// Takes up the list that the run stopped with: as long as is wanted now, and without what was removed since.
    pub(crate) fn take_up_kept(&mut self) {
        let keep_best = self.session.step.options().keep_best;
        let (folder, kept) = (&self.session.folder, &mut self.session.card.progress.kept);
        kept.retain(|epoch| keep_best > 1 && folder.kept(epoch.epoch).is_file());
        kept.truncate(keep_best);
        self.remove_others();
    }

    /// Removes the weights of epochs that are no longer among the best. Only right after `last` was saved.
    pub(crate) fn remove_others(&self) {
        let kept: Vec<u32> = self.session.card.progress.kept.iter().map(|epoch| epoch.epoch).collect();
        self.session.folder.remove_kept_but(&kept);
    }
}

/// Higher macro-F1 wins; at equal macro-F1 the lower loss. Weights that give no finite loss lose against all that do.
fn is_better(one: &BestEpoch, other: &BestEpoch) -> bool {
    let is_finite = |epoch: &BestEpoch| epoch.macro_f1.is_finite() && epoch.loss.is_finite();
    match (is_finite(one), is_finite(other)) {
        (true, true) => (one.macro_f1, -one.loss) > (other.macro_f1, -other.loss),
        (false, false) => one.macro_f1 > other.macro_f1,
        (one, _) => one,
    }
}

/// Puts an epoch in its place among at most `most`, the best first; of equals the earlier one. Returns whether it got one.
fn enter(kept: &mut Vec<BestEpoch>, epoch: BestEpoch, most: usize) -> bool {
    let place = kept.iter().position(|other| is_better(&epoch, other)).unwrap_or(kept.len());
    kept.insert(place, epoch);
    kept.truncate(most);
    place < most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_epochs_stay_in_order_and_of_equals_the_earlier() {
        let scores = [(0.5, 1.0), (0.7, 0.9), (0.5, 0.8), (f64::NAN, 0.1), (0.5, 0.8), (0.9, 2.0), (0.7, 0.9)];
        let mut kept = Vec::new();
        let entered: Vec<bool> = scores
            .iter()
            .zip(1..)
            .map(|(&(macro_f1, loss), epoch)| enter(&mut kept, BestEpoch { epoch, macro_f1, loss }, 3))
            .collect();
        assert_eq!(entered, [true, true, true, false, true, true, true]);
        assert_eq!(kept.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(), [6, 2, 7]);
    }

    #[test]
    fn an_epoch_that_is_not_finite_loses_against_every_one_that_is() {
        let epoch = |macro_f1, loss| BestEpoch { epoch: 1, macro_f1, loss };
        let finite = epoch(0.1, 9.0);
        for other in [epoch(0.9, f64::NAN), epoch(0.9, f64::INFINITY), epoch(f64::NAN, 0.1)] {
            assert!(is_better(&finite, &other) && !is_better(&other, &finite), "{other:?}");
        }
        assert!(is_better(&epoch(0.9, f64::NAN), &epoch(0.8, f64::INFINITY)), "some numbers are better than fewer");
    }
}
