//! How a run's predictions are made.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use inference::{Merge, Preset, UnknownView, View};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::nearest::nearest_of;
use super::values::{AutoCount, Precision};

/// What `predict` does when its flags say nothing else.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PredictSection {
    /// Test-time augmentation: the views of each image that are merged.
    pub tta: Tta,
    /// Views by name in the place of a preset, such as `[identity, flip_horizontal, rotate_90, zoom_1.1]`: the symmetries of the square (`identity`,
    /// `rotate_90`, `rotate_180`, `rotate_270`, `flip_horizontal`, `flip_vertical`, `transpose`, `anti_transpose`), and `zoom_F`,
    /// `brightness_F`, `contrast_F` and `center_crop_S` with a factor or a share, or both: `rotate_90+zoom_1.1`. One that is listed twice counts twice.
    pub views: Vec<NamedView>,
    /// How the views' answers become one.
    pub merge: MergeRule,
    /// Images computed at once, each view of an image counted as one. `auto` takes what the memory allows.
    pub batch_size: AutoCount,
    /// Format of feature maps, matrix products and dense convolutions. `auto` goes by the device.
    pub precision: Precision,
    /// Columns of the table: `file`, `class`, `index` (of the class, from 0), `label` (where it is known), `confidence`, `entropy` (in nats),
    /// `probabilities` (a column for each class), `top3` (or another number) and `error`. An empty list takes `file`, `class`,
    /// `probabilities` and `error`.
    pub columns: Vec<String>,
}

/// Test-time augmentation: the views of each image that are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Tta {
    /// the image as it is
    #[default]
    None,
    /// 3 views: rotations
    Legacy,
    /// 5 views
    Essential,
    /// 15 views
    Comprehensive,
    /// the preset that does best on validation images, timed on the device at hand
    Auto,
}

impl Tta {
    /// The preset; none for `auto`.
    pub(crate) fn preset(self) -> Option<Preset> {
        match self {
            Self::None => Some(Preset::None),
            Self::Legacy => Some(Preset::Legacy),
            Self::Essential => Some(Preset::Essential),
            Self::Comprehensive => Some(Preset::Comprehensive),
            Self::Auto => None,
        }
    }
}

impl From<Preset> for Tta {
    fn from(preset: Preset) -> Self {
        match preset {
            Preset::None => Self::None,
            Preset::Legacy => Self::Legacy,
            Preset::Essential => Self::Essential,
            Preset::Comprehensive => Self::Comprehensive,
        }
    }
}

/// How the views' answers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum MergeRule {
    /// mean of the probabilities
    #[default]
    Mean,
    /// softmax of the mean of the logits, which is `geometric` by another name
    Logits,
    /// geometric mean of the probabilities, made to sum to 1
    Geometric,
    /// each class's highest probability, made to sum to 1
    Max,
    /// mean of the probabilities with the weights that `stoker calibrate --merge weighted` learned
    Weighted,
}

impl MergeRule {
    /// The rule; none for the one whose weights stand in a file.
    pub(crate) fn without_weights(self) -> Option<Merge> {
        match self {
            Self::Mean => Some(Merge::Mean),
            Self::Logits => Some(Merge::Logits),
            Self::Geometric => Some(Merge::Geometric),
            Self::Max => Some(Merge::Max),
            Self::Weighted => None,
        }
    }
}

/// A view as it is written: by its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NamedView(pub View);

/// What to write in the place of a name that no view has.
pub(crate) fn hint_for_view(error: &UnknownView) -> String {
    let known: Vec<String> = View::common_names().collect();
    match nearest_of(&error.found, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => error.hint().unwrap_or_default(),
    }
}

impl FromStr for NamedView {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let refused = |error: UnknownView| format!("{error}: {}", hint_for_view(&error));
        name.parse().map(Self).map_err(refused)
    }
}

impl fmt::Display for NamedView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for NamedView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NamedView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for NamedView {
    fn schema_name() -> Cow<'static, str> {
        "View".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "view" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_written_as_it_is_read_and_a_wrong_one_has_its_nearest() {
        let views: Vec<NamedView> = serde_yaml::from_str("[identity, zoom_1.1]").unwrap();
        assert_eq!(serde_yaml::to_string(&views).unwrap(), "- identity\n- zoom_1.1\n");
        let hint = |name: &str| name.parse::<NamedView>().unwrap_err();
        assert_eq!(hint("rotate90"), "`rotate90` is not a view: did you mean `rotate_90`?");
        assert_eq!(hint("flip_horisontal"), "`flip_horisontal` is not a view: did you mean `flip_horizontal`?");
        assert!(hint("sepia").contains("views are `identity`"), "{}", hint("sepia"));
    }

    #[test]
    fn presets_and_their_names_go_both_ways() {
        for preset in Preset::ALL {
            assert_eq!(Tta::from(preset).preset(), Some(preset));
        }
        assert_eq!(Tta::Auto.preset(), None);
    }
}
