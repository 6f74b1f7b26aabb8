//! Operations of ours on the device that only records: what they read, make and take meanwhile, as the kernels of `cube` do it on a card.

use burn::backend::Capture;
use burn::backend::ir::{CustomOpIr, OperationIr, ScalarIr, TensorIr};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_router::RouterClient;

/// Shape and type of a tensor.
pub(crate) type Form = (Shape, DType);

/// Memory that an operation takes while it runs, in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scratch {
    /// Its bytes.
    pub bytes: u64,
    /// What these would not exceed in a batch of any size.
    pub most_bytes: u64,
}

/// Notes an operation.
pub(crate) fn record<const INPUTS: usize, const OUTPUTS: usize>(
    name: &'static str,
    inputs: [FloatTensor<Capture>; INPUTS],
    outputs: [Form; OUTPUTS],
    scratch: &[Scratch],
) -> [FloatTensor<Capture>; OUTPUTS] {
    let client = inputs[0].client.clone();
    let inputs = inputs.map(|input| input.into_ir());
    let outputs = outputs.map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype));
    let pieces = scratch.iter().flat_map(|piece| [piece.bytes, piece.most_bytes].map(ScalarIr::UInt)).collect();
    let record = CustomOpIr::with_scalars(name, &inputs, &outputs, pieces);
    let outputs = client.register(OperationIr::Custom(record));
    outputs.try_into().expect("one tensor is made for each output of the record")
}

/// What a noted operation takes while it runs.
pub fn recorded_scratch(record: &CustomOpIr) -> Vec<Scratch> {
    let pieces = record.scalars.chunks_exact(2);
    pieces.map(|piece| Scratch { bytes: piece[0].elem(), most_bytes: piece[1].elem() }).collect()
}
