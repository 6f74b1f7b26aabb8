//! Rows in stretches, each of which is summed by itself on a card, because a sum over all rows by one unit would leave the card idle.

use super::recorded::Cut;

/// As many stretches as there are rows, up to a number that no batch exceeds: a plan for any batch size can then be made from two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    pub(crate) count: usize,
    /// Rows of each, but for the first `longer`, which have one more.
    pub(crate) rows_each: usize,
    pub(crate) longer: usize,
}

impl Chunks {
    /// So many rows, cut by [`cut_up_to`].
    pub(crate) fn of(rows: usize, most: usize) -> Self {
        let count = cut_up_to(most).stretches(rows as u64) as usize;
        Self { count, rows_each: rows / count, longer: rows % count }
    }
}

/// A stretch for each row, up to so many.
pub(crate) fn cut_up_to(most: usize) -> Cut {
    Cut::UpTo { rows_each: 1, most: most as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_have_all_rows_among_them() {
        for (rows, most) in [(0, 4), (1, 4), (4, 4), (5, 4), (11, 4), (11, 0)] {
            let Chunks { count, rows_each, longer } = Chunks::of(rows, most);
            assert!(count >= 1 && count <= most.max(1) && longer < count);
            assert_eq!(count * rows_each + longer, rows);
        }
    }
}
