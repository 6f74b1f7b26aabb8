//! How a tensor lies in its buffer: what Burn's CubeCL backend can do without moving a number, and what it must copy.
//!
//! The rules are those of `burn_std::reshape_action` and `burn_cubecl::kernel::slice` in 0.22.0-pre.3.

/// A tensor as a view of a buffer. Strides are in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) buffer: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl View {
    /// All of a buffer, rows last.
    pub(super) fn contiguous(buffer: usize, shape: &[usize]) -> Self {
        Self { buffer, shape: shape.to_vec(), strides: contiguous_strides(shape) }
    }

    /// A buffer in channels-last order behind a channels-first shape, `[B, C, H, W]`: how CubeCL's convolutions return their output.
    pub(super) fn channels_last(buffer: usize, shape: &[usize]) -> Self {
        let [batch, channels, height, width] = shape[..] else { return Self::contiguous(buffer, shape) };
        Self::contiguous(buffer, &[batch, height, width, channels]).permuted(&[0, 3, 1, 2])
    }

    /// The axes in another order.
    pub(super) fn permuted(&self, axes: &[usize]) -> Self {
        let pick = |of: &[usize]| axes.iter().map(|&axis| of[axis]).collect();
        Self { buffer: self.buffer, shape: pick(&self.shape), strides: pick(&self.strides) }
    }

    /// Repeats axes of length one.
    pub(super) fn expanded(&self, shape: &[usize]) -> Self {
        let new_axes = shape.len() - self.shape.len().min(shape.len());
        let strides = shape.iter().enumerate().map(|(axis, &length)| match axis.checked_sub(new_axes) {
            Some(old) if self.shape[old] == length => self.strides[old],
            _ => 0,
        });
        Self { buffer: self.buffer, shape: shape.to_vec(), strides: strides.collect() }
    }

    /// Another shape over the same numbers in place; `None` when they must be copied.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        let with = |strides| Some(Self { buffer: self.buffer, shape: shape.to_vec(), strides });
        if self.is_contiguous() {
            return with(contiguous_strides(shape));
        }
        if shape == self.shape {
            return with(self.strides.clone());
        }
        if shape.len() <= self.shape.len() {
            return None;
        }
        self.split(shape).and_then(with)
    }

    /// Strides when each old axis is cut into several new ones.
    fn split(&self, shape: &[usize]) -> Option<Vec<usize>> {
        let mut strides = vec![0; shape.len()];
        let mut end = shape.len();
        for (&length, &stride) in self.shape.iter().zip(&self.strides).rev() {
            let (mut covered, mut step) = (1, stride);
            while covered < length {
                end = end.checked_sub(1)?;
                strides[end] = step;
                covered *= shape[end];
                step *= shape[end];
            }
            if covered != length {
                return None;
            }
        }
        shape[..end].iter().all(|&length| length == 1).then_some(strides)
    }

    /// Whether the numbers lie in order, without gaps.
    pub(super) fn is_contiguous(&self) -> bool {
        let expected = contiguous_strides(&self.shape);
        let axes = self.shape.iter().zip(self.strides.iter().zip(&expected));
        axes.filter(|(length, _)| **length != 1).all(|(_, (stride, expected))| stride == expected)
    }
}

fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contiguous_tensor_takes_any_shape_in_place() {
        let view = View::contiguous(0, &[2, 3, 4]);
        assert_eq!(view.reshaped(&[6, 4]), Some(View::contiguous(0, &[6, 4])));
        assert_eq!(view.reshaped(&[2, 3, 2, 2]).unwrap().strides, [12, 4, 2, 1]);
    }

    #[test]
    fn merging_permuted_axes_copies() {
        let view = View::contiguous(0, &[2, 3, 4]).permuted(&[0, 2, 1]);
        assert!(!view.is_contiguous());
        assert_eq!(view.reshaped(&[2, 12]), None);
    }

    #[test]
    fn splitting_a_permuted_axis_does_not_copy() {
        let view = View::contiguous(0, &[2, 3, 4]).permuted(&[0, 2, 1]);
        assert_eq!(view.reshaped(&[2, 2, 2, 3]).unwrap().strides, [12, 2, 1, 4]);
    }

    #[test]
    fn a_channels_last_output_is_contiguous_once_its_channels_are_last_again() {
        let view = View::channels_last(0, &[2, 8, 5, 7]);
        assert!(!view.is_contiguous());
        assert!(view.permuted(&[0, 2, 3, 1]).is_contiguous());
    }

    #[test]
    fn an_expanded_axis_has_no_stride() {
        let view = View::contiguous(0, &[4, 1]).expanded(&[4, 6]);
        assert_eq!(view.strides, [1, 0]);
    }
}
