//! What the flags of `plan` amount to, once none contradicts another.

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use memory_planner::{LARGEST_BATCH, LARGEST_EFFECTIVE_BATCH, format_bytes};

use super::error::PlanArgumentsError;
use super::exclusions::{refuse_exclusions, refuse_same_files, refuse_settings_given_twice};
use super::numbers::{ShareRange, parse_count, parse_ids, parse_memory, parse_share};
use super::{LearningRateScaling, PlanArguments, PlanSource};
use crate::cli::gpus::listed;
use crate::cli::parse_settings;
use crate::config::{DeviceRequest, Override, Rounding, Tta};

/// What is to be planned, for which card, and where the plan goes.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanTask {
    /// The configuration; none for an architecture alone.
    pub config: Option<PathBuf>,
    /// `--set`, `--model`, `--img-size` and `--precision`, to be put over the configuration, and to be written with the plan: without them it would not
    /// hold. [`Edit::from_override`](crate::config::Edit::from_override) makes the edits.
    pub overrides: Vec<Override>,
    /// The card or cards.
    pub target: Target,
    /// Where the memory of a step is learnt from.
    pub source: PlanSource,
    /// Share of the free memory that is left unused, at least 0 and below 1.
    pub safety_margin: Option<f64>,
    /// Share of the card's memory that may be taken, above 0 and at most 1. The smaller budget holds when both are given.
    pub memory_fraction: Option<f64>,
    /// Fewest images computed at once.
    pub min_batch_size: Option<usize>,
    /// Most images computed at once; not below the fewest.
    pub max_batch_size: Option<usize>,
    /// Images per optimizer step instead of the configuration's.
    pub effective_batch_size: Option<usize>,
    /// How the learning rate follows a changed effective batch.
    pub learning_rate_scaling: LearningRateScaling,
    /// How the batch is rounded down, instead of the configuration's rule.
    pub rounding: Option<Rounding>,
    /// Prediction is planned and not training.
    pub inference: Option<InferenceRequest>,
    /// Where the plan goes.
    pub destination: Destination,
    /// File for the footprint and its timeline.
    pub profile: Option<PathBuf>,
    /// File for the picture; ends in `.svg`.
    pub picture: Option<PathBuf>,
    /// The whole memory analysis is printed.
    pub report: bool,
    /// JSON is printed instead of text.
    pub json: bool,
    /// Flags without effect beside the others, as sentences.
    pub warnings: Vec<String>,
}

/// What is planned for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A device of this machine: that of `--device`, or `None` for the configuration's.
    Device(Option<DeviceRequest>),
    /// Some CUDA cards of this machine, each once and all here.
    Cards(Vec<usize>),
    /// A card that is not here.
    Absent(AbsentCard),
    /// Every card of the catalogue.
    Catalogue,
}

/// A card that is not here, by name, by memory, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentCard {
    /// As the user wrote it, to be looked up in the catalogue.
    pub name: Option<String>,
    /// Its memory in bytes; beside a name, less than the catalogue has for it.
    pub memory_bytes: Option<u64>,
}

/// What `--inference` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InferenceRequest {
    /// Views of each image, instead of the configuration's.
    pub tta: Option<Tta>,
}

/// Where a plan goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// It is printed, and that is all.
    Nowhere,
    /// Into the configuration.
    InPlace,
    /// Into a copy of the configuration.
    Copy(PathBuf),
    /// Into a table of all cards.
    TeamSettings(PathBuf),
}

/// Sides of images, as in `model.image_size`.
const IMAGE_SIZES: std::ops::RangeInclusive<usize> = 32..=4096;

const MARGIN: ShareRange =
    ShareRange { words: "of at least 0 and below 1", contains: |share| (0.0..1.0).contains(&share), usual: 0.15 };

const FRACTION: ShareRange =
    ShareRange { words: "above 0 and at most 1", contains: |share| share > 0.0 && share <= 1.0, usual: 0.9 };

