//! The constants of the optimizer: which of them it has, and their defaults.

use super::train::TrainSection;
use super::values::{MuonStepLength, OptimizerName};

impl OptimizerName {
    /// As it is written in YAML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdamW => "adamw",
            Self::Sgd => "sgd",
            Self::Lamb => "lamb",
            Self::Lion => "lion",
            Self::Adafactor => "adafactor",
            Self::Muon => "muon",
        }
    }

    /// PyTorch's and timm's. Muon's is its author's, 0.02: PyTorch's 1e-3 suits steps as long as `adamw`'s alone.
    fn default_learning_rate(self, muon_step_length: MuonStepLength) -> f64 {
        match (self, muon_step_length) {
            (Self::Lion, _) => 1e-4,
            (Self::Adafactor, _) => 1e-2,
            (Self::Muon, MuonStepLength::Original) => 2e-2,
            (Self::AdamW | Self::Sgd | Self::Lamb | Self::Muon, _) => 1e-3,
        }
    }

    fn default_weight_decay(self) -> f64 {
        match self {
            Self::AdamW | Self::Lamb => 0.01,
            Self::Muon => 0.1,
            Self::Sgd | Self::Lion | Self::Adafactor => 0.0,
        }
    }

    fn default_betas(self) -> Option<[f64; 2]> {
        match self {
            Self::AdamW | Self::Lamb | Self::Muon => Some([0.9, 0.999]),
            Self::Lion => Some([0.9, 0.99]),
            Self::Sgd | Self::Adafactor => None,
        }
    }

    fn default_epsilon(self) -> Option<f64> {
        match self {
            Self::AdamW | Self::Muon => Some(1e-8),
            Self::Lamb => Some(1e-6),
            Self::Sgd | Self::Lion | Self::Adafactor => None,
        }
    }

    fn default_momentum(self) -> Option<f64> {
        match self {
            Self::Sgd => Some(0.9),
            Self::Muon => Some(0.95),
            Self::AdamW | Self::Lamb | Self::Lion | Self::Adafactor => None,
        }
    }
}

impl TrainSection {
    /// The learning rate that is set, or the optimizer's own.
    #[must_use]
    pub fn highest_learning_rate(&self) -> f64 {
        self.learning_rate.unwrap_or_else(|| self.optimizer.default_learning_rate(self.muon_step_length))
    }

    /// Sets the constants that were left to the optimizer, as far as it has them.
    pub fn decide_optimizer_constants(&mut self) {
        let name = self.optimizer;
        self.learning_rate = Some(self.highest_learning_rate());
        self.weight_decay = self.weight_decay.or(Some(name.default_weight_decay()));
        self.betas = self.betas.or(name.default_betas());
        self.epsilon = self.epsilon.or(name.default_epsilon());
        self.momentum = self.momentum.or(name.default_momentum());
    }
}

/// Constants that the optimizer does not have, with whether they are set.
pub(super) fn settings_without_effect(train: &TrainSection) -> Vec<(bool, String)> {
    let name = train.optimizer;
    let idle = |key: &str| format!("`train.{key}` has no effect with `train.optimizer: {}`", name.as_str());
    vec![
        (train.betas.is_some() && name.default_betas().is_none(), idle("betas")),
        (train.epsilon.is_some() && name.default_epsilon().is_none(), idle("epsilon")),
        (train.momentum.is_some() && name.default_momentum().is_none(), idle("momentum")),
        (train.muon_step_length != MuonStepLength::default() && name != OptimizerName::Muon, idle("muon_step_length")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optimizers_constants_are_its_own_and_what_is_set_stays() {
        let mut lion =
            TrainSection { optimizer: OptimizerName::Lion, weight_decay: Some(0.3), ..TrainSection::default() };
        lion.decide_optimizer_constants();
        let constants = (lion.weight_decay, lion.betas, lion.epsilon, lion.momentum);
        assert_eq!(constants, (Some(0.3), Some([0.9, 0.99]), None, None));
        assert!(settings_without_effect(&lion).iter().all(|(is_idle, _)| !is_idle), "what is decided is no mistake");
    }

    #[test]
    fn a_learning_rate_is_the_optimizers_own_unless_it_is_set() {
        let rate = |text: &str| {
            let mut train: TrainSection = serde_yaml::from_str(text).expect("valid");
            train.decide_optimizer_constants();
            train.learning_rate.expect("decided")
        };
        let rates =
            [("adamw", 1e-3), ("sgd", 1e-3), ("lamb", 1e-3), ("lion", 1e-4), ("adafactor", 1e-2), ("muon", 2e-2)];
        for (optimizer, expected) in rates {
            assert_eq!(rate(&format!("optimizer: {optimizer}")), expected, "{optimizer}");
            assert_eq!(rate(&format!("{{optimizer: {optimizer}, learning_rate: 0.5}}")), 0.5, "{optimizer}");
        }
        assert_eq!(rate("{optimizer: muon, muon_step_length: match_adamw}"), 1e-3);
    }

    #[test]
    fn a_constant_that_the_optimizer_lacks_is_told() {
        let train = TrainSection { momentum: Some(0.8), ..TrainSection::default() };
        let told: Vec<String> =
            settings_without_effect(&train).into_iter().filter_map(|(is_idle, text)| is_idle.then_some(text)).collect();
        assert_eq!(told, ["`train.momentum` has no effect with `train.optimizer: adamw`"]);
    }
}
