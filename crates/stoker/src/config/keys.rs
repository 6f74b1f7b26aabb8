//! The table of all keys, read off the schema of [`UserConfig`]: what `config-reference` prints and
//! what a configuration is checked against.

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use super::UserConfig;
use super::kind::Kind;

/// Every section and key that a configuration may have, in the order of the types.
#[derive(Debug)]
pub(crate) struct KeyTable {
    /// The top level first (with an empty path), then one for each section.
    pub(crate) sections: Vec<Section>,
}

/// One mapping of the configuration.
#[derive(Debug)]
pub(crate) struct Section {
    /// `train`; empty for the top level.
    pub(crate) path: String,
    pub(crate) meaning: String,
    pub(crate) keys: Vec<Key>,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// `train.epochs`.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) accepts_null: bool,
    /// `None` for a key that must be given.
    pub(crate) default: Option<Json>,
    pub(crate) meaning: String,
}

impl KeyTable {
    /// Reads the table off the types.
    pub(crate) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
        });
        let schema = settings.into_generator().into_root_schema_for::<UserConfig>();
        let mut sections = Vec::new();
        collect_section("", &schema.to_value(), &mut sections);
        Self { sections }
    }

    pub(crate) fn key(&self, path: &str) -> Option<&Key> {
        self.keys().find(|key| key.path == path)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.sections.iter().flat_map(|section| &section.keys)
    }

    pub(crate) fn section(&self, path: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.path == path)
    }
}

impl Key {
    /// What a value must be, as half a sentence: "a whole number of at least 1, or `null`".
    pub(crate) fn expected(&self) -> String {
        match self.accepts_null {
            true => format!("{}, or `null`", self.kind),
            false => self.kind.to_string(),
        }
    }

    /// The default as it is written in YAML; `None` for a key that must be given.
    pub(crate) fn default_text(&self) -> Option<String> {
        self.default.as_ref().map(show)
    }

    /// `epochs` of `train.epochs`.
    pub(crate) fn name(&self) -> &str {
        last_part(&self.path)
    }
}

/// `epochs` of `train.epochs`.
pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// `augment` of `augment.mix`, and nothing of `augment`.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// `train` and `epochs` make `train.epochs`; the top level has no name.
pub(crate) fn join(section: &str, name: &str) -> String {
    match section {
        "" => name.to_owned(),
        section => format!("{section}.{name}"),
    }
}

fn collect_section(path: &str, schema: &Json, sections: &mut Vec<Section>) {
    let index = sections.len();
    sections.push(Section { path: path.to_owned(), meaning: meaning_of(schema), keys: Vec::new() });
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = join(path, name);
        if property.get("properties").is_some() {
            collect_section(&path, property, sections);
            continue;
        }
        let is_required = required.iter().any(|required| required == name);
        let (kind, accepts_null) = Kind::from_schema(property);
        let default = property.get("default").cloned().unwrap_or(Json::Null);
        let default = (!is_required).then_some(default);
        let meaning = meaning_of(property);
        sections[index].keys.push(Key { path, kind, accepts_null, default, meaning });
    }
}

/// Text without quotes; numbers keep the form that JSON gives them.
fn show(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A doc comment is wrapped to the width of the source; its line ends mean nothing.
fn meaning_of(schema: &Json) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_meaning_a_kind_and_a_default_or_is_required() {
        let table = KeyTable::new();
        assert_eq!(table.sections.len(), 11);
        for section in &table.sections {
            assert!(!section.meaning.is_empty(), "{}", section.path);
        }
        for key in table.keys() {
            assert!(!key.meaning.is_empty(), "{}", key.path);
            assert!(key.kind != Kind::Unknown, "{}", key.path);
            let default_is_null = key.default == Some(Json::Null);
            assert!(key.accepts_null || !default_is_null, "{}", key.path);
        }
    }

    #[test]
    fn only_the_training_images_must_be_given() {
        let table = KeyTable::new();
        let required: Vec<&str> =
            table.keys().filter(|key| key.default.is_none()).map(|key| key.path.as_str()).collect();
        assert_eq!(required, ["data.train"]);
    }

    #[test]
    fn ranges_come_from_the_types() {
        let table = KeyTable::new();
        let expected = |path: &str| table.key(path).map(Key::expected).unwrap_or_default();
        assert_eq!(expected("train.epochs"), "a whole number from 1 to 100000");
        assert_eq!(expected("train.clip_norm"), "a number above 0, or `null`");
        assert_eq!(expected("data.workers"), "`auto` or a whole number from 1 to 65536");
        assert_eq!(expected("model.image_size"), "`auto` or a whole number from 32 to 4096");
        assert_eq!(expected("data.on_corrupt"), "one of `skip`, `fail`");
        assert_eq!(expected("sample_data"), "`document-pages`, or `null`");
        assert_eq!(expected("model.in_channels"), "`1` or `3`");
        assert_eq!(expected("model.freeze"), "a list `[..]` with text in each place");
        assert_eq!(expected("model.mean"), "`auto` or a list `[..]` with a number from 0 to 1 in each place");
        assert_eq!(expected("model.std"), "`auto` or a list `[..]` with a number from 0.001 to 1 in each place");
        assert_eq!(expected("augment.crop_share"), "`auto` or a number above 0 and at most 1");
        let weights = "`balanced` or a list `[..]` with a number above 0 in each place, or `null`";
        assert_eq!(expected("train.class_weights"), weights);
        assert_eq!(expected("train.early_stopping.patience"), "a whole number from 1 to 100000, or `null`");
        assert_eq!(expected("augment.scale"), "`[low, high]`, each a number above 0 and at most 1");
    }
}
