//! Between Burn's flex tensors and slices.

use std::ops::Deref;

use burn::backend::DispatchDevice;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Device, Shape};

/// Whether tensors on this device, on the tape or off it, lie in this process's memory.
pub(crate) fn is_cpu(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Flex(_))
}

/// The tensor's numbers in order; copied only when it is a view.
pub(crate) struct Values(FlexTensor);

pub(crate) fn values(tensor: &FlexTensor) -> Values {
    Values(tensor.to_contiguous())
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.as_slice::<f32>().expect("contiguous by construction, and f32 by the caller's check")
    }
}

/// A tensor of these numbers.
pub(crate) fn tensor(numbers: Vec<f32>, shape: &Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(numbers), Layout::contiguous(shape.clone()), DType::F32)
}
