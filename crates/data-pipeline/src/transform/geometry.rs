//! Moves the pixels of a square: mirrored, turned, partly hidden.

use super::last_steps::Rectangle;

/// A square image, changed in place.
pub(super) struct Square<'a> {
    /// Height and width, in pixels.
    pub(super) size: usize,
    /// Values a pixel.
    pub(super) count: usize,
    /// `[H, W, C]`
    pub(super) pixels: &'a mut [u8],
}

impl Square<'_> {
    /// Left becomes right.
    pub(super) fn flip_horizontally(&mut self) {
        for y in 0..self.size {
            for x in 0..self.size / 2 {
                self.swap([x, y], [self.size - 1 - x, y]);
            }
        }
    }

    /// Top becomes bottom.
    pub(super) fn flip_vertically(&mut self) {
        let row = self.size * self.count;
        for y in 0..self.size / 2 {
            let (upper, lower) = self.pixels.split_at_mut((self.size - 1 - y) * row);
            upper[y * row..(y + 1) * row].swap_with_slice(&mut lower[..row]);
        }
    }

    /// Turns clockwise by so many times 90 degrees.
    pub(super) fn turn(&mut self, quarters: u64) {
        match quarters % 4 {
            1 => {
                self.transpose();
                self.flip_horizontally();
            }
            2 => {
                self.flip_horizontally();
                self.flip_vertically();
            }
            3 => {
                self.transpose();
                self.flip_vertically();
            }
            _ => {}
        }
    }

    /// Rows become columns.
    pub(super) fn transpose(&mut self) {
        for y in 0..self.size {
            for x in 0..y {
                self.swap([x, y], [y, x]);
            }
        }
    }

    fn swap(&mut self, one: [usize; 2], other: [usize; 2]) {
        let [one, other] = [one, other].map(|[x, y]| (y * self.size + x) * self.count);
        for channel in 0..self.count {
            self.pixels.swap(one + channel, other + channel);
        }
    }

    /// Turns clockwise around the middle by any angle, bilinearly; beyond the edge its pixels repeat.
    pub(super) fn rotate(&mut self, degrees: f32) {
        if degrees == 0.0 || self.size == 0 {
            return;
        }
        match self.count {
            1 => self.rotate_pixels::<1>(degrees),
            _ => self.rotate_pixels::<3>(degrees),
        }
    }

    fn rotate_pixels<const COUNT: usize>(&mut self, degrees: f32) {
        let size = self.size;
        let (target, _) = self.pixels.as_chunks_mut::<COUNT>();
        let source = target.to_vec();
        let (sine, cosine) = degrees.to_radians().sin_cos();
        let middle = (size as f32 - 1.0) / 2.0;
        for (row, line) in target.chunks_exact_mut(size).enumerate() {
            let y = row as f32 - middle;
            for (column, pixel) in line.iter_mut().enumerate() {
                let x = column as f32 - middle;
                let across = Tap::new(cosine * x + sine * y + middle, size);
                let down = Tap::new(cosine * y - sine * x + middle, size);
                let (upper, lower) = (&source[down.low * size..][..size], &source[down.high * size..][..size]);
                let upper = across.mix(upper[across.low], upper[across.high]);
                let lower = across.mix(lower[across.low], lower[across.high]);
                for channel in 0..COUNT {
                    pixel[channel] = down.mix_rounded(upper[channel], lower[channel]);
                }
            }
        }
    }

    /// A rectangle of so much of the area, `ratio` times as wide as high, at `place` of the free room.
    pub(super) fn rectangle(&self, area_share: f32, ratio: f32, place: [f32; 2]) -> Rectangle {
        if self.size == 0 {
            return Rectangle { rows: [0; 2], columns: [0; 2] };
        }
        let area = area_share * (self.size * self.size) as f32;
        let side = |length: f32| (length.round() as usize).clamp(1, self.size);
        let (width, height) = (side((area * ratio).sqrt()), side((area / ratio).sqrt()));
        let start = |room: usize, share: f32| ((room as f32 + 1.0) * share) as usize;
        let left = start(self.size - width, place[0]).min(self.size - width);
        let top = start(self.size - height, place[1]).min(self.size - height);
        Rectangle { rows: [top, top + height], columns: [left, left + width] }
    }

    /// Hides a rectangle. `fill` makes its pixels one after the other, row by row.
    pub(super) fn erase(&mut self, place: Rectangle, mut fill: impl FnMut() -> [u8; 3]) {
        let [left, right] = place.columns;
        for y in place.rows[0]..place.rows[1] {
            let row = y * self.size;
            let pixels = &mut self.pixels[(row + left) * self.count..(row + right) * self.count];
            for pixel in pixels.chunks_exact_mut(self.count) {
                pixel.copy_from_slice(&fill()[..self.count]);
            }
        }
    }

    /// The mean of each channel; whatever is beyond the channels is zero.
    pub(super) fn mean_color(&self) -> [u8; 3] {
        let mut sums = [0u64; 3];
        for pixel in self.pixels.chunks_exact(self.count) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(value);
            }
        }
        let pixels = ((self.size * self.size) as u64).max(1);
        sums.map(|sum| ((sum + pixels / 2) / pixels) as u8)
    }
}

