//! Random numbers that depend on the seed, the epoch and the sample alone: never on threads, time or the machine.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// What makes one augmented sample what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleKey {
    /// Of the run.
    pub seed: u64,
    /// Counted by the caller.
    pub epoch: u64,
    /// Index in the data set.
    pub sample: u64,
    /// How often the epoch has shown the sample before: each time it is another view.
    pub repeat: u64,
}

/// The order in which an epoch visits `len` samples: every index once, shuffled by `seed` and `epoch`, the same on
/// every platform.
#[must_use]
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    shuffled(len, Stream::Order.seed(seed, epoch, 0))
}

/// Independent streams of random numbers drawn from one seed of the user's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Order,
    Split,
    Augment,
    RandAugment,
    Noise,
    Erase,
    Mix,
    Balance,
    Fold,
}

impl Stream {
    /// Chains the splitmix64 finaliser over the parts, so that neighbours in any of them share nothing.
    pub(crate) fn seed(self, seed: u64, first: u64, second: u64) -> u64 {
        // Any distinct constants do; these are the first hexadecimal digits of pi, 16 at a time.
        let salt: u64 = match self {
            Self::Order => 0x243f_6a88_85a3_08d3,
            Self::Split => 0x1319_8a2e_0370_7344,
            Self::Augment => 0xa409_3822_299f_31d0,
            Self::RandAugment => 0x082e_fa98_ec4e_6c89,
            Self::Noise => 0x4528_21e6_38d0_1377,
            Self::Erase => 0xbe54_66cf_34e9_0c6c,
            Self::Mix => 0xc0ac_29b7_c97c_50dd,
            Self::Balance => 0x3f84_d5b5_b547_0917,
            Self::Fold => 0x9216_d5d9_8979_fb1b,
        };
        [seed, first, second].into_iter().fold(salt, |state, part| splitmix(state ^ splitmix(part)))
    }
}

/// One step of splitmix64: add the odd constant, then mix (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
fn splitmix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A ChaCha8 generator and the few distributions needed here. They are spelt out, so that a new version of a
/// dependency cannot change what a seed means.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut key = [0; 32];
        for (place, index) in key.chunks_exact_mut(8).zip(0..) {
            place.copy_from_slice(&splitmix(seed.wrapping_add(index)).to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// One of the streams of a sample's view.
    pub(crate) fn for_sample(stream: Stream, key: SampleKey) -> Self {
        let seed = stream.seed(key.seed, key.epoch, key.sample);
        // The first view is what it was before there were others.
        Self::new(if key.repeat == 0 { seed } else { splitmix(seed ^ splitmix(key.repeat)) })
    }

    /// Uniform in [0, 1), with 24 bits: every value is exact in f32.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// Uniform in [low, high).
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// From the normal distribution with mean 0 and deviation 1 (Box and Muller, 1958).
    pub(crate) fn normal(&mut self) -> f32 {
        // Above zero, so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.unit()).cos()
    }

    /// From the beta distribution with both parameters `alpha`, above 0: a share in [0, 1], one half on average.
    pub(crate) fn beta(&mut self, alpha: f32) -> f32 {
        let (one, other) = (self.gamma(f64::from(alpha)), self.gamma(f64::from(alpha)));
        // Both vanish where alpha is tiny: then the distribution is a coin.
        if one + other > 0.0 { (one / (one + other)) as f32 } else { self.below(2) as f32 }
    }

    /// Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
    fn gamma(&mut self, shape: f64) -> f64 {
        let boost = if shape < 1.0 { f64::from(1.0 - self.unit()).powf(1.0 / shape) } else { 1.0 };
        let reduced = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let scale = 1.0 / (9.0 * reduced).sqrt();
        loop {
            let (normal, uniform) = (f64::from(self.normal()), f64::from(1.0 - self.unit()));
            let cube = (1.0 + scale * normal).powi(3);
            if cube > 0.0 && uniform.ln() < 0.5 * normal * normal + reduced * (1.0 - cube + cube.ln()) {
                return boost * reduced * cube;
            }
        }
    }

    /// Uniform among 0..count. The bias of the multiplication is below count / 2^64.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(count)) >> 64) as u64
    }
}

/// The indices below `len` in an order given by `seed` (Fisher-Yates).
pub(crate) fn shuffled(len: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_order_visits_every_sample_once() {
        let mut order = epoch_order(1000, 7, 3);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
        assert!(epoch_order(0, 7, 3).is_empty());
    }

    #[test]
    fn epoch_order_differs_between_epochs_and_seeds() {
        let orders = [epoch_order(50, 1, 0), epoch_order(50, 1, 1), epoch_order(50, 2, 0), epoch_order(50, 0, 1)];
        for (index, order) in orders.iter().enumerate() {
            assert!(orders[index + 1..].iter().all(|other| other != order));
        }
    }

    /// A changed order would make resumed runs differ from uninterrupted ones, so it is pinned.
    #[test]
    fn epoch_order_stays_what_it_was_in_the_first_release() {
        assert_eq!(epoch_order(10, 42, 0), PINNED_ORDER);
    }

    const PINNED_ORDER: [usize; 10] = [2, 7, 8, 3, 0, 5, 4, 1, 6, 9];

    #[test]
    fn first_places_are_uniform() {
        let mut firsts = [0u32; 5];
        for epoch in 0..5000 {
            firsts[epoch_order(5, 11, epoch)[0]] += 1;
        }
        assert!(firsts.iter().all(|&count| (900..1100).contains(&count)), "{firsts:?}");
    }

    #[test]
    fn unit_stays_below_one_and_has_the_right_mean() {
        let mut random = Random::new(3);
        let draws: Vec<f32> = (0..10_000).map(|_| random.unit()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f32>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn normal_and_beta_draws_have_their_moments() {
        let mut random = Random::new(4);
        let moments = |draws: &[f32]| {
            let mean = draws.iter().sum::<f32>() / draws.len() as f32;
            (mean, draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f32>() / draws.len() as f32)
        };
        let (mean, variance) = moments(&(0..20_000).map(|_| random.normal()).collect::<Vec<_>>());
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
        for alpha in [0.2f32, 0.8, 1.0, 4.0] {
            let draws: Vec<f32> = (0..20_000).map(|_| random.beta(alpha)).collect();
            assert!(draws.iter().all(|draw| (0.0..=1.0).contains(draw)));
            let (mean, variance) = moments(&draws);
            // Of the beta distribution with both parameters alpha.
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!(
                (mean - 0.5).abs() < 0.01 && (variance / expected - 1.0).abs() < 0.05,
                "{alpha}: {mean} {variance}"
            );
        }
        assert!((0..100).all(|_| (0.0..=1.0).contains(&random.beta(1e-6))));
    }

    #[test]
    fn neighbouring_samples_epochs_and_seeds_share_no_stream() {
        let first = |seed, epoch, sample, repeat| {
            Random::for_sample(Stream::Augment, SampleKey { seed, epoch, sample, repeat }).0.next_u64()
        };
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..8 {
            for epoch in 0..8 {
                for sample in 0..8 {
                    for repeat in 0..3 {
                        assert!(seen.insert(first(seed, epoch, sample, repeat)));
                    }
                }
            }
        }
    }
}
