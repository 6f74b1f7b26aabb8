//! The exponential and what is made of it, in arithmetic that compilers vectorise.

/// `exp(x)` for x at most 0, within two units in the last place: the power of two from the bits, the rest from a Taylor polynomial of degree 6
/// over half a binary order. What leaves the normal numbers is the smallest of them; NaN counts as such too.
#[inline(always)]
pub(crate) fn exp_of_negative(x: f32) -> f32 {
    /// Below this, exp leaves the normal numbers.
    const LOWEST: f32 = -87.0;
    /// ln 2 in two parts, the first exact in few bits, so that `x - n ln 2` loses nothing.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// 1.5 * 2^23: a small number added to it is rounded to an integer, which then stands in the lowest bits. A conversion to an integer type,
    /// which saturates, would keep the loop from being vectorised.
    const ROUNDING: f32 = 12_582_912.0;
    /// Of an f32's exponent.
    const EXPONENT_BIAS: u32 = 127;
    let x = x.max(LOWEST);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUNDING);
    let power = rounded - ROUNDING;
    let rest = power.mul_add(-LN_2[1], power.mul_add(-LN_2[0], x));
    let mut sum = 1.0f32 / 720.0;
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum.mul_add(rest, coefficient);
    }
    sum * f32::from_bits(rounded.to_bits().wrapping_add(EXPONENT_BIAS) << 23)
}

/// `σ(z) = 1 / (1 + exp(-z))`
#[inline(always)]
pub(crate) fn sigmoid(z: f32) -> f32 {
    let small = exp_of_negative(-z.abs());
    let above = if z < 0.0 { small } else { 1.0 };
    above / (1.0 + small)
}

/// The slope of `z σ(z)`: `σ(z) (1 + z (1 - σ(z)))`.
#[inline(always)]
pub(crate) fn silu_slope(z: f32) -> f32 {
    let sigmoid = sigmoid(z);
    sigmoid * (1.0 - sigmoid).mul_add(z, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exponential() {
        for step in 0..=86_000 {
            let x = -(step as f32) / 1000.0;
            let (found, expected) = (f64::from(exp_of_negative(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2.5e-7, "exp({x}) is {expected}, found {found}");
        }
    }

    #[test]
    fn far_below_it_is_next_to_nothing() {
        for x in [-88.0, -1e30, f32::NEG_INFINITY] {
            assert!((0.0..1e-37).contains(&exp_of_negative(x)));
        }
    }

    #[test]
    fn silu_is_right_far_from_zero() {
        for (z, silu, slope) in [(0.0, 0.0, 0.5), (60.0, 60.0, 1.0), (-60.0, 0.0, 0.0), (-200.0, 0.0, 0.0)] {
            assert!((z * sigmoid(z) - silu).abs() < 1e-5);
            assert!((silu_slope(z) - slope).abs() < 1e-5);
        }
        assert!((f32::NAN * sigmoid(f32::NAN)).is_nan() && silu_slope(f32::NAN).is_nan());
    }
}
