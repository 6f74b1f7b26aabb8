//! Settings from the command line, put over those of the file before anything is checked.

use serde_yaml::{Mapping, Value};

use super::check;
use super::error::{ConfigError, Place, Problem};
use super::keys::KeyTable;

/// One setting given by a flag, such as `--set train.epochs=3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    path: String,
    value: String,
    written: String,
}

impl Override {
    /// Takes `train.epochs=3` apart. The value is YAML: `3`, `auto`, `[0.5, 1.0]`, or nothing for
    /// `null`.
    ///
    /// # Errors
    /// When there is no `=`, or nothing before it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (path, value) = text.split_once('=').unwrap_or((text, ""));
        let path = path.trim();
        if path.is_empty() || !text.contains('=') {
            return Err(ConfigError::OverrideShape { text: text.to_owned() });
        }
        Ok(Self::from_flag(path, value.trim(), format!("--set {text}")))
    }

    /// A flag that stands for one key, as `--device cpu` does for `device`; `written` is the flag
    /// as the user gave it.
    #[must_use]
    pub fn from_flag(path: &str, value: &str, written: String) -> Self {
        Self { path: path.to_owned(), value: value.to_owned(), written }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// Puts the value into the tree, and makes the section when the file has none.
    pub(crate) fn apply(&self, tree: &mut Mapping, keys: &KeyTable) -> Result<(), ConfigError> {
        let value = self.yaml_value(keys)?;
        let names: Vec<&str> = self.path.split('.').collect();
        let (name, sections) = names.split_last().expect("`split` gives at least one part");
        let mut mapping = tree;
        for section in sections {
            let inner = mapping.entry((*section).into()).or_insert(Value::Null);
            if inner.is_null() {
                *inner = Mapping::new().into();
            }
            match inner.as_mapping_mut() {
                Some(inner) => mapping = inner,
                // The file has a plain value where a section belongs; the check will say so.
                None => return Ok(()),
            }
        }
        mapping.insert((*name).into(), value);
        Ok(())
    }

    /// The value as the key takes it: `name=7` means the text `7`.
    pub(crate) fn yaml_value(&self, keys: &KeyTable) -> Result<Value, ConfigError> {
        let Some(key) = keys.key(&self.path) else {
            return Err(self.refuse_path(keys));
        };
        let value: Value = serde_yaml::from_str(&self.value)
            .map_err(|reason| ConfigError::OverrideNotYaml { written: self.written.clone(), reason })?;
        let is_scalar = value.is_number() || value.is_bool();
        match key.kind.is_text() && is_scalar {
            true => Ok(self.value.as_str().into()),
            false => Ok(value),
        }
    }

    fn refuse_path(&self, keys: &KeyTable) -> ConfigError {
        let written = self.written.clone();
        match keys.section(&self.path) {
            Some(section) => ConfigError::OverrideOfSection {
                written,
                section: section.path.clone(),
                example: section.keys[0].path.clone(),
            },
            None => {
                let names: Vec<String> = self.path.split('.').map(str::to_owned).collect();
                let problem: Problem = check::unknown_key(&names, Place::Flag(written), keys);
                ConfigError::Settings { path: "--set".into(), problems: vec![problem] }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_needs_a_key_and_an_equals_sign() {
        for text in ["train.epochs", "=3", " = 3", ""] {
            assert!(Override::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_first_equals_sign_separates() {
        let given = Override::parse("data.train=a=b").expect("valid");
        assert_eq!((given.path(), given.value.as_str()), ("data.train", "a=b"));
    }
}
