//! RandAugment (Cubuk et al., 2019) with the operations and strengths of timm's `auto_augment.py`.

use super::affine::{Affine, Interpolation};
use super::geometry::Square;
use crate::random::Random;

/// Some operations, drawn for each image anew: timm's `rand-m<magnitude>-n<num_ops>-mstd<magnitude_std>`, with `-inc1`
/// where strengths increase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandAugment {
    /// How many operations are drawn. Each of them then takes place with probability one half, as in timm.
    pub num_ops: usize,
    /// Strength of the operations, from 0 to 10.
    pub magnitude: f32,
    /// Deviation of each operation's own strength from `magnitude`.
    pub magnitude_std: f32,
    /// Whether every operation changes the more, the higher the magnitude is. Otherwise some of them change least in the
    /// middle, or most at 0, as in the original.
    pub increasing: bool,
}

impl Default for RandAugment {
    /// timm's `rand-m9-n2-mstd0.5`, the most used one.
    fn default() -> Self {
        Self { num_ops: 2, magnitude: 9.0, magnitude_std: 0.5, increasing: false }
    }
}

/// The top of timm's scale.
const LARGEST_MAGNITUDE: f32 = 10.0;

/// timm's: each operation that was drawn takes place as often as not.
const PROBABILITY: f32 = 0.5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

/// In timm's order, which is part of what a seed means.
const OPERATIONS: [Operation; 15] = [
    Operation::AutoContrast,
    Operation::Equalize,
    Operation::Invert,
    Operation::Rotate,
    Operation::Posterize,
    Operation::Solarize,
    Operation::SolarizeAdd,
    Operation::Color,
    Operation::Contrast,
    Operation::Brightness,
    Operation::Sharpness,
    Operation::ShearX,
    Operation::ShearY,
    Operation::TranslateX,
    Operation::TranslateY,
];

impl RandAugment {
    pub(super) fn apply(&self, square: &mut Square<'_>, random: &mut Random, fill: &[u8]) {
        for _ in 0..self.num_ops {
            let operation = OPERATIONS[random.below(OPERATIONS.len() as u64) as usize];
            let takes_place = random.unit() < PROBABILITY;
            let strength = self.strength(random);
            if takes_place {
                operation.apply(square, &strength, fill);
            }
        }
    }

    /// Draws as often whatever comes of it.
    fn strength(&self, random: &mut Random) -> Strength {
        let magnitude = self.magnitude + self.magnitude_std * random.normal();
        Strength {
            share: magnitude.clamp(0.0, LARGEST_MAGNITUDE) / LARGEST_MAGNITUDE,
            sign: if random.below(2) == 0 { 1.0 } else { -1.0 },
            interpolation: if random.below(2) == 0 { Interpolation::Bilinear } else { Interpolation::Bicubic },
            increasing: self.increasing,
        }
    }
}

/// What was drawn for one operation.
#[derive(Debug, Clone, Copy)]
struct Strength {
    /// Of the largest magnitude.
    share: f32,
    sign: f32,
    interpolation: Interpolation,
    increasing: bool,
}

impl Operation {
    fn apply(self, square: &mut Square<'_>, strength: &Strength, fill: &[u8]) {
        match self {
            Self::AutoContrast => square.auto_contrast(),
            Self::Equalize => square.equalize(),
            Self::Invert => square.invert(),
            Self::Posterize => square.posterize(strength.kept_bits()),
            Self::Solarize => square.solarize(strength.solarize_threshold()),
            Self::SolarizeAdd => square.solarize_add((strength.share * 110.0) as u8),
            Self::Color => square.enhance_color(strength.factor()),
            Self::Contrast => square.enhance_contrast(strength.factor()),
            Self::Brightness => square.enhance_brightness(strength.factor()),
            Self::Sharpness => square.enhance_sharpness(strength.factor()),
            Self::Rotate | Self::ShearX | Self::ShearY | Self::TranslateX | Self::TranslateY => {
                square.transform(&self.map(square.size, strength), strength.interpolation, fill);
            }
        }
    }

