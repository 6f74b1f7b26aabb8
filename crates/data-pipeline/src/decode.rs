//! One image file to upright 8-bit pixels, within bounded memory.

mod extent;
mod jpeg_end;
mod reduce;
mod scaled;
mod to_eight_bits;
mod upright;

pub use extent::{ImageExtent, largest_images};

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use image::error::{LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use thiserror::Error;

use crate::{Channels, RasterImage};

/// What to decode to, and how much to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Of the result.
    pub channels: Channels,
    /// Images with more pixels are refused.
    pub max_pixels: u64,
}

impl Default for DecodeOptions {
    /// RGB, and Pillow's limit: what it holds to be a decompression bomb, 2 x (1 GiB / 4 / 3) = 178,956,970 pixels.
    fn default() -> Self {
        Self { channels: Channels::Rgb, max_pixels: 2 * ((1 << 30) / 4 / 3) }
    }
}

/// Why a file gave no image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Its content is not a whole image.
    #[error("`{}` is not a readable image: {reason}", path.display())]
    CorruptImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It would take too much memory.
    #[error("`{}` has {width} x {height} pixels, but {max_pixels} are the limit", path.display())]
    ImageTooLarge {
        /// The file.
        path: PathBuf,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// The limit it exceeds: [`DecodeOptions::max_pixels`].
        max_pixels: u64,
    },
    /// The operating system did not give its content.
    #[error("cannot read `{}`: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}

impl DecodeError {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::CorruptImage { path, .. } | Self::ImageTooLarge { path, .. } | Self::Unreadable { path, .. } => path,
        }
    }

    /// What is wrong, without the file's name.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::CorruptImage { reason, .. } => reason.clone(),
            Self::ImageTooLarge { width, height, max_pixels, .. } => {
                format!("{width} x {height} pixels are more than the limit of {max_pixels}")
            }
            Self::Unreadable { reason, .. } => format!("cannot be read: {reason}"),
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::CorruptImage { .. } => {
                "replace the file, or go on without it: `--set data.on_corrupt=skip`, with `--resume` too".into()
            }
            Self::ImageTooLarge { path, .. } => {
                format!("make it smaller, for instance `convert '{0}' -resize 4000x4000 '{0}'`", path.display())
            }
            Self::Unreadable { path, .. } => format!("check who may read it: `ls -l '{}'`", path.display()),
        })
    }
}

/// Images above this many pixels are decoded one at a time in the whole process, and shrunk at once.
const LARGE_PIXELS: u64 = 16 << 20;

/// What a large image is shrunk to, at most. A square crop of 8 % of it still has 560 pixels a side.
const SHRUNK_PIXELS: u64 = 4 << 20;

/// Files above this size are not opened: the largest that [`DecodeOptions::default`] accepts, 16-bit RGBA without
/// compression, has 1.4 GB.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// Beside its pixels, a decoder may allocate this much for tables and metadata.
const DECODER_OVERHEAD_BYTES: u64 = 64 << 20;

static LARGE_IMAGE: Mutex<()> = Mutex::new(());

/// Reads one image: jpeg, png, bmp or webp, recognised by its content. EXIF orientation is applied, transparency is
/// laid on white, 16-bit values are rounded to 8, the first frame of an animation is taken.
///
/// Images above 16 megapixels wait for each other and come back with at most 4 megapixels.
///
/// # Errors
/// See [`DecodeError`]. A file that ends early is corrupt, also where a decoder could guess the rest.
pub fn decode(path: &Path, options: &DecodeOptions) -> Result<RasterImage, DecodeError> {
    decode_for(&Caller::default(), path, options)
}

/// What the one who waits for an image has to say while it is decoded.
pub(crate) struct Caller<'a> {
    /// Gives up a large image: its turn may come seconds after nobody wants it.
    pub(crate) is_cancelled: &'a dyn Fn() -> bool,
    /// By how much an image of so many pixels, upright, may be smaller: 1, 2, 4 or 8 in width and in height.
    pub(crate) reduction: &'a dyn Fn([usize; 2]) -> u16,
}

impl Default for Caller<'_> {
    fn default() -> Self {
        Self { is_cancelled: &|| false, reduction: &|_| 1 }
    }
}

