//! What a single value may be: read off a JSON schema, said in words, and checked.

use std::fmt;
use std::str::FromStr;

use inference::View;
use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

use super::values::{DeviceRequest, MemorySize};

/// The values that a key takes. Its `Display` completes "must be ...".
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Flag,
    Whole(Range),
    Number(Range),
    /// Two numbers in a list, with the names of the two.
    Pair(Range, String),
    /// Any number of the other kind, in a list.
    List(Box<Kind>),
    /// One of some words or numbers.
    Choice(Vec<Choice>),
    /// A word such as `auto`, or the other kind.
    WordOr(String, Box<Kind>),
    Text,
    Path,
    Device,
    MemorySize,
    View,
    /// A schema that this file cannot read; a test keeps it out of the table.
    Unknown,
}

/// One of the words of a choice, with its meaning where the types give one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) name: String,
    pub(crate) meaning: Option<String>,
}

impl Choice {
    /// A number in quotes is text, and no choice that is a number.
    fn is(&self, value: &Yaml) -> bool {
        self.name == plain(value) && self.name.parse::<f64>().is_ok() == value.is_number()
    }
}

/// Bounds of a number; infinite where there is none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Range {
    minimum: f64,
    above: f64,
    maximum: f64,
    below: f64,
}

impl Kind {
    /// The kind, and whether `null` is allowed beside it.
    pub(crate) fn from_schema(schema: &Json) -> (Self, bool) {
        let is_null = |schema: &Json| schema["type"] == "null";
        if let Some(branches) = schema["anyOf"].as_array() {
            let accepts_null = branches.iter().any(is_null);
            let others: Vec<&Json> = branches.iter().filter(|branch| !is_null(branch)).collect();
            return match others[..] {
                [word, other] if word["const"].is_string() => {
                    let word = word["const"].as_str().unwrap_or_default().to_owned();
                    (Self::WordOr(word, Box::new(Self::from_schema(other).0)), accepts_null)
                }
                [only] => (Self::from_schema(only).0, accepts_null),
                _ => (Self::Unknown, accepts_null),
            };
        }
        let types = match &schema["type"] {
            Json::Array(types) => types.clone(),
            one => vec![one.clone()],
        };
        let accepts_null = types.iter().any(|name| name == "null");
        let name = types.iter().find_map(|name| name.as_str().filter(|name| *name != "null"));
        (Self::from_type_name(name.unwrap_or_default(), schema), accepts_null)
    }

    fn from_type_name(name: &str, schema: &Json) -> Self {
        if let Some(choices) = choices(schema) {
            return Self::Choice(choices);
        }
        match (name, schema["format"].as_str()) {
            ("boolean", _) => Self::Flag,
            ("integer", _) => Self::Whole(Range::from_schema(schema)),
            ("number", _) => Self::Number(Range::from_schema(schema)),
            ("array", _) if schema["maxItems"] == 2 => {
                let parts = schema["x-parts"].as_str().unwrap_or("low, high");
                Self::Pair(Range::from_schema(&schema["items"]), parts.to_owned())
            }
            ("array", _) => match Self::from_schema(&schema["items"]).0 {
                Self::Unknown => Self::Unknown,
                item => Self::List(Box::new(item)),
            },
            ("string", Some("path")) => Self::Path,
            ("string", Some("device")) => Self::Device,
            ("string", Some("bytes")) => Self::MemorySize,
            ("string", Some("view")) => Self::View,
            ("string", None) => Self::Text,
            _ => Self::Unknown,
        }
    }

    /// Whether a value from a configuration is one of this kind.
    pub(crate) fn accepts(&self, value: &Yaml) -> bool {
        match self {
            Self::Flag => value.is_bool(),
            Self::Whole(range) => value.is_u64() && range.contains(value),
            Self::Number(range) => range.contains(value),
            Self::Pair(range, _) => value
                .as_sequence()
                .is_some_and(|items| items.len() == 2 && items.iter().all(|item| range.contains(item))),
            Self::List(kind) => value.as_sequence().is_some_and(|items| items.iter().all(|item| kind.accepts(item))),
            Self::Choice(choices) => choices.iter().any(|choice| choice.is(value)),
            Self::WordOr(word, kind) => value.as_str() == Some(word) || kind.accepts(value),
            Self::Text | Self::Path => value.as_str().is_some_and(|text| !text.trim().is_empty()),
            Self::Device => value.as_str().is_some_and(|text| DeviceRequest::from_str(text).is_ok()),
            Self::MemorySize => MemorySize::from_str(&plain(value)).is_ok(),
            Self::View => value.as_str().is_some_and(|text| View::from_str(text).is_ok()),
            Self::Unknown => true,
        }
    }

