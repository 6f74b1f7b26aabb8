//! Operations that move numbers and change none.

use burn::backend::ir::{ShapeOpIr, SliceAssignOpIr, SliceOpIr, TensorIr};
use burn::tensor::Slice;

use super::graph::GraphBuilder;
use crate::ExportError;
use crate::batch::Axis;
use crate::message::Attribute;

impl GraphBuilder<'_> {
    /// One size may be left to the reader, and is what grows with the batch.
    pub(super) fn add_reshape(&mut self, reshape: &ShapeOpIr) -> Result<(), ExportError> {
        let axes = self.axes(&reshape.out);
        if self.axes(&reshape.input) == axes {
            return self.same(&reshape.input, &reshape.out);
        }
        if axes.iter().filter(|axis| axis.is_per_image()).count() > 1 {
            return Err(self.batch_bound("two sizes of its output grow with the batch"));
        }
        let sizes = axes.iter().map(|axis| match *axis {
            Axis::Fixed(size) => size as i64,
            Axis::PerImage(_) => -1,
        });
        let shape = self.list(&sizes.collect::<Vec<_>>());
        let input = self.input(&reshape.input)?;
        self.node("Reshape", vec![input, shape], &reshape.out, vec![]);
        Ok(())
    }

    pub(super) fn add_permute(
        &mut self,
        input: &TensorIr,
        out: &TensorIr,
        axes: Vec<usize>,
    ) -> Result<(), ExportError> {
        if axes == [1, 0] && out.id.value() != self.recording.ends.logits {
            self.set_transposed(out, input);
            return Ok(());
        }
        let input = self.input(input)?;
        self.node("Transpose", vec![input], out, vec![("perm", Attribute::of_sizes(axes))]);
        Ok(())
    }

    /// A size of one in `Expand`'s shape leaves the input's as it is.
    pub(super) fn add_expand(&mut self, expand: &ShapeOpIr) -> Result<(), ExportError> {
        let (from, to) = (self.axes(&expand.input), self.axes(&expand.out));
        let kept = to.len() - from.len();
        let mut sizes = Vec::with_capacity(to.len());
        for (place, &axis) in to.iter().enumerate() {
            let same = place >= kept && from[place - kept] == axis;
            sizes.push(match axis {
                _ if same => 1,
                Axis::Fixed(size) => size as i64,
                Axis::PerImage(_) => return Err(self.batch_bound("it repeats something for each image")),
            });
        }
        let shape = self.list(&sizes);
        let input = self.input(&expand.input)?;
        self.node("Expand", vec![input, shape], &expand.out, vec![]);
        Ok(())
    }

    pub(super) fn add_slice(&mut self, slice: &SliceOpIr) -> Result<(), ExportError> {
        let cuts = self.cuts(&slice.tensor, &slice.out, &slice.ranges)?;
        if cuts.is_empty() {
            return self.same(&slice.tensor, &slice.out);
        }
        let input = self.input(&slice.tensor)?;
        let part = |of: fn(&Cut) -> usize| cuts.iter().map(|cut| of(cut) as i64).collect::<Vec<_>>();
        let (starts, ends, axes) = (part(|cut| cut.start), part(|cut| cut.end), part(|cut| cut.axis));
        let lists = [starts, ends, axes].map(|values| self.list(&values));
        self.node("Slice", std::iter::once(input).chain(lists).collect(), &slice.out, vec![]);
        Ok(())
    }

    /// What is put into a tensor of one value has that value around it.
    pub(super) fn add_padding(&mut self, assign: &SliceAssignOpIr) -> Result<(), ExportError> {
        let Some(around) = self.fill_of(&assign.tensor) else { return Err(self.unsupported()) };
        let cuts = self.cuts(&assign.tensor, &assign.value, &assign.ranges)?;
        let axes = assign.tensor.shape.num_dims();
        let mut pads = vec![0; 2 * axes];
        for cut in cuts {
            pads[cut.axis] = cut.start as i64;
            pads[axes + cut.axis] = (assign.tensor.shape[cut.axis] - cut.end) as i64;
        }
        let inputs = vec![self.input(&assign.value)?, self.list(&pads), self.scalar(around)];
        self.node("Pad", inputs, &assign.out, vec![]);
        Ok(())
    }

    /// Where ranges leave something out of `whole`. An axis that grows with the batch must be taken whole.
    fn cuts(&self, whole: &TensorIr, part: &TensorIr, ranges: &[Slice]) -> Result<Vec<Cut>, ExportError> {
        let mut cuts = Vec::new();
        for (axis, range) in ranges.iter().enumerate() {
            let size = whole.shape[axis];
            let end = range.end.unwrap_or(size as isize);
            let (Ok(start), Ok(end), 1) = (usize::try_from(range.start), usize::try_from(end), range.step) else {
                return Err(self.unsupported());
            };
            let is_whole = start == 0 && end == size;
            let [of_whole, of_part] = [whole, part].map(|tensor| self.axes(tensor)[axis].is_per_image());
            if of_whole != of_part || of_whole && !is_whole {
                return Err(self.batch_bound("it takes some images out of the batch"));
            }
            if !is_whole {
                cuts.push(Cut { axis, start, end });
            }
        }
        Ok(cuts)
    }
}

/// A part of an axis.
struct Cut {
    axis: usize,
    start: usize,
    end: usize,
}
