//! Images on disk, turned into seeded, ordered batches of pixels.
//!
//! A [`Dataset`] lists a folder per class, or a CSV of `file,label`. [`decode()`] reads one image (jpeg, png, bmp, webp)
//! as upright 8-bit RGB or grey. A [`Transform`] makes it a square: [`EvalTransform`] always the same, [`TrainTransform`]
//! at random, from the seed, the epoch and the sample alone. [`Sampling`] says which images an epoch shows. A [`Loader`] does all of
//! it on worker threads, may mix images ([`Mixing`]), and hands out the batches in order, byte for byte the same whatever
//! the number of workers. It may leave the [`LastSteps`] to whoever makes numbers of the bytes.
//!
//! It never touches a tensor or a device, never prints, never downloads, and never writes to disk.

#![warn(missing_docs)]

mod dataset;
mod decode;
mod loader;
mod path_text;
mod random;
mod raster;
mod sampling;
mod transform;

pub use dataset::{
    Dataset, DatasetError, Sample, UnknownLabels, class_spelt_otherwise, is_image_path, natural_order, stratified_folds,
};
pub use decode::{DecodeError, DecodeOptions, ImageExtent, decode, decode_bytes, largest_images};
pub use loader::{Batch, CorruptImage, LoadError, Loader, LoaderOptions, MixMode, Mixing, OnCorrupt, Partner, batches};
pub use path_text::{one_line, path_text};
pub use random::{SampleKey, epoch_order};
pub use raster::{Channels, RasterImage};
pub use sampling::Sampling;
pub use transform::{
    DocumentNoise, EraseFill, Erased, EvalTransform, LastSteps, Mixed, RandAugment, Rectangle, ResizeFilter,
    ResizeMode, Symmetry, TrainTransform, Transform, TransformError, bar_color,
};
