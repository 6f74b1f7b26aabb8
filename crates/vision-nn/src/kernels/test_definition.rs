//! Numbers, tensors and comparisons for tests that hold an operation to its definition in f64.

use burn::backend::DispatchKindConversion;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchTensor};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::test_tensors::numbers_count;
use crate::pass::stored_as;
use crate::tape::primitive;

/// Numbers between -1 and 1 that look random, exact in f32.
pub(crate) fn numbers(seed: usize, count: usize) -> Vec<f64> {
    let number = |place: usize| ((place * 7919 + seed * 104_729 + 1) as f64 * 0.618_033_988_749_895).fract();
    (0..count).map(|place| f64::from((2.0 * number(place) - 1.0) as f32)).collect()
}

/// A tensor of these numbers, rounded to `storage`.
pub(crate) fn tensor<const D: usize>(numbers: &[f64], shape: [usize; D], device: &Device, storage: DType) -> Tensor<D> {
    let numbers: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    stored_as(Tensor::from_data(TensorData::new(numbers, shape), device), storage)
}

/// The same below the dispatch.
pub(crate) fn primitive_of<B: Backend, const D: usize>(
    numbers: &[f64],
    shape: [usize; D],
    device: &Device,
    storage: DType,
) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    primitive::<B, D>(tensor(numbers, shape, device, storage))
}

/// A tensor's numbers.
pub(crate) fn host<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Vec<f64>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    Tensor::<D>::from_primitive::<B>(tensor).into_data().iter::<f64>().collect()
}

/// What is left of numbers once they are stored: their rounding is no error of an operation.
pub(crate) fn rounded(numbers: &[f64], device: &Device, storage: DType) -> Vec<f64> {
    tensor(numbers, [numbers.len()], device, storage).into_data().iter::<f64>().collect()
}

/// No number is further off than `tolerance` times the largest that is expected, where [numbers count](numbers_count).
pub(crate) fn assert_near(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    if !numbers_count() {
        return;
    }
    let largest = expected.iter().fold(1e-3f64, |largest, number| largest.max(number.abs()));
    let off = found.iter().zip(expected).fold(0.0f64, |off, (one, other)| off.max((one - other).abs()));
    assert!(off <= tolerance * largest, "{what}: {off} of {largest}");
    assert!(found.iter().all(|number| !number.is_nan()), "{what}");
}

/// Half an unit in the last place of a type, relative to a number.
pub(crate) fn rounding(storage: DType) -> f64 {
    match storage {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 0.0,
    }
}
