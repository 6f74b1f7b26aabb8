//! `config-groups`: which parameters train, and how fast.

use trainer::ParameterGroup;

use crate::cli::ConfigArguments;
use crate::commands::config;
use crate::error::CommandError;
use crate::run::data::training_classes;
use crate::run::groups::parameter_groups;
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::ASSUMED_CLASSES;
use crate::ui;

/// Names that stand for a group.
const NAMES_SHOWN: usize = 2;

/// Prints a table of the parameter groups of a configuration.
pub(crate) fn print(arguments: &ConfigArguments) -> Result<(), CommandError> {
    let user = config::load(&arguments.config, &arguments.overrides()?)?;
    let resolved = ResolvedConfig::new(user, &arguments.config)?;
    let architecture = resolved.architecture()?;
    let known = training_classes(&resolved);
    if known.is_none() {
        let data = resolved.config.data.train.display();
        ui::note(format_args!("note: no data at `{data}`: the head is that of {ASSUMED_CLASSES} classes"));
    }
    let classes = known.unwrap_or(ASSUMED_CLASSES);
    let groups = parameter_groups(&resolved, &architecture, classes)?.groups();
    let train = &resolved.config.train;
    let head = format!(
        "{}, {classes} classes, optimizer {}, learning rate {}",
        resolved.config.model.name,
        train.optimizer.as_str(),
        train.highest_learning_rate()
    );
    let decay = train.weight_decay.unwrap_or(0.0);
    let mut lines = vec![head, String::new()];
    lines.push(columns(["tensors", "parameters", "lr scale", "weight decay"], "names"));
    lines.extend(groups.iter().map(|group| line(group, decay)));
    lines.push(total(&groups));
    ui::out(lines.join("\n"))
}

fn columns(numbers: [&str; 4], names: &str) -> String {
    let [tensors, parameters, scale, decay] = numbers;
    format!("{tensors:>7} {parameters:>12} {scale:>10} {decay:>13}  {names}").trim_end().to_owned()
}

fn line(group: &ParameterGroup, weight_decay: f64) -> String {
    let tensors = group.names.len().to_string();
    let decay = if group.is_decayed { weight_decay } else { 0.0 };
    let [scale, decay] = match group.is_frozen {
        true => ["frozen".to_owned(), "-".to_owned()],
        // Six digits are more than a scale needs to be told from its neighbours.
        false => [format!("{:.6}", group.learning_rate_scale), decay.to_string()],
    };
    let mut names = group.names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if group.names.len() > NAMES_SHOWN {
        names.push_str(&format!(" and {} more", group.names.len() - NAMES_SHOWN));
    }
    columns([&tensors, &group.parameters.to_string(), &scale, &decay], &names)
}

fn total(groups: &[ParameterGroup]) -> String {
    let sum = |frozen| {
        let groups = groups.iter().filter(|group| group.is_frozen == frozen);
        groups.map(|group| group.parameters).sum::<usize>()
    };
    let (frozen, trained) = (sum(true), sum(false));
    format!("\n{trained} of {} parameters train, {frozen} are frozen", frozen + trained)
}
