//! GELU in its exact form, `x Φ(x)`, and its gradient (Hendrycks and Gimpel, 2016).

use multiversion::multiversion;
use rayon::prelude::*;

use crate::exponential::exp_of_negative;
use crate::output::in_tasks;

/// Numbers a task: large enough to be worth a task, small enough to stay in the second cache.
const TASK: usize = 1 << 14;

/// `1 / sqrt(2 pi)`
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// `x Φ(x)` of each number.
pub fn gelu(input: &[f32]) -> Vec<f32> {
    in_tasks(input.len(), TASK, |index, output| gelu_task(&input[index * TASK..][..output.len()], output))
}

/// [`gelu`], written over its input: half the memory, and a third less of it to go through.
pub fn gelu_in_place(numbers: &mut [f32]) {
    numbers.par_chunks_mut(TASK).for_each(gelu_in_place_task);
}

/// `gradient (Φ(x) + x φ(x))` of each number, written over `gradient`.
///
/// # Panics
/// When the slices are not of one length.
pub fn gelu_gradient(input: &[f32], gradient: &mut [f32]) {
    assert_eq!(input.len(), gradient.len(), "a gradient for each number");
    let tasks = input.par_chunks(TASK).zip(gradient.par_chunks_mut(TASK));
    tasks.for_each(|(input, gradient)| gelu_gradient_task(input, gradient));
}

/// What [`gelu`] and [`gelu_gradient`] give, to the bit, in one pass: the former is written over `input`, the latter over `gradient`.
///
/// # Panics
/// When the slices are not of one length.
pub fn gelu_with_gradient(input: &mut [f32], gradient: &mut [f32]) {
    assert_eq!(input.len(), gradient.len(), "a gradient for each number");
    let tasks = input.par_chunks_mut(TASK).zip(gradient.par_chunks_mut(TASK));
    tasks.for_each(|(input, gradient)| gelu_with_gradient_task(input, gradient));
}

#[multiversion(targets = "simd")]
pub(crate) fn gelu_task(input: &[f32], output: &mut [f32]) {
    for (output, &x) in output.iter_mut().zip(input) {
        *output = x * normal_cdf(x);
    }
}

#[multiversion(targets = "simd")]
fn gelu_in_place_task(numbers: &mut [f32]) {
    for number in numbers {
        *number *= normal_cdf(*number);
    }
}

#[multiversion(targets = "simd")]
fn gelu_gradient_task(input: &[f32], gradient: &mut [f32]) {
    for (gradient, &x) in gradient.iter_mut().zip(input) {
        *gradient *= slope(x, normal_cdf(x));
    }
}

#[multiversion(targets = "simd")]
fn gelu_with_gradient_task(input: &mut [f32], gradient: &mut [f32]) {
    for (number, gradient) in input.iter_mut().zip(gradient) {
        let x = *number;
        let cumulative = normal_cdf(x);
        *number = x * cumulative;
        *gradient *= slope(x, cumulative);
    }
}

/// `Φ(x) + x φ(x)`
#[inline(always)]
fn slope(x: f32, cumulative: f32) -> f32 {
    let density = DENSITY_AT_ZERO * exp_of_negative(-0.5 * x * x);
    x.mul_add(density, cumulative)
}

