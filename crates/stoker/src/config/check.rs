//! Keys and values, one by one, against the table of what is known.

use inference::View;
use serde_yaml::{Mapping, Value};

use super::error::{Place, Problem, ProblemKind};
use super::keys::{Key, KeyTable, Section, last_part, parent};
use super::kind::Kind;
use super::nearest::{nearest_key, nearest_of};
use super::position::Part;
use super::predict::hint_for_view;
use super::source::Source;

/// `train:` with nothing below it means the same as no `train` at all.
pub(crate) fn drop_empty_sections(tree: &mut Mapping, keys: &KeyTable) {
    tree.retain(|name, value| !(value.is_null() && keys.section(name.as_str().unwrap_or_default()).is_some()));
}

/// Every unknown key, every value of the wrong kind, and every required key that is not there.
pub(crate) fn wrong_settings(tree: &Mapping, keys: &KeyTable, source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    Walk { keys, source, problems: &mut problems }.mapping(tree, &mut Vec::new());
    for key in keys.keys().filter(|key| key.default.is_none()) {
        let is_there = lookup(tree, &key.path).is_some_and(|value| !value.is_null());
        let section_is_wrong = problems.iter().any(|problem| key.path.starts_with(&format!("{}.", problem.key)));
        if !is_there && !section_is_wrong {
            problems.retain(|problem| problem.key != key.path);
            problems.push(missing_key(key, source));
        }
    }
    problems
}

/// A key that no type has, with the known one that the user may have meant.
pub(crate) fn unknown_key(names: &[String], place: Place, keys: &KeyTable) -> Problem {
    let path = names.join(".");
    let section = keys.section(&names[..names.len() - 1].join("."));
    let hint = match (nearest_key(&path, keys), section) {
        (Some(known), _) if known == path => {
            format!("nest it: `{}:`", path.replace('.', ":` and, indented below it, `"))
        }
        (Some(known), _) => format!("did you mean `{known}`?"),
        (None, Some(section)) => list_keys(section, keys),
        (None, None) => "`stoker config-reference` explains every key".to_owned(),
    };
    Problem { key: path, place, kind: ProblemKind::UnknownKey, hint }
}

/// Goes through a configuration from top to bottom.
struct Walk<'a> {
    keys: &'a KeyTable,
    source: &'a Source<'a>,
    problems: &'a mut Vec<Problem>,
}

impl Walk<'_> {
    fn mapping(&mut self, mapping: &Mapping, names: &mut Vec<String>) {
        for (name, value) in mapping {
            names.push(show(name));
            self.setting(value, names);
            names.pop();
        }
    }

    fn setting(&mut self, value: &Value, names: &mut Vec<String>) {
        // A key with a dot in it is one name, not a path; and the top level has no name, yet is no key.
        let path = names.join(".");
        let is_path = names.iter().all(|name| !name.is_empty() && !name.contains('.'));
        let (key, section) = (self.keys.key(&path), self.keys.section(&path));
        match (key, section, value) {
            (None, Some(_), Value::Mapping(inner)) if is_path => self.mapping(inner, names),
            (None, Some(section), _) if is_path => {
                let problem = not_a_section(section, value, self.place(names, Part::Value));
                self.problems.push(problem);
            }
            (Some(key), _, _) if is_path => self.value(key, value, names),
            _ => {
                let place = self.place(names, Part::Key);
                self.problems.push(unknown_key(names, place, self.keys));
            }
        }
    }

    fn value(&mut self, key: &Key, value: &Value, names: &[String]) {
        if (value.is_null() && key.accepts_null) || key.kind.accepts(value) {
            return;
        }
        // An empty value stands nowhere; its key does.
        let part = if value.is_null() { Part::Key } else { Part::Value };
        let kind = ProblemKind::WrongValue { value: show_wrong(value), expected: key.expected() };
        let hint = hint_for_value(key, value);
        self.problems.push(Problem { key: key.path.clone(), place: self.place(names, part), kind, hint });
    }

    fn place(&self, names: &[String], part: Part) -> Place {
        self.source.place(names, part)
    }
}

fn missing_key(key: &Key, source: &Source) -> Problem {
    let place = Place::File { path: source.path.to_owned(), position: None };
    let hint = format!("add it, or pass `--set {}=PATH`, to name the {}", key.path, in_sentence(&key.meaning));
    Problem { key: key.path.clone(), place, kind: ProblemKind::MissingKey, hint }
}

/// A sentence as the end of another one.
fn in_sentence(sentence: &str) -> String {
    let mut letters = sentence.trim_end_matches('.').chars();
    letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
}

fn not_a_section(section: &Section, value: &Value, place: Place) -> Problem {
    let expected = format!("a section with keys such as `{}`", section.keys[0].name());
    Problem {
        key: section.path.clone(),
        place,
        kind: ProblemKind::WrongValue { value: show(value), expected },
        hint: format!("write `{}:` alone on its line, and its keys indented below it", section.path),
    }
}

