//! Settings that are right by themselves and wrong beside each other.

use inference::Column;

use super::error::{Problem, ProblemKind};
use super::position::Part;
use super::predict::Tta;
use super::preprocessing::AutoOr;
use super::source::Source;
use super::user::UserConfig;
use super::values::AutoCount;

/// Every rule between settings that does not hold.
pub(crate) fn broken_rules(config: &UserConfig, source: &Source) -> Vec<Problem> {
    let broken = [
        name_is_a_folder_name(config),
        ends_in_order("augment.scale", config.augment.scale),
        ends_in_order("augment.ratio", config.augment.ratio),
        ends_in_order("augment.erase_area", config.augment.erase_area),
        ends_in_order("augment.erase_ratio", config.augment.erase_ratio),
        ends_in_order("augment.noise.blur_sigma", config.augment.noise.blur_sigma),
        ends_in_order("augment.noise.jpeg_quality", config.augment.noise.jpeg_quality),
        a_number_for_each_channel("model.mean", &config.model.mean, config),
        a_number_for_each_channel("model.std", &config.model.std, config),
        micro_batch_fits_in_the_effective(config),
        learning_rate_falls(config),
        validation_is_not_training(config),
        folds_are_what_is_validated(config),
        the_fold_is_one_of_them(config),
        views_or_a_preset(config),
        columns_are_known(config),
    ];
    broken.into_iter().flatten().map(|broken| broken.at(source)).collect()
}

/// A rule that does not hold, before its place is known.
struct Broken {
    key: &'static str,
    reason: String,
    hint: String,
}

impl Broken {
    fn at(self, source: &Source) -> Problem {
        let names: Vec<String> = self.key.split('.').map(str::to_owned).collect();
        Problem {
            key: self.key.to_owned(),
            place: source.place(&names, Part::Value),
            kind: ProblemKind::Conflict(self.reason),
            hint: self.hint,
        }
    }
}

fn name_is_a_folder_name(config: &UserConfig) -> Option<Broken> {
    let name = config.name.as_deref()?;
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_fine = name.chars().all(is_plain) && !name.starts_with('.') && name != "latest";
    (!is_fine).then(|| Broken {
        key: "name",
        reason: format!("`{name}` cannot be the name of a run folder"),
        hint: "use letters, digits, `-`, `_` and `.`, as in `name: quickstart_2`".to_owned(),
    })
}

fn ends_in_order(key: &'static str, [low, high]: [f64; 2]) -> Option<Broken> {
    (low > high).then(|| Broken {
        key,
        reason: format!("the low end {low} is above the high end {high}"),
        hint: format!("did you mean `[{high}, {low}]`?"),
    })
}

fn a_number_for_each_channel(key: &'static str, given: &AutoOr<Vec<f64>>, config: &UserConfig) -> Option<Broken> {
    let (count, channels) = (given.given()?.len(), config.model.in_channels);
    (count != channels).then(|| Broken {
        key,
        reason: format!("{count} numbers are given, but `model.in_channels` is {channels}"),
        hint: format!("give one for each channel, or set `{key}: auto`"),
    })
}

fn micro_batch_fits_in_the_effective(config: &UserConfig) -> Option<Broken> {
    let effective = config.train.effective_batch_size;
    let AutoCount::Exactly(micro) = config.train.micro_batch_size else { return None };
    (micro > effective).then(|| Broken {
        key: "train.micro_batch_size",
        reason: format!("{micro} is above `train.effective_batch_size`, which is {effective}"),
        hint: "set `train.micro_batch_size: auto`, or raise the effective batch size".to_owned(),
    })
}

fn learning_rate_falls(config: &UserConfig) -> Option<Broken> {
    let (lowest, highest) = (config.train.min_learning_rate, config.train.highest_learning_rate());
    (lowest > highest).then(|| Broken {
        key: "train.min_learning_rate",
        reason: format!("{lowest} is above `train.learning_rate`, which is {highest}"),
        hint: "set `train.min_learning_rate: 0`, or raise the learning rate".to_owned(),
    })
}

fn validation_is_not_training(config: &UserConfig) -> Option<Broken> {
    let is_same = config.data.validation.as_ref() == Some(&config.data.train);
    is_same.then(|| Broken {
        key: "data.validation",
        reason: "these are the training images, so the scores would say nothing".to_owned(),
        hint: "leave `validation` out, and `validation_share` of the training images is held out".to_owned(),
    })
}

fn folds_are_what_is_validated(config: &UserConfig) -> Option<Broken> {
    let data = &config.data;
    let other =
        [("data.validation", data.validation.is_some()), ("data.validation_share", data.validation_share.is_some())];
    let (key, _) = other.into_iter().find(|(_, is_given)| data.folds.is_some() && *is_given)?;
    Some(Broken {
        key,
        reason: "with `data.folds`, each fold is validated by the model of the others".to_owned(),
        hint: format!("leave `{key}` out, or `data.folds`"),
    })
}

fn views_or_a_preset(config: &UserConfig) -> Option<Broken> {
    let predict = &config.predict;
    (!predict.views.is_empty() && predict.tta != Tta::None).then(|| Broken {
        key: "predict.views",
        reason: "these views stand in the place of a preset, but `predict.tta` names one".to_owned(),
        hint: "leave `predict.tta` out, or `predict.views`".to_owned(),
    })
}

/// How many classes there are, which a column may ask too many of, is not known here.
fn columns_are_known(config: &UserConfig) -> Option<Broken> {
    let refused = config.predict.columns.iter().find_map(|name| name.parse::<Column>().err())?;
    Some(Broken { key: "predict.columns", reason: refused.to_string(), hint: refused.hint() })
}

fn the_fold_is_one_of_them(config: &UserConfig) -> Option<Broken> {
    let fold = config.data.fold?;
    let (reason, hint) = match config.data.folds {
        None => (format!("there is no fold {fold} without `data.folds`"), "set `data.folds: 5`".to_owned()),
        Some(folds) if fold >= folds => {
            (format!("there is no fold {fold} of {folds}"), format!("the folds are 0 to {}", folds - 1))
        }
        Some(_) => return None,
    };
    Some(Broken { key: "data.fold", reason, hint })
}
