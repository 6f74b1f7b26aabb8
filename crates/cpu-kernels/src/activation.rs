//! What follows a normalisation.

use crate::exponential::{sigmoid, silu_slope};

/// A function of single numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The number itself.
    #[default]
    Identity,
    /// The number where it is above zero, else zero; its slope at zero is zero, as PyTorch has it. NaN stays.
    Relu,
    /// `z σ(z)` (Hendrycks and Gimpel, 2016).
    Silu,
}

impl Activation {
    /// Of each number, in place.
    #[inline(always)]
    pub(crate) fn apply(self, numbers: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Relu => numbers.iter_mut().for_each(|z| *z = if *z < 0.0 { 0.0 } else { *z }),
            Self::Silu => numbers.iter_mut().for_each(|z| *z *= sigmoid(*z)),
        }
    }

    /// Its slope at each number, in the place of that.
    #[inline(always)]
    pub(crate) fn replace_by_slopes(self, numbers: &mut [f32]) {
        match self {
            Self::Identity => numbers.fill(1.0),
            Self::Relu => numbers.iter_mut().for_each(|z| *z = if *z > 0.0 { 1.0 } else { 0.0 }),
            Self::Silu => numbers.iter_mut().for_each(|z| *z = silu_slope(*z)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_stays_so() {
        for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
            let mut numbers = [f32::NAN];
            activation.apply(&mut numbers);
            assert!(numbers[0].is_nan(), "{activation:?}");
        }
    }
}
