//! How images become numbers: what `auto` means beside the weights that a run starts from.

use std::fmt::Debug;
use std::path::Path;

use checkpoint::{ModelCard, read_card};
use serde::Deserialize;

use crate::config::{AutoOr, Interpolation, Resize, UserConfig};
use crate::error::CommandError;
use crate::run::checks::known_architecture;

/// What one place says of how images are brought to a model.
struct Source {
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    interpolation: Option<Interpolation>,
    crop_share: Option<f64>,
    /// Why this place is asked, for the head of the resolved configuration.
    reason: String,
}

/// Sets what is open, to what belongs to the starting weights: to what the run had that they are of, to what timm's `config.json` beside them says, to
/// what the model was published with. Without weights it is the same for all models.
///
/// # Errors
/// An unknown model that is to start from weights.
pub(crate) fn decide(config: &mut UserConfig, choices: &mut Vec<String>) -> Result<(), CommandError> {
    if is_open(config) {
        let sources = match &config.model.weights {
            None => vec![Source::without_weights("the default without `model.weights`")],
            Some(path) => sources_of_weights(path, &config.model.name)?,
        };
        set_open(config, &sources, choices);
    }
    Ok(())
}

/// Sets what is open in the configuration of a run, which is one of before there were settings for it: all had the same.
pub(crate) fn decide_as_before(config: &mut UserConfig) {
    set_open(config, &[Source::without_weights("")], &mut Vec::new());
}

fn is_open(config: &UserConfig) -> bool {
    let (model, augment) = (&config.model, &config.augment);
    let is_crop_open = augment.resize == Resize::CenterCrop && augment.crop_share.given().is_none();
    let is_color_open = model.mean.given().is_none() || model.std.given().is_none();
    is_color_open || is_crop_open || augment.interpolation == Interpolation::Auto
}

/// The share of a centre crop stays open where nothing is cropped.
fn set_open(config: &mut UserConfig, sources: &[Source], choices: &mut Vec<String>) {
    let (model, augment) = (&mut config.model, &mut config.augment);
    let channels = model.in_channels;
    set("model.mean", &mut model.mean, sources, choices, |source| Some(for_channels(source.mean.as_ref()?, channels)));
    set("model.std", &mut model.std, sources, choices, |source| Some(for_channels(source.std.as_ref()?, channels)));
    if augment.interpolation == Interpolation::Auto {
        let (interpolation, reason) = first(sources, |source| source.interpolation);
        choices.push(format!("augment.interpolation {}: {reason}", interpolation.as_str()));
        augment.interpolation = interpolation;
    }
    if augment.resize == Resize::CenterCrop {
        set("augment.crop_share", &mut augment.crop_share, sources, choices, |source| source.crop_share);
    }
}

/// Sets one setting if it is open, and notes why so.
fn set<T: Debug>(
    key: &str,
    setting: &mut AutoOr<T>,
    sources: &[Source],
    choices: &mut Vec<String>,
    of: impl Fn(&Source) -> Option<T>,
) {
    if setting.given().is_none() {
        let (value, reason) = first(sources, of);
        choices.push(format!("{key} {value:?}: {reason}"));
        *setting = AutoOr::Given(value);
    }
}

/// What the first source says that says anything, and why it is asked.
fn first<T>(sources: &[Source], of: impl Fn(&Source) -> Option<T>) -> (T, &str) {
    let said = sources.iter().find_map(|source| Some((of(source)?, source.reason.as_str())));
    said.expect("the last source says everything")
}