fn hint_for_value(key: &Key, value: &Value) -> String {
    if let Some(meant) = without_quotes(value).filter(|meant| key.kind.accepts(meant)) {
        return format!("leave the quotes out: `{}: {}`", key.name(), show(&meant));
    }
    if let (Kind::Choice(choices), Some(text)) = (&key.kind, value.as_str()) {
        let names = choices.iter().map(|choice| choice.name.as_str());
        if let Some(near) = nearest_of(text, names) {
            return format!("did you mean `{near}`?");
        }
    }
    if let (Kind::List(kind), Some(items)) = (&key.kind, value.as_sequence())
        && **kind == Kind::View
        && let Some(unknown) = items.iter().find_map(|item| show(item).parse::<View>().err())
    {
        return hint_for_view(&unknown);
    }
    if key.kind.is_text() && (value.is_number() || value.is_bool()) {
        return format!("put it in quotes: `{}: '{}'`", key.name(), show(value));
    }
    match key.default_text() {
        None => format!("`{}` names the {}", key.name(), in_sentence(&key.meaning)),
        Some(default) if !key.accepts_null => format!("for example `{}: {default}`, the default", key.name()),
        Some(_) => match meaning_of_null(&key.meaning) {
            Some(meaning) => format!("`{}: null` means {meaning}", key.name()),
            None => format!("leave `{}` out to go without it", key.name()),
        },
    }
}

/// What a key's meaning says of `null`, as the end of a sentence: `no clipping`. What is left out is `null`, too, where that is the default.
fn meaning_of_null(meaning: &str) -> Option<String> {
    let end = [" when `null`", " when left out"].into_iter().find_map(|words| meaning.find(words));
    let end = end.or_else(|| Some(meaning.find(GIVEN)? + GIVEN.len()))?;
    let start =
        [". ", "; "].into_iter().filter_map(|before| Some(meaning[..end].rfind(before)? + before.len())).max()?;
    Some(in_sentence(meaning[start..end].trim_end_matches(',')))
}

/// What ends a clause such as `0.15 when neither this nor that is given`.
const GIVEN: &str = " is given";

/// What text would be without its quotes, where that is a number or a truth value.
fn without_quotes(value: &Value) -> Option<Value> {
    let meant: Value = serde_yaml::from_str(value.as_str()?).ok()?;
    (meant.is_number() || meant.is_bool()).then_some(meant)
}

fn list_keys(section: &Section, keys: &KeyTable) -> String {
    let is_inner = |inner: &&Section| !inner.path.is_empty() && parent(&inner.path) == section.path;
    let inner = keys.sections.iter().filter(is_inner);
    let names = section.keys.iter().map(Key::name).chain(inner.map(|inner| last_part(&inner.path)));
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let holder = match section.path.as_str() {
        "" => "the top level".to_owned(),
        path => format!("`{path}`"),
    };
    format!("{holder} has {}", quoted.join(", "))
}

fn lookup<'t>(tree: &'t Mapping, path: &str) -> Option<&'t Value> {
    let (section, name) = path.split_once('.')?;
    tree.get(section)?.as_mapping()?.get(name)
}

/// The longest value that a message repeats.
const LONGEST_SHOWN: usize = 60;

/// As [`show`], with the quotes where they are what is wrong.
fn show_wrong(value: &Value) -> String {
    match without_quotes(value) {
        Some(_) => format!("\"{}\"", show(value)),
        None => show(value),
    }
}

/// A value on one line, as it could have been written.
fn show(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Sequence(items) => {
            format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        Value::Mapping(entries) => {
            let entry = |(key, value)| format!("{}: {}", show(key), show(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Tagged(tagged) => format!("{} {}", tagged.tag, show(&tagged.value)),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
    };
    let text = text.replace(['\n', '\r', '\t'], " ");
    match text.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(path: &str, written: &str) -> String {
        let keys = KeyTable::new();
        let value: Value = serde_yaml::from_str(written).expect("a scalar is YAML");
        hint_for_value(keys.key(path).expect("there is such a key"), &value)
    }

    #[test]
    fn a_key_that_takes_null_is_told_what_that_means() {
        for (path, means) in [
            ("train.learning_rate", "`learning_rate: null` means the optimizer's default"),
            ("train.clip_norm", "`clip_norm: null` means no clipping"),
            ("train.ema_decay", "`ema_decay: null` means no average"),
            ("train.checkpoint_minutes", "`checkpoint_minutes: null` means only at the end of epochs"),
            (
                "data.validation_share",
                "`validation_share: null` means 0.15 when neither this nor `validation` is given",
            ),
            ("memory.fraction", "`fraction: null` means 0.9 on a card, all of it on the CPU"),
            ("data.folds", "leave `folds` out to go without it"),
        ] {
            assert_eq!(hint(path, "0"), means, "{path}");
        }
    }

    #[test]
    fn quotes_that_make_text_of_a_number_are_shown_and_named() {
        let three = Value::from("3");
        assert_eq!(show_wrong(&three), "\"3\"");
        assert_eq!(hint("train.epochs", "'3'"), "leave the quotes out: `epochs: 3`");
        assert_eq!(hint("train.adaptive_batch", "'true'"), "leave the quotes out: `adaptive_batch: true`");
        // Quotes are not what is wrong with these.
        assert_eq!(show_wrong(&Value::from("three")), "three");
        assert_eq!(hint("train.epochs", "'0'"), "for example `epochs: 10`, the default");
    }
}
