//! A seeded split that keeps every class on both sides.

use super::group_split::GroupSplit;
use super::{Dataset, DatasetError};
use crate::random::{Stream, shuffled};

impl Dataset {
    /// Splits off `held_out_share` of every class, chosen by `seed`: `(kept, held out)`, both in the original order.
    /// Each class keeps at least one image on each side. Where a CSV names groups, each stands on one side whole, and the shares are as
    /// close as that allows. `ignored_files` stays with the kept part.
    ///
    /// # Errors
    /// A share that is not between 0 and 1, a class with fewer than two images or all of them in one group, groups that cannot be
    /// split, an image without a label.
    pub fn split_stratified(self, held_out_share: f64, seed: u64) -> Result<(Self, Self), DatasetError> {
        if !(held_out_share > 0.0 && held_out_share < 1.0) {
            return Err(DatasetError::BadShare { share: held_out_share });
        }
        let held_out = match self.samples.iter().any(|sample| sample.group.is_some()) {
            true => self.choose_held_out_groups(held_out_share, seed)?,
            false => self.choose_held_out(held_out_share, seed)?,
        };
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

    fn choose_held_out_groups(&self, share: f64, seed: u64) -> Result<Vec<bool>, DatasetError> {
        let mut labels = vec![0; self.len()];
        for (class, members) in self.members_by_class()?.into_iter().enumerate() {
            members.into_iter().for_each(|sample| labels[sample] = class as u32);
        }
        let groups = self.group_numbers();
        self.refuse_small_classes(&labels, Some(&groups))?;
        let is_held_out = GroupSplit::new(&labels, &groups, self.classes.len(), share).choose(seed);
        let is_held_out =
            is_held_out.map_err(|class| DatasetError::GroupsTooCoarse { class: self.classes[class].clone() })?;
        Ok(groups.into_iter().map(|group| is_held_out[group]).collect())
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

    /// `groups` has a list of labels for each group.
    fn grouped(groups: &[&[u32]]) -> Dataset {
        let classes = groups.iter().flat_map(|labels| labels.iter()).max().map_or(0, |last| last + 1);
        let samples = groups.iter().enumerate().flat_map(|(group, labels)| {
            labels.iter().enumerate().map(move |(index, &label)| Sample {
                path: format!("{group}/{index}.png").into(),
                label: Some(label),
                group: Some(group.to_string()),
            })
        });
        let classes = (0..classes).map(|label| label.to_string()).collect();
        Dataset { root: "".into(), classes, samples: samples.collect(), ignored_files: 0 }
    }

    fn groups_of(dataset: &Dataset) -> std::collections::BTreeSet<String> {
        dataset.samples.iter().filter_map(|sample| sample.group.clone()).collect()
    }

    #[test]
    fn no_group_is_on_both_sides_and_the_shares_are_near_what_is_asked() {
        // 40 groups of two classes, of 2 to 9 images each.
        let groups: Vec<Vec<u32>> = (0..40).map(|group| vec![group % 2; 2 + (group as usize * 5) % 8]).collect();
        let whole = grouped(&groups.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for (share, seed) in [(0.2, 1), (0.2, 2), (0.5, 3), (0.05, 4), (0.9, 5)] {
            let (kept, held_out) = whole.clone().split_stratified(share, seed).unwrap();
            assert!(groups_of(&kept).is_disjoint(&groups_of(&held_out)));
            assert_eq!(kept.len() + held_out.len(), whole.len());
            for (held, all) in held_out.class_counts().into_iter().zip(whole.class_counts()) {
                let off = (held as f64 / all as f64 - share).abs();
                // Half of the largest group.
                assert!(off <= 4.5 / all as f64, "{held} of {all} for a share of {share}");
            }
        }
        let split = |seed| whole.clone().split_stratified(0.2, seed).unwrap().1;
        assert!(split(5) == split(5) && split(5) != split(6));
    }

    #[test]
    fn every_class_is_on_both_sides_where_groups_allow_it() {
        let whole = grouped(&[&[0; 50], &[0, 1], &[1; 30], &[2, 2, 0], &[2; 9], &[0; 20]]);
        for share in [0.01, 0.3, 0.99] {
            let (kept, held_out) = whole.clone().split_stratified(share, 7).unwrap();
            let counts = [kept.class_counts(), held_out.class_counts()].concat();
            assert!(counts.iter().all(|&count| count > 0), "{share}: {counts:?}");
        }
    }

    #[test]
    fn groups_that_cannot_be_split_are_told_by_class() {
        let one = grouped(&[&[0, 0, 1], &[1, 1]]).split_stratified(0.3, 1).unwrap_err();
        assert_eq!(one.to_string(), "all 2 images of class `0` are in one group, but a split needs at least 2");
        let cyclic = grouped(&[&[0, 1], &[1, 2], &[2, 0]]).split_stratified(0.3, 1).unwrap_err();
        assert!(matches!(cyclic, DatasetError::GroupsTooCoarse { .. }), "{cyclic}");
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
