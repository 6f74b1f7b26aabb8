//! A graph as it grows: who is called what, and which constants it has.

use std::collections::{BTreeMap, BTreeSet};

use burn::backend::ir::TensorIr;
use burn::tensor::{DType, TensorData};

use crate::batch::Axis;
use crate::message::{Attribute, Graph, Node, Tensor, Value};
use crate::recording::{INPUT, OUTPUT};
use crate::{ExportError, Recording};

pub(super) struct GraphBuilder<'a> {
    pub(super) recording: &'a Recording,
    weights: BTreeMap<String, TensorData>,
    nodes: Vec<Node>,
    initializers: Vec<Tensor>,
    /// Names of the initialisers that are there.
    known: BTreeSet<String>,
    /// By the tensors' numbers.
    names: BTreeMap<u64, String>,
    /// Tensors of one value: they become a constant when one is needed.
    fills: BTreeMap<u64, f32>,
    /// Transposed matrices with what they were: not every reader needs them so.
    transposed: BTreeMap<u64, TensorIr>,
    /// The operation that is translated, in Burn's words.
    pub(super) current: String,
}

impl<'a> GraphBuilder<'a> {
    pub(super) fn new(recording: &'a Recording, weights: BTreeMap<String, TensorData>) -> Self {
        Self {
            recording,
            weights,
            nodes: Vec::new(),
            initializers: Vec::new(),
            known: BTreeSet::new(),
            names: BTreeMap::from([(recording.ends.images, INPUT.to_owned())]),
            fills: BTreeMap::new(),
            transposed: BTreeMap::new(),
            current: String::new(),
        }
    }

    pub(super) fn finish(mut self, name: &str) -> Result<Graph, ExportError> {
        let ends = self.recording.ends;
        let last = self.names.get(&ends.logits).cloned().unwrap_or_default();
        if last != OUTPUT {
            // The last operation gave another tensor another name, as a reshape to the same shape does.
            self.push("Identity", vec![last], OUTPUT.to_owned(), vec![]);
        }
        Ok(Graph {
            name: name.to_owned(),
            nodes: self.nodes,
            initializers: self.initializers,
            input: Value { name: INPUT, shape: self.recording.declared(ends.images) },
            output: Value { name: OUTPUT, shape: self.recording.declared(ends.logits) },
        })
    }

