//! Operations that compute in f32 on tensors that are stored in half precision or not, in terms of a backend's own.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape};

/// The tensor in f32.
pub(crate) fn widened<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    stored_as::<B>(tensor, DType::F32)
}

/// The tensor in another type; itself where it has that.
pub(crate) fn stored_as<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype { tensor } else { B::float_cast(tensor, dtype.into()) }
}

/// `[.., C]` to `[N, C]`.
pub(crate) fn as_rows<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    let shape = tensor.shape();
    let channels = shape[shape.num_dims() - 1];
    B::float_reshape(tensor, Shape::new([shape.num_elements() / channels.max(1), channels]))
}

/// `[C]` to `[1, C]`.
pub(crate) fn as_row<B: Backend>(vector: FloatTensor<B>) -> FloatTensor<B> {
    let channels = vector.shape().num_elements();
    B::float_reshape(vector, Shape::new([1, channels]))
}

/// `[1, C]` to `[C]`.
pub(crate) fn as_vector<B: Backend>(row: FloatTensor<B>) -> FloatTensor<B> {
    let channels = row.shape().num_elements();
    B::float_reshape(row, Shape::new([channels]))
}
