//! What will run: the user's configuration, with all that a run depends on decided.

use std::path::{Path, PathBuf};
use std::time::Duration;

use checkpoint::WeightsNote;
use data_pipeline::{
    Channels, DocumentNoise, EvalTransform, LoaderOptions, Mixing, RandAugment, ResizeFilter, ResizeMode,
    TrainTransform,
};
use memory_planner::{BudgetRequest, Rung};
use trainer::{FaultPlan, Normalization, Recompute, TrainOptions};

use crate::config::{
    AutoCount, AutoOr, AutoSide, Checkpointing, DEFAULT_VALIDATION_SHARE, Decode, DeviceRequest, EraseFill,
    Interpolation, MixMode, OnCorrupt, Precision, RandAugmentSection, Resize, Sampling, UserConfig,
};
use crate::error::CommandError;
use crate::registry::Architecture;
use crate::run::checks::known_architecture;
use crate::run::{preprocessing, recipe};

/// Share of the shorter side that a centre crop would keep, where nothing is cropped (timm's default `crop_pct`).
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
    /// Decides what does not need the device: the name, the image size, how images become numbers, the optimizer's constants, the validation split.
    ///
    /// # Errors
    /// An unknown model whose image size or colours are to be taken.
    pub(crate) fn new(mut config: UserConfig, path: &Path) -> Result<Self, CommandError> {
        let mut choices = Vec::new();
        let name = config.name.clone().unwrap_or_else(|| {
            let stem = name_of_file(path);
            choices.push(format!("name {stem}: the configuration file's"));
            stem
        });
        config.name = Some(name.clone());
        if config.model.image_size == AutoSide::Auto {
            let side = known_architecture(&config.model.name)?.image_size;
            config.model.image_size = AutoSide::Exactly(side);
            choices.push(format!("model.image_size {side}: that of `{}` as published", config.model.name));
        }
        preprocessing::decide(&mut config, &mut choices)?;
        let rate = config.train.highest_learning_rate();
        if config.train.learning_rate.is_none() {
            choices.push(format!("train.learning_rate {rate}: the default of `{}`", config.train.optimizer.as_str()));
        }
        config.train.decide_optimizer_constants();
        if config.data.validation.is_none() && config.data.validation_share.is_none() && config.data.folds.is_none() {
            config.data.validation_share = Some(DEFAULT_VALIDATION_SHARE);
            choices.push(format!("validation share {DEFAULT_VALIDATION_SHARE}: the default without `data.validation`"));
        }
        Ok(Self { config, name, choices })
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
            memory_fraction: memory.fraction,
        }
    }

    /// Sets what the step computes twice.
    pub(crate) fn decide_checkpointing(&mut self, checkpointing: memory_planner::Checkpointing) {
        let decided = match checkpointing {
            memory_planner::Checkpointing::None => Checkpointing::None,
            memory_planner::Checkpointing::Balanced => Checkpointing::Balanced,
            memory_planner::Checkpointing::Segments => Checkpointing::Segments,
        };
        if self.config.memory.checkpointing == Checkpointing::Auto {
            let reason = match decided {
                Checkpointing::Auto | Checkpointing::None => "it fits without",
                Checkpointing::Balanced => "nothing fits without",
                Checkpointing::Segments => "nothing fits with less",
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
            Checkpointing::Segments => memory_planner::Checkpointing::Segments,
            Checkpointing::Auto | Checkpointing::None => memory_planner::Checkpointing::None,
        }
    }

    /// Side of the square that the model sees, pixels.
    pub(crate) fn image_size(&self) -> usize {
        self.config.model.image_size.exactly().expect("decided when the configuration was resolved")
    }

    /// The architecture, built for images of the configured size, which it must take.
    pub(crate) fn architecture(&self) -> Result<Architecture, CommandError> {
        let (name, size) = (&self.config.model.name, self.image_size());
        known_architecture(name)?.at_image_size(size, size).map_err(|refused| {
            CommandError::wrong_request(format!("`{name}` cannot take `model.image_size: {size}`"))
                .with_causes(vec![refused.reason])
                .with_hint(refused.hint)
        })
    }

    /// Keeps what was done to the starting weights.
    pub(crate) fn note_weights(&mut self, notes: &[WeightsNote]) {
        self.choices.extend(notes.iter().map(|note| format!("model.weights: {note}")));
    }

    /// Bytes of the file in the run folder: the choices as comments, then the configuration.
    pub(crate) fn to_yaml(&self) -> String {
        let choices: String = self.choices.iter().map(|choice| format!("# {choice}\n")).collect();
        format!(
            "# What ran. It is a configuration again; what is still `auto` had no use, or is decided where it is used.\n{choices}\n{}",
            self.config.to_yaml()
        )
    }

    /// Options of the training loop over so many images, of each class so many. A micro-batch that is not decided yet is the effective batch.
    pub(crate) fn train_options(&self, train_samples: usize, class_counts: &[usize]) -> TrainOptions {
        let train = &self.config.train;
        let steps_per_epoch = train_samples.div_ceil(train.effective_batch_size) as u64;
        TrainOptions {
            epochs: train.epochs as u32,
            effective_batch_size: train.effective_batch_size,
            micro_batch_size: train.micro_batch_size.exactly().unwrap_or(train.effective_batch_size),
            recompute: Recompute::of(self.checkpointing()),
            optimizer: recipe::optimizer(train),
            groups: recipe::groups(&self.config),
            schedule: recipe::schedule(train, steps_per_epoch),
            loss: recipe::loss(train, class_counts),
            clip_norm: train.clip_norm,
            ema_decay: train.ema_decay,
            top_k: train.top_k,
            seed: self.config.seed,
            adaptive_batch: train.adaptive_batch,
            max_nonfinite_steps: train.max_nonfinite_steps,
            early_stopping: recipe::early_stopping(train),
            keep_best: train.keep_best,
            precision: train.precision.fixed().unwrap_or_default(),
            faults: FaultPlan::default(),
            save_interval: train.checkpoint_minutes.map(|minutes| seconds(60.0 * minutes)),
            finishes_images: self.train_transform().may_leave_steps() || self.mixing().is_on(),
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
            decode_scaling: self.config.data.decode == Decode::Scaled,
            ..LoaderOptions::default()
        }
    }

    /// How images are brought to size without chance.
    pub(crate) fn eval_transform(&self) -> EvalTransform {
        EvalTransform {
            image_size: self.image_size(),
            channels: self.channels(),
            resize: self.resize_mode(),
            filter: self.filter(),
        }
    }

    /// What pixels are normalised by.
    pub(crate) fn normalization(&self) -> Normalization {
        let model = &self.config.model;
        let narrow = |values: &AutoOr<Vec<f64>>| -> Vec<f32> {
            let values = values.given().expect("decided when the configuration was resolved");
            values.iter().map(|&value| value as f32).collect()
        };
        Normalization { mean: narrow(&model.mean), std: narrow(&model.std) }
    }

    /// Share of the shorter side that a centre crop keeps.
    pub(crate) fn crop_share(&self) -> f32 {
        self.config.augment.crop_share.given().map_or(CROP_SHARE, |&share| share as f32)
    }

    fn resize_mode(&self) -> ResizeMode {
        resize_mode(self.config.augment.resize, self.crop_share())
    }

    fn filter(&self) -> ResizeFilter {
        filter(self.config.augment.interpolation).expect("decided when the configuration was resolved")
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
            hue: augment.hue as f32,
            rand_augment: rand_augment(&augment.rand_augment),
            noise: DocumentNoise {
                uneven_light: augment.noise.uneven_light as f32,
                blur: augment.noise.blur as f32,
                blur_sigma: range(augment.noise.blur_sigma),
                speckle: augment.noise.speckle as f32,
                jpeg: augment.noise.jpeg as f32,
                jpeg_quality: range(augment.noise.jpeg_quality),
            },
            erase: augment.erase as f32,
            erase_area: range(augment.erase_area),
            erase_ratio: range(augment.erase_ratio),
            erase_fill: match augment.erase_fill {
                EraseFill::Mean => data_pipeline::EraseFill::Mean,
                EraseFill::Constant => data_pipeline::EraseFill::Constant,
                EraseFill::Color => data_pipeline::EraseFill::Color,
                EraseFill::Pixel => data_pipeline::EraseFill::Pixel,
            },
            filter: self.filter(),
            ..TrainTransform::new(self.image_size(), self.channels(), self.resize_mode())
        }
    }

    /// Which training images an epoch shows.
    pub(crate) fn sampling(&self) -> data_pipeline::Sampling {
        let data = &self.config.data;
        data_pipeline::Sampling { balanced: data.sampling == Sampling::Balanced, repeats: data.repeats }
    }

    /// How training images are mixed with each other.
    pub(crate) fn mixing(&self) -> Mixing {
        let mix = &self.config.augment.mix;
        Mixing {
            mixup_alpha: mix.mixup as f32,
            cutmix_alpha: mix.cutmix as f32,
            probability: mix.probability as f32,
            switch_probability: mix.switch_probability as f32,
            mode: match mix.mode {
                MixMode::Batch => data_pipeline::MixMode::Batch,
                MixMode::Pair => data_pipeline::MixMode::Pair,
                MixMode::Element => data_pipeline::MixMode::Element,
            },
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

/// What a run is called whose configuration, in the file at `path`, does not say.
pub(crate) fn name_of_file(path: &Path) -> String {
    path.file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// A number that no clock reaches counts as the longest time there is.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn rand_augment(section: &RandAugmentSection) -> Option<RandAugment> {
    let RandAugmentSection { num_ops, magnitude, magnitude_std, increasing } = *section;
    let (magnitude, magnitude_std) = (magnitude as f32, magnitude_std as f32);
    (num_ops > 0).then_some(RandAugment { num_ops, magnitude, magnitude_std, increasing })
}

fn resize_mode(resize: Resize, crop_share: f32) -> ResizeMode {
    match resize {
        Resize::Squash => ResizeMode::Squash,
        Resize::Letterbox => ResizeMode::Letterbox,
        Resize::CenterCrop => ResizeMode::CenterCrop { crop_share },
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

/// None for `auto`.
fn filter(interpolation: Interpolation) -> Option<ResizeFilter> {
    match interpolation {
        Interpolation::Auto => None,
        Interpolation::Bilinear => Some(ResizeFilter::Bilinear),
        Interpolation::Bicubic => Some(ResizeFilter::Bicubic),
    }
}

/// How a checkpoint weighs pixels, by the name that it has for it.
pub(crate) fn filter_from_name(name: &str) -> Option<ResizeFilter> {
    Interpolation::from_name(name).and_then(filter)
}

/// The way back from [`resize_name`].
pub(crate) fn resize_from_name(name: &str, crop_share: f32) -> Option<ResizeMode> {
    let all = [Resize::Squash, Resize::Letterbox, Resize::CenterCrop];
    all.into_iter().find(|resize| resize_name(*resize) == name).map(|resize| resize_mode(resize, crop_share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Override;

    fn resolved_of(text: &str, settings: &[&str]) -> Result<ResolvedConfig, CommandError> {
        let given: Vec<Override> = settings.iter().map(|text| Override::parse(text).unwrap()).collect();
        let user = UserConfig::from_text(Path::new("x.yaml"), text, &given)?;
        ResolvedConfig::new(user, Path::new("x.yaml"))
    }

    fn image_size(settings: &[&str]) -> usize {
        resolved_of("data: {train: images}\n", settings).unwrap().image_size()
    }

    #[test]
    fn the_image_size_is_the_models_own_by_name_alias_and_tag() {
        assert_eq!(image_size(&[]), 224);
        for (name, side) in [
            ("swin_base_patch4_window7_224", 224),
            ("swin_base_patch4_window12_384", 384),
            ("swin_base_384", 384),
            ("convnextv2_huge_512", 512),
            ("convnext_base", 224),
            ("convnext_base.fb_in22k_ft_in1k", 224),
            ("convnext_base.fb_in22k_ft_in1k_384", 384),
        ] {
            assert_eq!(image_size(&[format!("model.name={name}").as_str()]), side, "{name}");
        }
    }

    #[test]
    fn a_number_wins_over_the_models_own_size_and_auto_over_the_number_of_a_file() {
        assert_eq!(image_size(&["model.name=swin_base_384", "model.image_size=192"]), 192);
        let text = "data: {train: images}\nmodel: {name: swin_base_384, image_size: 192}\n";
        assert_eq!(resolved_of(text, &[]).unwrap().image_size(), 192);
        assert_eq!(resolved_of(text, &["model.image_size=auto"]).unwrap().image_size(), 384);
    }

    #[test]
    fn the_image_size_is_written_as_a_number_with_its_reason_and_read_again() {
        let first = resolved_of("data: {train: images}\n", &["model.name=swin_base_384"]).unwrap();
        let text = first.to_yaml();
        assert!(text.contains("\n# model.image_size 384: that of `swin_base_384` as published\n"), "{text}");
        assert!(text.contains("\n  image_size: 384\n"), "{text}");
        let again = resolved_of(&text, &[]).unwrap();
        assert_eq!(again.config, first.config);
        assert_eq!(again.choices, [] as [String; 0]);
    }

    #[test]
    fn how_images_become_numbers_is_written_with_its_reason_and_used() {
        let settings = ["model.name=tf_efficientnetv2_s", "model.weights=w.pth", "augment.resize=center_crop"];
        let first = resolved_of("data: {train: images}\n", &settings).unwrap();
        assert_eq!(first.normalization(), Normalization { mean: vec![0.5; 3], std: vec![0.5; 3] });
        assert_eq!(first.eval_transform().resize, ResizeMode::CenterCrop { crop_share: 1.0 });
        assert_eq!([first.eval_transform().filter, first.train_transform().filter], [ResizeFilter::Bicubic; 2]);
        let text = first.to_yaml();
        assert!(text.contains("\n# model.mean [0.5, 0.5, 0.5]: as timm has it for `tf_efficientnetv2_s`\n"), "{text}");
        let again = resolved_of(&text, &[]).unwrap();
        assert_eq!((again.config, again.choices), (first.config, Vec::<String>::new()));
    }

    #[test]
    fn without_weights_images_become_the_numbers_that_they_always_were() {
        for channels in [1, 3] {
            let resolved = resolved_of("data: {train: images}\n", &[&format!("model.in_channels={channels}")]).unwrap();
            assert_eq!(resolved.normalization(), Normalization::imagenet(channels));
            assert_eq!(resolved.eval_transform().filter, ResizeFilter::Bilinear);
        }
        let cropped = resolved_of("data: {train: images}\n", &["augment.resize=center_crop"]).unwrap();
        assert_eq!(cropped.eval_transform().resize, ResizeMode::CenterCrop { crop_share: 0.875 });
    }

    #[test]
    fn an_unknown_model_is_refused_alike_with_and_without_an_image_size() {
        let text = "data: {train: images}\nmodel: {name: swin_bas}\n";
        let without = resolved_of(text, &[]).unwrap_err();
        assert_eq!(without.message, "unknown model `swin_bas`");
        let with = resolved_of(text, &["model.image_size=64"]).unwrap().architecture().err().unwrap();
        assert_eq!(without, with);
    }
}