    /// The shape of a tensor of the recording.
    pub(super) fn axes(&self, tensor: &TensorIr) -> &'a [Axis] {
        &self.recording.axes[&tensor.id.value()]
    }

    /// The name by which an operator reads a tensor.
    pub(super) fn input(&mut self, tensor: &TensorIr) -> Result<String, ExportError> {
        let number = tensor.id.value();
        if let Some(name) = self.names.get(&number) {
            return Ok(name.clone());
        }
        let name = if let Some(parameter) = self.recording.parameters.get(&number) {
            self.parameter(parameter, tensor)?
        } else if let Some(stored) = self.transposed.remove(&number) {
            let (stored, name) = (self.input(&stored)?, self.fresh_name());
            self.push("Transpose", vec![stored], name.clone(), vec![("perm", Attribute::of_sizes([1, 0]))]);
            name
        } else if let Some(value) = self.recording.constants.get(&number) {
            if value.dtype != DType::F32 {
                return Err(self.unsupported());
            }
            let name = format!("constant_{}", self.initializers.len());
            self.initializer(name, value.clone())
        } else if let Some(value) = self.fills.get(&number).copied() {
            self.filled(tensor, value)?
        } else {
            return Err(ExportError::Unwritten { operation: self.current.clone() });
        };
        self.names.insert(number, name.clone());
        Ok(name)
    }

    fn parameter(&mut self, name: &str, tensor: &TensorIr) -> Result<String, ExportError> {
        if self.known.contains(name) {
            return Ok(name.to_owned());
        }
        let data = self.weights.remove(name).ok_or_else(|| ExportError::MissingWeight { name: name.to_owned() })?;
        let (expected, found) = (tensor.shape.to_vec(), data.shape.to_vec());
        if expected != found {
            return Err(ExportError::WeightShape { name: name.to_owned(), expected, found });
        }
        Ok(self.initializer(name.to_owned(), data.convert_dtype(DType::F32)))
    }

    /// A tensor that has one value everywhere, of a shape that does not depend on the batch.
    fn filled(&mut self, tensor: &TensorIr, value: f32) -> Result<String, ExportError> {
        if self.axes(tensor).iter().any(|axis| axis.is_per_image()) {
            return Err(self.batch_bound("it reads a filled tensor of the batch's size"));
        }
        let data = TensorData::full(tensor.shape.clone(), value);
        let name = format!("fill_{}", self.initializers.len());
        Ok(self.initializer(name, data))
    }

    /// The one value of a tensor, where it has one.
    pub(super) fn fill_of(&self, tensor: &TensorIr) -> Option<f32> {
        self.fills.get(&tensor.id.value()).copied()
    }

    pub(super) fn add_fill(&mut self, out: &TensorIr, value: f32) -> Result<(), ExportError> {
        self.fills.insert(out.id.value(), value);
        Ok(())
    }

    /// Sets a transposed matrix aside until it is known who reads it.
    pub(super) fn set_transposed(&mut self, out: &TensorIr, stored: &TensorIr) {
        self.transposed.insert(out.id.value(), stored.clone());
    }

    /// What a transposed matrix was, unless it was needed transposed before.
    pub(super) fn untransposed(&self, tensor: &TensorIr) -> Option<TensorIr> {
        self.transposed.get(&tensor.id.value()).cloned()
    }

    /// One number, f32.
    pub(super) fn scalar(&mut self, value: f32) -> String {
        // `Debug` tells any two numbers apart.
        self.initializer(format!("scalar_{value:?}"), TensorData::new(vec![value], Vec::<usize>::new()))
    }

    /// A list of sizes or places, i64.
    pub(super) fn list(&mut self, values: &[i64]) -> String {
        let words: Vec<String> = values.iter().map(i64::to_string).collect();
        self.initializer(format!("list_{}", words.join("_")), TensorData::new(values.to_vec(), [values.len()]))
    }

    /// Adds an initialiser, unless one of that name is there.
    fn initializer(&mut self, name: String, data: TensorData) -> String {
        if self.known.insert(name.clone()) {
            self.initializers.push(Tensor { name: name.clone(), data });
        }
        name
    }

    /// Adds an operator that makes a tensor of the recording.
    pub(super) fn node(
        &mut self,
        operator: &'static str,
        inputs: Vec<String>,
        out: &TensorIr,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        let name = match out.id.value() == self.recording.ends.logits {
            true => OUTPUT.to_owned(),
            false => self.fresh_name(),
        };
        self.names.insert(out.id.value(), name.clone());
        self.push(operator, inputs, name, attributes);
    }

    /// Adds an operator between two of the recording's tensors, and gives the name of what it makes.
    pub(super) fn step(&mut self, operator: &'static str, inputs: Vec<String>) -> String {
        let name = self.fresh_name();
        self.push(operator, inputs, name.clone(), vec![]);
        name
    }

    /// Has a tensor go by the name of another, which it equals.
    pub(super) fn same(&mut self, input: &TensorIr, out: &TensorIr) -> Result<(), ExportError> {
        let name = self.input(input)?;
        self.names.insert(out.id.value(), name);
        Ok(())
    }

    fn push(
        &mut self,
        operator: &'static str,
        inputs: Vec<String>,
        output: String,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        let name = format!("{operator}_{}", self.nodes.len());
        self.nodes.push(Node { name, operator, inputs, output, attributes });
    }

    /// A name for what the next operator makes.
    fn fresh_name(&self) -> String {
        format!("tensor_{}", self.nodes.len())
    }

    pub(super) fn unsupported(&self) -> ExportError {
        ExportError::Unsupported { operation: self.current.clone() }
    }

    pub(super) fn batch_bound(&self, reason: &str) -> ExportError {
        ExportError::BatchBound { operation: self.current.clone(), reason: reason.to_owned() }
    }
}
