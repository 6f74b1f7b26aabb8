//! What a loader hands out.

use std::ops::Range;
use std::path::PathBuf;

use super::Partner;
use super::mixing::mix_left;
use crate::{LastSteps, one_line, path_text};

/// One effective batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Place in the list of batches of the epoch, from 0.
    pub index: usize,
    /// `[B, H, W, C]`, where B counts the readable samples alone and may be zero. They still want their [`last_steps`](Self::last_steps).
    pub pixels: Vec<u8>,
    /// Class of each sample: `[B]`
    pub labels: Vec<Option<u32>>,
    /// Index of each sample in the data set, in the order asked for: `[B]`
    pub samples: Vec<usize>,
    /// What was skipped here, in the order asked for.
    pub corrupt: Vec<CorruptImage>,
    /// H, W, C
    pub size: [usize; 3],
    /// What each sample was mixed with: `[B]`, or empty where nothing was.
    pub partners: Vec<Partner>,
    /// What was left to do to the pixels of each sample: `[B]`, or empty where nothing was; see [`LoaderOptions::leaves_last_steps`](super::LoaderOptions).
    pub last_steps: Vec<LastSteps>,
}

impl Batch {
    /// The number of samples: B.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether every sample was skipped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The class that has the larger share of a sample: its own one unless it was mixed with more of another.
    #[must_use]
    pub fn dominant_label(&self, row: usize) -> Option<u32> {
        match self.partners.get(row) {
            Some(partner) if partner.share > 0.5 => partner.label,
            _ => self.labels.get(row).copied().flatten(),
        }
    }

    /// The bytes of one sample: H * W * C.
    #[must_use]
    pub fn sample_bytes(&self) -> usize {
        self.size.iter().product()
    }

    /// Pixels of some samples with nothing left to do: what a loader yields that leaves no steps. One thread does it.
    ///
    /// # Shapes
    /// - output: `[rows, H, W, C]`
    #[must_use]
    pub fn finished(&self, rows: Range<usize>) -> Vec<u8> {
        let mut finished = Vec::with_capacity(rows.len() * self.sample_bytes());
        for row in rows {
            let mut image = self.finished_alone(row);
            if let Some(mixed) = self.last_steps.get(row).and_then(|steps| steps.mixed) {
                mix_left(&mut image, &self.finished_alone(mixed.partner), mixed, self.size);
            }
            finished.extend_from_slice(&image);
        }
        finished
    }

    /// A sample as its partner sees it.
    fn finished_alone(&self, row: usize) -> Vec<u8> {
        let bytes = self.sample_bytes();
        let mut image = self.pixels[row * bytes..][..bytes].to_vec();
        if let Some(steps) = self.last_steps.get(row) {
            steps.finish_alone(&mut image, self.size);
        }
        image
    }
}

/// An image that could not be read and was skipped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CorruptImage {
    /// Index in the data set.
    pub sample: usize,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl CorruptImage {
    /// The image and its reason as a line of a list, whatever the file is called.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}: {}", one_line(&path_text(&self.path)), one_line(&self.reason))
    }
}

/// Cuts an order into batches; the last one takes the rest. A size of zero counts as one.
#[must_use]
pub fn batches(order: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_sample_in_order_and_the_last_one_the_rest() {
        assert_eq!(batches(&[4, 2, 0, 1, 3], 2), [vec![4, 2], vec![0, 1], vec![3]]);
        assert!(batches(&[], 2).is_empty());
        assert_eq!(batches(&[1, 2], 0), [[1], [2]]);
    }
}
