//! Cutting a map into windows and putting it together again.

use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor, TensorData};

/// Added to the score of a pair that must not see each other. Finite, so that no row can become all infinite; e^-100 is zero in f32. timm's value.
const BLOCKED: f32 = -100.0;

/// How a block cuts maps into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLayout {
    /// Rows and columns of a window.
    pub size: [usize; 2],
    /// Rows and columns that the map is rolled by, up and to the left, before it is cut.
    pub shift: [usize; 2],
}

impl WindowLayout {
    /// Square windows of side `target` that shift by half of it; along an axis where the grid is not longer than a
    /// window, one window that does not shift.
    pub fn fit(grid: [usize; 2], target: usize) -> Self {
        let shift = grid.map(|side| if side <= target { 0 } else { target / 2 });
        Self { size: grid.map(|side| side.min(target)), shift }
    }

    /// The same windows in their first place.
    pub fn unshifted(self) -> Self {
        Self { shift: [0, 0], ..self }
    }

    /// Tokens of a window.
    pub fn num_tokens(self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Differences that two places in a window can have.
    pub fn num_relative_positions(self) -> usize {
        (2 * self.size[0] - 1) * (2 * self.size[1] - 1)
    }

    /// Rolls the map, pads it with zeros below and to the right to whole windows, and cuts it.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, C]`
    /// - output: `[B*nW, N, C]`
    pub fn cut(self, map: Tensor<4>) -> Tensor<3> {
        let [_, height, width, _] = map.dims();
        let [rows, columns] = self.shift;
        let rolled = roll_map(map, [height - rows % height, width - columns % width]); // [B, H, W, C]
        partition_windows(pad_map(rolled, self.padded([height, width])), self.size) // [B*nW, N, C]
    }

    /// Undoes [`WindowLayout::cut`] of a map of `grid`: what stands in the padding is dropped.
    ///
    /// # Shapes
    /// - `windows`: `[B*nW, N, C]`
    /// - output: `[B, H, W, C]`
    pub fn join(self, windows: Tensor<3>, grid: [usize; 2]) -> Tensor<4> {
        let padded = self.padded(grid);
        let map = merge_windows(windows, self.size, padded); // [B, H', W', C]
        let [height, width] = grid;
        let [batch, ..] = map.dims();
        let map = if padded == grid { map } else { map.slice([0..batch, 0..height, 0..width]) };
        roll_map(map, self.shift) // [B, H, W, C]
    }

    /// What to add to the scores of rolled windows: zero for a pair that may see each other, -100 for one that only the roll
    /// has brought together. None where nothing is rolled.
    ///
    /// Only each token's region is made on the host, so that little is sent to the device.
    ///
    /// # Shapes
    /// - output: `[nW, N, N]`
    pub fn shift_mask(self, grid: [usize; 2], device: &Device) -> Option<Tensor<3>> {
        if self.shift == [0, 0] {
            return None;
        }
        let [height, width] = self.padded(grid);
        let regions = TensorData::new(self.regions([height, width]), [1, height, width, 1]);
        let regions = partition_windows(Tensor::from_data(regions, device), self.size); // [nW, N, 1]
        let difference = regions.clone() - regions.swap_dims(1, 2); // [nW, N, N]
        Some(difference.abs().clamp_max(1.0) * BLOCKED)
    }

    /// Rows and columns of whole windows that the grid fits into.
    pub(crate) fn padded(self, grid: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| grid[axis].next_multiple_of(self.size[axis]))
    }

    /// A number for each token of a rolled map, row by row: tokens of one window were neighbours exactly if theirs are equal.
    fn regions(self, padded: [usize; 2]) -> Vec<f32> {
        let [height, width] = padded;
        let column = |x| self.region_along(1, x, width);
        (0..height)
            .flat_map(|y| (0..width).map(move |x| (3 * self.region_along(0, y, height) + column(x)) as f32))
            .collect()
    }

    /// 0 in the windows that the roll leaves whole, 1 and 2 in the two parts of the last.
    fn region_along(self, axis: usize, position: usize, length: usize) -> usize {
        let whole = position < length - self.size[axis] || self.shift[axis] == 0;
        let before_seam = position < length - self.shift[axis];
        if whole { 0 } else { 1 + usize::from(!before_seam) }
    }
}

/// Cuts a map into windows of `size` that tile it, row by row.
///
/// # Shapes
/// - `map`: `[B, H, W, C]`, H and W whole windows
/// - output: `[B*nW, N, C]`
pub fn partition_windows(map: Tensor<4>, size: [usize; 2]) -> Tensor<3> {
    let [batch, height, width, channels] = map.dims();
    let [window_rows, window_columns] = size;
    let (down, across) = (height / window_rows, width / window_columns);
    let tiles = map.reshape([batch, down, window_rows, across, window_columns, channels]);
    let tiles = tiles.permute([0, 1, 3, 2, 4, 5]); // [B, down, across, rows, columns, C]
    tiles.reshape([batch * down * across, window_rows * window_columns, channels]) // [B*nW, N, C]
}

/// Undoes [`partition_windows`] of a map of `grid`.
///
/// # Shapes
/// - `windows`: `[B*nW, N, C]`
/// - output: `[B, H, W, C]`
pub fn merge_windows(windows: Tensor<3>, size: [usize; 2], grid: [usize; 2]) -> Tensor<4> {
    let [count, _, channels] = windows.dims();
    let [window_rows, window_columns] = size;
    let [height, width] = grid;
    let (down, across) = (height / window_rows, width / window_columns);
    let batch = count / (down * across);
    let tiles = windows.reshape([batch, down, across, window_rows, window_columns, channels]);
    let tiles = tiles.permute([0, 1, 3, 2, 4, 5]); // [B, down, rows, across, columns, C]
    tiles.reshape([batch, height, width, channels]) // [B, H, W, C]
}

