//! Operations of Burn as operators of ONNX ([definitions](https://github.com/onnx/onnx/blob/v1.16.0/docs/Operators.md)).

mod arithmetic;
mod graph;
mod shapes;

use std::collections::BTreeMap;

use burn::backend::ir::{
    ActivationOperationIr, BaseOperationIr, Conv2dOpIr, FloatOperationIr, LinearOpIr, ModuleOperationIr, OperationIr,
};
use burn::tensor::TensorData;

use crate::batch::name_of;
use crate::message::{Attribute, Graph};
use crate::{ExportError, Recording};
use graph::GraphBuilder;

/// The graph of a recorded pass.
pub(crate) fn translate(
    recording: &Recording,
    name: &str,
    weights: BTreeMap<String, TensorData>,
) -> Result<Graph, ExportError> {
    let mut graph = GraphBuilder::new(recording, weights);
    for operation in &recording.operations {
        graph.add(operation)?;
    }
    graph.finish(name)
}

impl GraphBuilder<'_> {
    fn add(&mut self, operation: &OperationIr) -> Result<(), ExportError> {
        self.current = name_of(operation);
        match operation {
            // A tensor from the host, which becomes a constant when it is read.
            OperationIr::Init(_) => Ok(()),
            OperationIr::BaseFloat(base) => self.add_base(base),
            OperationIr::NumericFloat(_, numeric) => self.add_numeric(numeric),
            OperationIr::Float(_, float) => self.add_float(float),
            OperationIr::Activation(activation) => self.add_activation(activation),
            OperationIr::Module(ModuleOperationIr::Conv2d(convolution)) => self.add_convolution(convolution),
            OperationIr::Module(ModuleOperationIr::Linear(linear)) => self.add_linear(linear),
            _ => Err(self.unsupported()),
        }
    }

    fn add_base(&mut self, operation: &BaseOperationIr) -> Result<(), ExportError> {
        match operation {
            BaseOperationIr::Reshape(reshape) => self.add_reshape(reshape),
            BaseOperationIr::Permute(permute) => self.add_permute(&permute.input, &permute.out, permute.axes.clone()),
            BaseOperationIr::SwapDims(swap) => {
                let mut axes: Vec<usize> = (0..swap.input.shape.num_dims()).collect();
                axes.swap(swap.dim1, swap.dim2);
                self.add_permute(&swap.input, &swap.out, axes)
            }
            BaseOperationIr::Expand(expand) => self.add_expand(expand),
            BaseOperationIr::Slice(slice) => self.add_slice(slice),
            BaseOperationIr::SliceAssign(assign) => self.add_padding(assign),
            BaseOperationIr::Cat(cat) => {
                let inputs = cat.tensors.iter().map(|tensor| self.input(tensor)).collect::<Result<_, _>>()?;
                self.node("Concat", inputs, &cat.out, vec![("axis", Attribute::Integer(cat.dim as i64))]);
                Ok(())
            }
            BaseOperationIr::Zeros(zeros) => self.add_fill(&zeros.out, 0.0),
            BaseOperationIr::Ones(ones) => self.add_fill(&ones.out, 1.0),
            _ => Err(self.unsupported()),
        }
    }

    fn add_float(&mut self, operation: &FloatOperationIr) -> Result<(), ExportError> {
        match operation {
            FloatOperationIr::Sqrt(sqrt) => self.unary("Sqrt", &sqrt.input, &sqrt.out),
            FloatOperationIr::Recip(recip) => self.unary("Reciprocal", &recip.input, &recip.out),
            FloatOperationIr::Matmul(product) => self.binary("MatMul", &product.lhs, &product.rhs, &product.out),
            _ => Err(self.unsupported()),
        }
    }

    fn add_activation(&mut self, operation: &ActivationOperationIr) -> Result<(), ExportError> {
        match operation {
            ActivationOperationIr::Gelu(gelu) => self.add_gelu(&gelu.input, &gelu.out),
            ActivationOperationIr::Sigmoid(sigmoid) => self.unary("Sigmoid", &sigmoid.input, &sigmoid.out),
            ActivationOperationIr::Softmax(softmax) => {
                let axis = Attribute::Integer(softmax.axis as i64);
                let input = self.input(&softmax.input)?;
                self.node("Softmax", vec![input], &softmax.out, vec![("axis", axis)]);
                Ok(())
            }
            _ => Err(self.unsupported()),
        }
    }

    fn add_convolution(&mut self, convolution: &Conv2dOpIr) -> Result<(), ExportError> {
        let Conv2dOpIr { x, weight, bias, options, out } = convolution;
        let mut inputs = vec![self.input(x)?, self.input(weight)?];
        if let Some(bias) = bias
            && self.fill_of(bias) != Some(0.0)
        {
            inputs.push(self.input(bias)?);
        }
        let attributes = vec![
            ("kernel_shape", Attribute::of_sizes(weight.shape.iter().skip(2).copied())),
            ("strides", Attribute::of_sizes(options.stride)),
            ("pads", Attribute::of_sizes([options.padding, options.padding].concat())),
            ("dilations", Attribute::of_sizes(options.dilation)),
            ("group", Attribute::Integer(options.groups as i64)),
        ];
        self.node("Conv", inputs, out, attributes);
        Ok(())
    }

    /// A `Gemm`, which takes a weight as PyTorch stores it, without the transpose that stands before it.
    fn add_linear(&mut self, linear: &LinearOpIr) -> Result<(), ExportError> {
        let LinearOpIr { x, weight, bias, out } = linear;
        if x.shape.num_dims() != 2 {
            return Err(self.unsupported());
        }
        let (weight, attributes) = match self.untransposed(weight) {
            Some(stored) => (self.input(&stored)?, vec![("transB", Attribute::Integer(1))]),
            None => (self.input(weight)?, vec![]),
        };
        let mut inputs = vec![self.input(x)?, weight];
        if let Some(bias) = bias {
            inputs.push(self.input(bias)?);
        }
        self.node("Gemm", inputs, out, attributes);
        Ok(())
    }
}
