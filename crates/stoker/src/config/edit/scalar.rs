//! A value as it is written into a configuration.

use serde_yaml::Value;

/// A value on one line: all that an [`Edit`](super::Edit) can set.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `null`: the key is there and says nothing.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Whole(u64),
    /// A number with a fraction.
    Number(f64),
    /// Words, in quotes where YAML would take them for something else.
    Text(String),
    /// Some values on one line, as in `[0.5, 1.0]`.
    List(Vec<Scalar>),
}

impl Scalar {
    /// The value in YAML, on one line. A number follows the notation of the one that it replaces.
    pub(super) fn render(&self, replaced: &str) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => show_number(*number, replaced.contains(['e', 'E'])),
            Self::Text(text) if is_plain(text) => text.clone(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.render("")).collect();
                format!("[{}]", items.join(", "))
            }
            // What JSON puts in double quotes, YAML reads the same.
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        }
    }
}

impl Scalar {
    /// The value of a setting. No key takes a mapping; what stands for it here is refused by the reader, as a mapping would be.
    pub(super) fn from_yaml(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Flag(*flag),
            Value::Number(number) => match number.as_u64() {
                Some(whole) => Self::Whole(whole),
                None => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Text(text.clone()),
            Value::Sequence(items) => Self::List(items.iter().map(Self::from_yaml).collect()),
            Value::Mapping(_) | Value::Tagged(_) => Self::List(Vec::new()),
        }
    }
}

/// Below this a number is easier to read with an exponent: 1.5e-4.
const SMALL: f64 = 1.0e-3;

/// All digits, so that reading gives the same number. YAML 1.1, which Python reads, takes `1e-4` for text: a point must be in it.
fn show_number(number: f64, prefer_exponent: bool) -> String {
    if !number.is_finite() {
        return if number.is_nan() { ".nan" } else { ".inf" }.to_owned();
    }
    if !prefer_exponent && (number == 0.0 || (SMALL..1.0e6).contains(&number.abs())) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, power)) if !digits.contains('.') => format!("{digits}.0e{}", signed(power)),
        Some((digits, power)) => format!("{digits}e{}", signed(power)),
        None => text,
    }
}

/// YAML 1.1 wants a sign in every exponent.
fn signed(power: &str) -> String {
    if power.starts_with('-') { power.to_owned() } else { format!("+{power}") }
}

/// Words that YAML 1.1 takes for `true` and `false`, though YAML 1.2 does not.
const OLD_FLAGS: [&str; 6] = ["yes", "no", "on", "off", "y", "n"];

/// Whether a text means itself without quotes, also between braces.
fn is_plain(text: &str) -> bool {
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-'));
    let reads_as_text = serde_yaml::from_str::<Value>(text).is_ok_and(|value| value == text);
    starts_plain && is_word && reads_as_text && !OLD_FLAGS.contains(&text.to_lowercase().as_str())
}

impl From<bool> for Scalar {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u64> for Scalar {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Scalar {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<f64> for Scalar {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Scalar {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_notation_of_those_that_they_replace() {
        for (number, replaced, written) in [
            (0.002, "0.001", "0.002"),
            (0.002, "1.5e-3", "2.0e-3"),
            (0.0003, "0.001", "3.0e-4"),
            (1.0, "", "1.0"),
            (0.0, "", "0.0"),
            (1.25e7, "", "1.25e+7"),
        ] {
            assert_eq!(Scalar::Number(number).render(replaced), written);
        }
    }

    #[test]
    fn every_value_reads_back_as_itself() {
        for number in [1.0e-3 * 2.0_f64.sqrt(), 1.0 / 3.0, 5.0e-324, f64::MAX, -0.25] {
            let read: Value = serde_yaml::from_str(&Scalar::from(number).render("")).expect("a number is YAML");
            assert_eq!(read.as_f64(), Some(number));
        }
        for text in
            ["auto", "cuda:1", "7", "null", "yes", "a: b", "a, b", "# no", "", "it's \"so\"", "a\nb", "\u{e9}", "2GiB"]
        {
            let read: Value = serde_yaml::from_str(&Scalar::from(text).render("")).expect("text is YAML");
            assert_eq!(read.as_str(), Some(text));
        }
    }

    #[test]
    fn words_go_without_quotes_and_what_reads_as_something_else_does_not() {
        for (text, written) in
            [("multiple_of_4", "multiple_of_4"), ("7", "\"7\""), ("off", "\"off\""), ("2GiB", "2GiB")]
        {
            assert_eq!(Scalar::from(text).render(""), written);
        }
    }
}
