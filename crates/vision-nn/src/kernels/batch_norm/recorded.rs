//! The form of the device that only records: noted as the kernels of a card would run it, unless Burn's operations are asked for or chosen.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Capture, TensorMetadata};
use burn::tensor::{DType, Shape};

use super::{BATCH_NORM, BATCH_NORM_GRADIENTS, FusedBatchNorm, MOMENTS, NormForm, composed, is_ours, sums_scratch};
use crate::kernels::recorded::{Form, record};

impl FusedBatchNorm for Capture {
    fn fused_moments(rows: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !is_ours(&rows.shape(), rows.dtype()) {
            return composed::moments::<Self>(rows);
        }
        let (forms, scratch) = (vector_forms(&rows.shape()), [sums_scratch(&rows.shape())]);
        record(MOMENTS, [rows], forms, &scratch).into()
    }

    fn fused_batch_norm(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        form: NormForm,
    ) -> FloatTensor<Self> {
        let vectors = [weight, bias, mean, variance];
        if !is_ours(&rows.shape(), rows.dtype()) {
            return composed::forward::<Self>(rows, vectors, form);
        }
        let of_output = (rows.shape(), rows.dtype());
        let [weight, bias, mean, variance] = vectors;
        let [output] = record(BATCH_NORM, [rows, weight, bias, mean, variance], [of_output], &[]);
        output
    }

    fn fused_batch_norm_gradient(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        form: NormForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !is_ours(&rows.shape(), rows.dtype()) {
            return composed::gradient::<Self>(rows, [weight, bias, mean, variance], gradient, form);
        }
        let (shape, dtype) = (rows.shape(), rows.dtype());
        let [of_weight, of_bias] = vector_forms(&shape);
        let scratch = [sums_scratch(&shape)];
        let forms = [(shape, dtype), of_weight, of_bias];
        record(BATCH_NORM_GRADIENTS, [rows, weight, bias, mean, variance, gradient], forms, &scratch).into()
    }
}

/// Two vectors of numbers of channels.
fn vector_forms(rows: &Shape) -> [Form; 2] {
    [0, 1].map(|_| (Shape::new([rows[1]]), DType::F32))
}
