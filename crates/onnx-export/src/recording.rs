//! A forward pass as the operations that it is made of.

use std::collections::{BTreeMap, BTreeSet};

use burn::backend::ir::{OperationIr, TensorId};
use burn::tensor::{Device, Tensor, TensorData};
use vision_nn::{Classifier, Pass, captured_id, captured_parameters, in_burns_operations, parameter_shapes};

use crate::ExportError;
use crate::batch::{Aligned, Axis, BATCHES, name_of};
use crate::message::{Dimension, Model};
use crate::translate::translate;
use crate::wire::{Message, encode, length};

/// Name of the graph's input: normalised images, `[batch, C, H, W]`.
pub const INPUT: &str = "image";

/// Name of the graph's output: logits, `[batch, K]`.
pub const OUTPUT: &str = "logits";

/// Name of the axis whose size is left open.
const BATCH: &str = "batch";

/// A protobuf message can be no longer: its readers count in `int`.
const LONGEST_MESSAGE: u64 = i32::MAX as u64;

/// Records the forward pass of the model that `build` makes, in evaluation and in f32. Nothing is computed, and the weights do not matter.
///
/// # Shapes
/// - `image`: channels, height and width
///
/// # Errors
/// When the pass depends on the number of images other than by sizes that are so much for each.
pub fn record<M: Classifier>(image: [usize; 3], build: &dyn Fn(&Device) -> M) -> Result<Recording, ExportError> {
    let device = Device::capture();
    let [mut first, mut second] = [None, None];
    let (mut parameters, mut shapes) = (BTreeMap::new(), Vec::new());
    let captured = device.capture_scope(|scope| {
        let model = build(&device);
        (parameters, shapes) = (captured_parameters(&model), parameter_shapes(&model));
        [first, second] = BATCHES.map(|batch| Some(Ends::of_pass(&model, image, batch, &device)));
        scope.complete([], [])
    });
    let captured = captured.expect("the device is a capture device of its own, and no tensor comes from outside");
    let ends = [first, second].map(|ends| ends.expect("the scope ran"));
    let passes = ends.map(|ends| ends.needed(&captured.graph.operations, &parameters));
    let aligned = Aligned::of(&passes[0], &passes[1])?;
    let constants = constants(&aligned, &passes[0], &captured.values)?;
    let [operations, _] = passes;
    Ok(Recording { operations, ends: ends[0], axes: aligned.shapes, parameters, parameter_shapes: shapes, constants })
}

/// The first and the last tensor of a pass, by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) images: u64,
    pub(crate) logits: u64,
}

impl Ends {
    fn of_pass<M: Classifier>(model: &M, image: [usize; 3], batch: usize, device: &Device) -> Self {
        let [channels, height, width] = image;
        let images = Tensor::<4>::empty([batch, channels, height, width], device);
        let start = captured_id(&images);
        let logits = in_burns_operations(|| model.forward(images, &mut Pass::evaluation()));
        Self { images: start, logits: captured_id(&logits) }
    }

    /// Of all operations, those that lead from the images and the parameters to the logits, in order.
    fn needed(self, operations: &[OperationIr], parameters: &BTreeMap<u64, String>) -> Vec<OperationIr> {
        let mut wanted = BTreeSet::from([self.logits]);
        let mut needed = Vec::new();
        for operation in operations.iter().rev() {
            if operation.outputs().any(|tensor| wanted.contains(&tensor.id.value())) {
                let inputs = operation.inputs().map(|tensor| tensor.id.value());
                wanted.extend(inputs.filter(|number| *number != self.images && !parameters.contains_key(number)));
                needed.push(operation.clone());
            }
        }
        needed.reverse();
        needed
    }
}

/// Tensors that were made on the host. They must be the same in both passes.
fn constants(
    aligned: &Aligned,
    operations: &[OperationIr],
    values: &BTreeMap<TensorId, TensorData>,
) -> Result<BTreeMap<u64, TensorData>, ExportError> {
    let mut constants = BTreeMap::new();
    for operation in operations {
        for tensor in operation.inputs() {
            let Some(value) = values.get(&tensor.id) else { continue };
            let number = tensor.id.value();
            if values.get(&TensorId::new(aligned.seconds[&number])) != Some(value) {
                let reason = "it reads numbers that the host made for this batch".to_owned();
                return Err(ExportError::BatchBound { operation: name_of(operation), reason });
            }
            constants.entry(number).or_insert_with(|| value.clone());
        }
    }
    Ok(constants)
}

/// A recorded forward pass over any number of images.
#[derive(Debug)]
pub struct Recording {
    /// From the images to the logits.
    pub(crate) operations: Vec<OperationIr>,
    pub(crate) ends: Ends,
    /// Shapes by the tensors' numbers.
    pub(crate) axes: BTreeMap<u64, Vec<Axis>>,
    /// Names by numbers.
    pub(crate) parameters: BTreeMap<u64, String>,
    parameter_shapes: Vec<(String, Vec<usize>)>,
    /// What the host made, by numbers.
    pub(crate) constants: BTreeMap<u64, TensorData>,
}

impl Recording {
    /// Names and shapes of the model's parameters, in the model's order: those of the weights that [`to_onnx`](Self::to_onnx) takes.
    pub fn parameter_shapes(&self) -> &[(String, Vec<usize>)] {
        &self.parameter_shapes
    }

    /// The file: a graph from [`INPUT`] to [`OUTPUT`] with an open batch, and `weights` as its initialisers under their own names, in f32.
    /// `properties` are its metadata, keys and values.
    ///
    /// Equal input gives equal bytes.
    ///
    /// # Errors
    /// An operation without translation, a parameter without values or with those of another shape, or a file of more than 2 GiB.
    pub fn to_onnx(
        &self,
        name: &str,
        weights: BTreeMap<String, TensorData>,
        properties: &[(String, String)],
    ) -> Result<Vec<u8>, ExportError> {
        let graph = translate(self, name, weights)?;
        encode_within(&Model { graph, properties }, LONGEST_MESSAGE)
    }

    /// The shape of a tensor in the graph's declaration.
    pub(crate) fn declared(&self, number: u64) -> Vec<Dimension> {
        let declared = |axis: &Axis| match *axis {
            Axis::Fixed(size) => Dimension::Fixed(size),
            Axis::PerImage(_) => Dimension::Open(BATCH),
        };
        self.axes[&number].iter().map(declared).collect()
    }
}

fn encode_within(message: &dyn Message, limit: u64) -> Result<Vec<u8>, ExportError> {
    let bytes = length(message);
    if bytes > limit { Err(ExportError::TooLarge { bytes, limit }) } else { Ok(encode(message)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Tensor as Initializer;

    #[test]
    fn a_message_may_be_as_long_as_the_limit_and_no_longer() {
        let message = Initializer { name: "w".to_owned(), data: TensorData::new(vec![1.0f32; 50], [50]) };
        let bytes = length(&message);
        assert_eq!(encode_within(&message, bytes).unwrap().len() as u64, bytes);
        let refused = encode_within(&message, bytes - 1).unwrap_err();
        assert_eq!(refused, ExportError::TooLarge { bytes, limit: bytes - 1 });
        assert!(refused.hint().unwrap().contains("safetensors"));
    }
}
