//! Flags of `plan` that contradict each other, each pair with its reason and a way out.

use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;

use super::error::PlanArgumentsError;
use super::task::is_svg;
use super::{PlanArguments, PlanSource};
use crate::config::DeviceRequest;

/// Two flags that exclude each other: why, and what to do.
type Exclusion = (&'static str, &'static str, &'static str, &'static str);

const NOTHING_WRITTEN: &str = "the first writes no configuration";
const ALL_CARDS: &str = "the first plans for every card of the catalogue";
const ABSENT: &str = "the first plans for a card that is not here, the second for one that is";
const ONE_OF_ALL: &str = "there is one for each card, and `--all-gpus` plans for all of them";
const PREDICTS: &str = "prediction has no optimizer step";
const PRINTED: &str = "a plan of prediction is printed, and changes no configuration";
const NO_TIMELINE: &str = "memory is told moment by moment for training steps alone";

const EXCLUSIONS: [Exclusion; 26] = [
    (
        "--test-only",
        "--save-config",
        NOTHING_WRITTEN,
        "leave `--test-only` out: `--save-config` leaves the original as it is",
    ),
    (
        "--test-only",
        "--write-team-settings",
        NOTHING_WRITTEN,
        "leave one of the two out; the table is printed either way",
    ),
    ("--all-gpus", "--gpu", ALL_CARDS, "leave `--all-gpus` out for one card, or `--gpu` for all"),
    ("--all-gpus", "--gpu-memory", ALL_CARDS, "leave `--all-gpus` out for one card, or `--gpu-memory` for all"),
    (
        "--all-gpus",
        "--gpu-ids",
        ALL_CARDS,
        "leave `--all-gpus` out for the cards of this machine, or `--gpu-ids` for all",
    ),
    ("--all-gpus", "--device", ALL_CARDS, "leave `--all-gpus` out for this device, or `--device` for all cards"),
    (
        "--all-gpus",
        "--save-config",
        ONE_OF_ALL,
        "save the table with `--write-team-settings FILE`, or name one card with `--gpu`",
    ),
    ("--all-gpus", "--save-profile", ONE_OF_ALL, "name one card with `--gpu` instead of `--all-gpus`"),
    ("--all-gpus", "--save-picture", ONE_OF_ALL, "name one card with `--gpu` instead of `--all-gpus`"),
    ("--all-gpus", "--report", ONE_OF_ALL, "name one card with `--gpu` instead of `--all-gpus`"),
    ("--gpu", "--device", ABSENT, "leave `--device` out to plan for that card, or `--gpu` to plan for this device"),
    ("--gpu", "--gpu-ids", ABSENT, "leave `--gpu-ids` out to plan for that card, or `--gpu` to plan for these"),
    (
        "--gpu-memory",
        "--device",
        ABSENT,
        "leave `--device` out, or limit the memory of this device with `--set memory.limit=SIZE`",
    ),
    (
        "--gpu-memory",
        "--gpu-ids",
        ABSENT,
        "leave `--gpu-ids` out, or limit the memory of these cards with `--set memory.limit=SIZE`",
    ),
    (
        "--gpu-ids",
        "--device",
        "both name what to plan for",
        "leave `--device` out, or name one card with `--device cuda:N`",
    ),
    ("--inference", "--effective-batch-size", PREDICTS, "bound the batch of prediction with `--max-batch-size`"),
    ("--inference", "--learning-rate-scaling", PREDICTS, "leave `--learning-rate-scaling` out"),
    ("--inference", "--write-team-settings", "team settings are for training", "leave one of the two out"),
    ("--inference", "--save-config", PRINTED, "set `predict.batch_size` to what it prints"),
    ("--inference", "--save-profile", NO_TIMELINE, "leave `--inference` out for the profile of a training step"),
    ("--inference", "--save-picture", NO_TIMELINE, "leave `--inference` out for the picture of a training step"),
    ("--inference", "--report", NO_TIMELINE, "leave `--report` out: `--inference` tells its reasons anyway"),
    ("--gpu-ids", "--report", "a report is of one card", "name the card with `--device cuda:N`"),
    (SOURCE, "--gpu", NOT_HERE, "use `--source captured`, or leave `--source` out"),
    (SOURCE, "--gpu-memory", NOT_HERE, "use `--source captured`, or leave `--source` out"),
    (SOURCE, "--all-gpus", NOT_HERE, "use `--source captured`, or leave `--source` out"),
];

/// `--source dry-run` and `--source measured`; the other sources go with every card.
const SOURCE: &str = "--source";
const NOT_HERE: &str = "the first computes on a device that is here, and the second names cards that need not be";

/// A flag, the flag that it needs, why, and what to write.
const NEEDS: [(&str, &str, &str, &str); 4] = [
    ("--tta", "--inference", "training looks at each image once", "add `--inference`"),
    (
        "--write-team-settings",
        "--all-gpus",
        "the settings are those of every card",
        "add `--all-gpus`, or write a plan for one card with `--save-config FILE`",
    ),
    ("--write-team-settings", "--config", "they keep a configuration's effective batch size", "add `--config FILE`"),
    ("--save-config", "--config", "it writes a changed copy of a configuration", "add `--config FILE`"),
];

