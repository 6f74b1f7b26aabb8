//! Seeded chance: every choice on a page comes from one [`Dice`], so that a seed is a page.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

/// A seeded source of choices. The conversions from bits to numbers are written out here, so that a new version of a
/// random-number library cannot change the pages.
pub(crate) struct Dice {
    source: Xoshiro256PlusPlus,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { source: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// Sixty-four random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.source.next_u64()
    }

    /// Uniform in `low..high`.
    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        // 24 bits are what an f32 mantissa holds exactly.
        let unit = (self.bits() >> 40) as f32 / 16_777_216.0;
        low + (high - low) * unit
    }

    /// Uniform in `low..=high`.
    pub(crate) fn whole(&mut self, low: u32, high: u32) -> u32 {
        let span = u64::from(high.saturating_sub(low)) + 1;
        low + (self.bits() >> 32).wrapping_mul(span).wrapping_shr(32) as u32
    }

    /// True with the given probability.
    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.range(0.0, 1.0) < probability
    }

    /// One of the choices.
    ///
    /// # Panics
    /// When there are none; all callers pass literals.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.whole(0, choices.len() as u32 - 1) as usize]
    }

    /// Roughly normal with mean 0 and deviation 1: the sum of four 16-bit uniforms, scaled. One draw of bits.
    pub(crate) fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum = (0..4).map(|part| ((bits >> (16 * part)) & 0xffff) as f32).sum::<f32>();
        // The sum of four uniforms on 0..1 has mean 2 and deviation 1/sqrt(3).
        (sum / 65_536.0 - 2.0) * 1.732
    }
}

/// Mixes a seed with a further number, so that neighbouring numbers give unrelated seeds: the finalizer of SplitMix64
/// over both (Steele, Lea and Flood 2014).
pub(crate) fn mix_seed(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_reach_both_ends_and_stay_inside() {
        let mut dice = Dice::new(1);
        let drawn: Vec<u32> = (0..500).map(|_| dice.whole(3, 6)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&6));
    }

    #[test]
    fn normal_draws_have_mean_zero_and_deviation_one() {
        let mut dice = Dice::new(2);
        let drawn: Vec<f32> = (0..20_000).map(|_| dice.normal()).collect();
        let mean = drawn.iter().sum::<f32>() / 20_000.0;
        let variance = drawn.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
    }

    #[test]
    fn mixed_seeds_of_neighbours_differ_in_about_half_their_bits() {
        let differing = (mix_seed(7, 1) ^ mix_seed(7, 2)).count_ones();
        assert!((16..=48).contains(&differing), "{differing} bits");
    }
}