/// The two neighbours of a place between pixels.
struct Tap {
    low: usize,
    high: usize,
    /// Of 256.
    share_of_high: u32,
}

impl Tap {
    fn new(place: f32, size: usize) -> Self {
        let place = place.clamp(0.0, (size - 1) as f32);
        let low = place as usize;
        Self { low, high: (low + 1).min(size - 1), share_of_high: ((place - low as f32) * 256.0 + 0.5) as u32 }
    }

    /// 256 times the value between the two.
    fn mix<const COUNT: usize>(&self, low: [u8; COUNT], high: [u8; COUNT]) -> [u32; COUNT] {
        let mut mixed = [0; COUNT];
        for channel in 0..COUNT {
            let (low, high) = (u32::from(low[channel]), u32::from(high[channel]));
            mixed[channel] = low * (256 - self.share_of_high) + high * self.share_of_high;
        }
        mixed
    }

    /// From two values of [`Tap::mix`] back to one of 8 bits.
    fn mix_rounded(&self, low: u32, high: u32) -> u8 {
        ((low * (256 - self.share_of_high) + high * self.share_of_high + (1 << 15)) >> 16) as u8
    }
}

/// What becomes of an image of `size` x `size`.
#[cfg(test)]
pub(super) fn changed(size: usize, pixels: &[u8], change: impl Fn(&mut Square<'_>)) -> Vec<u8> {
    let mut pixels = pixels.to_vec();
    let count = pixels.len() / (size * size);
    change(&mut Square { size, count, pixels: &mut pixels });
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINE: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];

    #[test]
    fn flips_and_turns_go_the_way_their_names_say() {
        assert_eq!(changed(3, &NINE, |square| square.flip_horizontally()), [3, 2, 1, 6, 5, 4, 9, 8, 7]);
        assert_eq!(changed(3, &NINE, |square| square.flip_vertically()), [7, 8, 9, 4, 5, 6, 1, 2, 3]);
        assert_eq!(changed(3, &NINE, |square| square.turn(1)), [7, 4, 1, 8, 5, 2, 9, 6, 3]);
        assert_eq!(changed(3, &NINE, |square| square.turn(2)), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(changed(3, &NINE, |square| square.turn(3)), [3, 6, 9, 2, 5, 8, 1, 4, 7]);
    }

    #[test]
    fn the_three_values_of_a_pixel_stay_together() {
        let pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        assert_eq!(changed(2, &pixels, |square| square.turn(1)), [7, 8, 9, 1, 2, 3, 10, 11, 12, 4, 5, 6]);
    }

    #[test]
    fn rotating_by_a_right_angle_equals_a_quarter_turn() {
        let pixels: Vec<u8> = (0..75).map(|value| value * 3).collect();
        assert_eq!(changed(5, &pixels, |square| square.rotate(90.0)), changed(5, &pixels, |square| square.turn(1)));
    }

    #[test]
    fn rotating_a_plain_image_leaves_it_plain() {
        assert_eq!(changed(6, &[77; 36], |square| square.rotate(33.0)), [77; 36]);
    }

    #[test]
    fn erasing_hides_the_wanted_area_behind_the_mean() {
        let pixels: Vec<u8> = (0..400).map(|place| if place % 2 == 0 { 0 } else { 200 }).collect();
        let output = changed(20, &pixels, |square| {
            let (place, mean) = (square.rectangle(0.25, 1.0, [0.5, 0.999]), square.mean_color());
            square.erase(place, || mean);
        });
        assert_eq!(output.iter().filter(|&&value| value == 100).count(), 100);
        assert_eq!(output[19 * 20 + 10], 100);
    }

    #[test]
    fn erasing_never_leaves_the_image() {
        for share in [0.0, 0.02, 1.0, 5.0] {
            for ratio in [0.01, 1.0, 100.0] {
                for place in [[0.0, 0.0], [0.999_999_9, 0.999_999_9]] {
                    changed(7, &[3; 49], |square| square.erase(square.rectangle(share, ratio, place), || [9; 3]));
                }
            }
        }
    }
}
