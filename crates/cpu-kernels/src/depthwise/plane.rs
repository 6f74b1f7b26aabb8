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
        self.blocks.clear();
        self.blocks.resize(rows.len() * columns.len(), [0.0; LANES]);
        let inside = |range: &Range<isize>, size: usize| range.start.max(0)..range.end.min(size as isize);
        let (inner_rows, inner_columns) = (inside(&rows, image.height), inside(&columns, image.width));
        if inner_columns.is_empty() {
            return;
        }
        for row in inner_rows {
            let start = (row - rows.start) as usize * self.width + (inner_columns.start - columns.start) as usize;
            let source = (row as usize * image.width + inner_columns.start as usize) * image.channels + first_channel;
            for (at, block) in self.blocks[start..][..inner_columns.len()].iter_mut().enumerate() {
                *block = load(&image.values[source + at * image.channels..], lanes);
            }
        }
    }
}
