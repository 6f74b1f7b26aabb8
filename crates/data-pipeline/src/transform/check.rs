//! Refuses settings that make no sense, before the first image is read.

use std::ops::RangeInclusive;

use thiserror::Error;

use super::{DocumentNoise, RandAugment, ResizeMode};

/// A setting of a transform that makes no sense.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("`{setting}` is {value}, but it must be {expected}")]
pub struct TransformError {
    /// The field.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// What is accepted.
    pub expected: &'static str,
    /// A value that would do.
    pub example: &'static str,
}

impl TransformError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(format!("for instance `{}: {}`", self.setting, self.example))
    }
}

pub(super) fn image_size(size: usize) -> Result<(), TransformError> {
    // Far above any classifier's input, far below what overflows a buffer's length.
    demand("image_size", size, (1..=8192).contains(&size), "between 1 and 8192", "64")
}

pub(super) fn resize(mode: ResizeMode) -> Result<(), TransformError> {
    match mode {
        ResizeMode::CenterCrop { crop_share } => {
            let is_share = crop_share > 0.0 && crop_share <= 1.0;
            demand("crop_share", crop_share, is_share, "above 0 and at most 1", "0.875")
        }
        ResizeMode::Squash | ResizeMode::Letterbox => Ok(()),
    }
}

pub(super) fn probability(setting: &'static str, value: f32) -> Result<(), TransformError> {
    demand(setting, value, (0.0..=1.0).contains(&value), "a probability between 0 and 1", "0.5")
}

pub(super) fn strength(setting: &'static str, value: f32) -> Result<(), TransformError> {
    demand(setting, value, (0.0..=1.0).contains(&value), "between 0 and 1", "0.2")
}

pub(super) fn rotation(degrees: f32) -> Result<(), TransformError> {
    demand("rotation_degrees", degrees, (0.0..=180.0).contains(&degrees), "between 0 and 180", "10")
}

pub(super) fn scale(range: (f32, f32)) -> Result<(), TransformError> {
    let expected = "a range of shares of the area, ascending, above 0 and at most 1";
    demand("scale", format!("[{}, {}]", range.0, range.1), is_range(range, 0.0..=1.0), expected, "[0.7, 1.0]")
}

pub(super) fn ratio(range: (f32, f32)) -> Result<(), TransformError> {
    let expected = "a range of width to height, ascending, above 0 and at most 100";
    demand("ratio", format!("[{}, {}]", range.0, range.1), is_range(range, 0.0..=100.0), expected, "[0.8, 1.25]")
}

pub(super) fn hue(rounds: f32) -> Result<(), TransformError> {
    demand("hue", rounds, (0.0..=0.5).contains(&rounds), "between 0 and 0.5", "0.1")
}

pub(super) fn erase_area(range: (f32, f32)) -> Result<(), TransformError> {
    let expected = "a range of shares of the area, ascending, above 0 and at most 1";
    demand("erase_area", format!("[{}, {}]", range.0, range.1), is_range(range, 0.0..=1.0), expected, "[0.02, 0.33]")
}

pub(super) fn erase_ratio(range: (f32, f32)) -> Result<(), TransformError> {
    let expected = "a range of width to height, ascending, above 0 and at most 100";
    demand("erase_ratio", format!("[{}, {}]", range.0, range.1), is_range(range, 0.0..=100.0), expected, "[0.3, 3.3]")
}

pub(super) fn rand_augment(settings: &RandAugment) -> Result<(), TransformError> {
    let RandAugment { num_ops, magnitude, magnitude_std, increasing: _ } = *settings;
    demand("num_ops", num_ops, num_ops <= 15, "at most 15", "2")?;
    demand("magnitude", magnitude, (0.0..=10.0).contains(&magnitude), "between 0 and 10", "9")?;
    demand("magnitude_std", magnitude_std, (0.0..=10.0).contains(&magnitude_std), "between 0 and 10", "0.5")
}

pub(super) fn noise(settings: &DocumentNoise) -> Result<(), TransformError> {
    let DocumentNoise { uneven_light, blur, blur_sigma, speckle, jpeg, jpeg_quality } = *settings;
    strength("uneven_light", uneven_light)?;
    probability("blur", blur)?;
    let expected = "a range in pixels, ascending, above 0 and at most 20";
    let shown = format!("[{}, {}]", blur_sigma.0, blur_sigma.1);
    demand("blur_sigma", shown, is_range(blur_sigma, 0.0..=20.0), expected, "[0.1, 2.0]")?;
    strength("speckle", speckle)?;
    probability("jpeg", jpeg)?;
    let expected = "a range of qualities, ascending, from 1 to 100";
    let shown = format!("[{}, {}]", jpeg_quality.0, jpeg_quality.1);
    let is_fine = jpeg_quality.0 >= 1.0 && is_range(jpeg_quality, 0.0..=100.0);
    demand("jpeg_quality", shown, is_fine, expected, "[30, 90]")
}

/// Ascending, inside the bounds and not zero; false for NaN.
fn is_range((low, high): (f32, f32), bounds: RangeInclusive<f32>) -> bool {
    low > 0.0 && low <= high && bounds.contains(&high)
}

fn demand(
    setting: &'static str,
    value: impl ToString,
    holds: bool,
    expected: &'static str,
    example: &'static str,
) -> Result<(), TransformError> {
    let error = || TransformError { setting, value: value.to_string(), expected, example };
    if holds { Ok(()) } else { Err(error()) }
}
