use super::WindowAttention;
use crate::block::LANES;

/// Where a window's tokens stand in the map, and in which region: tokens see those of their own.
#[derive(Default)]
pub(super) struct Places {
    pub(super) places: Vec<usize>,
    /// In whole lines.
    pub(super) regions: Vec<[u32; LANES]>,
    /// Whether there is more than one region.
    pub(super) are_apart: bool,
    /// Of the window's rows, then of its columns: where each is in the map, and whether the roll brought it there.
    axes: [Vec<(usize, bool)>; 2],
}

impl Places {
    /// Those of one of the windows of all images.
    pub(super) fn find(&mut self, of: &WindowAttention, window: usize) {
        let [height, width] = of.grid;
        let across = width / of.window[1];
        let of_image = height / of.window[0] * across;
        let (image, window) = (window / of_image, window % of_image);
        let first = [window / across * of.window[0], window % across * of.window[1]];
        for (axis, cells) in self.axes.iter_mut().enumerate() {
            let (size, shift) = (of.grid[axis], of.shift[axis]);
            let cell = |rolled: usize| ((rolled + shift) % size, rolled >= size - shift);
            cells.clear();
            cells.extend((first[axis]..first[axis] + of.window[axis]).map(cell));
        }
        let [rows, columns] = &self.axes;
        self.are_apart = self.axes.iter().any(|cells| cells.iter().any(|cell| cell.1 != cells[0].1));
        self.places.clear();
        for (row, _) in rows {
            self.places.extend(columns.iter().map(|(column, _)| (image * height + row) * width + column));
        }
        if self.are_apart {
            self.regions.clear();
            self.regions.resize(of.tokens().div_ceil(LANES), [0; LANES]);
            let of_rows = rows.iter().flat_map(|(_, down)| columns.iter().map(move |(_, right)| (down, right)));
            for (region, (down, right)) in self.regions.as_flattened_mut().iter_mut().zip(of_rows) {
                *region = 2 * u32::from(*down) + u32::from(*right);
            }
        }
    }

    /// That of a token, where there is more than one.
    pub(super) fn region(&self, token: usize) -> u32 {
        self.regions.as_flattened()[token]
    }
}
