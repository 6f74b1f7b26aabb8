//! Settings that another one makes pointless: they are accepted, and told.

use serde::Serialize;

use super::augment::{AugmentSection, MixSection, NoiseSection, RandAugmentSection};
use super::optimizer;
use super::train::TrainSection;
use super::user::UserConfig;
use super::values::{EraseFill, LossName, ScheduleName, WeightsMismatch};

/// Whether it is so, and the sentence that tells it.
type Told = (bool, String);

/// Every setting without effect, as sentences. What stands at its default was not asked for.
pub(crate) fn settings_without_effect(config: &UserConfig) -> Vec<String> {
    let told = [
        optimizer::settings_without_effect(&config.train),
        of_data_and_model(config),
        of_colours(config),
        of_erasing(&config.augment),
        of_noise_and_mixing(&config.augment),
        of_schedule(&config.train),
        of_loss_and_ends(&config.train),
    ];
    told.concat().into_iter().filter_map(|(is_so, sentence)| is_so.then_some(sentence)).collect()
}

fn because(key: &str, reason: &str) -> String {
    format!("`{key}` has no effect, because {reason}")
}

/// A choice as it stands in the file.
fn written(choice: impl Serialize) -> String {
    serde_yaml::to_string(&choice).expect("a choice is a word").trim_end().to_owned()
}

fn of_data_and_model(config: &UserConfig) -> Vec<Told> {
    let (data, model) = (&config.data, &config.model);
    vec![
        (
            data.validation.is_some() && data.validation_share.is_some(),
            because("data.validation_share", "`data.validation` is given"),
        ),
        (
            model.weights_mismatch != WeightsMismatch::Refuse && model.weights.is_none(),
            "`model.weights_mismatch` has no effect without `model.weights`".to_owned(),
        ),
    ]
}

fn of_colours(config: &UserConfig) -> Vec<Told> {
    let is_grey = config.model.in_channels == 1;
    let on_grey = |key: &str| format!("`{key}` has no effect on grey images (`model.in_channels: 1`)");
    vec![
        (is_grey && config.augment.saturation > 0.0, on_grey("augment.saturation")),
        (is_grey && config.augment.hue > 0.0, on_grey("augment.hue")),
    ]
}

fn of_erasing(augment: &AugmentSection) -> Vec<Told> {
    let (default, is_off) = (AugmentSection::default(), augment.erase == 0.0);
    let off = |key: &str| because(key, "`augment.erase` is 0");
    vec![
        (is_off && augment.erase_fill != EraseFill::default(), off("augment.erase_fill")),
        (is_off && augment.erase_area != default.erase_area, off("augment.erase_area")),
        (is_off && augment.erase_ratio != default.erase_ratio, off("augment.erase_ratio")),
    ]
}

fn of_noise_and_mixing(augment: &AugmentSection) -> Vec<Told> {
    let AugmentSection { rand_augment, noise, mix, .. } = augment;
    let default = NoiseSection::default();
    vec![
        (
            noise.blur == 0.0 && noise.blur_sigma != default.blur_sigma,
            because("augment.noise.blur_sigma", "`augment.noise.blur` is 0"),
        ),
        (
            noise.jpeg == 0.0 && noise.jpeg_quality != default.jpeg_quality,
            because("augment.noise.jpeg_quality", "`augment.noise.jpeg` is 0"),
        ),
        (
            rand_augment.num_ops == 0 && *rand_augment != RandAugmentSection::default(),
            because("augment.rand_augment", "`augment.rand_augment.num_ops` is 0"),
        ),
        (
            mix.mixup == 0.0 && mix.cutmix == 0.0 && *mix != MixSection::default(),
            because("augment.mix", "`augment.mix.mixup` and `augment.mix.cutmix` are 0"),
        ),
    ]
}

fn of_schedule(train: &TrainSection) -> Vec<Told> {
    use ScheduleName::{Constant, OneCycle, Plateau, Step};
    let (default, schedule) = (TrainSection::default(), train.schedule);
    let is = |names: &[ScheduleName]| names.contains(&schedule);
    let idle = |key: &str| format!("`train.{key}` has no effect with `train.schedule: {}`", written(schedule));
    vec![
        (train.decay_epochs != default.decay_epochs && !is(&[Step]), idle("decay_epochs")),
        (train.decay_rate != default.decay_rate && !is(&[Step, Plateau]), idle("decay_rate")),
        (train.patience_epochs != default.patience_epochs && !is(&[Plateau]), idle("patience_epochs")),
        (train.one_cycle_rise != default.one_cycle_rise && !is(&[OneCycle]), idle("one_cycle_rise")),
        (train.warmup_epochs != default.warmup_epochs && is(&[OneCycle]), idle("warmup_epochs")),
        (train.min_learning_rate != default.min_learning_rate && is(&[OneCycle, Constant]), idle("min_learning_rate")),
        (
            train.warmup_epochs >= train.epochs as f64 && !is(&[OneCycle]),
            format!(
                "the learning rate only rises: `train.warmup_epochs` is {} of {} epochs",
                train.warmup_epochs, train.epochs
            ),
        ),
        (
            is(&[Step]) && train.decay_epochs >= train.epochs as f64,
            format!(
                "the learning rate never falls: `train.decay_epochs` is {} of {} epochs",
                train.decay_epochs, train.epochs
            ),
        ),
    ]
}

