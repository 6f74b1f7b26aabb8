//! Operations of ours on the device that only records: what they read, make and take meanwhile, as the kernels of `cube` do it on a card. And whether
//! they are ours at all.

use std::cell::Cell;

use burn::backend::ir::{CustomOpIr, OperationIr, ScalarIr, TensorIr};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Capture, TensorMetadata};
use burn::tensor::{DType, Device, Shape};
use burn_router::RouterClient;

use super::host::is_cpu;

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

thread_local! {
    static COMPOSES: Cell<bool> = const { Cell::new(false) };
}

/// Has `work` done in Burn's own operations alone, on this thread: for those who read a recording and know no others, and to hold ours against on a
/// card. The CPU runs its loops all the same.
pub fn in_burns_operations<T>(work: impl FnOnce() -> T) -> T {
    let before = COMPOSES.replace(true);
    let result = work();
    COMPOSES.set(before);
    result
}

/// Whether operations of ours are run by a card, and noted, as such.
pub(crate) fn notes_ours() -> bool {
    !COMPOSES.get()
}

/// Whether what this device does is to be composed of Burn's own operations, though it has ours.
pub(crate) fn composes(device: &Device) -> bool {
    !notes_ours() && !is_cpu(device)
}

/// Notes an operation.
pub(crate) fn record<const INPUTS: usize, const OUTPUTS: usize>(
    name: &'static str,
    inputs: [FloatTensor<Capture>; INPUTS],
    outputs: [Form; OUTPUTS],
    scratch: &[Scratch],
) -> [FloatTensor<Capture>; OUTPUTS] {
    let outputs = record_scratch(name, inputs.into(), outputs.into(), scratch);
    outputs.try_into().expect("one tensor is made for each output of the record")
}

/// Notes an operation on any number of tensors.
pub(crate) fn record_scratch(
    name: &'static str,
    inputs: Vec<FloatTensor<Capture>>,
    outputs: Vec<Form>,
    scratch: &[Scratch],
) -> Vec<FloatTensor<Capture>> {
    let pieces = scratch.iter().flat_map(|piece| [piece.bytes, piece.most_bytes].map(ScalarIr::UInt)).collect();
    note(name, inputs, outputs, pieces)
}

/// Notes an operation whose outputs are inputs that it writes over, given by their places in the order of the outputs. Where others see such an input,
/// a copy is written over.
pub(crate) fn record_in_place(
    name: &'static str,
    inputs: Vec<FloatTensor<Capture>>,
    places: &[usize],
) -> Vec<FloatTensor<Capture>> {
    let outputs = places.iter().map(|&place| (inputs[place].shape(), inputs[place].dtype())).collect();
    let places = places.iter().map(|&place| ScalarIr::Int(i64::try_from(place).expect("lists are short"))).collect();
    note(name, inputs, outputs, places)
}

fn note(
    name: &'static str,
    inputs: Vec<FloatTensor<Capture>>,
    outputs: Vec<Form>,
    scalars: Vec<ScalarIr>,
) -> Vec<FloatTensor<Capture>> {
    let client = inputs[0].client.clone();
    let inputs: Vec<TensorIr> = inputs.into_iter().map(|input| input.into_ir()).collect();
    let outputs: Vec<TensorIr> = outputs
        .into_iter()
        .map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype))
        .collect();
    client.register(OperationIr::Custom(CustomOpIr::with_scalars(name, &inputs, &outputs, scalars)))
}

/// What a noted operation takes while it runs.
pub fn recorded_scratch(record: &CustomOpIr) -> Vec<Scratch> {
    let bytes = |scalar: &ScalarIr| match scalar {
        ScalarIr::UInt(bytes) => Some(*bytes),
        _ => None,
    };
    let bytes: Vec<u64> = record.scalars.iter().filter_map(bytes).collect();
    bytes.chunks_exact(2).map(|piece| Scratch { bytes: piece[0], most_bytes: piece[1] }).collect()
}

/// The inputs in whose memory the outputs of a noted operation lie, by their places, in the order of the outputs; none where it writes over nothing.
pub fn recorded_overwrites(record: &CustomOpIr) -> Vec<usize> {
    let place = |scalar: &ScalarIr| match scalar {
        ScalarIr::Int(place) => usize::try_from(*place).ok(),
        _ => None,
    };
    record.scalars.iter().filter_map(place).collect()
}
