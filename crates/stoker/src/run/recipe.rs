//! What the training loop is told of the configuration's optimizer and parameter groups.

use trainer::{
    AdafactorOptions, AdamWOptions, GroupOptions, LambOptions, LionOptions, MuonOptions, OptimizerOptions, SgdOptions,
};

use crate::config::{MuonStepLength, OptimizerName, TrainSection, UserConfig};

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
                adamw: adamw(train),
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