#[inline(always)]
fn normal_cdf(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function as a ratio of polynomials in x², the one that Eigen and XLA use for f32; within 5e-7 of it everywhere, and exactly 1 where that is
/// what f32 makes of it: a ratio that ends next to 1 leaves of a large negative number a share that grows with it.
#[inline(always)]
fn erf(x: f32) -> f32 {
    /// From here on erf is less than half a unit in the last place below 1: erfc(3.92) is 2.96e-8, and 2^-25 is 2.98e-8.
    const LIMIT: f32 = 3.92;
    let near = x.clamp(-LIMIT, LIMIT);
    let square = near * near;
    let mut above = -2.726_142_3e-10f32;
    for coefficient in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2] {
        above = above.mul_add(square, coefficient);
    }
    let mut below = -1.456_607_2e-5f32;
    for coefficient in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        below = below.mul_add(square, coefficient);
    }
    let ratio = near * above / below;
    // Both are there already: a choice between two numbers is vectorised. NaN is not far, and stays.
    if x.abs() >= LIMIT { 1.0f32.copysign(x) } else { ratio }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// erf by its Maclaurin series in f64; exact to 1e-12 for |x| up to 3.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    fn grid() -> Vec<f32> {
        (-4200..=4200).map(|step| step as f32 / 1000.0).collect()
    }

    #[test]
    fn gelu_is_within_half_precision_of_nothing_lost() {
        for (x, found) in grid().into_iter().zip(gelu(&grid())) {
            let x = f64::from(x);
            let expected = x * 0.5 * (1.0 + erf_series(x / std::f64::consts::SQRT_2));
            assert!((f64::from(found) - expected).abs() < 2e-6, "gelu({x}) is {expected}, found {found}");
        }
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let mut gradient = vec![1.0; grid().len()];
        gelu_gradient(&grid(), &mut gradient);
        for (x, found) in grid().into_iter().zip(gradient) {
            let x = f64::from(x);
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let expected = 0.5 * (1.0 + erf_series(x / std::f64::consts::SQRT_2)) + x * density;
            assert!((f64::from(found) - expected).abs() < 2e-6, "slope at {x} is {expected}, found {found}");
        }
    }

    #[test]
    fn in_place_and_both_at_once_are_each_by_itself() {
        // More than a task.
        let input: Vec<f32> = grid().into_iter().cycle().take(2 * TASK + 77).collect();
        let upstream: Vec<f32> = (0..input.len()).map(|place| (place % 13) as f32 - 6.0).collect();
        let mut in_place = input.clone();
        gelu_in_place(&mut in_place);
        assert_eq!(in_place, gelu(&input));
        let mut of_input = upstream.clone();
        gelu_gradient(&input, &mut of_input);
        let (mut output, mut gradient) = (input.clone(), upstream);
        gelu_with_gradient(&mut output, &mut gradient);
        assert_eq!(output, in_place);
        assert_eq!(gradient, of_input);
    }

    /// Φ(x) is at most φ(x) / |x| below zero, so that nothing of GELU is left there but φ(x).
    #[test]
    fn between_the_series_and_the_end_it_is_no_larger_than_the_density() {
        let tail: Vec<f32> = (4200..=6000).map(|step| -(step as f32) / 1000.0).collect();
        for (x, found) in tail.iter().copied().map(f64::from).zip(gelu(&tail)) {
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            // What erf may be off by, 5e-7, times half of |x|, which is at most 3.
            assert!(f64::from(found).abs() <= density + 1.5e-6, "gelu({x}) found {found}");
        }
    }

    /// PyTorch's is -0 there, too. What is left out is next to nothing: GELU of -5.6 is -6e-8.
    #[test]
    fn far_from_zero_it_is_the_identity_or_nothing() {
        let far = [5.6f32, 50.0, 1e6, 1e30];
        assert_eq!(gelu(&far), far);
        let below = far.map(|x| -x);
        assert!(gelu(&below).iter().all(|value| *value == 0.0 && value.is_sign_negative()));
        let mut gradient = [2.0, 2.0, 1.0];
        gelu_gradient(&[60.0, -60.0, f32::NAN], &mut gradient);
        // The density is the smallest normal number there, and not zero.
        assert!(gradient[0] == 2.0 && gradient[1].abs() < 1e-35, "{gradient:?}");
        assert!(gelu(&[f32::NAN])[0].is_nan() && gradient[2].is_nan());
    }

    #[test]
    fn whole_registers_and_what_is_left_over_end_alike() {
        let (mut both, mut slopes) = ([-1e6f32; 37], [1.0f32; 37]);
        gelu_with_gradient(&mut both, &mut slopes);
        assert!(both.iter().all(|value| *value == 0.0) && slopes.iter().all(|slope| slope.abs() < 1e-30));
    }
}
