//! Operations on CubeCL devices: one source for CUDA and WebGPU.
//!
//! Tensors of these backends are promises: Burn's fusion queues operations, and hands real buffers to a kernel when its turn comes. An operation
//! here is put into that queue by [`launch`], and is given contiguous or strided [`CubeTensor`]s by it.

pub(crate) mod activation;
pub(crate) mod batch_norm;
pub(crate) mod columns;
pub(crate) mod cross_entropy;
pub(crate) mod depthwise;
pub(crate) mod layer_norm;
pub(crate) mod many;
pub(crate) mod parameters;
pub(crate) mod per_channel;
pub(crate) mod pixels;
pub(crate) mod product;
pub(crate) mod residual;
pub(crate) mod settled;
pub(crate) mod tensors;
pub(crate) mod window_attention;

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::ir::{CustomOpIr, HandleContainer, OperationIr, TensorIr};
use burn_cubecl::fusion::{CubeFusionHandle, FusionCubeRuntime};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::FusionTensor;
use burn_fusion::stream::{Operation, StreamId};

pub(crate) use super::recorded::Form;

/// A tensor of a backend on the runtime `R`, as it stands in the queue.
pub(crate) type Queued<R> = FusionTensor<FusionCubeRuntime<R>>;

/// An operation with its settings, which waits for its tensors.
pub(crate) trait CubeOperation<const INPUTS: usize, const OUTPUTS: usize>:
    Debug + Send + Sync + 'static
{
    /// By which records of the queue know it.
    const NAME: &'static str;

    /// What it makes of inputs of these forms.
    fn outputs(&self, inputs: [Form; INPUTS]) -> [Form; OUTPUTS];

    /// Launches the kernels. Inputs may have any strides; outputs have the forms that were announced.
    fn run<R: CubeRuntime>(&self, inputs: [CubeTensor<R>; INPUTS]) -> [CubeTensor<R>; OUTPUTS];
}

/// Puts an operation into the queue of the device that its inputs are on.
pub(crate) fn launch<R, O, const INPUTS: usize, const OUTPUTS: usize>(
    operation: O,
    inputs: [Queued<R>; INPUTS],
) -> [Queued<R>; OUTPUTS]
where
    R: CubeRuntime,
    O: CubeOperation<INPUTS, OUTPUTS>,
{
    let client = inputs[0].client.clone();
    let forms = operation.outputs(inputs.each_ref().map(|input| (input.shape.clone(), input.dtype)));
    let inputs = inputs.map(FusionTensor::into_ir);
    let outputs = forms.map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype));
    let record = CustomOpIr::new(O::NAME, &inputs, &outputs);
    let turn = Turn::<R, O, INPUTS, OUTPUTS> { operation, record: record.clone(), runtime: PhantomData };
    let outputs = client.register(StreamId::current(), OperationIr::Custom(record), turn);
    outputs.try_into().expect("one tensor is made for each output of the record")
}

/// An operation in the queue.
#[derive(Debug)]
struct Turn<R, O, const INPUTS: usize, const OUTPUTS: usize> {
    operation: O,
    record: CustomOpIr,
    runtime: PhantomData<fn() -> R>,
}

impl<R, O, const INPUTS: usize, const OUTPUTS: usize> Operation<FusionCubeRuntime<R>> for Turn<R, O, INPUTS, OUTPUTS>
where
    R: CubeRuntime,
    O: CubeOperation<INPUTS, OUTPUTS>,
{
    fn execute(&self, handles: &mut HandleContainer<CubeFusionHandle<R>>) {
        let (inputs, outputs) = self.record.as_fixed::<INPUTS, OUTPUTS>();
        let inputs = inputs.each_ref().map(|input| handles.get_float_tensor::<CubeBackend<R>>(input));
        for (output, tensor) in outputs.iter().zip(self.operation.run(inputs)) {
            handles.register_float_tensor::<CubeBackend<R>>(&output.id, tensor);
        }
    }
}
