//! Sets of views by name.

use std::fmt;
use std::str::FromStr;

use crate::{Symmetry, Variation, View};

/// A set of views. Each starts with the image as it is, so that a larger set only adds to a smaller one's evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Preset {
    /// 1 view: the image as it is.
    #[default]
    None,
    /// 3 views: turned by 0, 90 and 270 degrees.
    Legacy,
    /// 5 views: the image, both flips and both quarter turns.
    Essential,
    /// 15 views: the eight symmetries of the square, and each but the image as it is once more, with a zoom, a brightness, a contrast or a
    /// centre crop.
    Comprehensive,
}

/// One for each symmetry but the identity. A tenth more or less is inside the variation of cameras and scanners, so that no class changes its
/// meaning; the crop is twice as tight as the zoom, to be another view.
///
/// Were all of them upright, half of the votes would go to one orientation, and for an image that is turned they would be eight against one:
/// on quickstart's validation pages in all eight orientations the mean then has macro-F1 0.505, below the 0.578 of `essential`. Dealt out over the symmetries
/// as here it has 0.605 (2026-11-29).
const VARIATIONS: [Variation; 7] = [
    Variation::Zoom { factor: 0.9 },
    Variation::Zoom { factor: 1.1 },
    Variation::Brightness { factor: 0.9 },
    Variation::Brightness { factor: 1.1 },
    Variation::Contrast { factor: 0.9 },
    Variation::Contrast { factor: 1.1 },
    Variation::CenterCrop { share: 0.8 },
];

impl Preset {
    /// All of them, fewest views first.
    pub const ALL: [Self; 4] = [Self::None, Self::Legacy, Self::Essential, Self::Comprehensive];

    /// The views, the image as it is first.
    #[must_use]
    pub fn views(self) -> Vec<View> {
        use Symmetry::{FlipHorizontal, FlipVertical, Identity, Rotate90, Rotate270};
        let symmetries: &[Symmetry] = match self {
            Self::None => &[Identity],
            Self::Legacy => &[Identity, Rotate90, Rotate270],
            Self::Essential => &[Identity, FlipHorizontal, FlipVertical, Rotate90, Rotate270],
            Self::Comprehensive => &Symmetry::ALL,
        };
        let variations: &[Variation] = if self == Self::Comprehensive { &VARIATIONS } else { &[] };
        let varied = symmetries[1..].iter().zip(variations);
        let varied = varied.map(|(&symmetry, &variation)| View { symmetry, variation });
        symmetries.iter().copied().map(View::from).chain(varied).collect()
    }

    /// The name in configs and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Legacy => "legacy",
            Self::Essential => "essential",
            Self::Comprehensive => "comprehensive",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name that no set of views has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a set of views")]
pub struct UnknownPreset {
    /// What was asked for.
    pub found: String,
}

impl UnknownPreset {
    /// A way out that can be typed.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(format!("choose one of {}", Preset::ALL.map(|preset| format!("`{preset}`")).join(", ")))
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|preset| preset.name() == name);
        known.ok_or_else(|| UnknownPreset { found: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use trainer::Normalization;

    use super::*;

    #[test]
    fn presets_have_one_three_five_and_fifteen_views_and_start_with_the_image_itself() {
        assert_eq!(Preset::ALL.map(|preset| preset.views().len()), [1, 3, 5, 15]);
        for preset in Preset::ALL {
            assert_eq!(preset.views()[0], View::IDENTITY);
        }
    }

    #[test]
    fn larger_presets_hold_the_smaller_ones() {
        for pair in Preset::ALL.windows(2) {
            let larger = pair[1].views();
            assert!(pair[0].views().iter().all(|view| larger.contains(view)), "{} in {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn no_orientation_has_more_than_two_votes_of_fifteen() {
        let views = Preset::Comprehensive.views();
        for symmetry in Symmetry::ALL {
            let votes = views.iter().filter(|view| view.symmetry == symmetry).count();
            assert_eq!(votes, if symmetry == Symmetry::Identity { 1 } else { 2 }, "{symmetry}");
        }
    }

    #[test]
    fn no_two_views_of_a_preset_show_the_same_image_or_have_the_same_name() {
        let normalization = Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] };
        let light: Vec<f32> = (0..3 * 8 * 8).map(|place| (place * 37 % 101) as f32 / 101.0).collect();
        let image = Tensor::<4>::from_data(TensorData::new(light, [1, 3, 8, 8]), &Device::flex());
        for preset in Preset::ALL {
            let seen: Vec<(String, Vec<f32>)> = preset
                .views()
                .into_iter()
                .map(|view| {
                    let shown = view.apply(image.clone(), &normalization);
                    assert_eq!(shown.dims(), [1, 3, 8, 8], "{view}");
                    (view.to_string(), shown.into_data().iter::<f32>().collect())
                })
                .collect();
            for (index, (name, pixels)) in seen.iter().enumerate() {
                for (other_name, other_pixels) in &seen[..index] {
                    assert!(name != other_name && pixels != other_pixels, "{name} and {other_name} of {preset}");
                }
            }
        }
    }

    #[test]
    fn names_are_read_back_and_others_are_refused_with_the_known_ones() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
        }
        let error = "Essential ".parse::<Preset>().unwrap_err();
        assert_eq!(error.to_string(), "`Essential ` is not a set of views");
        assert_eq!(error.hint().unwrap(), "choose one of `none`, `legacy`, `essential`, `comprehensive`");
    }
}
