//! The exponential, in arithmetic that compilers vectorise.

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
}
