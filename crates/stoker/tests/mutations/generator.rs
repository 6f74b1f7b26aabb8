//! Configurations that were damaged by chance: the same for the same number.

use serde_yaml::{Mapping, Value};

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % count.max(1) as u64) as usize
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A damaged configuration.
pub(crate) struct Mutation {
    pub(crate) text: String,
    /// The one thing that was done, where it was to give a known key another value.
    only: Option<Given>,
}

struct Given {
    key: String,
    value: Value,
}

impl Mutation {
    /// Whether an error names what was done, by its key or by its value. True where more was done, or something else.
    pub(crate) fn is_named_in(&self, said: &str) -> bool {
        let Some(Given { key, value }) = &self.only else { return true };
        let value = value.as_str().map(str::trim).filter(|value| !value.is_empty());
        said.contains(key.as_str()) || value.is_some_and(|value| said.contains(value))
    }
}

/// Values in YAML that stand where others belong.
const VALUES: [&str; 62] = [
    "",
    "~",
    "''",
    "' '",
    "-1",
    "0",
    "1",
    "2",
    "3",
    "7",
    "33",
    "100",
    "101",
    "4096",
    "1048576",
    "-0.0",
    "0.0",
    "0.3",
    "0.5",
    "0.999",
    "1.0",
    "1.5",
    "1e-45",
    "1e-320",
    "1e38",
    "1e39",
    "1e308",
    "-1e308",
    "1e400",
    ".nan",
    ".inf",
    "-.inf",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775808",
    "-9223372036854775809",
    "0x10",
    "0b1",
    "1_000",
    "true",
    "no",
    "auto",
    "'1'",
    "'NaN'",
    "[]",
    "[0.5]",
    "[0.9, 0.1]",
    "[0.1, 0.9]",
    "[.nan, .nan]",
    "[1e-45, 1e-45]",
    "[1, 2, 3]",
    "{}",
    "{a: 1}",
    "{train: 1}",
    "größe",
    "'🦀'",
    "'\\0'",
    "\"a\\nb\"",
    "2026-01-01",
    "../..",
    "swin_tiny_patch4_window7_224",
    "!tag 5",
];

/// Damages a configuration in one to three places. `keys` are all that there are, as paths.
pub(crate) fn mutate(original: &str, keys: &[String], chance: &mut Chance) -> Mutation {
    if chance.below(12) == 0 {
        return Mutation { text: damage_text(original, chance), only: None };
    }
    let mut tree: Mapping = serde_yaml::from_str(original).expect("the shipped configurations are YAML");
    let times = 1 + chance.below(3);
    let mut only = None;
    for _ in 0..times {
        only = damage_tree(&mut tree, keys, chance);
    }
    let text = serde_yaml::to_string(&tree).expect("what was YAML is YAML again");
    Mutation { text, only: only.filter(|_| times == 1) }
}

/// One change of the tree; what was given, where that is another value of a known key.
fn damage_tree(tree: &mut Mapping, keys: &[String], chance: &mut Chance) -> Option<Given> {
    let key = chance.one_of(keys).clone();
    let value: Value = serde_yaml::from_str(VALUES[chance.below(VALUES.len())]).unwrap_or(Value::Null);
    match chance.below(10) {
        0 => drop(take(tree, &key)),
        1 => drop(tree.remove(key.split('.').next().unwrap_or_default())),
        2 => swap_sections(tree, chance),
        3 => drop(tree.insert(key.split('.').next().unwrap_or_default().into(), value)),
        4 => put(tree, &misspelt(&key, chance), value),
        5 => move_value(tree, &key, chance.one_of::<String>(keys)),
        6 => wrap(tree, &key),
        _ => {
            put(tree, &key, value.clone());
            return Some(Given { key, value });
        }
    }
    None
}

fn swap_sections(tree: &mut Mapping, chance: &mut Chance) {
    let names: Vec<Value> = tree.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let (one, other) = (chance.one_of(&names).clone(), chance.one_of(&names).clone());
    let (first, second) = (tree[&one].clone(), tree[&other].clone());
    tree.insert(one, second);
    tree.insert(other, first);
}

fn misspelt(key: &str, chance: &mut Chance) -> String {
    let letters: Vec<char> = key.chars().collect();
    let at = chance.below(letters.len());
    match chance.below(4) {
        0 => letters.iter().enumerate().filter(|(place, _)| *place != at).map(|(_, letter)| letter).collect(),
        1 => key.replace('_', "-"),
        2 => format!("{key}ß"),
        _ => key.to_uppercase(),
    }
}

fn move_value(tree: &mut Mapping, from: &str, to: &str) {
    if let Some(value) = take(tree, from) {
        put(tree, to, value);
    }
}

fn wrap(tree: &mut Mapping, key: &str) {
    if let Some(value) = take(tree, key) {
        put(tree, key, Value::Sequence(vec![value]));
    }
}

/// Sets a key, and makes the sections above it where there are none.
pub(crate) fn put(tree: &mut Mapping, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(tree.insert(path.into(), value)),
        Some((section, rest)) => {
            let inner = tree.entry(section.into()).or_insert_with(|| Mapping::new().into());
            if !inner.is_mapping() {
                *inner = Mapping::new().into();
            }
            put(inner.as_mapping_mut().expect("made one just now"), rest, value);
        }
    }
}

fn take(tree: &mut Mapping, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => tree.remove(path),
        Some((section, rest)) => take(tree.get_mut(section)?.as_mapping_mut()?, rest),
    }
}

/// One change of the letters, after which it may be YAML or not.
fn damage_text(text: &str, chance: &mut Chance) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let at = chance.below(lines.len());
    let without = |drop: bool| -> Vec<&str> {
        let kept = lines.iter().enumerate().filter(|(line, _)| !drop || *line != at);
        kept.map(|(_, line)| *line).collect()
    };
    match chance.below(5) {
        0 => without(true).join("\n"),
        1 => [&lines[..at], &[lines[at]], &lines[at..]].concat().join("\n"),
        2 => [&lines[..at], &["\t? : - &x *y \u{7f}"], &lines[at..]].concat().join("\n"),
        3 => text.chars().take(chance.below(text.chars().count())).collect(),
        _ => text.replacen(':', chance.one_of::<&str>(&["", " ", ": :", "=", "：", ":\u{a0}"]), 1 + chance.below(9)),
    }
}

/// Every key with a value in a configuration's YAML, as paths.
pub(crate) fn paths(tree: &Mapping) -> Vec<String> {
    let name = |key: &Value| key.as_str().expect("keys are names").to_owned();
    let below = |(key, value): (&Value, &Value)| match value {
        Value::Mapping(inner) => paths(inner).into_iter().map(|path| format!("{}.{path}", name(key))).collect(),
        _ => vec![name(key)],
    };
    tree.iter().flat_map(below).collect()
}