/// Refuses the first pair that is given, and the first flag that lacks another.
pub(super) fn refuse_exclusions(arguments: &PlanArguments) -> Result<(), PlanArgumentsError> {
    let given = given(arguments);
    let find = |flag: &str| given.iter().find(|(name, _)| *name == flag).map(|(_, written)| written.clone());
    for (one, other, reason, way_out) in EXCLUSIONS {
        if let (Some(one), Some(other)) = (find(one), find(other)) {
            let (reason, way_out) = (reason.to_owned(), way_out.to_owned());
            return Err(PlanArgumentsError::Excluded { one, other, reason, way_out });
        }
    }
    for (flag, needed, reason, way_out) in NEEDS {
        if let (Some(flag), None) = (find(flag), find(needed)) {
            return Err(PlanArgumentsError::Needs { flag, needed, reason, way_out: way_out.to_owned() });
        }
    }
    match &arguments.save_picture {
        Some(path) if !is_svg(path) => Err(PlanArgumentsError::PictureFormat { path: path.clone() }),
        _ => Ok(()),
    }
}

/// The flags that are given and may exclude others, as they were written.
fn given(arguments: &PlanArguments) -> Vec<(&'static str, String)> {
    let text =
        |flag: &'static str, value: &Option<String>| value.as_ref().map(|value| (flag, format!("{flag} {value}")));
    let path = |flag: &'static str, value: &Option<PathBuf>| {
        value.as_ref().map(|value| (flag, format!("{flag} {}", value.display())))
    };
    let switch = |flag: &'static str, value: bool| value.then(|| (flag, flag.to_owned()));
    let computes = |source: &PlanSource| matches!(source, PlanSource::DryRun | PlanSource::Measured);
    let source = arguments.source.filter(computes);
    let device = arguments.device.filter(|device| *device != DeviceRequest::Auto);
    [
        switch("--test-only", arguments.test_only),
        switch("--all-gpus", arguments.all_gpus),
        switch("--inference", arguments.inference),
        switch("--report", arguments.report),
        text("--gpu", &arguments.gpu),
        text("--gpu-memory", &arguments.gpu_memory),
        text("--gpu-ids", &arguments.gpu_ids),
        text("--effective-batch-size", &arguments.effective_batch_size),
        text("--device", &device.map(|device| device.to_string())),
        text(SOURCE, &source.and_then(name_of)),
        text("--tta", &arguments.tta.and_then(name_of)),
        text("--learning-rate-scaling", &arguments.learning_rate_scaling.and_then(name_of)),
        path("--config", &arguments.config),
        path("--save-config", &arguments.save_config),
        path("--write-team-settings", &arguments.write_team_settings),
        path("--save-profile", &arguments.save_profile),
        path("--save-picture", &arguments.save_picture),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The word that the command line has for a choice.
fn name_of<T: ValueEnum>(choice: T) -> Option<String> {
    choice.to_possible_value().map(|name| name.get_name().to_owned())
}

/// Two files of one name would overwrite each other, or the configuration.
pub(super) fn refuse_same_files(arguments: &PlanArguments) -> Result<(), PlanArgumentsError> {
    let files = [
        ("--config", &arguments.config),
        ("--save-config", &arguments.save_config),
        ("--write-team-settings", &arguments.write_team_settings),
        ("--save-profile", &arguments.save_profile),
        ("--save-picture", &arguments.save_picture),
    ];
    let files: Vec<(&'static str, PathBuf)> =
        files.into_iter().filter_map(|(flag, path)| Some((flag, plain(path.as_deref()?)))).collect();
    for (index, (other, path)) in files.iter().enumerate() {
        if let Some((one, _)) = files[..index].iter().find(|(_, earlier)| earlier == path) {
            return Err(PlanArgumentsError::SameFile { one, other, path: path.clone() });
        }
    }
    Ok(())
}

/// `./mine.yaml` is `mine.yaml`. Links are followed when files are written.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// A flag and the key that it stands for: given both ways, one of them is a mistake.
pub(super) fn refuse_settings_given_twice(arguments: &PlanArguments) -> Result<(), PlanArgumentsError> {
    let rounding = arguments.rounding.map(|_| String::new());
    let device = arguments.device.map(|device| device.to_string());
    let precision = arguments.precision.and_then(name_of);
    let precision_key = if arguments.inference { "predict.precision" } else { "train.precision" };
    let flags = [
        ("--model", "model.name", &arguments.model),
        ("--img-size", "model.image_size", &arguments.img_size),
        ("--device", "device", &device),
        ("--safety-margin", "memory.safety_margin", &arguments.safety_margin),
        ("--memory-fraction", "memory.fraction", &arguments.memory_fraction),
        ("--rounding", "memory.rounding", &rounding),
        ("--precision", precision_key, &precision),
        ("--effective-batch-size", "train.effective_batch_size", &arguments.effective_batch_size),
    ];
    for (flag, key, value) in flags {
        let is_same_key = |setting: &&String| setting.split('=').next().is_some_and(|name| name.trim() == key);
        if let (Some(value), Some(setting)) = (value, arguments.settings.iter().find(is_same_key)) {
            return Err(PlanArgumentsError::Excluded {
                one: format!("{flag} {value}").trim_end().to_owned(),
                other: format!("--set {setting}"),
                reason: format!("both set `{key}`"),
                way_out: "leave one of the two out".to_owned(),
            });
        }
    }
    Ok(())
}
