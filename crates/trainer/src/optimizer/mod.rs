//! Optimizers over a module's parameters, with their state by parameter name, so that it can be saved and taken up again.
//!
//! A rule sees one flat parameter at a time, or all of them at once, and reads nothing from the device, so that a step can be recorded and run dry.

mod adafactor;
mod adamw;
mod at_once;
mod lamb;
mod lion;
mod muon;
mod sgd;

use std::collections::BTreeMap;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use checkpoint::{LiveTensor, OptimizerState};
use vision_nn::{ParameterMap, map_parameters, off_tape, onto_tape};

use crate::{Gradients, ParameterGroups};

pub use adafactor::AdafactorOptions;
pub use adamw::AdamWOptions;
pub(crate) use at_once::Push;
pub use lamb::LambOptions;
pub use lion::LionOptions;
pub use muon::{MuonOptions, MuonStepLength};
pub use sgd::SgdOptions;

/// Which rule moves the weights, with its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerOptions {
    /// Two moments a weight.
    AdamW(AdamWOptions),
    /// One moment a weight.
    Sgd(SgdOptions),
    /// Two moments a weight, and a step in proportion to each weight's norm.
    Lamb(LambOptions),
    /// One moment a weight, of which steps take the sign.
    Lion(LionOptions),
    /// The second moment of rows and columns.
    Adafactor(AdafactorOptions),
    /// One moment a weight of a matrix, of which steps take the orthogonal part; AdamW for all else.
    Muon(MuonOptions),
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        Self::AdamW(AdamWOptions::default())
    }
}

impl OptimizerOptions {
    /// How many numbers are kept for a parameter of that shape.
    pub fn state_elements(&self, shape: &[usize]) -> usize {
        self.slots(shape).iter().map(|(_, elements)| elements).sum()
    }

    /// Weight decay of what is decayed.
    pub fn weight_decay(&self) -> f32 {
        match self {
            Self::AdamW(options) => options.weight_decay,
            Self::Sgd(options) => options.weight_decay,
            Self::Lamb(options) => options.weight_decay,
            Self::Lion(options) => options.weight_decay,
            Self::Adafactor(options) => options.weight_decay,
            Self::Muon(options) => options.weight_decay,
        }
    }

    /// Names and lengths of the tensors that are kept for a parameter of that shape.
    fn slots(&self, shape: &[usize]) -> Vec<(&'static str, usize)> {
        let elements = shape.iter().product();
        match self {
            Self::AdamW(_) => AdamWOptions::slots(elements),
            Self::Sgd(options) => options.slots(elements),
            Self::Lamb(_) => LambOptions::slots(elements),
            Self::Lion(_) => LionOptions::slots(elements),
            Self::Adafactor(_) => AdafactorOptions::slots(shape),
            Self::Muon(_) => MuonOptions::slots(shape),
        }
    }

    fn turn(&self, turn: Turn<'_>, state: &mut Slots) -> Tensor<1> {
        match self {
            Self::AdamW(options) => options.turn(turn, state),
            Self::Sgd(options) => options.turn(turn, state),
            Self::Lamb(options) => options.turn(turn, state),
            Self::Lion(options) => options.turn(turn, state),
            Self::Adafactor(options) => options.turn(turn, state),
            Self::Muon(options) => options.turn(turn, state),
        }
    }
}

/// What is kept for one parameter, flat, by the name of its role.
type Slots = BTreeMap<&'static str, Tensor<1>>;

/// One parameter's turn in a step.
struct Turn<'a> {
    shape: &'a [usize],
    /// `[elements]`, off the tape.
    weight: Tensor<1>,
    /// `[elements]`
    gradient: Tensor<1>,
    learning_rate: f64,
    /// Of this parameter.
    weight_decay: f32,
    /// Steps of the optimizer, this one included.
    step: u64,
    /// Of all gradients together.
    gradient_norm: f64,
}

impl Turn<'_> {
    /// The weight after decoupled decay and a step against `direction`, `length` learning rates long.
    fn decayed_weight_less(self, direction: Tensor<1>, length: f64) -> Tensor<1> {
        let change = direction.mul_scalar(self.learning_rate * length);
        self.decayed_weight() - change
    }

    /// The weight after decoupled decay.
    fn decayed_weight(self) -> Tensor<1> {
        match f64::from(self.weight_decay) {
            0.0 => self.weight,
            decay => self.weight.mul_scalar(1.0 - decay * self.learning_rate),
        }
    }
}

/// `from + share (to - from)`
fn towards(from: Tensor<1>, to: Tensor<1>, share: f64) -> Tensor<1> {
    from.mul_scalar(1.0 - share) + to.mul_scalar(share)
}

/// A rule with what it keeps of every parameter.
#[derive(Clone)]
pub struct Optimizer {
    options: OptimizerOptions,
    groups: ParameterGroups,
    step: u64,
    states: BTreeMap<String, Slots>,
}

impl Optimizer {
    /// An optimizer without history, for the parameters that `groups` knows.
    pub fn new(options: OptimizerOptions, groups: ParameterGroups) -> Self {
        Self { options, groups, step: 0, states: BTreeMap::new() }
    }

