//! Recipes: settings that suit each other, put below what the user wrote.

use std::path::Path;

use clap::ValueEnum;
use serde_yaml::{Mapping, Value};

use super::error::ConfigError;
use super::keys::KeyTable;
use super::overrides::Override;
use super::source::{Source, read_text};

/// A recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// EfficientNet-B0 at 224, modest augmentation, one split: `configs/train.yaml`
    Basic,
    /// ConvNeXt-Base at 384, five folds, strong augmentation, averaged weights: `configs/train_highperf.yaml`
    Highperf,
}

const BASIC: &[(&str, &str)] = &[
    ("model.name", "efficientnet_b0"),
    ("model.image_size", "224"),
    ("model.dropout", "0.2"),
    ("model.drop_path", "0.1"),
    ("augment.scale", "[0.5, 1.0]"),
    ("augment.horizontal_flip", "0.5"),
    ("augment.brightness", "0.2"),
    ("augment.contrast", "0.2"),
    ("train.epochs", "30"),
    ("train.effective_batch_size", "64"),
    ("train.learning_rate", "0.001"),
    ("train.weight_decay", "0.05"),
    ("train.warmup_epochs", "2.0"),
    ("train.label_smoothing", "0.1"),
    ("train.clip_norm", "1.0"),
];

const HIGHPERF: &[(&str, &str)] = &[
    ("data.folds", "5"),
    ("model.name", "convnext_base"),
    ("model.image_size", "384"),
    ("model.drop_path", "0.2"),
    ("augment.scale", "[0.35, 1.0]"),
    ("augment.horizontal_flip", "0.5"),
    ("augment.erase", "0.25"),
    ("augment.rand_augment.num_ops", "2"),
    ("augment.mix.mixup", "0.2"),
    ("augment.mix.cutmix", "1.0"),
    ("augment.mix.probability", "0.5"),
    ("train.epochs", "30"),
    ("train.effective_batch_size", "64"),
    ("train.learning_rate", "0.0005"),
    ("train.layer_decay", "0.9"),
    ("train.weight_decay", "0.05"),
    ("train.warmup_epochs", "3.0"),
    ("train.label_smoothing", "0.1"),
    ("train.clip_norm", "1.0"),
    ("train.ema_decay", "0.9998"),
    ("train.calibrate", "true"),
    ("predict.tta", "essential"),
];

/// What says already which images are validated.
const OTHER_VALIDATION: [&str; 2] = ["data.validation", "data.validation_share"];

impl Mode {
    /// Its settings: keys, and values as YAML has them.
    #[must_use]
    pub fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Basic => BASIC,
            Self::Highperf => HIGHPERF,
        }
    }

    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Highperf => "highperf",
        }
    }

    /// Its settings for what the file at `path` and the flags put over it leave open, as flags; and in words, `train.epochs 30`.
    ///
    /// # Errors
    /// A file that cannot be read, or is no YAML, and a flag for what is no key.
    pub fn fill(self, path: &Path, given: &[Override]) -> Result<(Vec<Override>, Vec<String>), ConfigError> {
        let text = read_text(path)?;
        let mut tree = Source { path, text: &text, overrides: given }.parse()?;
        let keys = KeyTable::new();
        given.iter().try_for_each(|flag| flag.apply(&mut tree, &keys))?;
        let splits_itself = OTHER_VALIDATION.iter().any(|key| value(&tree, key).is_some_and(|value| !value.is_null()));
        let is_settled = |key: &str| value(&tree, key).is_some() || key == "data.folds" && splits_itself;
        let open = self.settings().iter().filter(|(key, _)| !is_settled(key));
        let written = format!("--mode {}", self.name());
        Ok(open
            .map(|(key, value)| (Override::from_flag(key, value, written.clone()), format!("{key} {value}")))
            .unzip())
    }
}

/// What is said of the key, `null` included; none where it is left open.
fn value<'t>(tree: &'t Mapping, key: &str) -> Option<&'t Value> {
    match key.split_once('.') {
        None => tree.get(key),
        Some((section, rest)) => value(tree.get(section)?.as_mapping()?, rest),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::config::UserConfig;

    fn shipped(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name)
    }

    #[test]
    fn a_mode_and_its_configuration_are_the_same_recipe() {
        for (mode, file) in [(Mode::Basic, "train.yaml"), (Mode::Highperf, "train_highperf.yaml")] {
            let path = shipped(file);
            let plain = tempfile::NamedTempFile::new().unwrap();
            let written = UserConfig::load(&path, &[]).unwrap();
            // What a recipe has no say in.
            let own = format!("name: {}\ndata: {{train: data/train}}\n", written.name.as_deref().unwrap());
            fs::write(plain.path(), own).unwrap();
            let (overrides, told) = mode.fill(plain.path(), &[]).unwrap();
            assert_eq!(overrides.len(), mode.settings().len());
            assert!(told.contains(&"train.epochs 30".to_owned()));
            assert_eq!(UserConfig::load(plain.path(), &overrides).unwrap(), written, "{file}");
            assert!(mode.fill(&path, &[]).unwrap().0.is_empty(), "`{file}` leaves nothing open");
        }
    }

    #[test]
    fn what_the_file_says_wins() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "data: {train: a, validation: b}\ntrain: {epochs: 3}\n").unwrap();
        let (overrides, told) = Mode::Highperf.fill(file.path(), &[]).unwrap();
        let config = UserConfig::load(file.path(), &overrides).unwrap();
        assert_eq!((config.train.epochs, config.data.folds), (3, None), "{told:?}");
        assert_eq!(config.model.name, "convnext_base");
        assert!(!told.iter().any(|told| told.starts_with("train.epochs") || told.starts_with("data.folds")));
    }

    #[test]
    fn what_the_flags_say_wins_and_is_not_told_as_the_recipes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "data: {train: a}\n").unwrap();
        let flags = |texts: &[&str]| texts.iter().map(|text| Override::parse(text).unwrap()).collect::<Vec<_>>();
        let filled = |given: &[Override]| {
            let (overrides, told) = Mode::Highperf.fill(file.path(), given).unwrap();
            let config = UserConfig::load(file.path(), &[overrides, given.to_vec()].concat()).unwrap();
            (config, told.join(", "))
        };
        let (config, told) = filled(&flags(&["data.validation_share=0.2", "train.epochs=3", "predict.tta=none"]));
        assert_eq!((config.data.folds, config.data.validation_share, config.train.epochs), (None, Some(0.2), 3));
        assert!(["data.folds", "train.epochs", "predict.tta"].iter().all(|key| !told.contains(key)), "{told}");
        let (config, told) = filled(&flags(&["data.validation_share=null"]));
        assert!(config.data.folds == Some(5) && told.contains("data.folds 5"), "no share is no split: {told}");
        assert!(Mode::Highperf.fill(file.path(), &flags(&["train.epoch=3"])).is_err());
    }
}
