//! Passes over all parameters at once: an optimizer's step, moving averages, products.

use multiversion::multiversion;
use rayon::prelude::*;

/// Numbers a task.
const TASK: usize = 1 << 14;

/// A parameter that takes a step by a rule that keeps `KEPT` numbers a weight, all slices of one length.
#[derive(Debug)]
pub struct Moved<'a, S, const KEPT: usize> {
    /// What moves.
    pub weights: &'a mut [f32],
    /// By what.
    pub gradient: &'a [f32],
    /// What the rule remembers of the steps before.
    pub kept: [&'a mut [f32]; KEPT],
    /// The moving average of the weights, where there is one.
    pub average: Option<&'a mut [f32]>,
    /// This parameter's constants.
    pub step: S,
}

/// `own * kept + other * share` in the place of `own`, for each pair of slices.
///
/// # Panics
/// When a pair differs in length.
pub fn blend_all(pairs: Vec<(&mut [f32], &[f32])>, kept: f64, share: f64) {
    let shares = [kept as f32, share as f32];
    pairs.into_par_iter().for_each(|(own, other)| {
        assert_eq!(own.len(), other.len(), "a pair of one length");
        own.par_chunks_mut(TASK).zip(other.par_chunks(TASK)).for_each(|(own, other)| blend_task(own, other, shares));
    });
}

/// Multiplies every number.
pub fn scale_all(slices: Vec<&mut [f32]>, factor: f64) {
    let factor = factor as f32;
    slices.into_par_iter().for_each(|slice| {
        slice.par_chunks_mut(TASK).for_each(|part| part.iter_mut().for_each(|number| *number *= factor));
    });
}

/// Has `task` move each stretch of all parameters, by what `constants` makes of their steps; averages keep `decay` of themselves. Each number is read
/// and written once.
///
/// # Panics
/// When a parameter's slices differ in length.
pub(crate) fn move_all<S, C, const KEPT: usize>(
    parameters: Vec<Moved<'_, S, KEPT>>,
    decay: f64,
    constants: fn(&S) -> C,
    task: impl Fn(&mut Moved<'_, C, KEPT>) + Sync,
) where
    S: Send,
    C: Copy + Send,
{
    let shares = [decay as f32, (1.0 - decay) as f32];
    parameters.into_par_iter().flat_map(|parameter| pieces(parameter, constants)).for_each(|mut piece| {
        task(&mut piece);
        if let Some(average) = piece.average {
            blend_task(average, piece.weights, shares);
        }
    });
}

/// The stretches of a parameter that are a task each.
fn pieces<S, C: Copy, const KEPT: usize>(
    parameter: Moved<'_, S, KEPT>,
    constants: fn(&S) -> C,
) -> Vec<Moved<'_, C, KEPT>> {
    let Moved { weights, gradient, kept, average, step } = parameter;
    let count = weights.len();
    let others = kept.iter().map(|slice| slice.len()).chain(average.as_ref().map(|slice| slice.len()));
    assert!(others.chain([gradient.len()]).all(|length| length == count), "slices of {count} numbers");
    let step = constants(&step);
    let mut kept = kept.map(|slice| slice.chunks_mut(TASK));
    let mut averages = average.map(|slice| slice.chunks_mut(TASK));
    let slices = weights.chunks_mut(TASK).zip(gradient.chunks(TASK));
    slices
        .map(|(weights, gradient)| Moved {
            weights,
            gradient,
            kept: kept.each_mut().map(|chunks| chunks.next().expect("slices of one length have as many chunks")),
            average: averages.as_mut().and_then(Iterator::next),
            step,
        })
        .collect()
}

#[multiversion(targets = "simd")]
fn blend_task(own: &mut [f32], other: &[f32], [kept, share]: [f32; 2]) {
    own.iter_mut().zip(other).for_each(|(own, other)| *own = kept.mul_add(*own, share * other));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a rule is given that takes steps of a length.
    fn length_of(length: &f32) -> f32 {
        *length
    }

    #[test]
    fn stretches_keep_to_their_parameter_and_averages_follow_its_weights() {
        let counts = [3 * TASK + 5, TASK, 7];
        let mut weights = counts.map(|count| vec![1.0f32; count]);
        let mut sums = counts.map(|count| vec![0.0f32; count]);
        let mut averages = counts.map(|count| vec![3.0f32; count]);
        let gradients = counts.map(|count| (0..count).map(|place| place as f32).collect::<Vec<f32>>());
        let kinds = weights.iter_mut().zip(&mut sums).zip(&mut averages).zip(&gradients);
        let parameters = kinds.zip(1u8..).map(|((((weights, sums), average), gradient), number)| Moved {
            weights,
            gradient,
            kept: [sums],
            average: Some(average),
            step: f32::from(number),
        });
        move_all(parameters.collect(), 0.5, length_of, |piece| {
            for (place, slope) in piece.gradient.iter().enumerate() {
                piece.kept[0][place] += slope;
                piece.weights[place] -= piece.step * slope;
            }
        });
        for (parameter, length) in [1.0f32, 2.0, 3.0].into_iter().enumerate() {
            assert_eq!(sums[parameter], gradients[parameter]);
            for (place, slope) in gradients[parameter].iter().enumerate() {
                // All these numbers are whole or half, and none is rounded.
                let weight = 1.0 - length * slope;
                assert_eq!(weights[parameter][place], weight);
                assert_eq!(averages[parameter][place], 0.5 * (3.0 + weight));
            }
        }
    }

    #[test]
    #[should_panic(expected = "slices of 2 numbers")]
    fn slices_of_other_lengths_are_refused() {
        let (mut weights, mut sums) = ([0.0f32; 2], [0.0f32; 3]);
        let kept = [&mut sums[..]];
        let parameter = Moved { weights: &mut weights, gradient: &[0.0; 2], kept, average: None, step: 1.0 };
        move_all(vec![parameter], 0.0, length_of, |_| ());
    }
}