/// The values of so many channels: where there are others, each has the mean of all.
fn for_channels(values: &[f64], channels: usize) -> Vec<f64> {
    if values.len() == channels {
        return values.to_vec();
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    // Published values have three decimals or so: their mean needs no rounding error of the sum.
    vec![(mean * 1e6).round() / 1e6; channels]
}

/// In the order in which they are asked; the last, the registry, says everything.
fn sources_of_weights(path: &Path, model: &str) -> Result<Vec<Source>, CommandError> {
    let architecture = known_architecture(model)?;
    let published = architecture.preprocessing;
    let registered = Source {
        mean: Some(published.mean.to_vec()),
        std: Some(published.std.to_vec()),
        interpolation: Interpolation::from_name(published.interpolation.as_str()),
        crop_share: Some(published.crop_share),
        reason: format!("as timm has it for `{}`", architecture.name),
    };
    let of_run = read_card(path).map(|card| Source::of_run(&card, path));
    Ok(of_run.or_else(|| Source::of_timm(path)).into_iter().chain([registered]).collect())
}

impl Source {
    /// What all runs had before there were settings for it: ImageNet's colours, bilinear, the most usual share of a crop.
    fn without_weights(reason: &str) -> Self {
        Self {
            mean: Some(vec![0.485, 0.456, 0.406]),
            std: Some(vec![0.229, 0.224, 0.225]),
            interpolation: Some(Interpolation::Bilinear),
            crop_share: Some(0.875),
            reason: reason.to_owned(),
        }
    }

    fn of_run(card: &ModelCard, path: &Path) -> Self {
        let decimals = |values: &[f32]| -> Option<Vec<f64>> { Some(values.iter().copied().map(decimal).collect()) };
        Self {
            mean: decimals(&card.mean).filter(|values| are_values(values, 0.0)),
            std: decimals(&card.std).filter(|values| are_values(values, LEAST_DEVIATION)),
            interpolation: Interpolation::from_name(&card.interpolation),
            crop_share: Some(decimal(card.crop_share)).filter(is_share),
            reason: format!("as the weights in `{}` were trained", path.display()),
        }
    }

    /// What a `config.json` beside the file says, as timm's weights on the Hugging Face hub come; none where there is none, or one of another program.
    fn of_timm(weights: &Path) -> Option<Self> {
        let path = weights.with_file_name("config.json");
        let text = std::fs::read_to_string(&path).ok()?;
        let timm = serde_json::from_str::<TimmConfig>(&text).ok()?.pretrained_cfg;
        Some(Self {
            mean: timm.mean.filter(|values| are_values(values, 0.0)),
            std: timm.std.filter(|values| are_values(values, LEAST_DEVIATION)),
            interpolation: timm.interpolation.as_deref().and_then(Interpolation::from_name),
            crop_share: timm.crop_pct.filter(is_share),
            reason: format!("as `{}` has it", path.display()),
        })
    }
}

/// The least that `model.std` takes.
const LEAST_DEVIATION: f64 = 0.001;

/// What `model.mean` and `model.std` take: of grey or of red, green and blue, from `least` to 1. False of NaN.
fn are_values(values: &[f64], least: f64) -> bool {
    matches!(values.len(), 1 | 3) && values.iter().all(|value| (least..=1.0).contains(value))
}

/// What `augment.crop_share` takes.
fn is_share(share: &f64) -> bool {
    *share > 0.0 && *share <= 1.0
}

/// The number that is written like this one: 0.485, and not what 32 bits make of it.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().expect("a number as it is written is a number")
}

/// As far as it is read here.
#[derive(Deserialize)]
struct TimmConfig {
    pretrained_cfg: TimmPreprocessing,
}

#[derive(Deserialize)]
struct TimmPreprocessing {
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    interpolation: Option<String>,
    crop_pct: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Override;

    fn config(settings: &[&str]) -> UserConfig {
        let given: Vec<Override> = settings.iter().map(|text| Override::parse(text).unwrap()).collect();
        UserConfig::from_text(Path::new("x.yaml"), "data: {train: images}\n", &given).unwrap()
    }

