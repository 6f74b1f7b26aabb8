//! What will run: the user's configuration with nothing left undecided.

use std::path::{Path, PathBuf};

use data_pipeline::{Channels, EvalTransform, LoaderOptions, ResizeMode, TrainTransform};
use memory_planner::{BudgetRequest, Rung};
use trainer::{AdamWOptions, FaultPlan, TrainOptions, WarmupCosine};

use crate::config::{AutoCount, Checkpointing, DEFAULT_VALIDATION_SHARE, DeviceRequest, OnCorrupt, Precision};
use crate::config::{Resize, UserConfig};
use crate::error::CommandError;
use crate::registry::{Architecture, find_architecture};

/// Share of the shorter side that a centre crop keeps (timm's default `crop_pct`).
const CROP_SHARE: f32 = 0.875;

/// A configuration whose `auto`s are decided, with the reason of each. Its YAML is a configuration again: the same run.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedConfig {
    /// Every optional setting that decides something is set.
    pub(crate) config: UserConfig,
    /// The run's name.
    pub(crate) name: String,
    /// Each automatic choice and its reason, for the file's head.
    pub(crate) choices: Vec<String>,
}

impl ResolvedConfig {
    /// Decides what does not need the device: the name and the validation split.
    pub(crate) fn new(mut config: UserConfig, path: &Path) -> Self {
        let mut choices = Vec::new();
        let name = config.name.clone().unwrap_or_else(|| {
            let stem = path.file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned());
            choices.push(format!("name {stem}: the configuration file's"));
            stem
        });
        config.name = Some(name.clone());
        if config.data.validation.is_none() && config.data.validation_share.is_none() {
            config.data.validation_share = Some(DEFAULT_VALIDATION_SHARE);
            choices.push(format!("validation share {DEFAULT_VALIDATION_SHARE}: the default without `data.validation`"));
        }
        Self { config, name, choices }
    }

    /// Sets the device that was found, if it is open.
    pub(crate) fn decide_device(&mut self, device: DeviceRequest) {
        if self.config.device == DeviceRequest::Auto {
            self.choices.push(format!("device {device}: what `auto` found"));
        }
        self.config.device = device;
    }

    /// Names the starting weights where they really lie: `latest` moves to the new run.
    pub(crate) fn follow_links(&mut self) {
        let weights = &mut self.config.model.weights;
        *weights = weights.take().map(|path| std::fs::canonicalize(&path).unwrap_or(path));
    }

    /// Sets the number of loader threads, if it is open.
    pub(crate) fn decide_workers(&mut self, workers: usize) {
        if self.config.data.workers == AutoCount::Auto {
            self.config.data.workers = AutoCount::Exactly(workers);
            self.choices.push(format!("data.workers {workers}: from the number of cores"));
        }
    }

    /// Sets the micro-batch that was planned.
    pub(crate) fn decide_micro_batch(&mut self, micro_batch: usize, reason: &str) {
        if self.config.train.micro_batch_size == AutoCount::Auto {
            self.choices.push(format!("micro-batch {micro_batch}: {reason}"));
        }
        self.config.train.micro_batch_size = AutoCount::Exactly(micro_batch);
    }

    /// What the configuration asks of the budget.
    pub(crate) fn budget_request(&self) -> BudgetRequest {
        let memory = &self.config.memory;
        BudgetRequest {
            limit_bytes: memory.limit.as_ref().map(|limit| limit.bytes()),
            safety_margin: memory.safety_margin,
            memory_fraction: None,
        }
    }

    /// Sets whether the step computes cheap operations twice.
    pub(crate) fn decide_checkpointing(&mut self, checkpointing: memory_planner::Checkpointing) {
        let decided = match checkpointing {
            memory_planner::Checkpointing::None => Checkpointing::None,
            memory_planner::Checkpointing::Balanced => Checkpointing::Balanced,
        };
        if self.config.memory.checkpointing == Checkpointing::Auto {
            let reason = match decided {
                Checkpointing::Balanced => "nothing fits without",
                _ => "it fits without",
            };
            self.choices.push(format!("memory.checkpointing {checkpointing}: {reason}"));
        }
        self.config.memory.checkpointing = decided;
    }

    /// Sets what the step computes in.
    pub(crate) fn decide_precision(&mut self, precision: memory_planner::Precision, reason: &str) {
        if self.config.train.precision == Precision::Auto {
            self.choices.push(format!("train.precision {precision}: {reason}"));
        }
        self.config.train.precision = precision.into();
    }

    /// The way to compute the step that was decided; before the plan is made, the first that is tried.
    pub(crate) fn rung(&self) -> Rung {
        let precision = self.config.train.precision.fixed().unwrap_or_default();
        Rung { precision, checkpointing: self.checkpointing() }
    }

    /// The way to compute the step that was decided; none before the plan is made.
    pub(crate) fn checkpointing(&self) -> memory_planner::Checkpointing {
        match self.config.memory.checkpointing {
            Checkpointing::Balanced => memory_planner::Checkpointing::Balanced,
            Checkpointing::Auto | Checkpointing::None => memory_planner::Checkpointing::None,
        }
    }

    /// The architecture, which must take images of the configured size.
    pub(crate) fn architecture(&self) -> Result<Architecture, CommandError> {
        let (name, size) = (&self.config.model.name, self.config.model.image_size);
        let architecture = find_architecture(name).map_err(|nearest| {
            let hint = match nearest {
                Some(near) => format!("did you mean `{near}`? `stoker models` lists all"),
                None => "`stoker models` lists all".to_owned(),
            };
            CommandError::wrong_request(format!("unknown model `{name}`")).with_hint(hint)
        })?;
        architecture.check_image_size(size).map_err(|refused| {
            CommandError::wrong_request(format!("`{name}` cannot take `model.image_size: {size}`"))
                .with_causes(vec![refused.reason])
                .with_hint(refused.hint)
        })?;
        Ok(architecture)
    }

    /// Bytes of the file in the run folder: the choices as comments, then the configuration.
    pub(crate) fn to_yaml(&self) -> String {
        let choices: String = self.choices.iter().map(|choice| format!("# {choice}\n")).collect();
        format!(
            "# What ran, with nothing left to decide. It is a configuration again.\n{choices}\n{}",
            self.config.to_yaml()
        )
    }

    /// Options of the training loop. A micro-batch that is not decided yet is the effective batch.
    pub(crate) fn train_options(&self, train_samples: usize) -> TrainOptions {
        let train = &self.config.train;
        let steps_per_epoch = train_samples.div_ceil(train.effective_batch_size) as u64;
        let [beta_1, beta_2] = train.betas.map(|beta| beta as f32);
        TrainOptions {
            epochs: train.epochs as u32,
            effective_batch_size: train.effective_batch_size,
            micro_batch_size: train.micro_batch_size.exactly().unwrap_or(train.effective_batch_size),
            adamw: AdamWOptions {
                beta_1,
                beta_2,
                epsilon: train.epsilon as f32,
                weight_decay: train.weight_decay as f32,
            },
            schedule: WarmupCosine {
                peak: train.learning_rate,
                minimum: train.min_learning_rate,
                warmup_steps: (train.warmup_epochs * steps_per_epoch as f64).round() as u64,
                total_steps: train.epochs as u64 * steps_per_epoch,
            },
            label_smoothing: train.label_smoothing as f32,
            clip_norm: train.clip_norm,
            ema_decay: train.ema_decay,
            top_k: train.top_k,
            seed: self.config.seed,
            adaptive_batch: train.adaptive_batch,
            precision: train.precision.fixed().unwrap_or_default(),
            faults: FaultPlan::default(),
        }
    }

    /// Options of the loader.
    pub(crate) fn loader_options(&self) -> LoaderOptions {
        LoaderOptions {
            workers: self.config.data.workers.exactly().unwrap_or(1),
            prefetch_batches: self.config.data.prefetch_batches,
            on_corrupt: match self.config.data.on_corrupt {
                OnCorrupt::Skip => data_pipeline::OnCorrupt::Skip,
                OnCorrupt::Fail => data_pipeline::OnCorrupt::Fail,
            },
            ..LoaderOptions::default()
        }
    }

    /// How images are brought to size without chance.
    pub(crate) fn eval_transform(&self) -> EvalTransform {
        EvalTransform {
            image_size: self.config.model.image_size,
            channels: self.channels(),
            resize: resize_mode(self.config.augment.resize),
        }
    }

    /// How training images are varied.
    pub(crate) fn train_transform(&self) -> TrainTransform {
        let augment = &self.config.augment;
        let range = |[low, high]: [f64; 2]| (low as f32, high as f32);
        TrainTransform {
            scale: range(augment.scale),
            ratio: range(augment.ratio),
            horizontal_flip: augment.horizontal_flip as f32,
            vertical_flip: augment.vertical_flip as f32,
            quarter_turns: augment.quarter_turns,
            rotation_degrees: augment.rotation_degrees as f32,
            brightness: augment.brightness as f32,
            contrast: augment.contrast as f32,
            saturation: augment.saturation as f32,
            erase: augment.erase as f32,
            ..TrainTransform::new(self.config.model.image_size, self.channels(), resize_mode(augment.resize))
        }
    }

    /// Where the run's files go on `date`.
    pub(crate) fn run_folder(&self, date: &str) -> PathBuf {
        self.config.output.join(date).join(&self.name)
    }

    fn channels(&self) -> Channels {
        Channels::from_count(self.config.model.in_channels).expect("checked to be 1 or 3 when it was read")
    }
}

fn resize_mode(resize: Resize) -> ResizeMode {
    match resize {
        Resize::Squash => ResizeMode::Squash,
        Resize::Letterbox => ResizeMode::Letterbox,
        Resize::CenterCrop => ResizeMode::CenterCrop { crop_share: CROP_SHARE },
    }
}

/// The name by which a checkpoint knows how images are brought to size.
pub(crate) fn resize_name(resize: Resize) -> &'static str {
    match resize {
        Resize::Squash => "squash",
        Resize::Letterbox => "letterbox",
        Resize::CenterCrop => "center_crop",
    }
}

/// The way back from [`resize_name`].
pub(crate) fn resize_from_name(name: &str) -> Option<ResizeMode> {
    let all = [Resize::Squash, Resize::Letterbox, Resize::CenterCrop];
    all.into_iter().find(|resize| resize_name(*resize) == name).map(resize_mode)
}
