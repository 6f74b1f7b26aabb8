//! Operations on lists of tensors, with as many of them in one launch as a kernel can take.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::ir::{CustomOpIr, HandleContainer, OperationIr, TensorIr};
use burn_cubecl::fusion::{CubeFusionHandle, FusionCubeRuntime};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::FusionTensor;
use burn_fusion::stream::{Operation, StreamId};

use super::{Form, Queued};

/// An operation on any number of tensors, with its settings, which waits for them.
pub(crate) trait ListOperation: Debug + Send + Sync + 'static {
    /// By which records of the queue know it.
    const NAME: &'static str;

    /// What it makes of inputs of these forms.
    fn outputs(&self, inputs: &[Form]) -> Vec<Form>;

    /// Launches the kernels. Outputs have the forms that were announced, and may be inputs that were written over.
    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>>;
}

/// Puts an operation into the queue of the device that its inputs are on; nothing without inputs.
pub(crate) fn launch<R: CubeRuntime, O: ListOperation>(operation: O, inputs: Vec<Queued<R>>) -> Vec<Queued<R>> {
    let Some(client) = inputs.first().map(|input| input.client.clone()) else { return Vec::new() };
    let forms: Vec<Form> = inputs.iter().map(|input| (input.shape.clone(), input.dtype)).collect();
    let inputs: Vec<TensorIr> = inputs.into_iter().map(FusionTensor::into_ir).collect();
    let outputs: Vec<TensorIr> = operation
        .outputs(&forms)
        .into_iter()
        .map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype))
        .collect();
    let record = CustomOpIr::new(O::NAME, &inputs, &outputs);
    let turn = Turn::<R, O> { operation, record: record.clone(), runtime: PhantomData };
    client.register(StreamId::current(), OperationIr::Custom(record), turn)
}

/// An operation in the queue.
#[derive(Debug)]
struct Turn<R, O> {
    operation: O,
    record: CustomOpIr,
    runtime: PhantomData<fn() -> R>,
}

impl<R: CubeRuntime, O: ListOperation> Operation<FusionCubeRuntime<R>> for Turn<R, O> {
    fn execute(&self, handles: &mut HandleContainer<CubeFusionHandle<R>>) {
        let inputs = self.record.inputs.iter().map(|input| handles.get_float_tensor::<CubeBackend<R>>(input)).collect();
        for (output, tensor) in self.record.outputs.iter().zip(self.operation.run(inputs)) {
            handles.register_float_tensor::<CubeBackend<R>>(&output.id, tensor);
        }
    }
}
