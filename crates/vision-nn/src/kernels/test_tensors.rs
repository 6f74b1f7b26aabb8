//! Tensors that tests compute on, and how near two of them are.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Shape;

use super::host::{tensor, values};

/// Numbers without a pattern, in -0.6 to 1.
pub(crate) fn numbers(seed: f32, shape: &[usize]) -> FlexTensor {
    let count: usize = shape.iter().product();
    let numbers = (0..count).map(|at| ((at as f32 + seed) * 78.233).sin() * 0.8 + 0.2).collect();
    tensor(numbers, &Shape::from(shape.to_vec()))
}

/// Two tensors of one shape and type differ nowhere by more than `tolerance`.
pub(crate) fn assert_near(left: &FlexTensor, right: &FlexTensor, tolerance: f32) {
    assert_eq!((left.shape(), left.dtype()), (right.shape(), right.dtype()));
    for (left, right) in values(left).iter().zip(&*values(right)) {
        assert!((left - right).abs() <= tolerance, "{left} {right}");
    }
}

/// Whether numbers count: not where kernels are compiled and nobody runs them, as in `scripts/compile_kernels.sh`.
pub(crate) fn numbers_count() -> bool {
    std::env::var_os("STOKER_COMPILES_ONLY").is_none()
}
