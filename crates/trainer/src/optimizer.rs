use std::collections::BTreeMap;

use burn::module::{Module, ParamId};
use burn::optim::{AdamW as Rule, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{Device, Tensor, TensorData};
use checkpoint::OptimizerState;
use vision_nn::{AdamWStep, ParameterMap, adamw, has_adamw, map_parameters, off_tape, onto_tape};

use crate::Gradients;

const MOMENT_1: &str = "moment_1/";
const MOMENT_2: &str = "moment_2/";

/// AdamW's constants; the defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled decay, times the learning rate. Norms, biases and other vectors are not decayed.
    pub weight_decay: f32,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

/// AdamW over a module's parameters, with its state by parameter name, so that it can be saved and taken up again.
///
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019. The rule itself is Burn's, applied to flat tensors: it is elementwise.
#[derive(Clone)]
pub struct AdamW {
    options: AdamWOptions,
    decayed: Rule,
    undecayed: Rule,
    step: u64,
    states: BTreeMap<String, AdamWState<1>>,
}

impl AdamW {
    /// An optimizer without history.
    pub fn new(options: AdamWOptions) -> Self {
        let rule = |weight_decay| {
            let config = AdamWConfig::new().with_beta_1(options.beta_1).with_beta_2(options.beta_2);
            config.with_epsilon(options.epsilon).with_weight_decay(weight_decay).build()
        };
        Self { options, decayed: rule(options.weight_decay), undecayed: rule(0.0), step: 0, states: BTreeMap::new() }
    }

    /// Moves every parameter that has a gradient.
    pub fn step<M: Module>(&mut self, learning_rate: f64, module: M, gradients: Gradients) -> M {
        self.step += 1;
        map_parameters(module, &mut StepMap { optimizer: self, learning_rate, gradients })
    }

    /// The moments by name, copied to the host.
    pub fn state(&self) -> OptimizerState {
        let moments = |(name, state): (&String, &AdamWState<1>)| {
            [
                (format!("{MOMENT_1}{name}"), state.momentum.moment_1.to_data()),
                (format!("{MOMENT_2}{name}"), state.momentum.moment_2.to_data()),
            ]
        };
        self.states.iter().flat_map(moments).collect()
    }

    /// Takes up the moments that [`state`](Self::state) gave after `step` steps. Both moments of a parameter must be there.
    pub fn restore(&mut self, mut state: OptimizerState, step: u64, device: &Device) {
        self.step = step;
        self.states.clear();
        let names: Vec<String> = state.keys().filter_map(|key| key.strip_prefix(MOMENT_1).map(str::to_owned)).collect();
        for name in names {
            let mut moment = |prefix: &str| state.remove(&format!("{prefix}{name}"));
            if let (Some(first), Some(second)) = (moment(MOMENT_1), moment(MOMENT_2)) {
                self.states.insert(name, momentum(step, first, second, device));
            }
        }
    }
}

fn momentum(step: u64, first: TensorData, second: TensorData, device: &Device) -> AdamWState<1> {
    let time = usize::try_from(step).unwrap_or(usize::MAX);
    let tensor = |data| Tensor::<1>::from_data(data, device);
    AdamWState::new(AdaptiveMomentumState::new(time, tensor(first), tensor(second)))
}

struct StepMap<'a> {
    optimizer: &'a mut AdamW,
    learning_rate: f64,
    gradients: Gradients,
}

impl StepMap<'_> {
    /// What Burn's rule does in a dozen passes over memory, where there is one for it.
    fn in_one_pass(
        &self,
        weight: Tensor<1>,
        gradient: Tensor<1>,
        state: Option<AdamWState<1>>,
        is_decayed: bool,
    ) -> (Tensor<1>, Option<AdamWState<1>>) {
        let AdamWOptions { beta_1, beta_2, epsilon, weight_decay } = self.optimizer.options;
        let time = state.as_ref().map_or(0, |state| state.momentum.time) + 1;
        let moments = state.map(|AdamWState { momentum }| [momentum.moment_1, momentum.moment_2]);
        let step = AdamWStep {
            learning_rate: self.learning_rate,
            beta_1: f64::from(beta_1),
            beta_2: f64::from(beta_2),
            epsilon: f64::from(epsilon),
            weight_decay: if is_decayed { f64::from(weight_decay) } else { 0.0 },
            step: time as u64,
        };
        let (weight, [first, second]) = adamw(weight, gradient, moments, step);
        (weight, Some(AdamWState::new(AdaptiveMomentumState::new(time, first, second))))
    }
}

impl ParameterMap for StepMap<'_> {
    fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
        let Some(gradient) = self.gradients.remove(name) else {
            return tensor;
        };
        // timm's convention: vectors (norms, biases, layer scale) are not decayed.
        let rule = if D > 1 { &self.optimizer.decayed } else { &self.optimizer.undecayed };
        let shape = tensor.dims();
        let device = tensor.device();
        let flat = off_tape(tensor).reshape([shape.iter().product::<usize>()]);
        let state = self.optimizer.states.remove(name);
        let (flat, state) = if has_adamw(&flat) {
            self.in_one_pass(flat, gradient, state, D > 1)
        } else {
            rule.step(self.learning_rate, flat, gradient, state)
        };
        if let Some(state) = state {
            self.optimizer.states.insert(name.to_owned(), state);
        }
        onto_tape(flat.reshape(shape), &device)
    }
}