    /// Mean of red, interpolation and crop share.
    fn decided(settings: &[&str]) -> (f64, Interpolation, f64, Vec<String>) {
        let mut config = config(&[settings, &["augment.resize=center_crop"]].concat());
        let mut choices = Vec::new();
        decide(&mut config, &mut choices).unwrap();
        let red = config.model.mean.given().unwrap()[0];
        (red, config.augment.interpolation, *config.augment.crop_share.given().unwrap(), choices)
    }

    #[test]
    fn without_weights_all_models_see_images_as_before() {
        for model in ["convnext_atto", "tf_efficientnetv2_s", "swin_tiny"] {
            let (red, interpolation, share, choices) = decided(&[&format!("model.name={model}")]);
            assert_eq!((red, interpolation, share), (0.485, Interpolation::Bilinear, 0.875), "{model}");
            assert_eq!(choices.len(), 4, "{choices:?}");
        }
    }

    #[test]
    fn weights_of_another_program_see_images_as_timm_has_it_for_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let weights = format!("model.weights={}", folder.path().join("w.safetensors").display());
        for (model, red, share) in
            [("tf_efficientnetv2_s", 0.5, 1.0), ("convnext_tiny", 0.485, 0.95), ("swin_tiny", 0.485, 0.9)]
        {
            let (found, interpolation, found_share, choices) = decided(&[&weights, &format!("model.name={model}")]);
            assert_eq!((found, interpolation, found_share), (red, Interpolation::Bicubic, share), "{model}");
            assert!(choices[0].contains("as timm has it for `"), "{choices:?}");
        }
    }

    #[test]
    fn timms_own_file_beside_the_weights_wins_as_far_as_it_says_anything() {
        let folder = tempfile::tempdir().unwrap();
        let weights = format!("model.weights={}", folder.path().join("model.safetensors").display());
        let written = r#"{"pretrained_cfg": {"mean": [0.25, 0.5, 0.5], "interpolation": "nearest", "tag": "x"}}"#;
        std::fs::write(folder.path().join("config.json"), written).unwrap();
        let (red, interpolation, share, choices) = decided(&[&weights, "model.name=tf_efficientnetv2_s"]);
        assert_eq!((red, interpolation, share), (0.25, Interpolation::Bicubic, 1.0));
        assert!(choices[0].ends_with("config.json` has it"), "{choices:?}");
        assert!(choices[1].starts_with("model.std [0.5, 0.5, 0.5]: as timm has it"), "{choices:?}");
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "other"}"#).unwrap();
        assert_eq!(decided(&[&weights, "model.name=tf_efficientnetv2_s"]).0, 0.5);
    }

    #[test]
    fn what_is_given_stays_and_says_nothing() {
        let given = ["model.mean=[0.1, 0.2, 0.3]", "augment.interpolation=bicubic", "augment.crop_share=0.9"];
        let (red, interpolation, share, choices) = decided(&given);
        assert_eq!((red, interpolation, share), (0.1, Interpolation::Bicubic, 0.9));
        assert_eq!(choices, ["model.std [0.229, 0.224, 0.225]: the default without `model.weights`"]);
    }

    #[test]
    fn grey_has_the_mean_of_the_colours() {
        let mut config = config(&["model.in_channels=1"]);
        decide(&mut config, &mut Vec::new()).unwrap();
        assert_eq!(config.model.mean.given(), Some(&vec![0.449]));
        assert_eq!(config.model.std.given(), Some(&vec![0.226]));
        assert_eq!(for_channels(&[0.3], 3), [0.3; 3]);
    }

    #[test]
    fn the_configuration_of_an_older_run_is_read_as_it_ran_whatever_its_weights() {
        let mut config = config(&["model.weights=w.pth", "model.name=tf_efficientnetv2_s"]);
        decide_as_before(&mut config);
        assert_eq!(config.model.mean.given(), Some(&vec![0.485, 0.456, 0.406]));
        assert_eq!(config.augment.interpolation, Interpolation::Bilinear);
        assert!(!is_open(&config));
    }
}
