//! What the training loop is told of the configuration's optimizer, parameter groups, learning rate and loss.

use trainer::{
    AdafactorOptions, AdamWOptions, Constant, EarlyStopping, GroupOptions, LambOptions, LionOptions, LossKind,
    LossOptions, MuonOptions, OneCycle, OptimizerOptions, Plateau, Schedule, SgdOptions, StepDecay, WarmupCosine,
    balanced_class_weights,
};

use crate::config::{ClassWeights, LossName, MuonStepLength, OptimizerName, ScheduleName, TrainSection, UserConfig};
use crate::error::CommandError;

/// The rule with its constants; what is not set is the rule's default.
pub(crate) fn optimizer(train: &TrainSection) -> OptimizerOptions {
    match train.optimizer {
        OptimizerName::AdamW => OptimizerOptions::AdamW(adamw(train)),
        OptimizerName::Sgd => {
            let default = SgdOptions::default();
            let momentum = or(train.momentum, default.momentum);
            OptimizerOptions::Sgd(SgdOptions { momentum, weight_decay: or(train.weight_decay, 0.0), ..default })
        }
        OptimizerName::Lamb => {
            let default = LambOptions::default();
            let [beta_1, beta_2] = betas(train, [default.beta_1, default.beta_2]);
            OptimizerOptions::Lamb(LambOptions {
                beta_1,
                beta_2,
                epsilon: or(train.epsilon, default.epsilon),
                weight_decay: or(train.weight_decay, default.weight_decay),
                ..default
            })
        }
        OptimizerName::Lion => {
            let default = LionOptions::default();
            let [beta_1, beta_2] = betas(train, [default.beta_1, default.beta_2]);
            let weight_decay = or(train.weight_decay, default.weight_decay);
            OptimizerOptions::Lion(LionOptions { beta_1, beta_2, weight_decay })
        }
        OptimizerName::Adafactor => {
            let default = AdafactorOptions::default();
            let weight_decay = or(train.weight_decay, default.weight_decay);
            OptimizerOptions::Adafactor(AdafactorOptions { weight_decay, ..default })
        }
        OptimizerName::Muon => {
            let default = MuonOptions::default();
            OptimizerOptions::Muon(MuonOptions {
                momentum: or(train.momentum, default.momentum),
                weight_decay: or(train.weight_decay, default.weight_decay),
                step_length: match train.muon_step_length {
                    MuonStepLength::Original => trainer::MuonStepLength::Original,
                    MuonStepLength::MatchAdamw => trainer::MuonStepLength::MatchAdamW,
                },
                adamw: AdamWOptions { weight_decay: default.adamw.weight_decay, ..adamw(train) },
                ..default
            })
        }
    }
}

fn adamw(train: &TrainSection) -> AdamWOptions {
    let default = AdamWOptions::default();
    let [beta_1, beta_2] = betas(train, [default.beta_1, default.beta_2]);
    let epsilon = or(train.epsilon, default.epsilon);
    AdamWOptions { beta_1, beta_2, epsilon, weight_decay: or(train.weight_decay, default.weight_decay) }
}

fn or(set: Option<f64>, default: f32) -> f32 {
    set.map_or(default, |value| value as f32)
}

fn betas(train: &TrainSection, default: [f32; 2]) -> [f32; 2] {
    train.betas.map_or(default, |betas| betas.map(|beta| beta as f32))
}

/// Which parameters train, and how fast.
pub(crate) fn groups(config: &UserConfig) -> GroupOptions {
    GroupOptions {
        freeze: config.model.freeze.clone(),
        layer_decay: config.train.layer_decay,
        head_learning_rate_scale: config.train.head_learning_rate_scale,
    }
}

/// The learning rate of every step.
pub(crate) fn schedule(train: &TrainSection, steps_per_epoch: u64) -> Schedule {
    let steps = |epochs: f64| (epochs * steps_per_epoch as f64).round() as u64;
    let (peak, minimum) = (train.highest_learning_rate(), train.min_learning_rate);
    let (warmup_steps, factor) = (steps(train.warmup_epochs), train.decay_rate);
    let total_steps = (train.epochs as u64).saturating_mul(steps_per_epoch);
    match train.schedule {
        ScheduleName::Cosine => Schedule::Cosine(WarmupCosine { peak, minimum, warmup_steps, total_steps }),
        ScheduleName::Constant => Schedule::Constant(Constant { peak, warmup_steps }),
        ScheduleName::OneCycle => Schedule::OneCycle(OneCycle { peak, rise: train.one_cycle_rise, total_steps }),
        ScheduleName::Step => {
            let every_steps = steps(train.decay_epochs).max(1);
            Schedule::Step(StepDecay { peak, minimum, warmup_steps, every_steps, factor })
        }
        ScheduleName::Plateau => {
            let patience = u32::try_from(train.patience_epochs).unwrap_or(u32::MAX);
            Schedule::Plateau(Plateau { peak, minimum, warmup_steps, factor, patience })
        }
    }
}

