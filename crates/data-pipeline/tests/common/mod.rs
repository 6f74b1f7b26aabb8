//! Small data sets on disk for the tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_pipeline::Dataset;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("the system has a folder for temporary files")
}

/// Writes an empty file, or whatever else, and the folders above it.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A picture that differs from pixel to pixel and from seed to seed.
pub(crate) fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 3 + seed * 17) as u8, (y * 5 + seed * 29) as u8, ((x * y) / 7 + seed) as u8])
    })
}

/// Writes a picture in the format that the name ends with.
pub(crate) fn write_picture(path: &Path, width: u32, height: u32, seed: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture(width, height, seed).save(path).unwrap();
}

/// `count` pictures of varied size, alternating between the classes `cat` and `dog`.
pub(crate) fn two_classes(root: &Path, count: u32) {
    for index in 0..count {
        let class = ["cat", "dog"][index as usize % 2];
        let ending = ["jpg", "PNG", "jpeg", "bmp", "webp"][index as usize % 5];
        let path = root.join(class).join(format!("{index}.{ending}"));
        write_picture(&path, 20 + index % 13, 24 + index % 7, index);
    }
}

pub(crate) fn open(root: &Path) -> Arc<Dataset> {
    Arc::new(Dataset::open(root).unwrap())
}

pub(crate) fn names(dataset: &Dataset) -> Vec<String> {
    (0..dataset.len()).map(|index| dataset.relative_path(index).display().to_string()).collect()
}

pub(crate) fn classes(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

pub(crate) fn path_in(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

/// A grey jpeg of any size, written by hand: each block of 8 x 8 pixels takes two bits, so that even 12,000 x 9,000
/// pixels need half a megabyte and no encoder.
pub(crate) fn plain_jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    let mut segment = |marker: u8, content: &[u8]| {
        bytes.extend([0xff, marker]);
        bytes.extend((content.len() as u16 + 2).to_be_bytes());
        bytes.extend(content);
    };
    let mut quantisation = [1; 65];
    quantisation[0] = 0;
    segment(0xdb, &quantisation);
    let [[w1, w2], [h1, h2]] = [width.to_be_bytes(), height.to_be_bytes()];
    segment(0xc0, &[8, h1, h2, w1, w2, 1, 1, 0x11, 0]);
    // One code of one bit each: `0` is "no difference" in the first table and "end of block" in the second.
    let mut one_code = [0; 18];
    one_code[1] = 1;
    for table in [0x00, 0x10] {
        one_code[0] = table;
        segment(0xc4, &one_code);
    }
    segment(0xda, &[1, 1, 0, 0, 63, 0]);
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    bytes.resize(bytes.len() + (blocks * 2).div_ceil(8), 0);
    bytes.extend([0xff, 0xd9]);
    bytes
}
