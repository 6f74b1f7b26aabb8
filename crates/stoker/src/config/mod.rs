//! What the user asked for: the keys, their reading from YAML and `--set`, and their checks.
//!
//! A configuration is checked three times, from the outside in: is it YAML (`source`), are its keys
//! and values ones that the types know (`check`), do they make sense together (`rules`).
//! What a run makes of it (paths found, `auto` decided) is not decided here.

mod augment;
mod check;
mod edit;
mod error;
mod keys;
mod kind;
mod mode;
mod nearest;
mod optimizer;
mod overrides;
mod position;
mod predict;
mod preprocessing;
mod reference;
mod rules;
mod source;
mod train;
mod user;
mod values;
mod without_effect;

use std::path::Path;

pub(crate) use nearest::nearest_of;

pub use augment::{AugmentSection, MixSection, NoiseSection, RandAugmentSection};
pub use edit::{
    Edit, EditError, Obstacle, PreparedConfig, SavedConfig, Scalar, edit_text, prepare_as, prepare_in_place, save_as,
    save_in_place,
};
pub use error::{ConfigError, Place, Problem, ProblemKind};
pub use mode::Mode;
pub use overrides::Override;
pub use predict::{MergeRule, NamedView, PredictSection, Tta};
pub use preprocessing::{AutoOr, Interpolation};
pub use reference::reference_markdown;
pub(crate) use source::TEAM_SETTINGS_FILE;
pub use train::{EarlyStoppingSection, TrainSection};
pub use user::{DEFAULT_VALIDATION_SHARE, DataSection, MemorySection, ModelSection, UserConfig};
pub use values::{
    AutoCount, AutoSide, AutoWhole, Checkpointing, ClassWeights, Decode, DeviceRequest, EraseFill, Initialization,
    Kernels, LossName, MemorySize, MixMode, MuonStepLength, OnCorrupt, OptimizerName, Precision, PreferThroughput,
    Resize, Rounding, SampleData, Sampling, ScheduleName, WeightsMismatch,
};

use keys::KeyTable;
use source::Source;

impl UserConfig {
    /// Reads a configuration file, puts `--set` values over it, and checks all of it.
    ///
    /// # Errors
    /// Whatever is wrong with the file or with a flag, all wrong settings at once, each with its
    /// place.
    pub fn load(path: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let text = source::read_text(path)?;
        Self::from_text(path, &text, overrides)
    }

    /// Like [`UserConfig::load`], with the text of the file at hand; `path` is for messages.
    ///
    /// # Errors
    /// See [`UserConfig::load`].
    pub fn from_text(path: &Path, text: &str, overrides: &[Override]) -> Result<Self, ConfigError> {
        // Some editors on Windows start UTF-8 files with a mark, which the YAML reader trips over.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let keys = KeyTable::new();
        let source = Source { path, text, overrides };
        let mut tree = source.parse()?;
        for given in overrides {
            given.apply(&mut tree, &keys)?;
        }
        check::drop_empty_sections(&mut tree, &keys);
        source.all_fine(check::wrong_settings(&tree, &keys, &source))?;
        let config: Self = serde_yaml::from_value(tree.into())
            .map_err(|reason| ConfigError::Refused { path: path.to_owned(), reason })?;
        source.all_fine(rules::broken_rules(&config, &source))?;
        Ok(config)
    }

    /// Settings that have no effect beside the others, as sentences; to be printed as warnings.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        without_effect::settings_without_effect(self)
    }

    /// The whole configuration as YAML, defaults included; reading it back gives the same.
    ///
    /// # Panics
    /// When a path is not UTF-8, which no configuration that was read from YAML contains.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("text, numbers and paths from YAML are YAML again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, overrides: &[&str]) -> Result<UserConfig, ConfigError> {
        let overrides: Result<Vec<_>, _> = overrides.iter().map(|text| Override::parse(text)).collect();
        UserConfig::from_text(Path::new("x.yaml"), text, &overrides?)
    }

    const LEAST: &str = "data:\n  train: images\n";

    #[test]
    fn the_least_configuration_names_the_training_images() {
        let config = read(LEAST, &[]).expect("valid");
        assert_eq!(config.train, TrainSection::default());
        assert_eq!(config.seed, 42);
    }

    #[test]
    fn what_is_written_back_reads_the_same() {
        let overrides = ["memory.limit=2GiB", "train.ema_decay=0.999", "sample_data=document-pages"];
        let config = read(LEAST, &overrides).expect("valid");
        assert_eq!(read(&config.to_yaml(), &[]).expect("valid"), config);
    }

    #[test]
    fn sections_without_keys_keep_their_defaults() {
        let config = read("data:\n  train: images\ntrain:\n  # epochs: 3\n", &[]).expect("valid");
        assert_eq!(config.train.epochs, TrainSection::default().epochs);
    }

    #[test]
    fn overrides_win_over_the_file_and_the_last_one_wins() {
        let text = "data: {train: images}\ntrain: {epochs: 5}\n";
        let config = read(text, &["train.epochs=6", "train.epochs=7"]).expect("valid");
        assert_eq!(config.train.epochs, 7);
    }

    #[test]
    fn overrides_reach_sections_that_the_file_leaves_out() {
        let config = read(LEAST, &["augment.scale=[0.5, 0.9]", "name=7"]).expect("valid");
        assert_eq!(config.augment.scale, [0.5, 0.9]);
        assert_eq!(config.name.as_deref(), Some("7"));
    }

    #[test]
    fn an_empty_override_resets_an_optional_key() {
        let text = "data: {train: images}\ntrain: {clip_norm: 1.0}\n";
        assert_eq!(read(text, &["train.clip_norm="]).expect("valid").train.clip_norm, None);
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
        let config = read("\u{feff}data:\r\n  train: images\r\nseed: 7\r\n", &[]).expect("valid");
        assert_eq!(config.seed, 7);
    }

    #[test]
    fn the_shipped_configurations_load_without_a_warning() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs"));
        let files = source::yaml_files(folder);
        assert!(files.len() >= 2, "{files:?}");
        for file in files {
            let config = UserConfig::load(&file, &[]).unwrap_or_else(|error| panic!("{error}"));
            assert!(config.warnings().is_empty(), "{}", file.display());
        }
    }
}
