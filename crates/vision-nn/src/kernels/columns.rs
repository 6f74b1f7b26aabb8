//! How a card shares out rows of channels among its units where each channel is worked on by itself, known without a card.

use super::recorded::Cut;

/// Units of a cube: as many as every WebGPU has.
const UNITS: usize = 256;

/// Units side by side that read one row: 512 bytes of f32.
const MOST_ACROSS: usize = 32;

/// Rows of a unit, where there are enough: what a unit does before its first row is then little.
const ROWS_OF_A_UNIT: usize = 8;

/// A cube has a stretch of the channels, as many neighbouring units as that has vectors, and several rows at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Channels that a unit has.
    pub(crate) vector_size: usize,
    /// Vectors of a row.
    pub(crate) vectors: usize,
    /// Vectors of a stretch.
    pub(crate) across: usize,
    /// Rows that a cube works on at once.
    pub(crate) lines: usize,
    /// Stretches of a row.
    pub(crate) tiles: usize,
}

/// The rows in stretches, each of which is worked on by a cube for each tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    pub(crate) count: usize,
    /// Rows of each but the last, which may have fewer.
    pub(crate) rows_each: usize,
}

impl Columns {
    /// For rows of `channels`, at least one.
    pub(crate) fn of(channels: usize) -> Self {
        // Sums are f32, of which a vector has at most four.
        let vector_size = [4, 2, 1].into_iter().find(|size| channels.is_multiple_of(*size)).unwrap_or(1);
        let vectors = channels / vector_size;
        let tiles = vectors.div_ceil(MOST_ACROSS);
        let across = vectors.div_ceil(tiles);
        Self { vector_size, vectors, across, lines: UNITS / across, tiles }
    }

    pub(crate) fn channels(&self) -> usize {
        self.vectors * self.vector_size
    }

    /// How [`chunks`](Self::chunks) cuts any number of rows.
    pub(crate) fn cut(&self, most: usize) -> Cut {
        Cut::Equally { lines: self.lines as u64, least: ROWS_OF_A_UNIT as u64, most: most as u64 }
    }

    /// `rows`, at least one, in at most `most` chunks.
    pub(crate) fn chunks(&self, rows: usize, most: usize) -> Chunks {
        let (cut, rows) = (self.cut(most), rows as u64);
        Chunks { count: cut.stretches(rows) as usize, rows_each: cut.longest(rows) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_and_row_has_a_unit() {
        for channels in [1, 3, 16, 24, 130, 144, 1001, 2688] {
            let columns = Columns::of(channels);
            assert_eq!(columns.vectors * columns.vector_size, channels);
            assert!(columns.across * columns.tiles >= columns.vectors && columns.across * columns.lines <= UNITS);
            assert!(columns.across * (columns.tiles - 1) < columns.vectors, "no tile is empty");
            for (rows, most) in [(1, 1), (7, 64), (1000, 3), (100_000, 1024)] {
                let chunks = columns.chunks(rows, most);
                assert!((1..=most).contains(&chunks.count), "{chunks:?}");
                assert!(chunks.count * chunks.rows_each >= rows && (chunks.count - 1) * chunks.rows_each < rows);
            }
        }
    }
}
