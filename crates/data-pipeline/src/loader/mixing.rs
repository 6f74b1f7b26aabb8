//! Mixup (Zhang et al., 2017) and CutMix (Yun et al., 2019) within an effective batch, as timm's `Mixup` does them.

use super::Batch;
use crate::random::{Random, Stream};
use crate::{Mixed, Rectangle};

/// How the images of a batch are mixed in pairs: the first one with the last, and so on. What is drawn depends on the
/// seed, the epoch and the place of the batch alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixing {
    /// Both parameters of the beta distribution that mixup draws its share from; 0 for no mixup.
    pub mixup_alpha: f32,
    /// The same for CutMix.
    pub cutmix_alpha: f32,
    /// Probability that a batch, or a pair or image by `mode`, is mixed at all.
    pub probability: f32,
    /// Probability of CutMix where both are on.
    pub switch_probability: f32,
    /// What shares one draw.
    pub mode: MixMode,
}

/// What shares one draw of a [`Mixing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MixMode {
    /// All of a batch, timm's default.
    #[default]
    Batch,
    /// Two images that are mixed with each other.
    Pair,
    /// Nothing: each image draws for itself.
    Element,
}

impl Default for Mixing {
    /// Nothing is mixed; the probabilities are timm's.
    fn default() -> Self {
        Self { mixup_alpha: 0.0, cutmix_alpha: 0.0, probability: 1.0, switch_probability: 0.5, mode: MixMode::Batch }
    }
}

/// What an image and its label were mixed with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Partner {
    /// The other image's class.
    pub label: Option<u32>,
    /// The other image's share of this one's pixels and label, in [0, 1].
    pub share: f32,
}

/// What was drawn for an image.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mix {
    Nothing,
    /// All pixels take this share of the partner's.
    Blend(f32),
    /// A rectangle is the partner's.
    Paste(Rectangle),
}

impl Mixing {
    /// Whether any image can change.
    #[must_use]
    pub fn is_on(&self) -> bool {
        (self.mixup_alpha > 0.0 || self.cutmix_alpha > 0.0) && self.probability > 0.0
    }

    /// Mixes all images of a batch and fills [`Batch::partners`]. Where images have steps left, mixing is left too, as the last of them: it wants what the
    /// others make.
    pub(super) fn mix(&self, batch: &mut Batch, seed: u64, epoch: u64) {
        if !self.is_on() || batch.is_empty() {
            return;
        }
        let mixes = self.draw(batch, &mut Random::new(Stream::Mix.seed(seed, epoch, batch.index as u64)));
        let area = (batch.size[0] * batch.size[1]).max(1);
        let partners = mixes.iter().zip(batch.labels.iter().rev());
        batch.partners = partners.map(|(mix, &label)| Partner { label, share: mix.share(area) }).collect();
        match batch.last_steps.is_empty() {
            true => mix_pixels(batch, &mixes),
            false => leave(batch, &mixes),
        }
    }

    /// One for each image. The one in the middle of an odd number is its own partner.
    fn draw(&self, batch: &Batch, random: &mut Random) -> Vec<Mix> {
        let len = batch.len();
        match self.mode {
            MixMode::Batch => vec![self.draw_one(batch.size, random); len],
            MixMode::Pair => {
                let mut mixes: Vec<Mix> = (0..len.div_ceil(2)).map(|_| self.draw_one(batch.size, random)).collect();
                mixes.extend(mixes.clone().into_iter().take(len / 2).rev());
                mixes
            }
            MixMode::Element => (0..len).map(|_| self.draw_one(batch.size, random)).collect(),
        }
    }

    fn draw_one(&self, size: [usize; 3], random: &mut Random) -> Mix {
        let is_mixed = random.unit() < self.probability;
        let switches = random.unit() < self.switch_probability;
        let cuts = self.cutmix_alpha > 0.0 && (self.mixup_alpha <= 0.0 || switches);
        let own_share = random.beta(if cuts { self.cutmix_alpha } else { self.mixup_alpha });
        match (is_mixed, cuts) {
            (false, _) => Mix::Nothing,
            (true, false) => Mix::Blend(1.0 - own_share),
            (true, true) => Mix::Paste(Rectangle::draw(1.0 - own_share, size, random)),
        }
    }
}

impl Rectangle {
    /// So much of the area around any pixel of the image; what reaches beyond the edge is cut off.
    fn draw(area_share: f32, [height, width, _]: [usize; 3], random: &mut Random) -> Self {
        let side_share = area_share.clamp(0.0, 1.0).sqrt();
        let mut span = |side: usize| {
            let length = (side as f32 * side_share) as usize;
            let middle = random.below(side as u64) as usize;
            [middle.saturating_sub(length / 2), (middle + length.div_ceil(2)).min(side)]
        };
        Self { rows: span(height), columns: span(width) }
    }

