//! Numbers that are read in another order than they are stored in, put into theirs.

use crate::output::in_tasks;

/// Numbers a task, about.
const TASK: usize = 1 << 14;

/// Rows that are read side by side, where the numbers of one lie apart: those of a line of the cache.
const SIDE_BY_SIDE: usize = 16;

/// Numbers of rows that are shorter than this are read one place after the other, through many rows.
const SHORT: usize = 16;

/// Rows whose places are read one after the other, before the next ones: what is written of them stays in the first cache.
const ROWS_OF_PLACES: usize = 256;

/// How many numbers follow each other along one axis of a view, and how far apart they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Numbers along it, or parts of the view.
    pub size: usize,
    /// From one to the next, in numbers; 0 where they are all the same one.
    pub stride: usize,
}

/// The numbers of a view in its order, outermost axis first; `start` is where its first number is stored.
///
/// # Panics
/// When the view is not inside `stored`.
pub fn in_order(stored: &[f32], start: usize, axes: &[Axis]) -> Vec<f32> {
    let axes = merged(axes);
    let Some((outer, inner)) = axes.split_first() else {
        return vec![stored[start]];
    };
    let each: usize = inner.iter().map(|axis| axis.size).product();
    if outer.size * each == 0 {
        return Vec::new();
    }
    // Where the outermost parts are those that are stored nearest to each other, a task reads lines of the cache whole.
    let at_once = if inner.iter().all(|axis| axis.stride > outer.stride) { SIDE_BY_SIDE } else { 1 };
    let steps = (TASK / each).max(1).next_multiple_of(at_once).min(outer.size);
    in_tasks(outer.size * each, steps * each, |task, part| {
        let mut axes = axes.clone();
        axes[0].size = part.len() / each;
        copy(&stored[start + task * steps * outer.stride..], &axes, part);
    })
}

/// The same view by as few axes as it takes: those of one number are left out, and such as go on in the next one are one with it.
fn merged(axes: &[Axis]) -> Vec<Axis> {
    let mut merged: Vec<Axis> = Vec::with_capacity(axes.len());
    for axis in axes.iter().filter(|axis| axis.size != 1) {
        match merged.last_mut() {
            Some(outer) if outer.stride == axis.size * axis.stride => {
                *outer = Axis { size: outer.size * axis.size, stride: axis.stride };
            }
            _ => merged.push(*axis),
        }
    }
    merged
}

/// An axis, and how far apart its numbers are written.
#[derive(Clone, Copy)]
struct Way {
    axis: Axis,
    written: usize,
}

/// Two axes are gone through by loops of their own: the innermost one, and the one of all others along which numbers are stored nearest to each other.
fn copy(stored: &[f32], axes: &[Axis], part: &mut [f32]) {
    let mut written = part.len();
    let mut ways: Vec<Way> = axes
        .iter()
        .map(|&axis| {
            written /= axis.size;
            Way { axis, written }
        })
        .collect();
    let Some(row) = ways.pop() else { return };
    let nearest = (0..ways.len()).min_by_key(|&at| (ways[at].axis.stride, usize::MAX - at));
    let rows = nearest.map_or(Way { axis: Axis { size: 1, stride: 0 }, written: row.axis.size }, |at| ways.remove(at));
    each_place(&ways, 0, 0, &mut |from, to| copy_rows(&stored[from..], rows, row.axis, &mut part[to..]));
}

/// Calls `of` with where each part of the axes begins, stored and written.
fn each_place(ways: &[Way], from: usize, to: usize, of: &mut impl FnMut(usize, usize)) {
    let Some((way, inner)) = ways.split_first() else { return of(from, to) };
    for step in 0..way.axis.size {
        each_place(inner, from + step * way.axis.stride, to + step * way.written, of);
    }
}

/// Copies rows of numbers that are written one behind the other.
fn copy_rows(stored: &[f32], rows: Way, row: Axis, part: &mut [f32]) {
    let starts = |step: usize| (step * rows.axis.stride, step * rows.written);
    if row.stride == 1 {
        for (from, to) in (0..rows.axis.size).map(starts) {
            part[to..][..row.size].copy_from_slice(&stored[from..][..row.size]);
        }
        return;
    }
    let block = if row.size < SHORT { ROWS_OF_PLACES } else { SIDE_BY_SIDE };
    for first in (0..rows.axis.size).step_by(block) {
        let count = block.min(rows.axis.size - first);
        let (from, to) = starts(first);
        if row.size < SHORT {
            for place in 0..row.size {
                let read = (from + place * row.stride, rows.axis.stride);
                copy_apart(stored, read, part, (to + place, rows.written), count);
            }
        } else {
            for (from, to) in (first..first + count).map(starts) {
                copy_apart(stored, (from, row.stride), part, (to, 1), row.size);
            }
        }
    }
}

