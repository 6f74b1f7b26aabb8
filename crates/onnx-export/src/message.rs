//! The messages of an ONNX file that are written here, with the field numbers of
//! [onnx.proto](https://github.com/onnx/onnx/blob/v1.16.0/onnx/onnx.proto).

use burn::tensor::{DType, TensorData};

use crate::wire::{Fields, Message};

/// Version of ONNX's set of operators that files are written in: that in which TensorRT, OpenVINO and onnxruntime have all of those used here.
pub const OPSET: i64 = 17;

/// Version of the file format that came with [`OPSET`]
/// ([table](https://github.com/onnx/onnx/blob/v1.16.0/docs/Versioning.md#released-versions)).
const IR_VERSION: i64 = 8;

/// `TensorProto.DataType`
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// A whole file.
pub(crate) struct Model<'a> {
    pub(crate) graph: Graph,
    /// Keys and values.
    pub(crate) properties: &'a [(String, String)],
}

impl Message for Model<'_> {
    fn tell(&self, fields: &mut dyn Fields) {
        fields.integer(1, IR_VERSION);
        fields.text(2, "stoker");
        fields.text(3, env!("CARGO_PKG_VERSION"));
        fields.message(7, &self.graph);
        fields.message(8, &OperatorSet);
        for property in self.properties {
            fields.message(14, &Property(property));
        }
    }
}

struct OperatorSet;

impl Message for OperatorSet {
    fn tell(&self, fields: &mut dyn Fields) {
        fields.text(1, "");
        fields.integer(2, OPSET);
    }
}

struct Property<'a>(&'a (String, String));

impl Message for Property<'_> {
    fn tell(&self, fields: &mut dyn Fields) {
        let (key, value) = self.0;
        fields.text(1, key);
        fields.text(2, value);
    }
}

pub(crate) struct Graph {
    pub(crate) name: String,
    /// In an order in which they can be computed.
    pub(crate) nodes: Vec<Node>,
    pub(crate) initializers: Vec<Tensor>,
    pub(crate) input: Value,
    pub(crate) output: Value,
}

impl Message for Graph {
    fn tell(&self, fields: &mut dyn Fields) {
        for node in &self.nodes {
            fields.message(1, node);
        }
        fields.text(2, &self.name);
        for initializer in &self.initializers {
            fields.message(5, initializer);
        }
        fields.message(11, &self.input);
        fields.message(12, &self.output);
    }
}

/// One operator with what goes in and what comes out, by name.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) operator: &'static str,
    pub(crate) inputs: Vec<String>,
    pub(crate) output: String,
    pub(crate) attributes: Vec<(&'static str, Attribute)>,
}

impl Message for Node {
    fn tell(&self, fields: &mut dyn Fields) {
        for input in &self.inputs {
            fields.text(1, input);
        }
        fields.text(2, &self.output);
        fields.text(3, &self.name);
        fields.text(4, self.operator);
        for (name, attribute) in &self.attributes {
            fields.message(5, &NamedAttribute(name, attribute));
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Attribute {
    Integer(i64),
    Integers(Vec<i64>),
}

impl Attribute {
    pub(crate) fn of_sizes(sizes: impl IntoIterator<Item = usize>) -> Self {
        Self::Integers(sizes.into_iter().map(|size| size as i64).collect())
    }
}

struct NamedAttribute<'a>(&'a str, &'a Attribute);

impl Message for NamedAttribute<'_> {
    fn tell(&self, fields: &mut dyn Fields) {
        /// `AttributeProto.AttributeType`
        const INT: i64 = 2;
        const INTS: i64 = 7;
        fields.text(1, self.0);
        match self.1 {
            Attribute::Integer(value) => {
                fields.integer(3, *value);
                fields.integer(20, INT);
            }
            Attribute::Integers(values) => {
                for &value in values {
                    fields.integer(8, value);
                }
                fields.integer(20, INTS);
            }
        }
    }
}

/// A constant: f32 or i64.
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) data: TensorData,
}

impl Message for Tensor {
    fn tell(&self, fields: &mut dyn Fields) {
        for &size in self.data.shape.iter() {
            fields.integer(1, size as i64);
        }
        fields.integer(2, if self.data.dtype == DType::I64 { INT64 } else { FLOAT });
        fields.text(8, &self.name);
        fields.bytes(9, self.data.as_bytes());
    }
}

/// An input or output of the graph, f32.
pub(crate) struct Value {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<Dimension>,
}

#[derive(Clone)]
pub(crate) enum Dimension {
    Fixed(usize),
    /// Open, under a name.
    Open(&'static str),
}

impl Message for Value {
    fn tell(&self, fields: &mut dyn Fields) {
        fields.text(1, self.name);
        fields.message(2, &Type(&self.shape));
    }
}

struct Type<'a>(&'a [Dimension]);

impl Message for Type<'_> {
    fn tell(&self, fields: &mut dyn Fields) {
        fields.message(1, &TensorType(self.0));
    }
}

struct TensorType<'a>(&'a [Dimension]);

impl Message for TensorType<'_> {
    fn tell(&self, fields: &mut dyn Fields) {
        fields.integer(1, FLOAT);
        fields.message(2, &Shape(self.0));
    }
}

struct Shape<'a>(&'a [Dimension]);

impl Message for Shape<'_> {
    fn tell(&self, fields: &mut dyn Fields) {
        for dimension in self.0 {
            fields.message(1, dimension);
        }
    }
}

impl Message for Dimension {
    fn tell(&self, fields: &mut dyn Fields) {
        match self {
            Self::Fixed(size) => fields.integer(1, *size as i64),
            Self::Open(name) => fields.text(2, name),
        }
    }
}
