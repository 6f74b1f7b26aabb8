//! Line and column of a setting in the text that it came from.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_yaml::Location;

/// A place in a text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// What is looked for at a path of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
}

/// Finds a key or its value; `None` when it is not in the text, or hidden behind an alias.
pub(crate) fn find_position(text: &str, keys: &[String], part: Part) -> Option<Position> {
    let location = find_location(text, keys, part)?;
    Some(Position { line: location.line(), column: location.column() })
}

/// Like [`find_position`], in bytes from the start of the text. A value that nothing was written for stands where it could begin; an
/// aliased one where its anchor is.
pub(crate) fn find_offset(text: &str, keys: &[String], part: Part) -> Option<usize> {
    find_location(text, keys, part).map(|location| location.index())
}

/// The YAML reader tells positions in errors only, so this reads the text once more and fails on
/// purpose at the place in question.
fn find_location(text: &str, keys: &[String], part: Part) -> Option<Location> {
    let seeker = Seeker { keys, part };
    let stop = seeker.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    let location = stop.location()?;
    stop.to_string().contains(FOUND).then_some(location)
}

/// Tells the error on purpose from a real one.
const FOUND: &str = "found the place that was looked for";

/// Walks down a path of keys.
struct Seeker<'k> {
    keys: &'k [String],
    part: Part,
}

impl<'de> DeserializeSeed<'de> for Seeker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.keys {
            [] => deserializer.deserialize_any(Here),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Seeker<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((name, deeper)) = self.keys.split_first() else { return Ok(()) };
        let stop = deeper.is_empty() && self.part == Part::Key;
        while let Some(is_wanted) = map.next_key_seed(KeySeeker { name, stop })? {
            match is_wanted {
                true => map.next_value_seed(Seeker { keys: deeper, part: self.part })?,
                false => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }
}

/// Compares one key; fails on purpose when it is the one and the key itself is looked for.
struct KeySeeker<'k> {
    name: &'k str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for KeySeeker<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeeker<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.name, self.stop) {
            (true, true) => Err(E::custom(FOUND)),
            (is_wanted, _) => Ok(is_wanted),
        }
    }
}

/// Accepts nothing: each `visit_*` of the trait fails, with this text.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(FOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name: x\n# comment\ntrain:\n  epochs:   3\n  betas: [1, 2]\n1: one\ndata:\n";

    fn place(path: &str, part: Part) -> Option<(usize, usize)> {
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        find_position(TEXT, &keys, part).map(|position| (position.line, position.column))
    }

    #[test]
    fn keys_and_values_are_found_where_they_stand() {
        assert_eq!(place("name", Part::Key), Some((1, 1)));
        assert_eq!(place("name", Part::Value), Some((1, 7)));
        assert_eq!(place("train", Part::Key), Some((3, 1)));
        assert_eq!(place("train.epochs", Part::Key), Some((4, 3)));
        assert_eq!(place("train.epochs", Part::Value), Some((4, 13)));
        assert_eq!(place("train.betas", Part::Value), Some((5, 10)));
        assert_eq!(place("1", Part::Key), Some((6, 1)));
    }

    #[test]
    fn offsets_count_bytes() {
        let offset = |keys: &[&str], part| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            find_offset("a: \u{e9}\nb:  # empty\nc: &x 1\nd: *x\n", &keys, part)
        };
        assert_eq!(offset(&[], Part::Value), Some(0));
        assert_eq!(offset(&["b"], Part::Key), Some(6));
        assert_eq!(offset(&["b"], Part::Value), Some(8));
        assert_eq!(offset(&["c"], Part::Value), Some(21));
        assert_eq!(offset(&["d"], Part::Value), Some(21));
    }

    #[test]
    fn what_is_not_there_has_no_position() {
        assert_eq!(place("nothing", Part::Key), None);
        assert_eq!(place("name.deeper", Part::Key), None);
        assert_eq!(place("train.nothing", Part::Value), None);
    }
}
