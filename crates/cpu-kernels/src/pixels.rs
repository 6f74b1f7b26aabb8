//! Bytes of pixels to numbers, by a table for each channel: 256 possible bytes are fewer than the pixels of an image. The last steps of augmentation are
//! taken on the way, each row of an image in the cache.

use crate::output::in_tasks;

/// Images of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    /// `[B, H, W, C]`
    pub bytes: &'a [u8],
    /// H, W, C.
    pub size: [usize; 3],
    /// What each byte is in each channel: `[C]`.
    pub tables: &'a [[f32; 256]],
}

/// What is to be done to the pixels of an image before they are numbers, in the order of the fields. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PixelSteps {
    /// Rows become columns, of a square.
    pub transposed: bool,
    /// Left becomes right.
    pub mirrored: bool,
    /// Top becomes bottom.
    pub upended: bool,
    /// What is hidden of the turned image.
    pub erased: PixelRectangle,
    /// Behind what, by channel.
    pub color: [u8; 3],
    /// The image of the same batch that is mixed in. It has had its own steps by then, but for its mixing.
    pub partner: usize,
    /// That image's share of [`WHOLE_WEIGHT`]. Sums are rounded to bytes.
    pub weight: u32,
    /// Where it is mixed in.
    pub mixed: PixelRectangle,
}

/// Rows and columns of an image, each from and to; nothing where one of them has no length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PixelRectangle {
    /// From the top on.
    pub rows: [usize; 2],
    /// From the left on.
    pub columns: [usize; 2],
}

/// All of a pixel. Products with a byte, and their sum, fit in 32 bits.
pub const WHOLE_WEIGHT: u32 = 1 << 15;

impl Pixels<'_> {
    /// The numbers of the bytes.
    ///
    /// # Shapes
    /// - result: `[B, C, H, W]`
    ///
    /// # Panics
    /// When there is no table for a channel.
    pub fn numbers(&self) -> Vec<f32> {
        self.planes(|place, output| self.look_up_plane(place, output))
    }

    /// The numbers of the bytes once the steps of each image are done.
    ///
    /// # Shapes
    /// - `steps`: `[B]`
    /// - result: `[B, C, H, W]`
    ///
    /// # Panics
    /// When there are too few steps or tables, a rectangle reaches out of its image, or a partner is none of the images.
    pub fn finished_numbers(&self, steps: &[PixelSteps]) -> Vec<f32> {
        let [_, width, _] = self.size;
        self.planes(|[image, channel], output| {
            if steps[image] == PixelSteps::default() {
                return self.look_up_plane([image, channel], output);
            }
            let (mut own, mut other) = (vec![0u8; width], vec![0u8; width]);
            for (y, output) in output.chunks_exact_mut(width).enumerate() {
                self.read_row(&steps[image], [image, channel, y], &mut own);
                self.mix_in(steps, [image, channel, y], &mut own, &mut other);
                look_up(own.iter(), &self.tables[channel], output);
            }
        })
    }

    /// Has each plane made by itself, which is given its image and its channel.
    fn planes(&self, make: impl Fn([usize; 2], &mut [f32]) + Sync) -> Vec<f32> {
        let [height, width, channels] = self.size;
        let area = height * width;
        let images = self.bytes.len() / (area * channels).max(1);
        in_tasks(images * channels * area, area, |plane, output| make([plane / channels, plane % channels], output))
    }

    /// The bytes of an image.
    fn image(&self, image: usize) -> &[u8] {
        let bytes = self.size.iter().product::<usize>();
        &self.bytes[image * bytes..][..bytes]
    }

    fn look_up_plane(&self, [image, channel]: [usize; 2], output: &mut [f32]) {
        let (bytes, table) = (self.image(image), &self.tables[channel]);
        match self.size[2] {
            1 => look_up(bytes.iter(), table, output),
            channels => look_up(bytes[channel..].iter().step_by(channels), table, output),
        }
    }

    /// A row of a channel, turned and partly hidden: of the image, the channel and the row that are given.
    fn read_row(&self, steps: &PixelSteps, [image, channel, y]: [usize; 3], row: &mut [u8]) {
        let [height, width, channels] = self.size;
        let line = if steps.upended { height - 1 - y } else { y };
        // In pixels: where the line begins, and how far each is from the one before.
        let (first, apart) = if steps.transposed { (line, width) } else { (line * width, 1) };
        let pixels = self.image(image)[first * channels + channel..].iter().step_by(apart * channels);
        match steps.mirrored {
            false => row.iter_mut().zip(pixels).for_each(|(byte, pixel)| *byte = *pixel),
            true => row.iter_mut().rev().zip(pixels).for_each(|(byte, pixel)| *byte = *pixel),
        }
        if let Some(hidden) = steps.erased.columns_of(y, row) {
            hidden.fill(steps.color[channel]);
        }
    }

    /// Mixes the partner's row into that of the image, by way of `other`.
    fn mix_in(&self, steps: &[PixelSteps], [image, channel, y]: [usize; 3], own: &mut [u8], other: &mut [u8]) {
        let PixelSteps { partner, weight, mixed, .. } = steps[image];
        let Some(own) = mixed.columns_of(y, own) else { return };
        self.read_row(&steps[partner], [partner, channel, y], other);
        let [from, to] = mixed.columns;
        for (own, other) in own.iter_mut().zip(&other[from..to]) {
            let sum = u32::from(*own) * (WHOLE_WEIGHT - weight) + u32::from(*other) * weight;
            *own = ((sum + WHOLE_WEIGHT / 2) / WHOLE_WEIGHT) as u8;
        }
    }
}

