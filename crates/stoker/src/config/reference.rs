//! The reference of all keys, as Markdown.

use std::fmt::Write as _;

use clap::ValueEnum as _;

use super::keys::{Key, KeyTable, Section};
use super::kind::Kind;
use super::mode::Mode;

const OPENING: &str = "\
# Configuration

<!-- Made by `stoker config-reference`; the text comes from the types in crates/stoker/src/config/user.rs. -->

A configuration is a YAML file, given with `--config FILE`. Only `data.train` must be in it. `--set KEY=VALUE`, as often
as needed, puts a value over the file's: `--set train.epochs=3 --set 'augment.scale=[0.5, 1.0]'`. An unknown key is an
error. `stoker config-check --config FILE` prints a configuration with every default filled in.
";

const RECIPES: &str = "
## Recipes

`train --mode NAME` puts a recipe's settings below the configuration: what the file or a flag (`--set`, `--fold`) says wins, and what the recipe
does set is printed when it acts. A configuration that says what is validated (`data.validation` or `data.validation_share`) gets no folds from a
recipe. `configs/train.yaml` and `configs/train_highperf.yaml` are the same settings as files.
";

/// A table for each section: key, type, default, meaning.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = OPENING.to_owned();
    for section in &KeyTable::new().sections {
        write_section(&mut page, section);
    }
    page + &recipes()
}

/// What `--mode` puts below a configuration.
fn recipes() -> String {
    let mut text = RECIPES.to_owned();
    for mode in Mode::value_variants() {
        let rows: String = mode.settings().iter().map(|(key, value)| format!("| `{key}` | `{value}` |\n")).collect();
        // Writing to a string cannot fail.
        let _ = write!(text, "\n`--mode {}`:\n\n| key | value |\n| --- | --- |\n{rows}", mode.name());
    }
    text
}

fn write_section(page: &mut String, section: &Section) {
    let (title, meaning) = match section.path.as_str() {
        "" => ("Top level".to_owned(), "The run as a whole."),
        path => (format!("`{path}`"), section.meaning.as_str()),
    };
    let rows: String = section.keys.iter().map(row).collect();
    let head = "| key | type | default | meaning |\n| --- | --- | --- | --- |\n";
    // Writing to a string cannot fail.
    let _ = write!(page, "\n## {title}\n\n{meaning}\n\n{head}{rows}");
}

fn row(key: &Key) -> String {
    let default = key.default_text().map_or_else(|| "required".to_owned(), |text| format!("`{text}`"));
    let meaning = format!("{}{}", key.meaning, list_choices(&key.kind));
    let cells = [format!("`{}`", key.path), key.expected(), default, meaning];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

/// "`skip`: leave it out; `fail`: stop", when the types say what the choices mean.
fn list_choices(kind: &Kind) -> String {
    let Kind::Choice(choices) = kind else { return String::new() };
    let explained: Vec<String> = choices
        .iter()
        .filter_map(|choice| {
            let meaning = choice.meaning.as_ref()?;
            Some(format!("`{}`: {meaning}", choice.name))
        })
        .collect();
    match explained.is_empty() {
        true => String::new(),
        false => format!(" {}.", explained.join("; ")),
    }
}