/// Copies `count` numbers from and to places that begin somewhere and are so far apart.
fn copy_apart(
    stored: &[f32],
    (from, apart): (usize, usize),
    part: &mut [f32],
    (to, written): (usize, usize),
    count: usize,
) {
    let stored = &stored[from..=from + (count - 1) * apart];
    let part = &mut part[to..=to + (count - 1) * written];
    for (step, number) in part.iter_mut().step_by(written).enumerate() {
        *number = stored[step * apart];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view of a contiguous tensor of these sizes, its axes taken in this order.
    fn permuted<const D: usize>(sizes: [usize; D], order: [usize; D]) -> [Axis; D] {
        let stride = |at: usize| sizes[at + 1..].iter().product();
        order.map(|at| Axis { size: sizes[at], stride: stride(at) })
    }

    /// One number after the other.
    fn expected(stored: &[f32], start: usize, axes: &[Axis]) -> Vec<f32> {
        match axes.split_first() {
            None => vec![stored[start]],
            Some((axis, inner)) => {
                (0..axis.size).flat_map(|step| expected(stored, start + step * axis.stride, inner)).collect()
            }
        }
    }

    fn assert_in_order(stored: &[f32], start: usize, axes: &[Axis]) {
        assert!(in_order(stored, start, axes) == expected(stored, start, axes), "{axes:?}");
    }

    #[test]
    fn axes_come_in_any_order() {
        let stored: Vec<f32> = (0..600_000u32).map(|number| number as f32).collect();
        // Patches of a map and of an image, back again, and channels last and first.
        assert_in_order(&stored, 0, &permuted([2, 7, 2, 9, 2, 96], [0, 1, 3, 5, 2, 4]));
        assert_in_order(&stored, 0, &permuted([2, 7, 9, 96, 2, 2], [0, 1, 4, 2, 5, 3]));
        assert_in_order(&stored, 0, &permuted([2, 3, 14, 4, 14, 4], [0, 2, 4, 1, 3, 5]));
        assert_in_order(&stored, 0, &permuted([2, 14, 14, 3, 4, 4], [0, 3, 1, 4, 2, 5]));
        assert_in_order(&stored, 0, &permuted([2, 3, 201, 203], [0, 2, 3, 1]));
        assert_in_order(&stored, 0, &permuted([2, 203, 201, 3], [0, 3, 1, 2]));
        assert_in_order(&stored, 0, &permuted([700, 801], [1, 0]));
        assert_in_order(&stored, 0, &permuted([5, 700, 17], [2, 1, 0]));
        assert_in_order(&stored, 0, &permuted([3, 1, 4, 1, 5], [4, 1, 0, 3, 2]));
    }

    #[test]
    fn views_may_be_parts_repeat_numbers_and_hold_none() {
        let stored: Vec<f32> = (0..5_000u32).map(|number| number as f32).collect();
        let axis = |size, stride| Axis { size, stride };
        assert_in_order(&stored, 7, &[axis(20, 100), axis(30, 1)]);
        assert_in_order(&stored, 7, &[axis(30, 1), axis(20, 100)]);
        assert_in_order(&stored, 3, &[axis(4, 1000), axis(50, 0), axis(3, 5)]);
        assert_in_order(&stored, 3, &[axis(40, 2), axis(50, 0)]);
        assert_in_order(&stored, 4_999, &[]);
        assert_in_order(&stored, 4_999, &[axis(1, 7), axis(1, 1)]);
        assert_in_order(&stored, 0, &[axis(3, 7), axis(0, 7)]);
        assert_in_order(&stored, 5_000, &[axis(0, 7), axis(3, 7)]);
        assert_eq!(merged(&[axis(2, 60), axis(5, 12), axis(1, 99), axis(12, 1)]), [axis(120, 1)]);
    }
}