/// What is minimised, with classes of so many images.
pub(crate) fn loss(train: &TrainSection, class_counts: &[usize]) -> LossOptions {
    let class_weights = train.class_weights.as_ref().map(|weights| match weights {
        ClassWeights::Balanced(_) => balanced_class_weights(class_counts),
        // A plan without the data does not know how many classes there are.
        ClassWeights::Each(weights) if weights.len() != class_counts.len() => vec![1.0; class_counts.len()],
        ClassWeights::Each(weights) => weights.iter().map(|&weight| weight as f32).collect(),
    });
    let kind = match train.loss {
        LossName::CrossEntropy => LossKind::CrossEntropy,
        LossName::Bce => LossKind::BinaryCrossEntropy,
        LossName::Focal => LossKind::Focal { gamma: train.focal_gamma },
    };
    LossOptions { kind, label_smoothing: train.label_smoothing as f32, class_weights }
}

/// Whether there is a weight for each class.
///
/// # Errors
/// More or fewer weights than classes.
pub(crate) fn check_class_weights(train: &TrainSection, classes: &[String]) -> Result<(), CommandError> {
    match &train.class_weights {
        Some(ClassWeights::Each(weights)) if weights.len() != classes.len() => {
            let message =
                format!("`train.class_weights` has {} numbers, but there are {} classes", weights.len(), classes.len());
            let hint = format!("give a number for each of {}, in this order", classes.join(", "));
            Err(CommandError::wrong_request(message).with_hint(hint))
        }
        _ => Ok(()),
    }
}

/// What is to be told of a `train.top_k` that every label is among. At its default it was not asked for.
pub(crate) fn idle_top_k(train: &TrainSection, classes: usize) -> Option<String> {
    let top_k = train.top_k;
    let is_idle = top_k >= classes && top_k != TrainSection::default().top_k;
    is_idle.then(|| {
        format!("`train.top_k` has no effect, because there are {classes} classes: each is among the {top_k} highest")
    })
}

/// When to stop before the last epoch.
pub(crate) fn early_stopping(train: &TrainSection) -> Option<EarlyStopping> {
    let patience = u32::try_from(train.early_stopping.patience?).unwrap_or(u32::MAX);
    Some(EarlyStopping { patience, min_delta: train.early_stopping.min_delta })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_top_k_that_every_label_is_among_is_told() {
        let told = |top_k, classes| idle_top_k(&TrainSection { top_k, ..TrainSection::default() }, classes);
        let five = "`train.top_k` has no effect, because there are 5 classes: each is among the 5 highest";
        assert_eq!(told(5, 5).as_deref(), Some(five));
        assert!(told(9, 5).is_some());
        assert_eq!(told(5, 6), None);
        assert_eq!(told(3, 2), None, "the default, which nobody asked for");
    }

    #[test]
    fn what_is_decided_is_what_the_rules_have_by_default() {
        let names = ["adamw", "sgd", "lamb", "lion", "adafactor", "muon"];
        for name in names {
            let optimizer = serde_yaml::from_str(name).expect("it is one of the names");
            let open = TrainSection { optimizer, ..TrainSection::default() };
            let mut decided = open.clone();
            decided.decide_optimizer_constants();
            assert_eq!(super::optimizer(&decided), super::optimizer(&open), "{name}");
            assert_eq!(optimizer.as_str(), name);
        }
    }

    #[test]
    fn epochs_become_steps() {
        let train = TrainSection {
            schedule: ScheduleName::Step,
            decay_epochs: 1.5,
            warmup_epochs: 0.5,
            ..TrainSection::default()
        };
        let Schedule::Step(stairs) = schedule(&train, 10) else { panic!("another schedule") };
        assert_eq!((stairs.warmup_steps, stairs.every_steps), (5, 15));
        // A plan that does not know the number of images takes the largest there is.
        schedule(&TrainSection { epochs: 100_000, ..train }, u64::MAX);
    }
}