impl PlanArguments {
    /// Reads the flags, and refuses those that are wrong or contradict each other. Nothing is looked up and no file is opened;
    /// `cards` is the number of CUDA cards that are here.
    ///
    /// # Errors
    /// [`PlanArgumentsError`], with the flags as they were written.
    pub fn check(&self, cards: usize) -> Result<PlanTask, PlanArgumentsError> {
        refuse_exclusions(self)?;
        refuse_same_files(self)?;
        refuse_settings_given_twice(self)?;
        let task = PlanTask {
            config: self.config.clone(),
            overrides: self.overrides()?,
            target: self.target()?,
            source: self.source.unwrap_or_default(),
            safety_margin: parse_share("--safety-margin", self.safety_margin.as_deref(), &MARGIN)?,
            memory_fraction: parse_share("--memory-fraction", self.memory_fraction.as_deref(), &FRACTION)?,
            min_batch_size: self.batch("--min-batch-size", self.min_batch_size.as_deref(), LARGEST_BATCH)?,
            max_batch_size: self.batch("--max-batch-size", self.max_batch_size.as_deref(), LARGEST_BATCH)?,
            effective_batch_size: self.batch(
                "--effective-batch-size",
                self.effective_batch_size.as_deref(),
                LARGEST_EFFECTIVE_BATCH,
            )?,
            learning_rate_scaling: self.learning_rate_scaling.unwrap_or_default(),
            rounding: self.rounding,
            inference: self.inference.then_some(InferenceRequest { tta: self.tta }),
            destination: self.destination(),
            profile: self.save_profile.clone(),
            picture: self.save_picture.clone(),
            report: self.report,
            json: self.json,
            warnings: self.warnings(),
        };
        task.refuse_batches_out_of_order()?;
        task.refuse_cards_that_are_not_here(cards)?;
        Ok(task)
    }

    fn batch(
        &self,
        flag: &'static str,
        written: Option<&str>,
        highest: usize,
    ) -> Result<Option<usize>, PlanArgumentsError> {
        parse_count(flag, written, "a batch size", 1..=highest)
    }

    /// The settings from flags, in the order in which they win.
    fn overrides(&self) -> Result<Vec<Override>, PlanArgumentsError> {
        let mut overrides = parse_settings(&self.settings)?;
        if let Some(model) = &self.model {
            if model.trim().is_empty() {
                return Err(PlanArgumentsError::Empty { flag: "--model" });
            }
            overrides.push(Override::from_flag("model.name", model.trim(), format!("--model {model}")));
        }
        if let Some(size) = parse_count("--img-size", self.img_size.as_deref(), "an image size", IMAGE_SIZES)? {
            overrides.push(Override::from_flag("model.image_size", &size.to_string(), format!("--img-size {size}")));
        }
        if let Some(precision) = self.precision.and_then(|precision| precision.to_possible_value()) {
            let (name, section) = (precision.get_name(), if self.inference { "predict" } else { "train" });
            overrides.push(Override::from_flag(&format!("{section}.precision"), name, format!("--precision {name}")));
        }
        Ok(overrides)
    }

    fn target(&self) -> Result<Target, PlanArgumentsError> {
        let name = self.gpu.as_ref().map(|name| name.trim().to_owned());
        if name.as_deref() == Some("") {
            return Err(PlanArgumentsError::Empty { flag: "--gpu" });
        }
        let memory_bytes = parse_memory("--gpu-memory", self.gpu_memory.as_deref())?;
        if self.all_gpus {
            return Ok(Target::Catalogue);
        }
        if name.is_some() || memory_bytes.is_some() {
            return Ok(Target::Absent(AbsentCard { name, memory_bytes }));
        }
        Ok(match parse_ids(self.gpu_ids.as_deref())? {
            Some(ids) => Target::Cards(ids),
            None => Target::Device(self.device),
        })
    }

