//! `models`: what `model.name` takes.

use crate::error::CommandError;
use crate::registry::architectures;
use crate::ui;

/// Prints the registry as a table.
pub(crate) fn print() -> Result<(), CommandError> {
    let mut lines = vec![format!("{:<20} {:<10} {:>12} {:>12}", "name", "family", "parameters", "image size")];
    for architecture in architectures() {
        let millions = architecture.parameters as f64 / 1e6;
        lines.push(format!(
            "{:<20} {:<10} {:>10.2} M {:>9} px",
            architecture.name, architecture.family, millions, architecture.image_size
        ));
    }
    ui::out(lines.join("\n"))
}
