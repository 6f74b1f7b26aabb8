//! Functions of single numbers, as [`Activation`] names them.

use burn::cubecl;
use burn::cubecl::prelude::*;
use cpu_kernels::Activation;

/// `1 / (1 + exp(-z))`. The exponential stays finite: below -80 all is next to zero.
#[cube]
pub(crate) fn sigmoid<N: Size>(z: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    one / (one + clamp_max(-z, Vector::<f32, N>::new(80.0f32)).exp())
}

/// The activation of each number.
#[cube]
pub(crate) fn activated<N: Size>(z: Vector<f32, N>, #[comptime] activation: Activation) -> Vector<f32, N> {
    let mut value = z;
    if comptime!(activation == Activation::Silu) {
        value = z * sigmoid::<N>(z);
    }
    if comptime!(activation == Activation::Relu) {
        let zero = Vector::<f32, N>::zero();
        value = select_many(z.less_than(&zero), zero, z);
    }
    value
}

/// Its slope.
#[cube]
pub(crate) fn slope<N: Size>(z: Vector<f32, N>, #[comptime] activation: Activation) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    let mut value = one;
    if comptime!(activation == Activation::Silu) {
        let share = sigmoid::<N>(z);
        value = share * (one + z * (one - share));
    }
    if comptime!(activation == Activation::Relu) {
        let zero = Vector::<f32, N>::zero();
        value = select_many(z.greater_than(&zero), one, zero);
    }
    value
}
