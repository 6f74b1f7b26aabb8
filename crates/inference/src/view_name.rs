//! Views by name, as configurations list them.

use std::str::FromStr;

use crate::{Preset, Symmetry, Variation, View};

/// Beyond this a factor makes nothing of an image that a class could be told by.
const LARGEST_FACTOR: f32 = 10.0;

/// A name that no view has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a view")]
pub struct UnknownView {
    /// What was asked for.
    pub found: String,
}

impl UnknownView {
    /// A way out that can be typed.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let symmetries = Symmetry::ALL.map(|symmetry| format!("`{symmetry}`")).join(", ");
        let others = "`zoom_F`, `brightness_F` and `contrast_F` with a factor such as 1.1, `center_crop_S` with a share such as 0.8";
        Some(format!("views are {symmetries}; {others}; and both, as in `rotate_90+zoom_1.1`"))
    }
}

impl View {
    /// Names that a written one is likely to have been meant for: those of the presets, and each of their parts.
    pub fn common_names() -> impl Iterator<Item = String> {
        let views = Preset::Comprehensive.views().into_iter();
        views.flat_map(|view| [view, view.symmetry.into(), view.variation.into()]).map(|view| view.to_string())
    }
}

/// Reads what [`View`]'s `Display` writes: `rotate_90`, `zoom_1.1`, `rotate_90+zoom_1.1`. Factors are above 0 and at most 10, shares at most 1.
impl FromStr for View {
    type Err = UnknownView;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let read = match name.split_once('+') {
            Some((moved, varied)) => symmetry(moved).zip(variation(varied)),
            None => match symmetry(name) {
                Some(symmetry) => Some((symmetry, Variation::None)),
                None => Some(Symmetry::Identity).zip(variation(name)),
            },
        };
        let (symmetry, variation) = read.ok_or_else(|| UnknownView { found: name.to_owned() })?;
        Ok(Self { symmetry, variation })
    }
}

fn symmetry(name: &str) -> Option<Symmetry> {
    Symmetry::ALL.into_iter().find(|symmetry| symmetry.to_string() == name)
}

fn variation(name: &str) -> Option<Variation> {
    let (kind, number) = name.rsplit_once('_')?;
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f32 = number.parse().ok().filter(|_| is_plain)?;
    let largest = if kind == "center_crop" { 1.0 } else { LARGEST_FACTOR };
    match kind {
        _ if number <= 0.0 || number > largest => None,
        "zoom" => Some(Variation::Zoom { factor: number }),
        "center_crop" => Some(Variation::CenterCrop { share: number }),
        "brightness" => Some(Variation::Brightness { factor: number }),
        "contrast" => Some(Variation::Contrast { factor: number }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_is_read_back_from_its_name() {
        let others = [
            Variation::Zoom { factor: 0.75 },
            Variation::CenterCrop { share: 1.0 },
            Variation::Contrast { factor: 10.0 },
        ];
        let others = others.map(View::from);
        for view in Preset::Comprehensive.views().into_iter().chain(others) {
            assert_eq!(view.to_string().parse(), Ok(view));
        }
    }

    #[test]
    fn other_names_are_refused_with_the_forms_there_are() {
        let wrong = [
            "",
            "zoom",
            "zoom_",
            "zoom_0",
            "zoom_-1",
            "zoom_nan",
            "zoom_inf",
            "zoom_1e1",
            "zoom_11",
            "center_crop_1.1",
            "rotate_45",
            "Identity",
            "zoom_1.1 ",
            "_1",
        ];
        for name in wrong {
            let error = name.parse::<View>().unwrap_err();
            assert_eq!(error.to_string(), format!("`{name}` is not a view"));
            assert!(error.hint().unwrap().contains("`rotate_90`"), "{error:?}");
        }
    }
}
