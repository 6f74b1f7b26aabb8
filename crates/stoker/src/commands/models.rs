//! `models`: what `model.name` takes.

use serde::Serialize;
use vision_nn::Preprocessing;

use crate::cli::ModelsArguments;
use crate::config::nearest_of;
use crate::error::CommandError;
use crate::registry::{Architecture, architectures};
use crate::ui;

/// What is told of an architecture.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    aliases: &'static [&'static str],
    family: &'static str,
    /// With RGB input and 1000 classes.
    parameters: usize,
    /// For one image of the default size.
    macs: u64,
    /// Side, pixels.
    image_size: usize,
    /// Of each channel, as the published weights want it.
    mean: [f64; 3],
    /// Of each channel.
    std: [f64; 3],
    interpolation: &'static str,
    /// Of the shorter side, for a centre crop.
    crop_share: f64,
}

/// Prints the registry, or the part of it that a filter leaves, as a table or as JSON.
pub(crate) fn print(arguments: &ModelsArguments) -> Result<(), CommandError> {
    let shown = matching(arguments.filter.as_deref())?;
    if arguments.json {
        let listed: Vec<Listed> = shown.iter().map(Listed::of).collect();
        return ui::out(serde_json::to_string_pretty(&listed).expect("it has string keys and plain values"));
    }
    ui::out(table(&shown))
}

/// The architectures that a filter leaves; without one, all.
///
/// # Errors
/// When it leaves none.
pub(super) fn matching(filter: Option<&str>) -> Result<Vec<Architecture>, CommandError> {
    let mut all = architectures();
    let Some(filter) = filter else { return Ok(all) };
    if all.iter().any(|architecture| architecture.matches(filter)) {
        all.retain(|architecture| architecture.matches(filter));
        return Ok(all);
    }
    let hint = match nearest_of(filter, all.iter().map(|architecture| architecture.name)) {
        Some(near) => format!("did you mean `{near}`? `stoker models` lists all"),
        None => "`stoker models` lists all".to_owned(),
    };
    Err(CommandError::wrong_request(format!("no model's name has `{filter}` in it")).with_hint(hint))
}

impl Listed {
    fn of(architecture: &Architecture) -> Self {
        let Architecture { name, aliases, family, parameters, image_size, preprocessing, .. } = *architecture;
        let Preprocessing { mean, std, interpolation, crop_share } = preprocessing;
        let (macs, interpolation) = (architecture.macs(image_size), interpolation.as_str());
        Self { name, aliases, family, parameters, macs, image_size, mean, std, interpolation, crop_share }
    }
}

fn table(shown: &[Architecture]) -> String {
    let width = shown.iter().map(|architecture| architecture.name.len()).max().unwrap_or(0);
    let head =
        format!("{:width$} {:<12} {:>12} {:>12} {:>12}  aliases", "name", "family", "parameters", "MACs", "image size");
    let line = |architecture: &Architecture| {
        let line = format!(
            "{:width$} {:<12} {:>10.2} M {:>10.2} G {:>9} px  {}",
            architecture.name,
            architecture.family,
            architecture.parameters as f64 / 1e6,
            architecture.macs(architecture.image_size) as f64 / 1e9,
            architecture.image_size,
            architecture.aliases.join(", ")
        );
        line.trim_end().to_owned()
    };
    std::iter::once(head).chain(shown.iter().map(line)).collect::<Vec<_>>().join("\n")
}
