//! Classes of which not one image could be read.

use std::collections::BTreeSet;

use data_pipeline::{CorruptImage, Dataset};

use crate::TrainError;

/// The images of a data set that could not be read in one pass over it.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// Each once, however often it was shown.
    samples: BTreeSet<usize>,
}

impl Unread {
    pub(crate) fn add(&mut self, corrupt: &[CorruptImage]) {
        self.samples.extend(corrupt.iter().map(|image| image.sample));
    }

    /// Indices of the classes that have images, none of which could be read, in the order of the class list.
    pub(crate) fn classes(&self, dataset: &Dataset) -> Vec<usize> {
        let mut unread = vec![0_usize; dataset.classes.len()];
        for label in self.samples.iter().filter_map(|&sample| dataset.samples.get(sample)?.label) {
            if let Some(count) = unread.get_mut(label as usize) {
                *count += 1;
            }
        }
        let counts = unread.into_iter().zip(dataset.class_counts()).enumerate();
        counts.filter(|(_, (unread, images))| *images > 0 && unread == images).map(|(class, _)| class).collect()
    }

    /// What ends a run that was to learn such a class.
    pub(crate) fn first_class(&self, dataset: &Dataset) -> Option<TrainError> {
        let class = *self.classes(dataset).first()?;
        let is_of_it = |&&sample: &&usize| dataset.samples[sample].label.is_some_and(|label| label as usize == class);
        let first = *self.samples.iter().find(is_of_it)?;
        Some(TrainError::ClassUnreadable {
            class: dataset.classes[class].clone(),
            images: dataset.class_counts()[class],
            path: dataset.samples[first].path.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use data_pipeline::Sample;

    use super::*;

    /// Two ants, two bees and no cat.
    fn dataset() -> Dataset {
        let sample = |(name, label): (&str, u32)| Sample { path: name.into(), label: Some(label), group: None };
        let samples = [("a1", 0), ("b1", 1), ("b2", 1), ("a2", 0)].map(sample).to_vec();
        let classes = ["ant", "bee", "cat"].map(str::to_owned).to_vec();
        Dataset { root: "".into(), classes, samples, ignored_files: 0 }
    }

    fn unread(samples: &[usize]) -> Unread {
        let image = |&sample| CorruptImage { sample, path: "x".into(), reason: "cut off".to_owned() };
        let mut unread = Unread::default();
        unread.add(&samples.iter().map(image).collect::<Vec<_>>());
        unread
    }

    #[test]
    fn a_class_is_unread_once_each_of_its_images_failed_and_no_sooner() {
        assert_eq!(unread(&[2, 1]).classes(&dataset()), [1]);
        assert_eq!(unread(&[0, 3, 1, 2]).classes(&dataset()), [0, 1]);
        assert!(unread(&[0, 1]).classes(&dataset()).is_empty());
        assert!(unread(&[1, 1]).classes(&dataset()).is_empty(), "one image that was shown twice");
    }

    #[test]
    fn an_unread_class_is_told_with_its_first_file() {
        let error = unread(&[2, 1]).first_class(&dataset()).expect("no bee was read");
        assert_eq!(error.to_string(), "none of the 2 images of class `bee` could be read, among them `b1`");
        assert!(unread(&[0, 1]).first_class(&dataset()).is_none());
    }
}
