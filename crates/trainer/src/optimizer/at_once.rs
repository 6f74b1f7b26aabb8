//! A step over all parameters at once, with clipping and the average of the weights in the same pass, by the rules that devices have kernels for.

use std::collections::BTreeMap;

use burn::module::AutodiffModule;
use burn::tensor::{Device, Tensor};
use vision_nn::{Moving, Steps, move_all, takes_lists};

use super::{Optimizer, OptimizerOptions};
use crate::ema::Ema;
use crate::taken::{Place, Taken, put_back, take_out};
use crate::{AdamWOptions, Gradients, SgdOptions};

/// A rule that moves all parameters at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ListRule {
    AdamW(AdamWOptions),
    Sgd(SgdOptions),
}

impl ListRule {
    /// The constants of step number `step`, of parameters at these rates.
    fn steps(self, rates: &[Rate], step: u64) -> Steps {
        match self {
            Self::AdamW(options) => {
                let constants = |rate: &Rate| options.constants(rate.learning_rate, rate.weight_decay, step);
                Steps::AdamW(rates.iter().map(constants).collect())
            }
            Self::Sgd(options) => {
                let constants = |rate: &Rate| options.constants(rate.learning_rate, rate.weight_decay);
                Steps::Sgd(rates.iter().map(constants).collect())
            }
        }
    }
}

/// What parameters may differ in.
struct Rate {
    learning_rate: f64,
    weight_decay: f32,
}

/// What moves the weights at once: gradients times a factor.
pub(crate) struct Push {
    pub(crate) gradients: Gradients,
    /// Below 1 where they are clipped.
    pub(crate) factor: f64,
    pub(crate) learning_rate: f64,
}

impl Optimizer {
    /// The rule for [`step_at_once`](Self::step_at_once), where that serves on this device.
    pub(crate) fn at_once(&self, device: &Device) -> Option<ListRule> {
        let rule = match self.options {
            OptimizerOptions::AdamW(options) => ListRule::AdamW(options),
            OptimizerOptions::Sgd(options) => ListRule::Sgd(options),
            _ => return None,
        };
        takes_lists(device).then_some(rule)
    }

    /// As [`step`](Self::step), with that of the average, number `step`.
    pub(crate) fn step_at_once<M: AutodiffModule>(
        &mut self,
        rule: ListRule,
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
            list.rates.push(self.rate(push.learning_rate, &name));
            let average = averages.remove(&name);
            let kept = self.take_kept(&name, &tensor);
            let (average, average_place) = average.map(|Taken { tensor, place }| (tensor, place)).unzip();
            list.moving.push(Moving { weight: tensor, kept, average });
            list.places.push((name, place, average_place));
        }
        let moved = move_all(list.moving, list.gradients, rule.steps(&list.rates, self.step), push.factor, decay);
        let [mut weights, mut averages] = [BTreeMap::new(), BTreeMap::new()];
        for (Moving { weight, kept, average }, (name, place, average_place)) in moved.into_iter().zip(list.places) {
            self.put_kept(&name, kept);
            averages.extend(average.zip(average_place).map(|(tensor, place)| (name.clone(), Taken { tensor, place })));
            weights.insert(name, Taken { tensor: weight, place });
        }
        let moved_names = weights.keys().cloned().collect();
        let module = put_back(module, weights);
        let ema = ema.map(|ema| ema.put_back(averages).update_others(&module, &moved_names, step));
        (module, ema)
    }

    fn rate(&self, learning_rate: f64, name: &str) -> Rate {
        let rule = self.groups.rule(name).expect("only parameters with a rule are taken");
        Rate {
            learning_rate: learning_rate * rule.learning_rate_scale,
            weight_decay: if rule.is_decayed { self.options.weight_decay() } else { 0.0 },
        }
    }

    /// What is kept for a parameter, or zeros, in the order of its slots.
    fn take_kept(&mut self, name: &str, weight: &Tensor<1>) -> Vec<Tensor<1>> {
        let mut state = self.states.remove(name).unwrap_or_default();
        let slots = self.options.slots(&weight.dims()).into_iter();
        slots.map(|(slot, _)| state.remove(slot).unwrap_or_else(|| weight.zeros_like())).collect()
    }

    /// Puts back what [`take_kept`](Self::take_kept) took, after the step.
    fn put_kept(&mut self, name: &str, kept: Vec<Tensor<1>>) {
        let Some(first) = kept.first() else { return };
        let slots = self.options.slots(&first.dims()).into_iter().map(|(slot, _)| slot);
        self.states.insert(name.to_owned(), slots.zip(kept).collect());
    }
}

/// All parameters that move, in one order.
#[derive(Default)]
struct List {
    moving: Vec<Moving>,
    gradients: Vec<Tensor<1>>,
    rates: Vec<Rate>,
    places: Vec<(String, Place, Option<Place>)>,
}
