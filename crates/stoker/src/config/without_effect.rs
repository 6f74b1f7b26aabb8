//! Settings that another one makes pointless: they are accepted, and told.

use serde::Serialize;

use super::augment::{AugmentSection, MixSection, NoiseSection, RandAugmentSection};
use super::optimizer;
use super::train::TrainSection;
use super::user::UserConfig;
use super::values::{ClassWeights, EraseFill, LossName, Resize, Sampling, ScheduleName, WeightsMismatch};

/// Whether it is so, and the sentence that tells it.
type Told = (bool, String);

/// Every setting without effect, as sentences. What stands at its default was not asked for.
pub(crate) fn settings_without_effect(config: &UserConfig) -> Vec<String> {
    let told = [
        optimizer::settings_without_effect(&config.train),
        of_data_and_model(config),
        of_colours(config),
        of_erasing(&config.augment),
        of_noise(&config.augment),
        of_mixing(config),
        of_schedule(&config.train),
        of_loss_and_ends(&config.train),
        of_balance(config),
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
        (
            config.augment.crop_share.given().is_some() && config.augment.resize != Resize::CenterCrop,
            format!("`augment.crop_share` has no effect with `augment.resize: {}`", written(config.augment.resize)),
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

fn of_noise(augment: &AugmentSection) -> Vec<Told> {
    let AugmentSection { rand_augment, noise, .. } = augment;
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
    ]
}

/// One reason at most for the whole section; where it has an effect, what of it has none.
fn of_mixing(config: &UserConfig) -> Vec<Told> {
    let (mix, default) = (&config.augment.mix, MixSection::default());
    let (has_mixup, has_cutmix) = (mix.mixup > 0.0, mix.cutmix > 0.0);
    let is_asked = has_mixup || has_cutmix;
    let never = mix.probability == 0.0;
    // An image that is alone in its step has no partner.
    let is_alone = config.train.effective_batch_size == 1;
    let is_switched = mix.switch_probability != default.switch_probability;
    let switch = |other: &str| because("augment.mix.switch_probability", &format!("`augment.mix.{other}` is 0"));
    let mixes = is_asked && !never && !is_alone;
    vec![
        (!is_asked && *mix != default, because("augment.mix", "`augment.mix.mixup` and `augment.mix.cutmix` are 0")),
        (is_asked && never, because("augment.mix", "`augment.mix.probability` is 0")),
        (is_asked && !never && is_alone, because("augment.mix", "`train.effective_batch_size` is 1")),
        (mixes && is_switched && !has_cutmix, switch("cutmix")),
        (mixes && is_switched && !has_mixup, switch("mixup")),
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
        (
            is(&[Plateau]) && train.patience_epochs >= train.epochs,
            format!(
                "the learning rate never falls: `train.patience_epochs` is {} of {} epochs",
                train.patience_epochs, train.epochs
            ),
        ),
    ]
}

fn of_loss_and_ends(train: &TrainSection) -> Vec<Told> {
    let default = TrainSection::default();
    let stops_after = train.early_stopping.patience;
    vec![
        (
            train.focal_gamma != default.focal_gamma && train.loss != LossName::Focal,
            format!("`train.focal_gamma` has no effect with `train.loss: {}`", written(train.loss)),
        ),
        (
            train.early_stopping.min_delta != 0.0 && train.early_stopping.patience.is_none(),
            "`train.early_stopping.min_delta` has no effect without `train.early_stopping.patience`".to_owned(),
        ),
        (
            stops_after.is_some_and(|patience| patience >= train.epochs),
            format!(
                "training never stops early: `train.early_stopping.patience` is {} of {} epochs",
                stops_after.unwrap_or_default(),
                train.epochs
            ),
        ),
        (train.average_best && train.keep_best == 1, because("train.average_best", "`train.keep_best` is 1")),
    ]
}

/// Either of the two makes classes count the same; together they turn the balance round.
fn of_balance(config: &UserConfig) -> Vec<Told> {
    let is_weighted = matches!(config.train.class_weights, Some(ClassWeights::Balanced(_)));
    vec![(
        config.data.sampling == Sampling::Balanced && is_weighted,
        "rare classes are made up for twice: `data.sampling: balanced` shows them as often as others, and \
         `train.class_weights: balanced` has them count more besides"
            .to_owned(),
    )]
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
    const IDLE: [(&str, &str, &str); 23] = [
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
        ("augment.mix.probability=0", "because `augment.mix.probability` is 0", "augment.mix.probability=0.5"),
        ("train.effective_batch_size=1", "because `train.effective_batch_size` is 1", "train.effective_batch_size=2"),
        ("augment.mix.switch_probability=0.3", "because `augment.mix.cutmix` is 0", "augment.mix.cutmix=1"),
        ("model.weights_mismatch=skip", "without `model.weights`", "model.weights=x.pth"),
        ("data.validation_share=0.2", "because `data.validation` is given", "data.validation=null"),
        ("augment.crop_share=0.9", "with `augment.resize: squash`", "augment.resize=center_crop"),
        ("augment.saturation=0.2", "on grey images (`model.in_channels: 1`)", "model.in_channels=3"),
    ];

    #[test]
    fn a_setting_without_effect_is_told_and_not_where_it_has_one() {
        for (setting, why, cure) in IDLE {
            let (key, _) = setting.split_once('=').unwrap();
            // What stands in the way of these is no default.
            let besides = match setting {
                "data.validation_share=0.2" => "data.validation=held",
                "augment.saturation=0.2" => "model.in_channels=1",
                "augment.mix.probability=0" | "train.effective_batch_size=1" | "augment.mix.switch_probability=0.3" => {
                    "augment.mix.mixup=0.2"
                }
                // The patience of a plateau is 10 epochs, and the cure is to be one.
                "train.decay_rate=0.2" => "train.epochs=20",
                _ => "seed=1",
            };
            let told_of = told(&[besides, setting]);
            assert_eq!(told_of.len(), 1, "{setting}: {told_of:?}");
            let named = match key {
                "augment.rand_augment.magnitude" => "augment.rand_augment",
                "augment.mix.probability" | "train.effective_batch_size" => "augment.mix",
                key => key,
            };
            let sentence = &told_of[0];
            assert!(sentence.starts_with(&format!("`{named}` has no effect")) && sentence.contains(why), "{sentence}");
            assert_eq!(told(&[besides, setting, cure]), [] as [String; 0], "{setting} beside {cure}");
        }
    }

    #[test]
    fn cutmix_alone_has_nothing_to_switch_to_either() {
        let told_of = told(&["augment.mix.cutmix=1", "augment.mix.switch_probability=0.3"]);
        let expected = "`augment.mix.switch_probability` has no effect, because `augment.mix.mixup` is 0";
        assert_eq!(told_of, [expected]);
        let never = told(&["augment.mix.cutmix=1", "augment.mix.switch_probability=0.3", "augment.mix.probability=0"]);
        assert_eq!(never, ["`augment.mix` has no effect, because `augment.mix.probability` is 0"], "once is enough");
    }

    #[test]
    fn patience_as_long_as_the_run_is_told() {
        let stopping = "training never stops early: `train.early_stopping.patience` is 4 of 4 epochs";
        assert_eq!(told(&["train.epochs=4", "train.early_stopping.patience=4"]), [stopping]);
        assert_eq!(told(&["train.epochs=4", "train.early_stopping.patience=3"]), [] as [String; 0]);
        let plateau = ["train.schedule=plateau", "train.patience_epochs=4"];
        let falling = "the learning rate never falls: `train.patience_epochs` is 4 of 4 epochs";
        assert_eq!(told(&[plateau[0], plateau[1], "train.epochs=4"]), [falling]);
        assert_eq!(told(&[plateau[0], plateau[1], "train.epochs=5"]), [] as [String; 0]);
    }

    #[test]
    fn classes_that_are_balanced_twice_are_told() {
        let told_of = told(&["data.sampling=balanced", "train.class_weights=balanced"]);
        assert_eq!(told_of.len(), 1, "{told_of:?}");
        assert!(told_of[0].starts_with("rare classes are made up for twice: `data.sampling: balanced`"), "{told_of:?}");
        for one in ["data.sampling=balanced", "train.class_weights=balanced"] {
            assert_eq!(told(&[one]), [] as [String; 0], "{one}");
        }
        assert_eq!(told(&["data.sampling=balanced", "train.class_weights=[1, 2]"]), [] as [String; 0], "asked for");
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
