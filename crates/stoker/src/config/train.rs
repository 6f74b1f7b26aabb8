//! The section `train`: the training loop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{AutoCount, ClassWeights, LossName, MuonStepLength, OptimizerName, Precision, ScheduleName};

/// The training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Passes over the training images.
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: usize,
    /// Images per optimizer step. It is kept exactly, whatever the device can take at once.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub effective_batch_size: usize,
    /// Images computed at once; their gradients are added up to the effective batch. `auto` takes
    /// what the memory plan finds.
    pub micro_batch_size: AutoCount,
    /// When memory runs out, fewer images are computed at once for the rest of the run. This lets their number grow again, by
    /// doubling, after 100 steps without trouble and when the memory used leaves room; a size that fails again is not tried again.
    pub adaptive_batch: bool,
    /// Format of feature maps, matrix products and dense convolutions; half precision halves the memory of the maps. Weights, gradients, optimizer,
    /// norms, softmax and loss stay in fp32. `auto` goes by the card, and takes 16 bits also where nothing fits in 32.
    pub precision: Precision,
    /// Highest learning rate, reached at the end of warm-up. The optimizer's default when `null`: 1e-3, of `lion` 1e-4, of `adafactor` 1e-2, of
    /// `muon` 0.02 (with `muon_step_length: match_adamw` 1e-3). PyTorch's `Muon` has 1e-3 with either step length: set 0.001 to repeat one of its runs.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub learning_rate: Option<f64>,
    /// Weight decay of matrices and kernels; vectors (norms, biases, layer scale) and Swin's tables of position biases are never
    /// decayed. The optimizer's default when `null`: 0.01 of `adamw` and `lamb`, 0.1 of `muon`, 0 of the others.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// Decay rates of the first and the second moment, of `adamw`, `lamb`, `lion` and what `muon` leaves to `adamw`. The optimizer's
    /// default when `null`: `[0.9, 0.999]`, of `lion` `[0.9, 0.99]`.
    #[schemars(extend(
        "items" = { "type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0 },
        "x-parts" = "first, second"
    ))]
    pub betas: Option<[f64; 2]>,
    /// Term against division by zero, of `adamw`, `lamb` and what `muon` leaves to `adamw`. The optimizer's default when `null`:
    /// 1e-8, of `lamb` 1e-6.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub epsilon: Option<f64>,
    /// Length of the linear warm-up, in epochs; fractions are allowed.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// Lowest learning rate: at the end of `cosine`, and below which `step` and `plateau` do not go.
    #[schemars(range(min = 0.0))]
    pub min_learning_rate: f64,
    /// Share of the target that is spread over all classes.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub label_smoothing: f64,
    /// Largest norm of all gradients together; larger ones are scaled down to it. No clipping when
    /// `null`.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub clip_norm: Option<f64>,
    /// Decay of an exponential moving average of the weights, which is then what is validated and saved as best. Step t, from 1, has the lower one of this
    /// and (1 + t) / (10 + t), so that the average of a short run is not mostly its start. No average when `null`.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub ema_decay: Option<f64>,
    /// Also report how often the right class is among this many highest scores.
    #[schemars(range(min = 1))]
    pub top_k: usize,
    /// Minutes after which the run is saved also in mid-epoch, so that a kill costs no more than that. Only at the end of epochs
    /// when `null`.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub checkpoint_minutes: Option<f64>,
    /// The rule that moves the weights. Its constants are `learning_rate`, `weight_decay`, `betas`, `epsilon` and `momentum`, as far as it has them.
    pub optimizer: OptimizerName,
    /// Momentum of `sgd` (with Nesterov's look ahead) and `muon`. The optimizer's default when `null`: 0.9 and 0.95.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub momentum: Option<f64>,
    /// How `muon` makes a step of a matrix out of the learning rate.
    pub muon_step_length: MuonStepLength,
    /// Learning rate of a layer over that of the layer behind it, so that early layers of pretrained weights move less (timm's `layer_decay`).
    /// All layers have the same rate when `null`.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    pub layer_decay: Option<f64>,
    /// Times the learning rate of the head, which starts anew when the classes are others than those of the weights.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub head_learning_rate_scale: f64,
    /// How the learning rate changes after warm-up, step by step.
    pub schedule: ScheduleName,
    /// Epochs of each stair of the `step` schedule; fractions are allowed.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub decay_epochs: f64,
    /// Times the learning rate from one stair of `step` to the next, and at each reduction of `plateau`.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub decay_rate: f64,
    /// Epochs without a lower validation loss that `plateau` waits before it reduces the learning rate.
    #[schemars(range(min = 0, max = 100_000))]
    pub patience_epochs: usize,
    /// Share of the run in which the learning rate of `one_cycle` rises, from a 25th of the highest; it has no other warm-up.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub one_cycle_rise: f64,
    /// What is minimised. Validation always scores plain cross-entropy.
    pub loss: LossName,
    /// What each class counts for in the loss: `balanced`, so that each counts the same whatever its number of images, or a number for each
    /// class in the order of the classes. All images count the same when `null`.
    pub class_weights: Option<ClassWeights>,
    /// The power of `focal`: how much less an image counts that is right already.
    #[schemars(range(min = 1.0))]
    pub focal_gamma: f64,
    /// Steps in a row whose loss or gradients are not finite at which the run stops, with the weights and the images of the last of them in the run
    /// folder. Below that, such a step is left out and counted.
    #[schemars(range(min = 1))]
    pub max_nonfinite_steps: u64,
    /// When training stops before its last epoch.
    pub early_stopping: EarlyStoppingSection,
    /// Epochs whose weights are kept, the best ones by macro-F1, then by validation loss: above 1, each has a file `best_epoch_N` beside `best`.
    #[schemars(range(min = 1, max = 100))]
    pub keep_best: usize,
    /// Whether a finished run also writes `averaged`: the mean of the weights of the epochs that `keep_best` keeps, scored in validation beside `best`.
    /// Batch norms then measure their statistics anew, in a pass over the training images. `predict --checkpoint averaged` takes it.
    pub average_best: bool,
    /// Whether a finished run is calibrated as by `stoker calibrate`: on its validation images (of a fold, those that its model was not trained on), in
    /// the views of `predict`. `predict --use-calibration` takes it.
    pub calibrate: bool,
}

