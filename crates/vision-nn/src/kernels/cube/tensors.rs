//! Tensors as kernels take and make them.

use burn::cubecl::prelude::*;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

/// In f32, without gaps.
pub(crate) fn in_f32<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    into_contiguous(cast(tensor, DType::F32))
}

/// A new tensor of the same shape and type, without gaps.
pub(crate) fn like<R: CubeRuntime>(tensor: &CubeTensor<R>) -> CubeTensor<R> {
    empty(tensor, tensor.meta.shape().clone(), tensor.dtype)
}

/// A new tensor on the device of another, without gaps: CUDA would otherwise make its rows longer, up to multiples of 512 bytes.
pub(crate) fn empty<R: CubeRuntime>(beside: &CubeTensor<R>, shape: Shape, dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(beside.client.clone(), beside.device.clone(), shape, dtype)
}

/// The numbers that places in any of the tensors need.
pub(crate) fn address_type<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}

/// So many cubes, along as many axes as the device wants; there may be some more.
pub(crate) fn cube_count<R: CubeRuntime>(tensor: &CubeTensor<R>, cubes: usize) -> CubeCount {
    let most = tensor.client.properties().hardware.max_cube_count.0 as usize;
    match cubes <= most {
        true => CubeCount::new_1d(cubes as u32),
        false => CubeCount::new_2d(most as u32, cubes.div_ceil(most) as u32),
    }
}