fn of_loss_and_ends(train: &TrainSection) -> Vec<Told> {
    let default = TrainSection::default();
    vec![
        (
            train.focal_gamma != default.focal_gamma && train.loss != LossName::Focal,
            format!("`train.focal_gamma` has no effect with `train.loss: {}`", written(train.loss)),
        ),
        (
            train.early_stopping.min_delta != 0.0 && train.early_stopping.patience.is_none(),
            "`train.early_stopping.min_delta` has no effect without `train.early_stopping.patience`".to_owned(),
        ),
        (train.average_best && train.keep_best == 1, because("train.average_best", "`train.keep_best` is 1")),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Override;

    fn told(settings: &[&str]) -> Vec<String> {
        let given: Vec<Override> = settings.iter().map(|text| Override::parse(text).unwrap()).collect();
        UserConfig::from_text(Path::new("x.yaml"), "data: {train: images}", &given).unwrap().warnings()
    }

    /// A setting, why it has no effect, and what gives it one.
    const IDLE: [(&str, &str, &str); 19] = [
        ("train.decay_epochs=3", "with `train.schedule: cosine`", "train.schedule=step"),
        ("train.decay_rate=0.2", "with `train.schedule: cosine`", "train.schedule=plateau"),
        ("train.patience_epochs=3", "with `train.schedule: cosine`", "train.schedule=plateau"),
        ("train.one_cycle_rise=0.2", "with `train.schedule: cosine`", "train.schedule=one_cycle"),
        ("train.focal_gamma=3", "with `train.loss: cross_entropy`", "train.loss=focal"),
        (
            "train.early_stopping.min_delta=0.1",
            "without `train.early_stopping.patience`",
            "train.early_stopping.patience=3",
        ),
        ("train.average_best=true", "because `train.keep_best` is 1", "train.keep_best=2"),
        ("train.momentum=0.8", "with `train.optimizer: adamw`", "train.optimizer=sgd"),
        ("train.muon_step_length=match_adamw", "with `train.optimizer: adamw`", "train.optimizer=muon"),
        ("augment.erase_area=[0.1, 0.2]", "because `augment.erase` is 0", "augment.erase=0.5"),
        ("augment.erase_ratio=[0.5, 2]", "because `augment.erase` is 0", "augment.erase=0.5"),
        ("augment.erase_fill=pixel", "because `augment.erase` is 0", "augment.erase=0.5"),
        ("augment.noise.blur_sigma=[0.1, 1]", "because `augment.noise.blur` is 0", "augment.noise.blur=0.5"),
        ("augment.noise.jpeg_quality=[50, 90]", "because `augment.noise.jpeg` is 0", "augment.noise.jpeg=0.5"),
        (
            "augment.rand_augment.magnitude=5",
            "because `augment.rand_augment.num_ops` is 0",
            "augment.rand_augment.num_ops=2",
        ),
        (
            "augment.mix.probability=0.5",
            "because `augment.mix.mixup` and `augment.mix.cutmix` are 0",
            "augment.mix.mixup=0.2",
        ),
        ("model.weights_mismatch=skip", "without `model.weights`", "model.weights=x.pth"),
        ("data.validation_share=0.2", "because `data.validation` is given", "data.validation=null"),
        ("augment.saturation=0.2", "on grey images (`model.in_channels: 1`)", "model.in_channels=3"),
    ];

    #[test]
    fn a_setting_without_effect_is_told_and_not_where_it_has_one() {
        for (setting, why, cure) in IDLE {
            let (key, _) = setting.split_once('=').unwrap();
            // What stands in the way of these two is no default.
            let besides = match key {
                "data.validation_share" => "data.validation=held",
                "augment.saturation" => "model.in_channels=1",
                _ => "seed=1",
            };
            let told_of = told(&[besides, setting]);
            assert_eq!(told_of.len(), 1, "{setting}: {told_of:?}");
            let named = if key == "augment.rand_augment.magnitude" || key == "augment.mix.probability" {
                key.rsplit_once('.').unwrap().0
            } else {
                key
            };
            let sentence = &told_of[0];
            assert!(sentence.starts_with(&format!("`{named}` has no effect")) && sentence.contains(why), "{sentence}");
            assert_eq!(told(&[besides, setting, cure]), [] as [String; 0], "{setting} beside {cure}");
        }
    }

    #[test]
    fn one_cycle_has_no_other_warm_up_and_no_lowest_rate() {
        let told_of = told(&["train.schedule=one_cycle", "train.warmup_epochs=2", "train.min_learning_rate=1e-5"]);
        let expected = ["warmup_epochs", "min_learning_rate"]
            .map(|key| format!("`train.{key}` has no effect with `train.schedule: one_cycle`"));
        assert_eq!(told_of, expected);
        assert_eq!(told(&["train.schedule=constant", "train.min_learning_rate=1e-5"]).len(), 1);
        assert_eq!(told(&["train.schedule=constant", "train.warmup_epochs=2"]), [] as [String; 0]);
    }

    #[test]
    fn what_is_written_back_in_full_is_told_nothing_about() {
        let config = UserConfig::from_text(Path::new("x.yaml"), "data: {train: images}", &[]).unwrap();
        let again = UserConfig::from_text(Path::new("x.yaml"), &config.to_yaml(), &[]).unwrap();
        assert_eq!(again.warnings(), [] as [String; 0]);
    }
}
