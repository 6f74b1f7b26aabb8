//! Operations of ours in a recorded graph: what they take and make, where the graph is that of a card that runs them as kernels of their own.

use burn::backend::Capture;
use burn::backend::ir::{CustomOpIr, OperationIr, TensorIr};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_router::RouterClient;

/// Notes an operation that makes outputs of these shapes and types.
pub(crate) fn record<const INPUTS: usize, const OUTPUTS: usize>(
    name: &'static str,
    inputs: [FloatTensor<Capture>; INPUTS],
    outputs: [(Shape, DType); OUTPUTS],
) -> [FloatTensor<Capture>; OUTPUTS] {
    let client = inputs[0].client.clone();
    let outputs = outputs.map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype));
    let inputs = inputs.map(|input| input.into_ir());
    let made = client.register(OperationIr::Custom(CustomOpIr::new(name, &inputs, &outputs)));
    made.try_into().unwrap_or_else(|_| unreachable!("one tensor is made for each output"))
}