/// When training stops before its last epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyStoppingSection {
    /// Epochs without a better macro-F1 in validation after which training stops. It never does when `null`.
    #[schemars(range(min = 1, max = 100_000))]
    pub patience: Option<usize>,
    /// By how much macro-F1 must be above the best one to be better.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_delta: f64,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            epochs: 10,
            effective_batch_size: 32,
            micro_batch_size: AutoCount::Auto,
            adaptive_batch: false,
            precision: Precision::Auto,
            learning_rate: None,
            weight_decay: None,
            betas: None,
            epsilon: None,
            warmup_epochs: 1.0,
            min_learning_rate: 1.0e-6,
            label_smoothing: 0.0,
            clip_norm: None,
            ema_decay: None,
            top_k: 3,
            checkpoint_minutes: Some(10.0),
            optimizer: OptimizerName::default(),
            momentum: None,
            muon_step_length: MuonStepLength::default(),
            layer_decay: None,
            head_learning_rate_scale: 1.0,
            schedule: ScheduleName::default(),
            decay_epochs: 30.0,
            decay_rate: 0.1,
            patience_epochs: 10,
            one_cycle_rise: 0.3,
            loss: LossName::default(),
            class_weights: None,
            focal_gamma: 2.0,
            max_nonfinite_steps: 10,
            early_stopping: EarlyStoppingSection::default(),
            keep_best: 1,
            average_best: false,
            calibrate: false,
        }
    }
}
