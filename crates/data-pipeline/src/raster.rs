//! One decoded image in memory.

/// How many values a pixel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Channels {
    /// One: brightness.
    Grey,
    /// Three: red, green, blue.
    #[default]
    Rgb,
}

impl Channels {
    /// The number of values, 1 or 3.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }

    /// The inverse of [`Channels::count`]; `None` for any other number.
    #[must_use]
    pub fn from_count(count: usize) -> Option<Self> {
        match count {
            1 => Some(Self::Grey),
            3 => Some(Self::Rgb),
            _ => None,
        }
    }
}

/// An upright image with 8 bits a value and at least one pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RasterImage {
    width: usize,
    height: usize,
    channels: Channels,
    pixels: Vec<u8>,
}

impl RasterImage {
    /// Takes `pixels` as `[H, W, C]`; `None` where their number is another, or a side is zero or beyond 2^32 - 1.
    #[must_use]
    pub fn new(width: usize, height: usize, channels: Channels, pixels: Vec<u8>) -> Option<Self> {
        let is_side = |side: usize| side > 0 && u32::try_from(side).is_ok();
        let length = width.checked_mul(height)?.checked_mul(channels.count())?;
        (is_side(width) && is_side(height) && length == pixels.len()).then_some(Self {
            width,
            height,
            channels,
            pixels,
        })
    }

    /// In pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// In pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Grey or RGB.
    #[must_use]
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// Row by row: `[H, W, C]`.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The values of one pixel.
    ///
    /// # Panics
    /// When the place is outside, as slices do.
    #[must_use]
    pub fn pixel(&self, x: usize, y: usize) -> &[u8] {
        assert!(x < self.width && y < self.height, "({x}, {y}) is outside {} x {}", self.width, self.height);
        let start = (y * self.width + x) * self.channels.count();
        &self.pixels[start..start + self.channels.count()]
    }

    /// The same picture with other channels: grey is repeated, RGB becomes its luma.
    #[must_use]
    pub fn into_channels(self, channels: Channels) -> Self {
        let pixels = match (self.channels, channels) {
            (Channels::Grey, Channels::Rgb) => self.pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            (Channels::Rgb, Channels::Grey) => {
                self.pixels.chunks_exact(3).map(|pixel| luma(pixel[0], pixel[1], pixel[2])).collect()
            }
            _ => self.pixels,
        };
        Self { channels, pixels, ..self }
    }
}

/// Brightness by ITU-R BT.601 with Pillow's integer weights, which add up to 2^16.
pub(crate) fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let weighted = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((weighted + (1 << 15)) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_whose_pixels_do_not_match_its_size_is_refused() {
        assert!(RasterImage::new(2, 2, Channels::Rgb, vec![0; 12]).is_some());
        assert!(RasterImage::new(2, 2, Channels::Rgb, vec![0; 11]).is_none());
        assert!(RasterImage::new(0, 2, Channels::Grey, vec![]).is_none());
        assert!(RasterImage::new(usize::MAX, usize::MAX, Channels::Rgb, vec![]).is_none());
    }

    #[test]
    fn grey_survives_the_way_through_rgb() {
        let grey = RasterImage::new(256, 1, Channels::Grey, (0..=255).collect()).unwrap();
        let back = grey.clone().into_channels(Channels::Rgb).into_channels(Channels::Grey);
        assert_eq!(back, grey);
    }

    #[test]
    fn luma_weighs_as_pillow_does() {
        // Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))
        assert_eq!([luma(255, 0, 0), luma(0, 255, 0), luma(0, 0, 255), luma(10, 200, 30)], [76, 150, 29, 124]);
    }
}