    fn destination(&self) -> Destination {
        match (&self.save_config, &self.write_team_settings) {
            _ if self.test_only => Destination::Nowhere,
            (_, Some(path)) => Destination::TeamSettings(path.clone()),
            (Some(path), _) => Destination::Copy(path.clone()),
            _ if self.config.is_some() && !self.all_gpus => Destination::InPlace,
            _ => Destination::Nowhere,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let sets_batch = |setting: &String| setting.trim_start().starts_with("train.effective_batch_size");
        let is_free = self.config.is_none() || self.gpu_ids.is_some();
        let changes_batch = is_free || self.effective_batch_size.is_some() || self.settings.iter().any(sets_batch);
        let scales = self.learning_rate_scaling.is_some_and(|rule| rule != LearningRateScaling::None);
        let pointless = scales && !changes_batch;
        let sentence = "`--learning-rate-scaling` has no effect, because the effective batch size stays; \
            change it with `--effective-batch-size`";
        pointless.then(|| sentence.to_owned()).into_iter().collect()
    }
}

impl PlanTask {
    fn refuse_batches_out_of_order(&self) -> Result<(), PlanArgumentsError> {
        let Some(fewest) = self.min_batch_size else { return Ok(()) };
        let one = format!("--min-batch-size {fewest}");
        let excluded = |flag: &str, most: usize, reason: String| PlanArgumentsError::Excluded {
            one: one.clone(),
            other: format!("{flag} {most}"),
            reason,
            way_out: format!("pass `--min-batch-size {most}` or less, or `{flag} {fewest}` or more"),
        };
        match (self.max_batch_size, self.effective_batch_size) {
            (Some(most), _) if fewest > most => {
                Err(excluded("--max-batch-size", most, "the fewest images are more than the most".to_owned()))
            }
            (_, Some(effective)) if fewest > effective => {
                let reason = "no more images are computed at once than an optimizer step has".to_owned();
                Err(excluded("--effective-batch-size", effective, reason))
            }
            _ => Ok(()),
        }
    }

    /// What computes on a card needs one, and the numbers must be of cards that are here.
    fn refuse_cards_that_are_not_here(&self, cards: usize) -> Result<(), PlanArgumentsError> {
        let computes = match self.source {
            PlanSource::DryRun => Some("--source dry-run"),
            PlanSource::Measured => Some("--source measured"),
            PlanSource::Auto | PlanSource::Captured => None,
        };
        match (&self.target, computes) {
            (Target::Cards(ids), _) => {
                let missing = ids.iter().find(|id| **id >= cards);
                missing.map_or(Ok(()), |id| Err(no_such_card(format!("--gpu-ids {}", listed(ids)), *id, cards)))
            }
            (Target::Device(Some(DeviceRequest::Cuda(index))), _) if *index >= cards => {
                Err(no_such_card(format!("--device cuda:{index}"), *index, cards))
            }
            (Target::Device(Some(DeviceRequest::Cpu)), Some(flag @ "--source dry-run")) => {
                Err(PlanArgumentsError::Excluded {
                    one: flag.to_owned(),
                    other: "--device cpu".to_owned(),
                    reason: "the CPU has no launches that could be dropped".to_owned(),
                    way_out: "use `--source measured` or `--source captured`".to_owned(),
                })
            }
            (Target::Device(Some(DeviceRequest::Auto) | None), Some(flag @ "--source dry-run")) if cards == 0 => {
                Err(PlanArgumentsError::NoCard { flag: flag.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

fn no_such_card(flag: String, index: usize, cards: usize) -> PlanArgumentsError {
    PlanArgumentsError::NoSuchCard { flag, index, cards }
}

impl AbsentCard {
    /// The memory to plan for in bytes, when the catalogue has `catalogue_bytes` for the name.
    ///
    /// A name and an amount together mean that card with less of it: a smaller variant, a slice, a share of a card that others use too.
    ///
    /// # Errors
    /// When the amount is more than the card has; [`PlanArgumentsError::MemoryOfCard`].
    pub fn memory_within(&self, catalogue_bytes: u64) -> Result<u64, PlanArgumentsError> {
        match (self.memory_bytes, &self.name) {
            (None, _) => Ok(catalogue_bytes),
            (Some(bytes), Some(card)) if bytes > catalogue_bytes => Err(PlanArgumentsError::MemoryOfCard {
                card: card.clone(),
                asked: format_bytes(bytes).replace(' ', ""),
                has: format_bytes(catalogue_bytes),
            }),
            (Some(bytes), _) => Ok(bytes),
        }
    }
}

/// Whether a picture can be drawn into a file of this name.
pub(super) fn is_svg(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg"))
}
