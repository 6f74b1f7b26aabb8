//! Runs optimizer steps on Burn's capture device: the operations are noted, nothing is computed.

use std::collections::BTreeMap;

use burn::backend::ir::OperationIr;
use burn::tensor::{Device, Tensor};
use memory_planner::Phase;
use trainer::Gradients;
use vision_nn::{Classifier, captured_id, captured_parameters};

use crate::StepRequest;
use crate::rehearsal::{NoPrompter, Prompter, Rehearsal};

/// Operations of one step, with what is known of them from outside. Tensors are numbers, and numbers only grow.
pub(super) struct Recording {
    /// All operations, those before and after the step among them.
    pub(super) operations: Vec<OperationIr>,
    /// From which number on each phase goes; the step starts with the first.
    pub(super) phases: Vec<(u64, Phase)>,
    /// The first number after the step.
    pub(super) end: u64,
    /// Parameters as the model was built.
    pub(super) first_parameters: Vec<u64>,
    /// Parameters before the step.
    pub(super) parameters: BTreeMap<u64, String>,
    /// Parameters after it.
    pub(super) new_parameters: BTreeMap<u64, String>,
    /// Tensors of the batch.
    pub(super) inputs: Vec<u64>,
    /// Gradients of the parameters, summed, by the parameter's name.
    pub(super) gradients: BTreeMap<u64, String>,
    /// What training keeps beside the weights, before the step.
    pub(super) kept: Kept,
    /// The same after it.
    pub(super) new_kept: Kept,
}

/// What training keeps beside the weights, by the parameter's name.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The optimizer's state.
    pub(super) states: BTreeMap<u64, String>,
    /// The averaged weights.
    pub(super) averages: BTreeMap<u64, String>,
}

impl Kept {
    fn of<M: Classifier>(rehearsal: &Rehearsal<'_, M>) -> Self {
        let states = rehearsal.step().kept_by_optimizer();
        Self {
            states: states.map(|(name, tensor)| (captured_id(tensor), name.to_owned())).collect(),
            averages: rehearsal.step().averaged().map(captured_parameters).unwrap_or_default(),
        }
    }
}

impl Recording {
    /// What is there after the step, and for the next one.
    pub(super) fn outliving(&self) -> impl Iterator<Item = u64> {
        let kept = self.new_kept.states.keys().chain(self.new_kept.averages.keys());
        self.new_parameters.keys().chain(kept).copied()
    }

    /// The phase of the operation that makes the tensor of this number. The average moves once all weights have moved.
    pub(super) fn phase_at(&self, number: u64) -> Phase {
        let begun = self.phases.partition_point(|(from, _)| *from <= number);
        let phase = begun.checked_sub(1).map_or(Phase::Forward, |last| self.phases[last].1);
        let weights_moved = self.new_parameters.keys().next_back().is_some_and(|last| number > *last);
        if phase == Phase::Optimizer && weights_moved { Phase::Ema } else { phase }
    }
}

/// Records a step of a model in its steady state: a step before it brings weights, moments and averages to where they stay. What outlives it is known by
/// name.
pub(super) fn record<M: Classifier>(request: &StepRequest, batch: usize, build: &dyn Fn(&Device) -> M) -> Recording {
    let device = Device::capture();
    let mut recording = None;
    let graph = device.capture_scope(|scope| {
        let mut rehearsal = Rehearsal::new(request, &device, build);
        let first_parameters = captured_parameters(rehearsal.model()).into_keys().collect();
        // A forward pass alone leaves everything where it was.
        if !request.predicts {
            rehearsal.run(batch, &mut NoPrompter);
        }
        let (parameters, kept) = (captured_parameters(rehearsal.model()), Kept::of(&rehearsal));
        let mut notes = Notes::on(&device);
        rehearsal.run(batch, &mut notes);
        let (end, new_parameters) = (notes.now(), captured_parameters(rehearsal.model()));
        let new_kept = Kept::of(&rehearsal);
        let Notes { phases, inputs, gradients, device: _ } = notes;
        let operations = Vec::new();
        recording = Some(Recording {
            operations,
            phases,
            end,
            first_parameters,
            parameters,
            new_parameters,
            inputs,
            gradients,
            kept,
            new_kept,
        });
        scope.complete([], [])
    });
    let graph = graph.expect("the device is a capture device of its own, and no tensor comes from outside");
    Recording { operations: graph.graph.operations, ..recording.expect("the scope ran") }
}

struct Notes {
    device: Device,
    phases: Vec<(u64, Phase)>,
    inputs: Vec<u64>,
    gradients: BTreeMap<u64, String>,
}

impl Notes {
    fn on(device: &Device) -> Self {
        Self { device: device.clone(), phases: Vec::new(), inputs: Vec::new(), gradients: BTreeMap::new() }
    }

    /// The number of the next tensor.
    fn now(&self) -> u64 {
        captured_id(&Tensor::<1>::empty([1], &self.device)) + 1
    }
}

impl Prompter for Notes {
    fn phase(&mut self, phase: Phase) {
        self.phases.push((self.now(), phase));
    }

    fn input(&mut self, number: &dyn Fn() -> u64) {
        self.inputs.push(number());
    }

    fn gradients(&mut self, gradients: &Gradients) {
        let named = gradients.iter().map(|(name, gradient)| (captured_id(gradient), name.to_owned()));
        self.gradients = named.collect();
    }
}