    fn area(self) -> usize {
        let [rows, columns] = [self.rows, self.columns].map(|[from, to]| to - from);
        rows * columns
    }
}

impl Mix {
    /// The partner's. A rectangle counts with what is left of it within the image.
    fn share(self, area: usize) -> f32 {
        match self {
            Self::Nothing => 0.0,
            Self::Blend(share) => share,
            Self::Paste(rectangle) => rectangle.area() as f32 / area as f32,
        }
    }

    /// What is to be mixed in of the partner. All of its weight is a paste.
    fn with(self, partner: usize, [height, width, _]: [usize; 3]) -> Option<Mixed> {
        let (weight, place) = match self {
            Self::Nothing => return None,
            Self::Blend(share) => (weights(share)[1], Rectangle { rows: [0, height], columns: [0, width] }),
            Self::Paste(rectangle) => (WHOLE, rectangle),
        };
        Some(Mixed { partner, weight, place })
    }
}

/// Mixes the pixels of all pairs.
fn mix_pixels(batch: &mut Batch, mixes: &[Mix]) {
    let bytes = batch.sample_bytes();
    for upper in 0..batch.len() / 2 {
        let lower = batch.len() - 1 - upper;
        let (front, back) = batch.pixels.split_at_mut(lower * bytes);
        mix_pair(&mut front[upper * bytes..][..bytes], &mut back[..bytes], [mixes[upper], mixes[lower]], batch.size);
    }
}

/// Leaves the mixing of all pairs to do.
fn leave(batch: &mut Batch, mixes: &[Mix]) {
    let (len, size) = (batch.len(), batch.size);
    for (row, (steps, mix)) in batch.last_steps.iter_mut().zip(mixes).enumerate() {
        let partner = len - 1 - row;
        // The one in the middle of an odd number stays as it is.
        steps.mixed = if partner == row { None } else { mix.with(partner, size) };
    }
}

/// Mixes an image with its partner, as was left to do.
pub(super) fn mix_left(image: &mut [u8], partner: &[u8], mixed: Mixed, size: [usize; 3]) {
    let weights = [WHOLE - mixed.weight, mixed.weight];
    for row in rectangle_rows(mixed.place, size) {
        for (value, &other) in image[row.clone()].iter_mut().zip(&partner[row]) {
            *value = weighted(*value, other, weights);
        }
    }
}

/// Mixes two images with what each of them was before.
fn mix_pair(upper: &mut [u8], lower: &mut [u8], mixes: [Mix; 2], size: [usize; 3]) {
    match mixes {
        [Mix::Nothing, Mix::Nothing] => {}
        [Mix::Blend(share), Mix::Blend(other)] if share == other => {
            let weights = weights(share);
            for (one, other) in upper.iter_mut().zip(lower) {
                (*one, *other) = (weighted(*one, *other, weights), weighted(*other, *one, weights));
            }
        }
        [Mix::Paste(rectangle), Mix::Paste(other)] if rectangle == other => {
            for row in rectangle_rows(rectangle, size) {
                upper[row.clone()].swap_with_slice(&mut lower[row]);
            }
        }
        [mix, other] => {
            let before = upper.to_vec();
            mix_into(upper, lower, mix, size);
            mix_into(lower, &before, other, size);
        }
    }
}

fn mix_into(image: &mut [u8], partner: &[u8], mix: Mix, size: [usize; 3]) {
    match mix {
        Mix::Nothing => {}
        Mix::Blend(share) => {
            let weights = weights(share);
            for (value, &other) in image.iter_mut().zip(partner) {
                *value = weighted(*value, other, weights);
            }
        }
        Mix::Paste(rectangle) => {
            for row in rectangle_rows(rectangle, size) {
                image[row.clone()].copy_from_slice(&partner[row]);
            }
        }
    }
}

/// Bytes of each row of a rectangle.
fn rectangle_rows(
    Rectangle { rows, columns }: Rectangle,
    [_, width, channels]: [usize; 3],
) -> impl Iterator<Item = std::ops::Range<usize>> {
    (rows[0]..rows[1]).map(move |row| {
        let start = row * width;
        (start + columns[0]) * channels..(start + columns[1]) * channels
    })
}

/// Weights are shares of 2^15: products with a byte fit in 32 bits.
const WHOLE: u32 = 1 << 15;

/// An image's own and its partner's.
fn weights(share: f32) -> [u32; 2] {
    let partner = (share.clamp(0.0, 1.0) * WHOLE as f32).round() as u32;
    [WHOLE - partner, partner]
}

fn weighted(own: u8, other: u8, weights: [u32; 2]) -> u8 {
    ((u32::from(own) * weights[0] + u32::from(other) * weights[1] + (1 << 14)) >> 15) as u8
}

#[cfg(test)]
mod tests;