    /// Whether the value is text, so that `--set name=7` means the text `7`.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Path)
    }
}

/// A scalar as it is written in YAML, without quotes; empty for lists and mappings.
fn plain(value: &Yaml) -> String {
    match value {
        Yaml::String(text) => text.clone(),
        Yaml::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// The schema's choices: `enum`, or `oneOf` when the variants are documented.
fn choices(schema: &Json) -> Option<Vec<Choice>> {
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(values) = schema["enum"].as_array() {
        let choice = |value| Choice { name: text(value), meaning: None };
        return Some(values.iter().map(choice).collect());
    }
    let branches = schema["oneOf"].as_array()?;
    let choice = |branch: &Json| Choice {
        name: text(&branch["const"]),
        meaning: branch["description"].as_str().map(str::to_owned),
    };
    Some(branches.iter().map(choice).collect())
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => formatter.write_str("`true` or `false`"),
            Self::Whole(range) => write!(formatter, "a whole number{range}"),
            Self::Number(range) => write!(formatter, "a number{range}"),
            Self::Pair(range, parts) => write!(formatter, "`[{parts}]`, each a number{range}"),
            Self::List(kind) => write!(formatter, "a list `[..]` with {kind} in each place"),
            Self::Choice(choices) => formatter.write_str(&list_choices(choices)),
            Self::WordOr(word, kind) => write!(formatter, "`{word}` or {kind}"),
            Self::Text => formatter.write_str("text"),
            Self::Path => formatter.write_str("a path"),
            Self::Device => formatter.write_str("`auto`, `cpu`, `cuda` or `cuda:N`"),
            Self::MemorySize => formatter.write_str("an amount of memory such as `2GiB`"),
            Self::View => formatter.write_str("a view such as `rotate_90` or `zoom_1.1`"),
            Self::Unknown => formatter.write_str("a value"),
        }
    }
}

fn list_choices(choices: &[Choice]) -> String {
    let quoted: Vec<String> = choices.iter().map(|choice| format!("`{}`", choice.name)).collect();
    match &quoted[..] {
        [only] => only.clone(),
        [first, second] if choices[0].meaning.is_none() => format!("{first} or {second}"),
        _ => format!("one of {}", quoted.join(", ")),
    }
}

impl Range {
    fn from_schema(schema: &Json) -> Self {
        let bound = |name: &str, otherwise| schema[name].as_f64().unwrap_or(otherwise);
        Self {
            minimum: bound("minimum", f64::NEG_INFINITY),
            above: bound("exclusiveMinimum", f64::NEG_INFINITY),
            maximum: bound("maximum", f64::INFINITY),
            below: bound("exclusiveMaximum", f64::INFINITY),
        }
    }

    /// False for anything but a finite number: `.nan` and `.inf` are numbers to YAML.
    fn contains(&self, value: &Yaml) -> bool {
        value.as_f64().is_some_and(|number| {
            number.is_finite()
                && (self.minimum..=self.maximum).contains(&number)
                && number > self.above
                && number < self.below
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.minimum.is_finite() && self.maximum.is_finite() {
            return write!(formatter, " from {} to {}", self.minimum, self.maximum);
        }
        let bounds = [
            (" of at least", self.minimum),
            (" above", self.above),
            (" of at most", self.maximum),
            (" below", self.below),
        ];
        let said: Vec<String> = bounds
            .iter()
            .filter(|(_, bound)| bound.is_finite())
            .map(|(words, bound)| format!("{words} {bound}"))
            .collect();
        formatter.write_str(&said.join(" and").replace("and of", "and"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(schema: Json) -> Kind {
        Kind::from_schema(&schema).0
    }

    #[test]
    fn bounds_are_said_and_held() {
        let share = number(serde_json::json!({
            "type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 1.0
        }));
        assert_eq!(share.to_string(), "a number above 0 and below 1");
        for (text, accepted) in [("0.5", true), ("0", false), ("1", false), (".nan", false)] {
            let value: Yaml = serde_yaml::from_str(text).expect("a scalar is YAML");
            assert_eq!(share.accepts(&value), accepted, "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_neither_fractions_nor_text_nor_negative() {
        let count = number(serde_json::json!({ "type": "integer", "minimum": 0 }));
        for (text, accepted) in [("3", true), ("3.0", false), ("'3'", false), ("-3", false)] {
            let value: Yaml = serde_yaml::from_str(text).expect("a scalar is YAML");
            assert_eq!(count.accepts(&value), accepted, "{text}");
        }
    }

    #[test]
    fn infinity_is_no_number_even_without_bounds() {
        let any = number(serde_json::json!({ "type": "number" }));
        assert!(!any.accepts(&Yaml::from(f64::INFINITY)));
        assert!(any.accepts(&Yaml::from(3)));
    }
}
