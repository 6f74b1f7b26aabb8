//! Which images an epoch shows, how often, and in which order.

use crate::Dataset;
use crate::random::{Random, Stream, epoch_order, shuffled};

/// How an epoch of as many views as there are images is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Whether every class is shown equally often: images of rare classes come several times, and of frequent ones
    /// only some. Otherwise every image is as likely as any other.
    pub balanced: bool,
    /// Views of an image, one after the other, each varied anew; fewer images are shown for it. They share a batch where
    /// this divides the batch size; elsewhere some stand astride two batches. As timm's `RepeatAugSampler` (Hoffer et al.,
    /// "Augment your batch", 2020), but without rounding epochs to multiples of 256. 1 and 0 show an image once.
    pub repeats: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { balanced: false, repeats: 1 }
    }
}

impl Sampling {
    /// Indices into `dataset`, as many as it has samples; the same for the same seed and epoch.
    #[must_use]
    pub fn order(&self, dataset: &Dataset, seed: u64, epoch: u64) -> Vec<usize> {
        let (len, repeats) = (dataset.len(), self.repeats.max(1));
        let images = match self.balanced {
            true => balanced_order(dataset, len.div_ceil(repeats), seed, epoch),
            false => epoch_order(len, seed, epoch),
        };
        images.into_iter().flat_map(|image| std::iter::repeat_n(image, repeats)).take(len).collect()
    }
}

/// `count` draws with the same number from every class that has images, give or take one. Within a class no image comes
/// again before all others did.
fn balanced_order(dataset: &Dataset, count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut members = vec![Vec::new(); dataset.classes.len()];
    for (index, sample) in dataset.samples.iter().enumerate() {
        if let Some(class) = sample.label.and_then(|label| members.get_mut(label as usize)) {
            class.push(index);
        }
    }
    members.retain(|class| !class.is_empty());
    let stream = |part| Stream::Balance.seed(seed, epoch, part);
    // Where classes do not divide the count, chance says which of them get one more.
    let ranks = shuffled(members.len(), stream(0));
    let mut order = Vec::with_capacity(count);
    for ((class, rank), part) in members.iter().zip(ranks).zip(1..) {
        let quota = count / members.len() + usize::from(rank < count % members.len());
        order.extend(rounds(class, quota, &mut Random::new(stream(part))));
    }
    let places = shuffled(order.len(), stream(u64::MAX));
    places.into_iter().map(|place| order[place]).collect()
}

/// Goes through `class` again and again, each time in another order.
fn rounds(class: &[usize], quota: usize, random: &mut Random) -> Vec<usize> {
    let mut drawn = Vec::with_capacity(quota + class.len());
    while drawn.len() < quota {
        let order = shuffled(class.len(), random.below(u64::MAX));
        drawn.extend(order.into_iter().map(|place| class[place]));
    }
    drawn.truncate(quota);
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sample;

    fn dataset(counts: &[usize]) -> Dataset {
        let labels = (0u32..).zip(counts).flat_map(|(label, &count)| std::iter::repeat_n(label, count));
        let samples: Vec<Sample> =
            labels.map(|label| Sample { path: "a.png".into(), label: Some(label), group: None }).collect();
        let classes = (0..counts.len()).map(|label| label.to_string()).collect();
        Dataset { root: "".into(), classes, samples, ignored_files: 0 }
    }

    fn times_seen(order: &[usize], len: usize) -> Vec<usize> {
        let mut times = vec![0; len];
        for &sample in order {
            times[sample] += 1;
        }
        times
    }

    #[test]
    fn shuffling_shows_every_image_once_in_the_order_of_old() {
        let order = Sampling::default().order(&dataset(&[30, 5]), 7, 3);
        assert_eq!(order, epoch_order(35, 7, 3));
    }

    #[test]
    fn repeats_stand_side_by_side_and_keep_the_length_of_an_epoch() {
        let order = Sampling { repeats: 3, ..Default::default() }.order(&dataset(&[6, 4]), 7, 3);
        assert_eq!(order.len(), 10);
        let images = epoch_order(10, 7, 3);
        assert_eq!(
            order,
            [[images[0]; 3], [images[1]; 3], [images[2]; 3]]
                .concat()
                .into_iter()
                .chain([images[3]])
                .collect::<Vec<_>>()
        );
        assert_eq!(Sampling { repeats: 0, ..Default::default() }.order(&dataset(&[6, 4]), 7, 3), images);
    }

    #[test]
    fn repeats_share_a_batch_where_they_divide_it_and_stand_astride_two_elsewhere() {
        let order = Sampling { repeats: 3, ..Default::default() }.order(&dataset(&[12, 12]), 7, 3);
        assert_ne!(order[5], order[6], "a batch of six ends with an image's last view");
        assert_eq!(order[7], order[8], "one of eight ends before it");
    }

    #[test]
    fn balanced_epochs_show_every_class_equally_often_and_its_images_evenly() {
        let data = dataset(&[100, 9, 2, 0]);
        let sampling = Sampling { balanced: true, repeats: 1 };
        let times = times_seen(&sampling.order(&data, 1, 5), 111);
        let of_class = |range: std::ops::Range<usize>| times[range].iter().sum::<usize>();
        assert_eq!([of_class(0..100), of_class(100..109), of_class(109..111)], [37; 3]);
        assert!(times[..100].iter().all(|&count| count <= 1));
        assert!(times[100..109].iter().all(|count| (4..=5).contains(count)));
        assert!(times[109..].iter().all(|count| (18..=19).contains(count)));
    }

    #[test]
    fn balanced_epochs_are_the_same_for_a_seed_and_differ_between_epochs() {
        let data = dataset(&[20, 3]);
        let sampling = Sampling { balanced: true, repeats: 2 };
        assert_eq!(sampling.order(&data, 1, 5), sampling.order(&data, 1, 5));
        assert_ne!(sampling.order(&data, 1, 5), sampling.order(&data, 1, 6));
        assert_ne!(sampling.order(&data, 1, 5), sampling.order(&data, 2, 5));
        assert_eq!(sampling.order(&data, 1, 5).len(), 23);
    }

    #[test]
    fn a_class_left_over_is_another_one_in_each_epoch() {
        let data = dataset(&[2, 2, 1]);
        let sampling = Sampling { balanced: true, repeats: 1 };
        let firsts: Vec<usize> = (0..30).map(|epoch| times_seen(&sampling.order(&data, 1, epoch), 5)[4]).collect();
        assert!(firsts.contains(&1) && firsts.contains(&2), "{firsts:?}");
    }

    #[test]
    fn no_images_and_no_labels_give_an_empty_epoch() {
        let sampling = Sampling { balanced: true, repeats: 3 };
        assert!(sampling.order(&dataset(&[]), 1, 1).is_empty());
        let mut unlabelled = dataset(&[4]);
        unlabelled.samples.iter_mut().for_each(|sample| sample.label = None);
        assert!(sampling.order(&unlabelled, 1, 1).is_empty());
    }
}
