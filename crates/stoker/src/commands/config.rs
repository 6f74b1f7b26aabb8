//! `config-check` and `config-reference`, and the loading that other commands share with them.

use std::path::Path;

use crate::cli::ConfigArguments;
use crate::config::{Override, UserConfig, reference_markdown};
use crate::error::CommandError;
use crate::run::resolved::ResolvedConfig;
use crate::ui;

/// Loads a configuration and warns about settings without effect.
pub(crate) fn load(path: &Path, overrides: &[Override]) -> Result<UserConfig, CommandError> {
    let config = UserConfig::load(path, overrides)?;
    for warning in config.warnings() {
        ui::warn(warning);
    }
    Ok(config)
}

/// Prints a configuration with every default filled in.
///
/// # Errors
/// What `train` refuses before it looks at data: wrong settings, an unknown model, and images of a size that the model cannot take.
pub(crate) fn check(arguments: &ConfigArguments) -> Result<(), CommandError> {
    let mut config = load(&arguments.config, &arguments.overrides()?)?;
    ResolvedConfig::new(config.clone(), &arguments.config)?.architecture()?;
    config.train.decide_optimizer_constants();
    ui::out(config.to_yaml().trim_end())
}

/// Prints the reference of all keys.
pub(crate) fn print_reference() -> Result<(), CommandError> {
    ui::out(reference_markdown().trim_end())
}