impl PixelSteps {
    /// Whether these steps read nothing but what is there, of so many images of H, W, C.
    pub fn stays_within(&self, images: usize, [height, width, channels]: [usize; 3]) -> bool {
        let is_inside = |PixelRectangle { rows, columns: [left, right] }: PixelRectangle| {
            rows[1] <= height && left <= right && right <= width
        };
        let can_turn = !self.transposed || height == width;
        let is_blend = self.partner < images && self.weight <= WHOLE_WEIGHT;
        can_turn && is_blend && channels <= self.color.len() && is_inside(self.erased) && is_inside(self.mixed)
    }
}

impl PixelRectangle {
    /// What is inside of the row of that place.
    fn columns_of(self, y: usize, row: &mut [u8]) -> Option<&mut [u8]> {
        let Self { rows: [top, bottom], columns: [left, right] } = self;
        if (top..bottom).contains(&y) { Some(&mut row[left..right]) } else { None }
    }
}

fn look_up<'a>(bytes: impl Iterator<Item = &'a u8>, table: &[f32; 256], output: &mut [f32]) {
    output.iter_mut().zip(bytes).for_each(|(number, byte)| *number = table[usize::from(*byte)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINE: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];

    /// Numbers of bytes are those bytes, and 1,000 more in each further channel.
    fn tables() -> Vec<[f32; 256]> {
        (0..3).map(|channel| std::array::from_fn(|byte| (byte + 1_000 * channel) as f32)).collect()
    }

    fn finished(bytes: &[u8], steps: &[PixelSteps]) -> Vec<f32> {
        Pixels { bytes, size: [3, 3, 1], tables: &tables() }.finished_numbers(steps)
    }

    #[test]
    fn channels_move_in_front() {
        let pixels = Pixels { bytes: &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], size: [1, 2, 3], tables: &tables() };
        let expected = [1.0, 4.0, 1002.0, 1005.0, 2003.0, 2006.0, 7.0, 10.0, 1008.0, 1011.0, 2009.0, 2012.0];
        assert_eq!(pixels.numbers(), expected);
        assert_eq!(pixels.finished_numbers(&[PixelSteps::default(); 2]), expected);
        assert!(Pixels { bytes: &[], ..pixels }.numbers().is_empty());
    }

    #[test]
    fn an_image_is_transposed_before_it_is_mirrored() {
        let turned = |transposed, mirrored, upended| {
            finished(&NINE, &[PixelSteps { transposed, mirrored, upended, ..PixelSteps::default() }])
        };
        assert_eq!(turned(false, true, false), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0]);
        assert_eq!(turned(false, false, true), [7.0, 8.0, 9.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
        // A quarter clockwise, and one the other way.
        assert_eq!(turned(true, true, false), [7.0, 4.0, 1.0, 8.0, 5.0, 2.0, 9.0, 6.0, 3.0]);
        assert_eq!(turned(true, false, true), [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0]);
    }

    #[test]
    fn what_is_mixed_in_has_been_turned_and_hidden_but_not_mixed() {
        let corner = PixelRectangle { rows: [0, 2], columns: [1, 3] };
        let one = PixelSteps { partner: 1, weight: WHOLE_WEIGHT, mixed: corner, ..PixelSteps::default() };
        let all = PixelRectangle { rows: [0, 3], columns: [0, 3] };
        let hidden = PixelRectangle { rows: [0, 1], columns: [0, 2] };
        let color = [90, 0, 0];
        let halves = WHOLE_WEIGHT / 2;
        let other = PixelSteps { mirrored: true, erased: hidden, color, partner: 0, weight: halves, mixed: all, ..one };
        let bytes: Vec<u8> = NINE.into_iter().chain(NINE.map(|byte| byte + 100)).collect();
        let numbers = finished(&bytes, &[one, other]);
        assert_eq!(numbers[..9], [1.0, 90.0, 101.0, 4.0, 105.0, 104.0, 7.0, 8.0, 9.0]);
        // Halves are rounded up: (90 + 1) / 2 is 46.
        assert_eq!(numbers[9..], [46.0, 46.0, 52.0, 55.0, 55.0, 55.0, 58.0, 58.0, 58.0]);
    }
}
