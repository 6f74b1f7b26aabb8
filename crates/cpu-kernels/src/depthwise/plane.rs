use std::ops::Range;

use crate::block::{LANES, Line, load, prefetch};

/// Sixteen channels of some rows of an image, with zeros where those reach beyond it: what windows read has no borders.
#[derive(Default)]
pub(super) struct Plane {
    pub(super) lines: Vec<Line>,
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
        self.lines.resize(rows.len() * columns.len(), Line::ZEROS);
        let inside = |range: &Range<isize>, size: usize| {
            let end = range.end.clamp(0, size as isize);
            range.start.clamp(0, end) as usize..end as usize
        };
        let (inner_rows, inner_columns) = (inside(&rows, image.height), inside(&columns, image.width));
        let before = (inner_columns.start as isize - columns.start) as usize;
        for (row, lines) in rows.zip(self.lines.chunks_exact_mut(columns.len())) {
            if row < 0 || !inner_rows.contains(&(row as usize)) || inner_columns.is_empty() {
                lines.fill(Line::ZEROS);
                continue;
            }
            let (left, rest) = lines.split_at_mut(before);
            let (inner, right) = rest.split_at_mut(inner_columns.len());
            left.fill(Line::ZEROS);
            right.fill(Line::ZEROS);
            let source = (row as usize * image.width + inner_columns.start) * image.channels + first_channel;
            for (at, line) in inner.iter_mut().enumerate() {
                let place = source + at * image.channels;
                // Channels of one place lie together: those that come next are there when their turn has come.
                prefetch(image.values, place + LANES);
                line.0 = load(&image.values[place..], lanes);
            }
        }
    }
}
