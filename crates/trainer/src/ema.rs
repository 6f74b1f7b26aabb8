use std::collections::{BTreeMap, BTreeSet};

use burn::module::{AutodiffModule, Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use vision_nn::{
    AssignError, ParameterMap, ParameterPath, assign_parameters, blend_all, map_parameters, off_tape, takes_lists,
};

use crate::ParameterGroups;
use crate::taken::{Taken, put_back, take_out};

/// Exponential moving average of a model's weights, kept off the tape.
///
/// The decay warms up, `min(decay, (1 + t) / (10 + t))` at step t, so that the average of a short run is not mostly its start
/// (TensorFlow's `ExponentialMovingAverage`; timm's `ModelEmaV3` has a warm-up of another form).
#[derive(Debug, Clone)]
pub(crate) struct Ema<M> {
    model: M,
    decay: f64,
    /// Parameters that never move, whose average is the weight itself, to the bit and in the same memory.
    frozen: BTreeSet<String>,
}

impl<M: AutodiffModule> Ema<M> {
    /// An average that starts at the model's weights.
    pub(crate) fn new(model: &M, decay: f64, groups: &ParameterGroups) -> Self {
        let frozen = groups.iter().filter(|(_, rule)| rule.is_frozen).map(|(name, _)| name.to_owned());
        Self { model: off_tape_model(model), decay, frozen: frozen.collect() }
    }

    /// The averaged model, for evaluation.
    pub(crate) fn model(&self) -> &M {
        &self.model
    }

    /// What the average keeps of itself in optimizer step `step` (counted from 1).
    pub(crate) fn decay_at(&self, step: u64) -> f64 {
        self.decay.min((1 + step) as f64 / (10 + step) as f64)
    }

    /// Moves the average towards `model`, after optimizer step `step` (counted from 1).
    pub(crate) fn update(self, model: &M, step: u64) -> Self {
        self.update_others(model, &BTreeSet::new(), step)
    }

    /// As [`update`](Self::update), but for the parameters named in `moved`.
    pub(crate) fn update_others(self, model: &M, moved: &BTreeSet<String>, step: u64) -> Self {
        let decay = self.decay_at(step);
        let mut weights = flat_weights(model);
        weights.retain(|name, _| !self.frozen.contains(name) && !moved.contains(name));
        match weights.values().next().is_some_and(|weight| takes_lists(&weight.device())) {
            true => self.update_at_once(weights, decay),
            false => Self { model: map_parameters(self.model, &mut Towards { weights, decay }), ..self },
        }
    }

    fn update_at_once(self, weights: BTreeMap<String, Tensor<1>>, decay: f64) -> Self {
        let (ema, taken) = self.take_out(|name| weights.contains_key(name));
        let (names, taken): (Vec<String>, Vec<Taken>) = taken.into_iter().unzip();
        let (own, places): (Vec<Tensor<1>>, Vec<_>) =
            taken.into_iter().map(|Taken { tensor, place }| (tensor, place)).unzip();
        let moved = blend_all(own, weights.into_values().collect(), decay, 1.0 - decay);
        let taken = moved.into_iter().zip(places).map(|(tensor, place)| Taken { tensor, place });
        ema.put_back(names.into_iter().zip(taken).collect())
    }

    /// Takes out the averages whose names are wanted, until [`put_back`](Self::put_back).
    pub(crate) fn take_out(self, is_wanted: impl Fn(&str) -> bool) -> (Self, BTreeMap<String, Taken>) {
        let (model, taken) = take_out(self.model, is_wanted);
        (Self { model, ..self }, taken)
    }

    /// Puts averages back in their places.
    pub(crate) fn put_back(self, taken: BTreeMap<String, Taken>) -> Self {
        Self { model: put_back(self.model, taken), ..self }
    }

    /// Takes up the averaged weights that were saved.
    pub(crate) fn restore(self, state: BTreeMap<String, TensorData>) -> Result<Self, Box<AssignError>> {
        Ok(Self { model: assign_parameters(self.model, state)?, ..self })
    }
}

struct Towards {
    weights: BTreeMap<String, Tensor<1>>,
    decay: f64,
}

impl ParameterMap for Towards {
    fn map<const D: usize>(&mut self, name: &str, _id: ParamId, average: Tensor<D>) -> Tensor<D> {
        let Some(weight) = self.weights.remove(name) else { return average };
        let shape = average.dims();
        average.mul_scalar(self.decay) + weight.mul_scalar(1.0 - self.decay).reshape(shape)
    }
}

/// A copy of the model off the tape. [`AutodiffModule::valid`] does the same, but not where the step is only recorded.
pub(crate) fn off_tape_model<M: Module>(model: &M) -> M {
    struct OffTape;
    impl ParameterMap for OffTape {
        fn map<const D: usize>(&mut self, _name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
            off_tape(tensor)
        }
    }
    map_parameters(model.clone(), &mut OffTape)
}

/// Weights by name, off the tape; views of the model's own memory.
pub(crate) fn flat_weights<M: Module>(model: &M) -> BTreeMap<String, Tensor<1>> {
    struct Flat(ParameterPath, BTreeMap<String, Tensor<1>>);
    impl ModuleVisitor for Flat {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let weight = off_tape(param.val());
            let elements = weight.shape().num_elements();
            self.1.insert(self.0.name(), weight.reshape([elements]));
        }
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.0.exit(container);
        }
    }
    let mut flat = Flat(ParameterPath::default(), BTreeMap::new());
    model.visit(&mut flat);
    flat.1
}
