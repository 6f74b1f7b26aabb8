//! An optimizer's step over a list of parameters.

use std::fmt::Debug;
use std::ops::Range;

use burn::cubecl::prelude::*;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cpu_kernels::{AdamWStep, SgdStep};

use super::{UNITS, address_type, alone, arguments, cube_count, kernels, tensors_at_once};
use crate::kernels::cube::Form;
use crate::kernels::cube::many::ListOperation;
use crate::kernels::parameters::plan::{ADAMW, CHUNK, SGD, moved_by_step};

/// Tensors that a rule keeps of a parameter, at most.
const MOST_KEPT: usize = 2;

/// A step over parameters, each with settings of its own, all of one rule. Inputs are weights, gradients, what the rule keeps and, where a decay is given,
/// averages: all of one kind after the other. Outputs are the same without the gradients.
#[derive(Debug)]
pub(crate) struct Move<S> {
    pub(crate) steps: Vec<S>,
    /// What gradients are multiplied by.
    pub(crate) factor: f64,
    /// What averages keep of themselves.
    pub(crate) decay: Option<f64>,
}

/// The settings of a parameter's step, by a rule that has a kernel.
pub(crate) trait Rule: Debug + Send + Sync + Sized + 'static {
    /// By which records of the queue know its step.
    const NAME: &'static str;

    /// Launches the kernel over some parameters.
    fn launch<R: CubeRuntime>(part: Part<'_, R, Self>);
}

/// The parameters of one launch.
pub(crate) struct Part<'a, R: CubeRuntime, S> {
    steps: &'a [S],
    gradients: &'a [CubeTensor<R>],
    weights: Arguments<R>,
    /// As many as the rule keeps, and then empty ones.
    kept: [Arguments<R>; MOST_KEPT],
    /// Empty where there is no decay.
    averages: Arguments<R>,
    factor: f64,
    decay: Option<f64>,
}

type Arguments<R> = SequenceArg<R, OwnedTensor<f32>>;

impl<S: Rule> ListOperation for Move<S> {
    const NAME: &'static str = S::NAME;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        moved_by_step(self.steps.len(), inputs.len()).into_iter().map(|place| inputs[place].clone()).collect()
    }

    fn run<R: CubeRuntime>(&self, mut inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let count = self.steps.len();
        let gradients: Vec<_> = inputs.drain(count..2 * count).map(into_contiguous).collect();
        let moved: Vec<_> = inputs.into_iter().map(alone).collect();
        let at_once = tensors_at_once(&gradients, moved.len() / count + 1);
        for begin in (0..count).step_by(at_once) {
            S::launch(self.part(begin..(begin + at_once).min(count), &gradients, &moved));
        }
        moved
    }
}

impl<S> Move<S> {
    fn part<'a, R: CubeRuntime>(
        &'a self,
        places: Range<usize>,
        gradients: &'a [CubeTensor<R>],
        moved: &[CubeTensor<R>],
    ) -> Part<'a, R, S> {
        let mut kinds = moved.chunks(self.steps.len()).map(|kind| arguments(&kind[places.clone()]));
        let weights = kinds.next().expect("there are weights");
        // What follows the weights; averages come last.
        let mut others: Vec<Arguments<R>> = kinds.collect();
        let averages = self.decay.and_then(|_| others.pop()).unwrap_or_default();
        let mut kept = others.into_iter();
        Part {
            steps: &self.steps[places.clone()],
            gradients: &gradients[places],
            weights,
            kept: std::array::from_fn(|_| kept.next().unwrap_or_default()),
            averages,
            factor: self.factor,
            decay: self.decay,
        }
    }
}

impl Rule for AdamWStep {
    const NAME: &'static str = ADAMW;

    fn launch<R: CubeRuntime>(part: Part<'_, R, Self>) {
        let Part { steps, gradients, weights, kept: [firsts, seconds], averages, factor, decay } = part;
        let Self { beta_1, beta_2, epsilon, step, .. } = steps[0];
        let warmth = |beta: f64| 1.0 - beta.powf(step as f64);
        let own_share = decay.unwrap_or(0.0);
        let constants = kernels::AdamWConstantsLaunch::new(
            factor as f32,
            beta_1 as f32,
            (1.0 - beta_1) as f32,
            beta_2 as f32,
            (1.0 - beta_2) as f32,
            (1.0 / warmth(beta_2)) as f32,
            epsilon as f32,
            own_share as f32,
            (1.0 - own_share) as f32,
        );
        let left = steps.iter().map(|step| (1.0 - step.learning_rate * step.weight_decay) as f32).collect();
        let lengths = steps.iter().map(|step| (step.learning_rate / warmth(beta_1)) as f32).collect();
        // SAFETY: units stay below the length of the gradient, which is that of the other tensors of its parameter.
        unsafe {
            kernels::adamw::launch_unchecked(
                &gradients[0].client,
                cube_count(gradients),
                CubeDim::new_1d(UNITS),
                address_type(gradients),
                weights,
                arguments(gradients),
                firsts,
                seconds,
                averages,
                left,
                lengths,
                constants,
                CHUNK,
                decay.is_some(),
            );
        }
    }
}

impl Rule for SgdStep {
    const NAME: &'static str = SGD;

    fn launch<R: CubeRuntime>(part: Part<'_, R, Self>) {
        let Part { steps, gradients, weights, kept: [velocities, _], averages, factor, decay } = part;
        let own_share = decay.unwrap_or(0.0);
        let constants = kernels::SgdConstantsLaunch::new(
            factor as f32,
            steps[0].momentum as f32,
            own_share as f32,
            (1.0 - own_share) as f32,
        );
        let weight_decays = steps.iter().map(|step| step.weight_decay as f32).collect();
        let lengths = steps.iter().map(|step| step.learning_rate as f32).collect();
        // SAFETY: units stay below the length of the gradient, which is that of the other tensors of its parameter.
        unsafe {
            kernels::sgd::launch_unchecked(
                &gradients[0].client,
                cube_count(gradients),
                CubeDim::new_1d(UNITS),
                address_type(gradients),
                weights,
                arguments(gradients),
                velocities,
                averages,
                weight_decays,
                lengths,
                constants,
                CHUNK,
                steps[0].keeps_velocity(),
                steps[0].nesterov,
                decay.is_some(),
            );
        }
    }
}