/// As [`decode()`], minding the caller's words. Only jpegs come smaller.
pub(crate) fn decode_for(
    caller: &Caller<'_>,
    path: &Path,
    options: &DecodeOptions,
) -> Result<RasterImage, DecodeError> {
    let unreadable = |reason: String| DecodeError::Unreadable { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    if metadata.len() > MAX_FILE_BYTES {
        return Err(unreadable(format!("it has {} bytes, and {MAX_FILE_BYTES} are the limit", metadata.len())));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    decode_bytes_for(caller, &bytes, path, options)
}

/// As [`decode()`], for the content of a file; `path` serves the error messages alone.
///
/// # Errors
/// See [`decode()`].
pub fn decode_bytes(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<RasterImage, DecodeError> {
    decode_bytes_for(&Caller::default(), bytes, path, options)
}

fn decode_bytes_for(
    caller: &Caller<'_>,
    bytes: &[u8],
    path: &Path,
    options: &DecodeOptions,
) -> Result<RasterImage, DecodeError> {
    let corrupt = |reason: String| DecodeError::CorruptImage { path: path.to_owned(), reason };
    let format = recognise(bytes).map_err(corrupt)?;
    if format == ImageFormat::Jpeg && !jpeg_end::is_whole(bytes) {
        return Err(corrupt("the jpeg is cut off: it has no end marker".into()));
    }
    let mut decoder = open_decoder(bytes, format, options).map_err(|error| corrupt(reason_of(&error)))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > options.max_pixels {
        let max_pixels = options.max_pixels;
        return Err(DecodeError::ImageTooLarge { path: path.to_owned(), width, height, max_pixels });
    }
    // Held until the image is small again. A panic elsewhere does not make the lock wrong.
    let _turn = (pixels > LARGE_PIXELS).then(|| LARGE_IMAGE.lock().unwrap_or_else(PoisonError::into_inner));
    if (caller.is_cancelled)() {
        return Err(DecodeError::Unreadable { path: path.to_owned(), reason: "reading was cancelled".into() });
    }
    // Damaged metadata do not spoil the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let factor = match format {
        ImageFormat::Jpeg => (caller.reduction)(upright::size(orientation, [width as usize, height as usize])),
        _ => 1,
    };
    let scaled = if factor > 1 { scaled::read(bytes, factor) } else { None };
    let image = match scaled {
        Some(image) => image,
        None => read_pixels(decoder).map_err(|error| corrupt(reason_of(&error)))?,
    };
    let image = if pixels > LARGE_PIXELS { reduce::reduce_to(image, SHRUNK_PIXELS) } else { image };
    Ok(upright::upright(image.into_channels(options.channels), orientation))
}

fn recognise(bytes: &[u8]) -> Result<ImageFormat, String> {
    const ACCEPTED: [ImageFormat; 4] = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP];
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    match image::guess_format(bytes) {
        Ok(format) if ACCEPTED.contains(&format) => Ok(format),
        Ok(format) => Err(format!("it is a {} file; only jpeg, png, bmp and webp are read", format.to_mime_type())),
        Err(_) => Err("its content is neither jpeg, png, bmp nor webp".into()),
    }
}

fn open_decoder<'a>(
    bytes: &'a [u8],
    format: ImageFormat,
    options: &DecodeOptions,
) -> Result<impl ImageDecoder + 'a, ImageError> {
    // Eight bytes a pixel: 16-bit RGBA.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.max_pixels.saturating_mul(8).saturating_add(DECODER_OVERHEAD_BYTES));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    reader.into_decoder()
}

/// Holds one buffer of the decoder's own format, which is then converted in place.
fn read_pixels(decoder: impl ImageDecoder) -> Result<RasterImage, ImageError> {
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    let length = usize::try_from(decoder.total_bytes()).map_err(|_| limit(LimitErrorKind::InsufficientMemory))?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(length).map_err(|_| limit(LimitErrorKind::InsufficientMemory))?;
    pixels.resize(length, 0);
    decoder.read_image(&mut pixels)?;
    to_eight_bits::convert(&mut pixels, color)
        .and_then(|channels| RasterImage::new(width as usize, height as usize, channels, pixels))
        .ok_or_else(|| limit(LimitErrorKind::DimensionError))
}

fn limit(kind: LimitErrorKind) -> ImageError {
    ImageError::Limits(LimitError::from_kind(kind))
}

/// The decoder's own words on one line, without the wrapper's prefix.
fn reason_of(error: &ImageError) -> String {
    use std::error::Error;
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}
