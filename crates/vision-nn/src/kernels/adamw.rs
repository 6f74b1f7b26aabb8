//! AdamW's step in one pass, on the CPU.

use burn::tensor::{DType, Tensor};
use cpu_kernels::AdamWStep;

use super::host::is_cpu;
use super::parameters::{Moving, Steps, move_all, squares_of_all};

/// Whether [`adamw`] runs where this tensor lies, and in its type.
pub fn has_adamw(weight: &Tensor<1>) -> bool {
    is_cpu(&weight.device()) && weight.dtype() == DType::F32
}

/// The weight and its moments after one step, where [`has_adamw`] says so. Memory that nobody else sees is written in place.
///
/// # Shapes
/// - all: `[elements]`, off the tape
pub fn adamw(
    weight: Tensor<1>,
    gradient: Tensor<1>,
    moments: Option<[Tensor<1>; 2]>,
    step: AdamWStep,
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let moments = moments.unwrap_or_else(|| [weight.zeros_like(), weight.zeros_like()]);
    let parameter = Moving { weight, kept: moments.into(), average: None };
    let moved = move_all(vec![parameter], vec![gradient], Steps::AdamW(vec![step]), 1.0, 0.0).pop();
    let Moving { weight, kept, .. } = moved.expect("one comes back for one");
    (weight, kept.try_into().expect("two moments come back for two"))
}

/// The sum of squares, `[1]`. Burn's own runs wherever the one for the CPU does not.
///
/// # Shapes
/// - `numbers`: `[elements]`, off the tape
pub fn sum_of_squares(numbers: Tensor<1>) -> Tensor<1> {
    if has_adamw(&numbers) && !numbers.device().is_autodiff() {
        squares_of_all(vec![numbers]).expect("there is one tensor")
    } else {
        numbers.square().sum()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, s};

    use super::*;

    #[test]
    fn what_others_see_stays_as_it_is() {
        let device = Device::flex();
        let random = || Tensor::<1>::random([70], Distribution::Normal(0.0, 1.0), &device);
        let (weights, gradient) = (random(), random());
        let before = weights.to_data();
        let step =
            AdamWStep { learning_rate: 0.1, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0, step: 1 };
        // A view of the middle, as a parameter cut out of a larger tensor is.
        let (moved, _) = adamw(weights.clone().slice(s![10..40]), gradient.clone().slice(s![10..40]), None, step);
        assert_eq!(weights.to_data(), before);
        let direction = gradient.slice(s![10..40]).sign();
        // The first step is the learning rate long, whatever the gradient.
        let off = (weights.slice(s![10..40]) - direction.mul_scalar(0.1) - moved).abs().max().into_scalar::<f32>();
        assert!(off < 1e-5, "{off}");
    }

    #[test]
    fn squares_are_summed() {
        let numbers = Tensor::<1>::from_floats([1.0, -2.0, 3.0], &Device::flex());
        assert_eq!(sum_of_squares(numbers).into_scalar::<f32>(), 14.0);
    }
}
