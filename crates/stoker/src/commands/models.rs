//! `models`: what `model.name` takes.

use serde_json::{Value, json};

use crate::cli::ModelsArguments;
use crate::config::nearest_of;
use crate::error::CommandError;
use crate::registry::{Architecture, architectures};
use crate::ui;

/// Prints the registry as a table, or the part of it that a filter leaves.
pub(crate) fn print(arguments: &ModelsArguments) -> Result<(), CommandError> {
    let all = architectures();
    let shown: Vec<&Architecture> = match &arguments.filter {
        Some(filter) => all.iter().filter(|architecture| architecture.matches(filter)).collect(),
        None => all.iter().collect(),
    };
    if shown.is_empty() {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        let hint = match nearest_of(filter, all.iter().map(|architecture| architecture.name)) {
            Some(near) => format!("did you mean `{near}`? `stoker models` lists all"),
            None => "`stoker models` lists all".to_owned(),
        };
        return Err(CommandError::wrong_request(format!("no model's name has `{filter}` in it")).with_hint(hint));
    }
    if arguments.json {
        return print_json(&shown);
    }
    let width = shown.iter().map(|architecture| architecture.name.len()).max().unwrap_or(0);
    let mut lines =
        vec![format!("{:width$} {:<12} {:>12} {:>12}  aliases", "name", "family", "parameters", "image size")];
    for architecture in shown {
        let millions = architecture.parameters as f64 / 1e6;
        let line = format!(
            "{:width$} {:<12} {:>10.2} M {:>9} px  {}",
            architecture.name,
            architecture.family,
            millions,
            architecture.image_size,
            architecture.aliases.join(", ")
        );
        lines.push(line.trim_end().to_owned());
    }
    ui::out(lines.join("\n"))
}

fn print_json(shown: &[&Architecture]) -> Result<(), CommandError> {
    let entry = |architecture: &&Architecture| {
        json!({
            "name": architecture.name,
            "aliases": architecture.aliases,
            "family": architecture.family,
            "parameters": architecture.parameters,
            "image_size": architecture.image_size,
        })
    };
    let entries: Vec<Value> = shown.iter().map(entry).collect();
    ui::out(serde_json::to_string_pretty(&entries).expect("names and numbers are JSON"))
}
