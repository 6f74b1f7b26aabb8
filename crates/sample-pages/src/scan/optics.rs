//! What lens, sensor and copier do: blur, contrast and colour cast, noise and dust.

use super::Exposure;
use crate::dice::Dice;

/// Separable blur by up to a pixel, along one axis more than the other when the hand shakes.
pub(super) fn blur(exposure: &mut Exposure, dice: &mut Dice) {
    if dice.chance(0.25) {
        return;
    }
    let deviation = dice.range(0.3, 0.8);
    let shaken = if dice.chance(0.15) { dice.range(1.2, 1.8) } else { 1.0 };
    blur_across(&mut exposure.pixels, exposure.width, kernel(deviation * shaken));
    exposure.pixels = blur_down(&exposure.pixels, exposure.width, kernel(deviation));
}

/// Weights of a pixel and its neighbours one and two away.
fn kernel(deviation: f32) -> [f32; 3] {
    let weight = |distance: f32| (-distance * distance / (2.0 * deviation * deviation)).exp();
    let weights = [1.0, weight(1.0), weight(2.0)];
    let total = weights[0] + 2.0 * (weights[1] + weights[2]);
    weights.map(|weight| weight / total)
}

/// Blurs each row; its first and last pixels stand for those beyond the edge.
fn blur_across(pixels: &mut [[f32; 3]], width: usize, [centre, near, far]: [f32; 3]) {
    let mut padded = vec![[0.0; 3]; width + 4];
    for row in pixels.chunks_exact_mut(width) {
        padded[..2].fill(row[0]);
        padded[2..width + 2].copy_from_slice(row);
        padded[width + 2..].fill(row[width - 1]);
        // Three levels a pixel: neighbours are 3 and 6 levels away.
        for (level, window) in row.as_flattened_mut().iter_mut().zip(padded.as_flattened().windows(13)) {
            *level = centre * window[6] + near * (window[3] + window[9]) + far * (window[0] + window[12]);
        }
    }
}

/// Blurs each column; the first and last rows stand for those beyond the edge.
fn blur_down(pixels: &[[f32; 3]], width: usize, [centre, near, far]: [f32; 3]) -> Vec<[f32; 3]> {
    let height = pixels.len() / width;
    let row = |y: usize| pixels[y * width..(y + 1) * width].as_flattened();
    let mut blurred = vec![[0.0; 3]; pixels.len()];
    for (y, target) in blurred.chunks_exact_mut(width).enumerate() {
        let above = (row(y.saturating_sub(2)), row(y.saturating_sub(1)));
        let below = (row((y + 1).min(height - 1)), row((y + 2).min(height - 1)));
        let middle = row(y);
        for (x, level) in target.as_flattened_mut().iter_mut().enumerate() {
            *level = centre * middle[x] + near * (above.1[x] + below.0[x]) + far * (above.0[x] + below.1[x]);
        }
    }
    blurred
}

/// Contrast, brightness, a colour cast or none at all, and now and then a harsh photocopy.
pub(super) fn tone(exposure: &mut Exposure, dice: &mut Dice) {
    let contrast = dice.range(0.82, 1.12);
    let brightness = dice.range(-18.0, 12.0);
    let grey = dice.chance(0.35);
    let photocopy = grey && dice.chance(0.12);
    let warmth = dice.range(-0.07, 0.07);
    let cast = [1.0 + warmth, 1.0, 1.0 - warmth];
    for pixel in &mut exposure.pixels {
        if grey {
            let level = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
            *pixel = [level; 3];
        } else {
            for (level, cast) in pixel.iter_mut().zip(cast) {
                *level *= cast;
            }
        }
        for level in pixel {
            // Pivots on light grey, so that low contrast lifts the ink and leaves the paper.
            *level = (*level - 190.0) * contrast + 190.0 + brightness;
            if photocopy {
                *level = (*level - 150.0) * 2.2 + 170.0;
            }
        }
    }
}

/// Grain on every pixel, colour noise on some images, dust on some.
pub(super) fn add_noise(exposure: &mut Exposure, dice: &mut Dice) {
    let grain = dice.range(1.0, 5.0);
    let colour = if dice.chance(0.4) { dice.range(0.0, 4.0) } else { 0.0 };
    for pixel in &mut exposure.pixels {
        let shared = grain * dice.normal();
        let tint = if colour > 0.0 { colour * dice.normal() } else { 0.0 };
        pixel[0] += shared + tint;
        pixel[1] += shared;
        pixel[2] += shared - tint;
    }
    if dice.chance(0.25) {
        let count = exposure.pixels.len() as u32;
        for _ in 0..dice.whole(5, 60) {
            let level = if dice.chance(0.7) { 40.0 } else { 250.0 };
            exposure.pixels[dice.whole(0, count - 1) as usize] = [level; 3];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_an_even_grey_even_up_to_the_edges() {
        let mut flat = vec![[90.0; 3]; 12];
        blur_across(&mut flat, 4, kernel(0.9));
        let flat = blur_down(&flat, 4, kernel(0.9));
        assert!(flat.iter().flatten().all(|level| (level - 90.0).abs() < 1e-3));
    }

    #[test]
    fn blur_spreads_a_point_alike_across_and_down_and_keeps_its_light() {
        let mut pixels = vec![[0.0; 3]; 49];
        pixels[24] = [100.0; 3];
        blur_across(&mut pixels, 7, kernel(0.8));
        let pixels = blur_down(&pixels, 7, kernel(0.8));
        let total: f32 = pixels.iter().map(|pixel| pixel[0]).sum();
        assert!((total - 100.0).abs() < 1e-3, "{total}");
        for (x, y) in [(3, 2), (2, 4), (5, 3)] {
            assert!((pixels[y * 7 + x][1] - pixels[x * 7 + y][1]).abs() < 1e-4);
        }
    }
}
