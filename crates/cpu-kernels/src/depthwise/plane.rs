use std::ops::Range;

use crate::block::{Block, LANES, load};

/// Sixteen channels of some rows of an image, with zeros where those reach beyond it: what windows read has no borders.
#[derive(Default)]
pub(super) struct Plane {
    pub(super) blocks: Vec<Block>,
    pub(super) width: usize,
}

/// A channels-last image.
#[derive(Clone, Copy)]
pub(super) struct Image<'a> {
    pub(super) values: &'a [f32],
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl Plane {
    /// Takes the channels from `first_channel` on of these rows and columns.
    #[inline(always)]
    pub(super) fn fill(&mut self, image: Image<'_>, first_channel: usize, rows: Range<isize>, columns: Range<isize>) {
        let lanes = LANES.min(image.channels - first_channel);
        self.width = columns.len();
        self.blocks.resize(rows.len() * columns.len(), [0.0; LANES]);
        let inside = |range: &Range<isize>, size: usize| {
            let end = range.end.clamp(0, size as isize);
            range.start.clamp(0, end) as usize..end as usize
        };
        let (inner_rows, inner_columns) = (inside(&rows, image.height), inside(&columns, image.width));
        let before = (inner_columns.start as isize - columns.start) as usize;
        for (row, blocks) in rows.zip(self.blocks.chunks_exact_mut(columns.len())) {
            if row < 0 || !inner_rows.contains(&(row as usize)) || inner_columns.is_empty() {
                blocks.fill([0.0; LANES]);
                continue;
            }
            let (left, rest) = blocks.split_at_mut(before);
            let (inner, right) = rest.split_at_mut(inner_columns.len());
            left.fill([0.0; LANES]);
            right.fill([0.0; LANES]);
            let source = (row as usize * image.width + inner_columns.start) * image.channels + first_channel;
            for (at, block) in inner.iter_mut().enumerate() {
                *block = load(&image.values[source + at * image.channels..], lanes);
            }
        }
    }
}
