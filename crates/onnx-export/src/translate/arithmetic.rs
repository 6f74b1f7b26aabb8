//! Operations that compute number by number, and sums.

use std::f32::consts::SQRT_2;

use burn::backend::ir::{NumericOperationIr, ReduceDimOpIr, ScalarIr, ScalarOpIr, TensorIr};

use super::graph::GraphBuilder;
use crate::ExportError;
use crate::message::Attribute;

impl GraphBuilder<'_> {
    pub(super) fn add_numeric(&mut self, operation: &NumericOperationIr) -> Result<(), ExportError> {
        use NumericOperationIr as Ir;
        match operation {
            Ir::Add(add) => self.binary("Add", &add.lhs, &add.rhs, &add.out),
            Ir::Sub(sub) => self.binary("Sub", &sub.lhs, &sub.rhs, &sub.out),
            Ir::Mul(mul) => self.binary("Mul", &mul.lhs, &mul.rhs, &mul.out),
            Ir::AddScalar(add) => self.with_scalar("Add", add),
            Ir::MulScalar(mul) => self.with_scalar("Mul", mul),
            Ir::ClampMax(clamp) => self.with_scalar("Min", clamp),
            Ir::Abs(abs) => self.unary("Abs", &abs.input, &abs.out),
            Ir::MeanDim(mean) => self.add_mean(mean),
            Ir::SumDim(sum) => {
                let inputs = vec![self.input(&sum.input)?, self.list(&[sum.axis as i64])];
                self.node("ReduceSum", inputs, &sum.out, vec![("keepdims", Attribute::Integer(1))]);
                Ok(())
            }
            Ir::Full(full) => self.add_fill(&full.out, number(full.value)),
            _ => Err(self.unsupported()),
        }
    }

    /// Up to set 17 a mean takes its axes as an attribute, where a sum takes them as an input.
    fn add_mean(&mut self, mean: &ReduceDimOpIr) -> Result<(), ExportError> {
        let input = self.input(&mean.input)?;
        let attributes = vec![("axes", Attribute::of_sizes([mean.axis])), ("keepdims", Attribute::Integer(1))];
        self.node("ReduceMean", vec![input], &mean.out, attributes);
        Ok(())
    }

    /// `x (1 + erf(x / sqrt 2)) / 2`, in the order in which runtimes know it for a GELU: it is an operator of its own from set 20 on only.
    pub(super) fn add_gelu(&mut self, input: &TensorIr, out: &TensorIr) -> Result<(), ExportError> {
        let x = self.input(input)?;
        let [root, one, half] = [SQRT_2, 1.0, 0.5].map(|value| self.scalar(value));
        let scaled = self.step("Div", vec![x.clone(), root]);
        let error = self.step("Erf", vec![scaled]);
        let raised = self.step("Add", vec![error, one]);
        let product = self.step("Mul", vec![x, raised]);
        self.node("Mul", vec![product, half], out, vec![]);
        Ok(())
    }

    pub(super) fn unary(
        &mut self,
        operator: &'static str,
        input: &TensorIr,
        out: &TensorIr,
    ) -> Result<(), ExportError> {
        let input = self.input(input)?;
        self.node(operator, vec![input], out, vec![]);
        Ok(())
    }

    pub(super) fn binary(
        &mut self,
        operator: &'static str,
        left: &TensorIr,
        right: &TensorIr,
        out: &TensorIr,
    ) -> Result<(), ExportError> {
        let inputs = vec![self.input(left)?, self.input(right)?];
        self.node(operator, inputs, out, vec![]);
        Ok(())
    }

    fn with_scalar(&mut self, operator: &'static str, operation: &ScalarOpIr) -> Result<(), ExportError> {
        let inputs = vec![self.input(&operation.lhs)?, self.scalar(number(operation.rhs))];
        self.node(operator, inputs, &operation.out, vec![]);
        Ok(())
    }
}

fn number(scalar: ScalarIr) -> f32 {
    scalar.elem()
}