    /// The rule and its constants.
    pub fn options(&self) -> &OptimizerOptions {
        &self.options
    }

    /// How each parameter trains.
    pub fn groups(&self) -> &ParameterGroups {
        &self.groups
    }

    /// Moves every parameter that has a gradient. `gradient_norm` is that of all `gradients` together. Reads nothing from the device.
    pub fn step<M: Module>(&mut self, learning_rate: f64, module: M, gradients: Gradients, gradient_norm: f64) -> M {
        self.step += 1;
        map_parameters(module, &mut StepMap { optimizer: self, learning_rate, gradients, gradient_norm })
    }

    /// Makes what is missing of the state, as zeros. Every rule begins from them: its first step with them is its first step without, to the bit.
    pub(crate) fn prepare(&mut self, device: &Device) -> bool {
        let mut is_made = false;
        for (name, rule) in self.groups.iter().filter(|(_, rule)| !rule.is_frozen) {
            let slots = self.options.slots(&rule.shape);
            if !slots.is_empty() && !self.states.contains_key(name) {
                let made = slots.into_iter().map(|(slot, elements)| (slot, Tensor::<1>::zeros([elements], device)));
                self.states.insert(name.to_owned(), made.collect());
                is_made = true;
            }
        }
        is_made
    }

    /// What is kept, tensor by tensor, each with its parameter's name.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (&str, &Tensor<1>)> {
        self.states.iter().flat_map(|(name, slots)| slots.values().map(move |tensor| (name.as_str(), tensor)))
    }

    /// What is kept, by role and parameter, copied to the host.
    pub fn state(&self) -> OptimizerState {
        self.named_slots().map(|(name, tensor)| (name, tensor.to_data())).collect()
    }

    /// What [`state`](Self::state) copies, where it is.
    pub(crate) fn live_state(&self) -> BTreeMap<String, LiveTensor> {
        self.named_slots().map(|(name, tensor)| (name, LiveTensor::new(tensor.clone(), tensor.dims().into()))).collect()
    }

    fn named_slots(&self) -> impl Iterator<Item = (String, &Tensor<1>)> {
        let of_parameter =
            |(name, slots)| Slots::iter(slots).map(move |(slot, tensor)| (format!("{slot}/{name}"), tensor));
        self.states.iter().flat_map(of_parameter)
    }

    /// What a state lacks of all that is kept once every parameter that trains has moved, by role and parameter: tensors that are not there or are of
    /// another length. Nothing for a rule that keeps nothing.
    pub(crate) fn missing_from(&self, state: &OptimizerState) -> Vec<String> {
        let trained = self.groups.iter().filter(|(_, rule)| !rule.is_frozen);
        let kept = trained.flat_map(|(name, rule)| {
            let slots = self.options.slots(&rule.shape).into_iter();
            slots.map(move |(slot, elements)| (format!("{slot}/{name}"), elements))
        });
        let is_there =
            |name: &str, elements: usize| state.get(name).is_some_and(|data| data.num_elements() == elements);
        kept.filter(|(name, elements)| !is_there(name, *elements)).map(|(name, _)| name).collect()
    }

    /// Takes up what [`state`](Self::state) gave after `step` steps. A parameter of which not all is there, or of another length, starts anew.
    pub fn restore(&mut self, mut state: OptimizerState, step: u64, device: &Device) {
        self.step = step;
        self.states.clear();
        for (name, rule) in self.groups.iter().filter(|(_, rule)| !rule.is_frozen) {
            let slots = self.options.slots(&rule.shape);
            let taken = slots.iter().map(|&(slot, elements)| {
                let data = state.remove(&format!("{slot}/{name}")).filter(|data| data.num_elements() == elements)?;
                Some((slot, Tensor::<1>::from_data(data, device)))
            });
            if let Some(taken) = taken.collect::<Option<Slots>>().filter(|taken| !taken.is_empty()) {
                self.states.insert(name.to_owned(), taken);
            }
        }
    }
}

struct StepMap<'a> {
    optimizer: &'a mut Optimizer,
    learning_rate: f64,
    gradients: Gradients,
    gradient_norm: f64,
}

impl ParameterMap for StepMap<'_> {
    fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
        let Optimizer { options, groups, step, states } = &mut *self.optimizer;
        let (Some(gradient), Some(rule)) = (self.gradients.remove(name), groups.rule(name)) else {
            return tensor;
        };
        let shape = tensor.dims();
        let device = tensor.device();
        let turn = Turn {
            shape: &shape,
            weight: off_tape(tensor).reshape([shape.iter().product::<usize>()]),
            gradient,
            learning_rate: self.learning_rate * rule.learning_rate_scale,
            weight_decay: if rule.is_decayed { options.weight_decay() } else { 0.0 },
            step: *step,
            gradient_norm: self.gradient_norm,
        };
        let mut state = states.remove(name).unwrap_or_default();
        let weight = options.turn(turn, &mut state);
        if !state.is_empty() {
            states.insert(name.to_owned(), state);
        }
        onto_tape(weight.reshape(shape), &device)
    }
}
