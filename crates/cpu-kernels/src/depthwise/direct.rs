//! Sums over places of the source where it lies, channels last: for kernels that read each number a few times only.

use multiversion::multiversion;

use super::gather::{AT_ONCE, Gather};
use super::plane::Image;
use crate::block::{Block, LANES, load, multiply_add};

/// A tap of a row: where it reads, in cells from that of the row's first output on; its column there; and its number.
#[derive(Clone, Copy)]
struct Tap {
    cell: isize,
    column: isize,
    number: usize,
}

/// The rows of output from `first_row` on, which begins a round of classes. There are as many channels as lanes, or more.
///
/// The last block of channels ends with the last channel: where it overlaps the one before, both write the same numbers.
#[multiversion(targets = "simd")]
pub(super) fn gather_directly(
    gather: &Gather,
    source: Image<'_>,
    first_row: usize,
    taps: &[Block],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let (classes, row_length) = (gather.classes, gather.output[1] * gather.channels);
    let mut inside = Vec::with_capacity(gather.taps);
    let mut of_block = vec![[0.0; LANES]; gather.taps];
    for (row, output) in output.chunks_exact_mut(row_length.max(1)).enumerate() {
        let (down, turn) = (row % classes, (first_row + row) / classes * gather.source_step);
        for across in 0..classes {
            inside.clear();
            inside.extend(taps_inside(&gather.places[down * classes + across], turn, source));
            let span = Span::of(gather, &inside, across, source.width);
            for block in 0..gather.channels.div_ceil(LANES) {
                let first_channel = (block * LANES).min(gather.channels - LANES);
                let bias = bias.map_or([0.0; LANES], |bias| load(&bias[first_channel..], LANES));
                let weights = weights_of(first_channel, &taps[first_channel / LANES * gather.taps..], &mut of_block);
                let row = Row { source, taps: &inside, weights, start: bias, first_channel, span };
                row.gather(output);
            }
        }
    }
}

/// Of the taps of a class those that read a row of the source.
fn taps_inside<'a>(
    places: &'a [([isize; 2], usize)],
    turn: usize,
    source: Image<'_>,
) -> impl Iterator<Item = Tap> + use<'a> {
    let (height, width) = (source.height as isize, source.width as isize);
    places.iter().filter_map(move |&([y, x], number)| {
        let row = turn as isize + y;
        (0..height).contains(&row).then_some(Tap { cell: row * width + x, column: x, number })
    })
}

/// The weight of each tap for the channels from `first_channel` on; `taps` begin with the block that it is in. They are put together in `of_block` where
/// that channel does not begin a block.
#[inline(always)]
fn weights_of<'a>(first_channel: usize, taps: &'a [Block], of_block: &'a mut [Block]) -> &'a [Block] {
    let (count, shift) = (of_block.len(), first_channel % LANES);
    if shift == 0 {
        return &taps[..count];
    }
    for (tap, weights) in of_block.iter_mut().enumerate() {
        weights[..LANES - shift].copy_from_slice(&taps[tap][shift..]);
        weights[LANES - shift..].copy_from_slice(&taps[count + tap][..shift]);
    }
    of_block
}

/// The outputs of a class in a row, and those of them whose taps all read inside.
#[derive(Clone, Copy)]
struct Span {
    count: usize,
    whole: [usize; 2],
    /// Column of the first output, columns to the next, and cells of source to the next.
    across: usize,
    classes: usize,
    step: usize,
}

impl Span {
    fn of(gather: &Gather, taps: &[Tap], across: usize, width: usize) -> Self {
        let step = gather.source_step;
        let count = gather.output[1].saturating_sub(across).div_ceil(gather.classes);
        let leftmost = taps.iter().map(|tap| tap.column).min().unwrap_or(0);
        let rightmost = taps.iter().map(|tap| tap.column).max().unwrap_or(0);
        let first = (leftmost.min(0).unsigned_abs()).div_ceil(step).min(count);
        let room = width as isize - rightmost; // of the first output's cell and those behind it
        let end = if room <= 0 { 0 } else { (room as usize).div_ceil(step) };
        Self { count, whole: [first, end.clamp(first, count)], across, classes: gather.classes, step }
    }
}

/// A row's outputs of a class, for one block of channels.
struct Row<'a> {
    source: Image<'a>,
    taps: &'a [Tap],
    weights: &'a [Block],
    start: Block,
    first_channel: usize,
    span: Span,
}

impl Row<'_> {
    #[inline(always)]
    fn gather(&self, output: &mut [f32]) {
        let Span { count, whole: [first, end], step, .. } = self.span;
        for at in (0..first).chain(end..count) {
            self.store(&self.at_border(at), at, output);
        }
        let next = step * self.source.channels;
        let in_groups = first + (end - first) / AT_ONCE * AT_ONCE;
        for at in (first..in_groups).step_by(AT_ONCE) {
            let mut sums = [self.start; AT_ONCE];
            for tap in self.taps {
                let weight = &self.weights[tap.number];
                let place = self.place(tap, at);
                let read = &self.source.values[place..][..(AT_ONCE - 1) * next + LANES];
                // One by one: sums of a loop that is not unrolled are no registers.
                let [first, second, third, fourth, fifth, sixth, seventh] = &mut sums;
                // SAFETY: the last of them ends with `read`.
                unsafe {
                    multiply_add(first, block_at(read, 0), weight);
                    multiply_add(second, block_at(read, next), weight);
                    multiply_add(third, block_at(read, 2 * next), weight);
                    multiply_add(fourth, block_at(read, 3 * next), weight);
                    multiply_add(fifth, block_at(read, 4 * next), weight);
                    multiply_add(sixth, block_at(read, 5 * next), weight);
                    multiply_add(seventh, block_at(read, 6 * next), weight);
                }
            }
            for (index, sum) in sums.iter().enumerate() {
                self.store(sum, at + index, output);
            }
        }
        for at in in_groups..end {
            let mut sum = self.start;
            for tap in self.taps {
                multiply_add(&mut sum, self.read(tap, at), &self.weights[tap.number]);
            }
            self.store(&sum, at, output);
        }
    }

    /// An output some of whose taps read beside the source, which is zero there.
    #[inline(always)]
    fn at_border(&self, at: usize) -> Block {
        let mut sum = self.start;
        for tap in self.taps {
            let column = (at * self.span.step) as isize + tap.column;
            if (0..self.source.width as isize).contains(&column) {
                multiply_add(&mut sum, self.read(tap, at), &self.weights[tap.number]);
            }
        }
        sum
    }

    /// What a tap reads for an output; it is inside.
    #[inline(always)]
    fn read(&self, tap: &Tap, at: usize) -> &Block {
        self.source.values[self.place(tap, at)..].first_chunk().expect("the last block ends with the last channel")
    }

    /// Where a tap reads for an output; it is inside.
    #[inline(always)]
    fn place(&self, tap: &Tap, at: usize) -> usize {
        (tap.cell + (at * self.span.step) as isize) as usize * self.source.channels + self.first_channel
    }

    #[inline(always)]
    fn store(&self, sum: &Block, at: usize, output: &mut [f32]) {
        let column = self.span.across + at * self.span.classes;
        output[column * self.source.channels + self.first_channel..][..LANES].copy_from_slice(sum);
    }
}

/// # Safety
/// The block ends inside of `values`.
#[inline(always)]
unsafe fn block_at(values: &[f32], at: usize) -> &Block {
    debug_assert!(at + LANES <= values.len());
    // SAFETY: inside by contract, and of the alignment of a number.
    unsafe { &*values.as_ptr().add(at).cast::<Block>() }
}
