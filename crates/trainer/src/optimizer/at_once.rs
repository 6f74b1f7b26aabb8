//! AdamW's step over all parameters at once, with clipping and the average of the weights in the same pass, where the device has a kernel for it.

use std::collections::BTreeMap;

use burn::module::AutodiffModule;
use burn::tensor::{Device, Tensor};
use vision_nn::{AdamWStep, Moving, adamw_of_all, takes_lists};

use super::adamw::{MOMENT_1, MOMENT_2};
use super::{Optimizer, OptimizerOptions};
use crate::ema::Ema;
use crate::taken::{Place, Taken, put_back, take_out};
use crate::{AdamWOptions, Gradients};

/// What moves the weights at once: gradients times a factor.
pub(crate) struct Push {
    pub(crate) gradients: Gradients,
    /// Below 1 where they are clipped.
    pub(crate) factor: f64,
    pub(crate) learning_rate: f64,
}

impl Optimizer {
    /// The constants for [`step_at_once`](Self::step_at_once), where that serves on this device.
    pub(crate) fn at_once(&self, device: &Device) -> Option<AdamWOptions> {
        match self.options {
            OptimizerOptions::AdamW(options) => takes_lists(device).then_some(options),
            _ => None,
        }
    }

    /// As [`step`](Self::step), with that of the average, number `step`.
    pub(crate) fn step_at_once<M: AutodiffModule>(
        &mut self,
        options: AdamWOptions,
        module: M,
        mut push: Push,
        (ema, step): (Option<Ema<M>>, u64),
    ) -> (M, Option<Ema<M>>) {
        self.step += 1;
        let is_moved = |name: &str| push.gradients.get(name).is_some() && self.groups.rule(name).is_some();
        let (module, weights) = take_out(module, is_moved);
        let decay = ema.as_ref().map_or(0.0, |ema| ema.decay_at(step));
        let (ema, mut averages) = match ema.map(|ema| ema.take_out(|name| weights.contains_key(name))) {
            Some((ema, averages)) => (Some(ema), averages),
            None => (None, BTreeMap::new()),
        };
        let mut list = List::default();
        for (name, Taken { tensor, place }) in weights {
            list.gradients.extend(push.gradients.remove(&name));
            list.steps.push(self.adamw_step(options, push.learning_rate, &name));
            let average = averages.remove(&name);
            let moments = self.moments(&name, &tensor);
            let (average, average_place) = average.map(|Taken { tensor, place }| (tensor, place)).unzip();
            list.moving.push(Moving { weight: tensor, moments, average });
            list.places.push((name, place, average_place));
        }
        let moved = adamw_of_all(list.moving, list.gradients, list.steps, push.factor, decay);
        let [mut weights, mut averages] = [BTreeMap::new(), BTreeMap::new()];
        for (Moving { weight, moments: [first, second], average }, (name, place, average_place)) in
            moved.into_iter().zip(list.places)
        {
            self.states.insert(name.clone(), [(MOMENT_1, first), (MOMENT_2, second)].into());
            averages.extend(average.zip(average_place).map(|(tensor, place)| (name.clone(), Taken { tensor, place })));
            weights.insert(name, Taken { tensor: weight, place });
        }
        let moved_names = weights.keys().cloned().collect();
        let module = put_back(module, weights);
        let ema = ema.map(|ema| ema.put_back(averages).update_others(&module, &moved_names, step));
        (module, ema)
    }

    fn adamw_step(&self, options: AdamWOptions, learning_rate: f64, name: &str) -> AdamWStep {
        let rule = self.groups.rule(name).expect("only parameters with a rule are taken");
        let weight_decay = if rule.is_decayed { options.weight_decay } else { 0.0 };
        options.constants(learning_rate * rule.learning_rate_scale, weight_decay, self.step)
    }

    /// What is kept for a parameter, or zeros.
    fn moments(&mut self, name: &str, weight: &Tensor<1>) -> [Tensor<1>; 2] {
        let mut state = self.states.remove(name).unwrap_or_default();
        [MOMENT_1, MOMENT_2].map(|slot| state.remove(slot).unwrap_or_else(|| weight.zeros_like()))
    }
}

/// All parameters that move, in one order.
#[derive(Default)]
struct List {
    moving: Vec<Moving>,
    gradients: Vec<Tensor<1>>,
    steps: Vec<AdamWStep>,
    places: Vec<(String, Place, Option<Place>)>,
}