    fn map(self, size: usize, strength: &Strength) -> Affine {
        let signed = f64::from(strength.share * strength.sign);
        let shift = 0.45 * signed * size as f64;
        match self {
            Self::Rotate => Affine::rotation(30.0 * signed, size),
            Self::ShearX => Affine::shear_x(0.3 * signed),
            Self::ShearY => Affine::shear_y(0.3 * signed),
            Self::TranslateX => Affine::shift(shift, 0.0),
            _ => Affine::shift(0.0, shift),
        }
    }
}

impl Strength {
    fn kept_bits(&self) -> u32 {
        let bits = (self.share * 4.0) as u32;
        if self.increasing { 4 - bits } else { bits }
    }

    fn solarize_threshold(&self) -> u32 {
        let threshold = ((self.share * 256.0) as u32).min(256);
        if self.increasing { 256 - threshold } else { threshold }
    }

    /// 1 changes nothing.
    fn factor(&self) -> f32 {
        match self.increasing {
            true => (1.0 + self.sign * self.share * 0.9).max(0.1),
            false => self.share * 1.8 + 0.1,
        }
    }
}

/// Of the test against timm: flags are `increasing`, whether the sign is negative, and whether interpolation is cubic.
#[cfg(test)]
pub(super) fn apply_by_name(square: &mut Square<'_>, name: &str, magnitude: f32, flags: [bool; 3]) {
    let [increasing, is_negative, is_cubic] = flags;
    let strength = Strength {
        share: magnitude / LARGEST_MAGNITUDE,
        sign: if is_negative { -1.0 } else { 1.0 },
        interpolation: if is_cubic { Interpolation::Bicubic } else { Interpolation::Bilinear },
        increasing,
    };
    let operation = OPERATIONS.into_iter().find(|operation| format!("{operation:?}") == name);
    operation.expect("timm's name").apply(square, &strength, &super::BAR_COLOR);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(settings: &RandAugment, seed: u64) -> Vec<u8> {
        let mut pixels: Vec<u8> = (0..768u32).map(|place| (place * 7 % 251) as u8).collect();
        let mut square = Square { size: 16, count: 3, pixels: &mut pixels };
        settings.apply(&mut square, &mut Random::new(seed), &super::super::BAR_COLOR);
        pixels
    }

    #[test]
    fn about_a_quarter_of_images_escapes_two_operations_of_even_chance() {
        let original = applied(&RandAugment { num_ops: 0, ..RandAugment::default() }, 0);
        let untouched = (0..1000).filter(|&seed| applied(&RandAugment::default(), seed) == original).count();
        assert!((200..310).contains(&untouched), "{untouched}");
    }

    #[test]
    fn strengths_vary_around_the_magnitude_and_stay_on_the_scale() {
        let settings = RandAugment { magnitude: 9.0, magnitude_std: 1.0, ..RandAugment::default() };
        let shares: Vec<f32> = (0..2000).map(|seed| settings.strength(&mut Random::new(seed)).share).collect();
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        // A deviation of 1 around 9, cut off at 10: 16 % stand at the top.
        let at_top = shares.iter().filter(|&&share| share == 1.0).count();
        assert!((260..380).contains(&at_top), "{at_top}");
    }

    #[test]
    fn tiny_and_grey_images_do_not_panic() {
        for (size, count) in [(1, 1), (1, 3), (2, 1), (3, 3)] {
            for seed in 0..200 {
                let mut pixels = vec![50; size * size * count];
                let settings = RandAugment { num_ops: 4, magnitude: f32::NAN, ..RandAugment::default() };
                for settings in [settings, RandAugment { magnitude: 10.0, ..settings }] {
                    let mut square = Square { size, count, pixels: &mut pixels };
                    settings.apply(&mut square, &mut Random::new(seed), &super::super::BAR_COLOR);
                }
            }
        }
    }
}
