//! A seeded split that keeps every class on both sides.

use super::{Dataset, DatasetError};
use crate::random::{Stream, shuffled};

impl Dataset {
    /// Splits off `held_out_share` of every class, chosen by `seed`: `(kept, held out)`, both in the original order.
    /// Each class keeps at least one image on each side. `ignored_files` stays with the kept part.
    ///
    /// # Errors
    /// A share that is not between 0 and 1, a class with fewer than two images, an image without a label.
    pub fn split_stratified(self, held_out_share: f64, seed: u64) -> Result<(Self, Self), DatasetError> {
        if !(held_out_share > 0.0 && held_out_share < 1.0) {
            return Err(DatasetError::BadShare { share: held_out_share });
        }
        let held_out = self.choose_held_out(held_out_share, seed)?;
        let mut kept_samples = Vec::new();
        let mut held_out_samples = Vec::new();
        for (sample, is_held_out) in self.samples.into_iter().zip(held_out) {
            if is_held_out { held_out_samples.push(sample) } else { kept_samples.push(sample) }
        }
        let held_out = Self {
            root: self.root.clone(),
            classes: self.classes.clone(),
            samples: held_out_samples,
            ignored_files: 0,
        };
        Ok((Self { samples: kept_samples, ..self }, held_out))
    }

    fn choose_held_out(&self, share: f64, seed: u64) -> Result<Vec<bool>, DatasetError> {
        let mut is_held_out = vec![false; self.len()];
        for (class, members) in self.members_by_class()?.into_iter().enumerate() {
            // A class of the model that this data set lacks has nothing to split.
            if members.is_empty() {
                continue;
            }
            if members.len() < 2 {
                return Err(DatasetError::ClassTooSmall { class: self.classes[class].clone(), images: members.len() });
            }
            let wanted = (members.len() as f64 * share).round() as usize;
            let count = wanted.clamp(1, members.len() - 1);
            let order = shuffled(members.len(), Stream::Split.seed(seed, class as u64, 0));
            for &position in &order[..count] {
                is_held_out[members[position]] = true;
            }
        }
        Ok(is_held_out)
    }

    fn members_by_class(&self) -> Result<Vec<Vec<usize>>, DatasetError> {
        let mut members = vec![Vec::new(); self.classes.len()];
        for (index, sample) in self.samples.iter().enumerate() {
            sample
                .label
                .and_then(|label| members.get_mut(label as usize))
                .ok_or_else(|| DatasetError::NoLabel { path: sample.path.clone() })?
                .push(index);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sample;

    fn dataset(counts: &[usize]) -> Dataset {
        let samples = counts.iter().enumerate().flat_map(|(label, &count)| {
            (0..count).map(move |index| Sample {
                path: format!("{label}/{index}.png").into(),
                label: Some(label as u32),
                group: None,
            })
        });
        let classes = (0..counts.len()).map(|label| label.to_string()).collect();
        Dataset { root: "".into(), classes, samples: samples.collect(), ignored_files: 3 }
    }

    #[test]
    fn split_keeps_every_class_on_both_sides_and_loses_nothing() {
        let whole = dataset(&[2, 10, 37]);
        let (kept, held_out) = whole.clone().split_stratified(0.2, 1).unwrap();
        assert_eq!(kept.class_counts(), [1, 8, 30]);
        assert_eq!(held_out.class_counts(), [1, 2, 7]);
        let mut all: Vec<_> = kept.samples.iter().chain(&held_out.samples).map(|sample| &sample.path).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), whole.len());
    }

    #[test]
    fn split_is_the_same_for_a_seed_and_differs_between_seeds() {
        let split = |seed| dataset(&[40, 40]).split_stratified(0.3, seed).unwrap().1;
        assert_eq!(split(5), split(5));
        assert_ne!(split(5), split(6));
    }

    #[test]
    fn split_survives_shares_that_round_to_all_or_nothing() {
        let (kept, held_out) = dataset(&[3, 3]).split_stratified(0.999, 1).unwrap();
        assert_eq!((kept.class_counts(), held_out.class_counts()), (vec![1, 1], vec![2, 2]));
        let (kept, held_out) = dataset(&[3, 3]).split_stratified(0.001, 1).unwrap();
        assert_eq!((kept.class_counts(), held_out.class_counts()), (vec![2, 2], vec![1, 1]));
    }

    #[test]
    fn split_refuses_a_class_of_one_image_and_a_share_out_of_range() {
        let error = dataset(&[5, 1]).split_stratified(0.2, 1).unwrap_err();
        assert_eq!(error.to_string(), "class `1` has 1 image, but a split needs at least 2");
        for share in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(matches!(dataset(&[5, 5]).split_stratified(share, 1), Err(DatasetError::BadShare { .. })));
        }
    }
}
