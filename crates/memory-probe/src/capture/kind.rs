//! What an operation does to memory.

use burn::backend::ir::{
    ActivationOperationIr, BaseOperationIr, FloatOperationIr, ModuleOperationIr, NumericOperationIr, OperationIr,
};
use vision_nn::{SETTLED, Scratch, recorded_overwrites, recorded_scratch};

/// Operations that move memory alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Axes in another order: no memory.
    Permute(Vec<usize>),
    /// Repeated axes: no memory.
    Expand,
    /// Another shape: no memory if it can be told by strides.
    Reshape,
    /// A part: no memory if it is the whole, or begins and ends at aligned addresses.
    Slice,
    /// A part is written over: in place where nobody else needs the whole, otherwise on a copy (`burn_cubecl`, kernel/index/slice_assign.rs).
    Assign,
    /// A tensor from outside, or one whose values do not matter.
    Create,
    /// One output number from the input numbers at the same place; also constants. Neighbours become one kernel.
    Elementwise,
    /// Sums and the like along an axis.
    Reduce,
    /// A matrix product.
    Matmul,
    /// A convolution or one of its gradients; the output lies channels-last.
    Convolution,
    /// The weight gradient of a convolution with one group a channel.
    DepthwiseWeightGradient,
    /// An operation of this project.
    Own(Own),
    /// Anything else: a kernel of its own that makes its output.
    Other,
}

/// An operation of this project, as a card runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) name: String,
    /// What it takes beside its inputs and outputs.
    pub(super) scratch: Vec<Scratch>,
    /// The inputs that its outputs are written over, by their places, in the order of the outputs.
    pub(super) overwrites: Vec<usize>,
}

/// Sorts an operation.
pub(super) fn kind_of(operation: &OperationIr) -> Kind {
    use OperationIr as Ir;
    match operation {
        Ir::BaseFloat(base) | Ir::BaseInt(base) | Ir::BaseBool(base) => kind_of_base(base),
        Ir::NumericFloat(_, numeric) | Ir::NumericInt(_, numeric) => kind_of_numeric(numeric),
        Ir::Float(_, FloatOperationIr::Matmul(_)) => Kind::Matmul,
        Ir::Float(_, FloatOperationIr::Random(_)) => Kind::Create,
        Ir::Float(..) | Ir::Int(_) | Ir::Bool(_) => Kind::Elementwise,
        Ir::Module(module) => kind_of_module(module),
        // Burn's fusion composes activations of elementwise operations, which join their neighbours; a softmax has sums in it.
        Ir::Activation(
            ActivationOperationIr::Softmax(_)
            | ActivationOperationIr::LogSoftmax(_)
            | ActivationOperationIr::Softmin(_),
        ) => Kind::Reduce,
        Ir::Activation(_) => Kind::Elementwise,
        Ir::Init(_) => Kind::Create,
        Ir::Custom(own) if own.id == SETTLED => Kind::Slice,
        Ir::Custom(own) => Kind::Own(Own {
            name: own.id.clone(),
            scratch: recorded_scratch(own),
            overwrites: recorded_overwrites(own),
        }),
        Ir::Drop(_) | Ir::Distributed(_) => Kind::Other,
    }
}

fn kind_of_base(operation: &BaseOperationIr) -> Kind {
    match operation {
        BaseOperationIr::Permute(permute) => Kind::Permute(permute.axes.clone()),
        BaseOperationIr::SwapDims(swap) => {
            let mut axes: Vec<usize> = (0..swap.input.shape.num_dims()).collect();
            axes.swap(swap.dim1, swap.dim2);
            Kind::Permute(axes)
        }
        BaseOperationIr::Expand(_) => Kind::Expand,
        BaseOperationIr::Reshape(_) => Kind::Reshape,
        BaseOperationIr::Slice(_) => Kind::Slice,
        BaseOperationIr::SliceAssign(_) => Kind::Assign,
        BaseOperationIr::Empty(_) => Kind::Create,
        BaseOperationIr::MaskWhere(_)
        | BaseOperationIr::MaskFill(_)
        | BaseOperationIr::Equal(_)
        | BaseOperationIr::EqualElem(_)
        | BaseOperationIr::NotEqual(_)
        | BaseOperationIr::NotEqualElem(_)
        | BaseOperationIr::Cast(_)
        | BaseOperationIr::Ones(_)
        | BaseOperationIr::Zeros(_) => Kind::Elementwise,
        _ => Kind::Other,
    }
}

fn kind_of_numeric(operation: &NumericOperationIr) -> Kind {
    use NumericOperationIr as Ir;
    match operation {
        Ir::MeanDim(_) | Ir::SumDim(_) | Ir::ProdDim(_) | Ir::MaxDim(_) | Ir::MinDim(_) | Ir::MaxAbsDim(_) => {
            Kind::Reduce
        }
        Ir::Mean(_)
        | Ir::Sum(_)
        | Ir::Prod(_)
        | Ir::Max(_)
        | Ir::Min(_)
        | Ir::MaxAbs(_)
        | Ir::ArgMax(_)
        | Ir::ArgMin(_)
        | Ir::ArgTopK(_)
        | Ir::TopK(_)
        | Ir::TopKWithIndices(_)
        | Ir::MaxDimWithIndices(_)
        | Ir::MinDimWithIndices(_)
        | Ir::CumSum(_)
        | Ir::CumProd(_)
        | Ir::CumMin(_)
        | Ir::CumMax(_)
        | Ir::Sort(_)
        | Ir::SortWithIndices(_)
        | Ir::ArgSort(_)
        | Ir::IntRandom(_) => Kind::Other,
        _ => Kind::Elementwise,
    }
}

fn kind_of_module(operation: &ModuleOperationIr) -> Kind {
    use ModuleOperationIr as Ir;
    match operation {
        Ir::Conv2dWeightBackward(gradient) if gradient.options.groups > 1 => Kind::DepthwiseWeightGradient,
        Ir::Conv2d(_)
        | Ir::Conv2dXBackward(_)
        | Ir::Conv2dWeightBackward(_)
        | Ir::ConvTranspose2d(_)
        | Ir::ConvTranspose2dWeightBackward(_) => Kind::Convolution,
        Ir::Linear(_) | Ir::LinearXBackward(_) | Ir::LinearWeightBackward(_) => Kind::Matmul,
        _ => Kind::Other,
    }
}
