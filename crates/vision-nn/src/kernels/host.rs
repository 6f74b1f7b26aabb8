//! Between Burn's flex tensors and slices of f32, whatever the tensors are stored in.

use std::ops::Deref;

use burn::backend::DispatchDevice;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Device, Shape, bf16, f16};
use cpu_kernels::{Axis, in_order};

/// Whether tensors on this device, on the tape or off it, lie in this process's memory.
pub(crate) fn is_cpu(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Flex(_))
}

/// A tensor's numbers in order; copied only when it is a view, or stored in half precision.
pub(crate) enum Values {
    /// As they are stored, in f32.
    Stored(FlexTensor),
    /// Taken out of half precision.
    Widened(Vec<f32>),
}

/// The tensor's numbers in order, in f32.
pub(crate) fn values(tensor: &FlexTensor) -> Values {
    let tensor = contiguous(tensor);
    let widened = match tensor.dtype() {
        DType::BF16 => tensor.as_slice::<bf16>().map(|numbers| numbers.iter().map(|number| number.to_f32()).collect()),
        DType::F16 => tensor.as_slice::<f16>().map(|numbers| numbers.iter().map(|number| number.to_f32()).collect()),
        _ => None,
    };
    widened.map_or(Values::Stored(tensor), Values::Widened)
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Stored(tensor) => {
                tensor.as_slice().expect("contiguous by construction, and f32 if not half precision")
            }
            Self::Widened(numbers) => numbers,
        }
    }
}

/// The tensor's numbers in order, from the start of its memory to the end; copied only when it is a view.
pub(crate) fn contiguous(held: &FlexTensor) -> FlexTensor {
    let layout = held.layout();
    let strides = layout.strides().iter().map(|&stride| usize::try_from(stride));
    // Of other numbers, and of views that go backwards, the copy is Burn's.
    match strides.collect::<Result<Vec<usize>, _>>() {
        Ok(strides) if held.dtype() == DType::F32 && !layout.is_contiguous() => {
            let axes = layout.shape().iter().zip(strides).map(|(&size, stride)| Axis { size, stride });
            let axes: Vec<Axis> = axes.collect();
            tensor(in_order(held.storage(), layout.start_offset(), &axes), layout.shape())
        }
        _ => held.to_contiguous(),
    }
}

/// A tensor of these numbers.
pub(crate) fn tensor(numbers: Vec<f32>, shape: &Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(numbers), Layout::contiguous(shape.clone()), DType::F32)
}

/// A tensor of these numbers, rounded to the type and of the shape of `like`.
pub(crate) fn tensor_like(numbers: Vec<f32>, like: &FlexTensor) -> FlexTensor {
    stored_tensor(numbers, like.layout().shape(), like.dtype())
}

/// A tensor of these numbers, rounded to `dtype`.
pub(crate) fn stored_tensor(numbers: Vec<f32>, shape: &Shape, dtype: DType) -> FlexTensor {
    let bytes = match dtype {
        DType::BF16 => Bytes::from_elems(numbers.into_iter().map(bf16::from_f32).collect::<Vec<_>>()),
        DType::F16 => Bytes::from_elems(numbers.into_iter().map(f16::from_f32).collect::<Vec<_>>()),
        _ => return tensor(numbers, shape),
    };
    FlexTensor::new(bytes, Layout::contiguous(shape.clone()), dtype)
}

/// The tensor, which is f32, in memory of its own, in order and from the start.
pub(crate) fn alone(held: FlexTensor) -> FlexTensor {
    let whole = held.layout().contiguous_offsets() == Some((0, held.storage::<f32>().len()));
    if held.is_unique() && whole {
        return held;
    }
    tensor(values(&held).to_vec(), held.layout().shape())
}