/// Rolls a map down and to the right; what leaves it comes back at the other side.
///
/// # Shapes
/// - `map` and output: `[B, H, W, C]`
fn roll_map(map: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<4> {
    let map = roll_axis::<1>(map, rows);
    roll_axis::<2>(map, columns)
}

fn roll_axis<const AXIS: usize>(map: Tensor<4>, by: usize) -> Tensor<4> {
    let length = map.dims()[AXIS];
    let seam = length - by % length;
    if seam == length {
        return map;
    }
    let moved_on = map.clone().slice_dim(AXIS, 0..seam);
    Tensor::cat(vec![map.slice_dim(AXIS, seam..length), moved_on], AXIS)
}

/// Adds zeros below and to the right of a map, up to `size`.
///
/// # Shapes
/// - `map`: `[B, H, W, C]`
/// - output: `[B, H', W', C]`
pub(crate) fn pad_map(map: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [_, height, width, _] = map.dims();
    let [rows, columns] = size;
    if [height, width] == size {
        return map;
    }
    map.pad([(0, rows - height), (0, columns - width), (0, 0)], PadMode::Constant(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map whose every number is different, `[B, H, W, C]`.
    fn numbered(shape: [usize; 4]) -> Tensor<4> {
        let numbers: Vec<f32> = (0..shape.iter().product()).map(|number: usize| number as f32).collect();
        Tensor::from_data(TensorData::new(numbers, shape), &Device::flex())
    }

    #[test]
    fn windows_are_cut_row_by_row() {
        let windows = partition_windows(numbered([1, 2, 4, 1]), [2, 2]).into_data();
        assert_eq!(windows, TensorData::new(vec![0.0f32, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0], [2, 4, 1]));
    }

    #[test]
    fn merge_windows_undoes_partition() {
        for ([height, width], size) in [([8, 8], [4, 4]), ([6, 12], [3, 4]), ([2, 3], [2, 3]), ([4, 6], [1, 2])] {
            let map = numbered([2, height, width, 3]);
            let windows = partition_windows(map.clone(), size);
            assert_eq!(windows.dims(), [2 * height * width / (size[0] * size[1]), size[0] * size[1], 3]);
            assert_eq!(merge_windows(windows, size, [height, width]).into_data(), map.into_data());
        }
    }

    #[test]
    fn join_undoes_cut_of_rolled_and_padded_maps() {
        for (size, shift) in [([4, 4], [2, 2]), ([4, 4], [0, 0]), ([3, 4], [0, 2]), ([5, 2], [2, 1])] {
            // The last is smaller than its window and its shift.
            for [height, width] in [[8, 8], [7, 9], [5, 4], [1, 1]] {
                let (layout, map) = (WindowLayout { size, shift }, numbered([2, height, width, 3]));
                let joined = layout.join(layout.cut(map.clone()), [height, width]);
                assert_eq!(joined.into_data(), map.into_data(), "{layout:?} on {height}x{width}");
            }
        }
    }

    #[test]
    fn a_cut_rolls_up_and_to_the_left_and_pads_with_zeros_after() {
        let layout = WindowLayout { size: [1, 2], shift: [0, 1] };
        let windows = layout.cut(numbered([1, 1, 3, 1])).into_data();
        assert_eq!(windows, TensorData::new(vec![1.0f32, 2.0, 0.0, 0.0], [2, 2, 1]));
    }

    #[test]
    fn the_mask_blocks_exactly_the_pairs_that_were_not_neighbours() {
        for (grid, target) in [([8, 8], 4), ([9, 6], 3), ([4, 12], 4), ([14, 21], 7)] {
            let layout = WindowLayout::fit(grid, target);
            let mask: Vec<f32> = layout.shift_mask(grid, &Device::flex()).unwrap().into_data().iter().collect();
            let tokens = layout.num_tokens();
            for (index, &found) in mask.iter().enumerate() {
                let (window, one, other) = (index / tokens / tokens, index / tokens % tokens, index % tokens);
                let [one, other] = [one, other].map(|token| before_the_roll(layout, grid, window, token));
                // Within a window, neighbours were less than its side apart; what the roll brings together was further.
                let neighbours = [0, 1].iter().all(|&axis| one[axis].abs_diff(other[axis]) < layout.size[axis]);
                assert_eq!(found, if neighbours { 0.0 } else { BLOCKED }, "{layout:?}: {one:?} and {other:?}");
            }
        }
    }

    /// Row and column that a token of a window had in the map.
    fn before_the_roll(layout: WindowLayout, grid: [usize; 2], window: usize, token: usize) -> [usize; 2] {
        let across = grid[1] / layout.size[1];
        let row = window / across * layout.size[0] + token / layout.size[1];
        let column = window % across * layout.size[1] + token % layout.size[1];
        [(row + layout.shift[0]) % grid[0], (column + layout.shift[1]) % grid[1]]
    }

    #[test]
    fn windows_that_do_not_shift_have_no_mask() {
        let layout = WindowLayout::fit([7, 4], 7);
        assert_eq!(layout, WindowLayout { size: [7, 4], shift: [0, 0] });
        assert!(layout.shift_mask([7, 4], &Device::flex()).is_none());
    }
}
