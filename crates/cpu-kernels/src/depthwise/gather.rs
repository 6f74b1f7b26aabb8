use multiversion::multiversion;

use super::StridedDepthwise;
use super::plane::{Image, Plane};
use crate::block::{Block, LANES, Line, load, multiply_add};
use crate::output::in_groups_of_tasks;

/// Outputs of a row that are summed at once, in registers: it divides the widths that 224 pixels give.
const AT_ONCE: usize = 7;

/// Rows of output a task, about: more than the kernel is high, so that few rows of input are read twice.
const BAND: usize = 14;

/// Every output is a sum over places of the input, each times a tap. The convolution is of this form, and so is the gradient of its map: there
/// the outputs fall in classes by their place modulo the stride, each with taps of its own.
pub(super) struct Gather {
    batch: usize,
    channels: usize,
    taps: usize,
    source: [usize; 2],
    output: [usize; 2],
    /// Cells of input from one output of a class to the next.
    source_step: usize,
    /// Classes along an axis, and outputs from one of a class to the next.
    classes: usize,
    /// Row by row: places of input, from that of the class's first output on, with the tap of each.
    places: Vec<Vec<([isize; 2], usize)>>,
}

impl Gather {
    /// The convolution.
    pub(super) fn forward(of: &StridedDepthwise) -> Self {
        let [top, left] = of.before.map(|before| before as isize);
        let places = of.each_tap().map(|([y, x], tap)| ([y - top, x - left], tap)).collect();
        Self {
            source: [of.shape.height, of.shape.width],
            output: of.output,
            source_step: of.stride,
            classes: 1,
            places: vec![places],
            ..Self::of(of)
        }
    }

    /// The gradient of the map: output `i` is in all windows `(i + before - tap) / stride` that are whole numbers.
    pub(super) fn backward(of: &StridedDepthwise) -> Self {
        let stride = of.stride as isize;
        let class = |down: isize, across: isize| {
            let starts = [down + of.before[0] as isize, across + of.before[1] as isize];
            let places = of.each_tap().map(|([y, x], tap)| ([starts[0] - y, starts[1] - x], tap));
            let whole = places.filter(|(place, _)| place.iter().all(|place| place % stride == 0));
            whole.map(|(place, tap)| (place.map(|place| place / stride), tap)).collect()
        };
        Self {
            source: of.output,
            output: [of.shape.height, of.shape.width],
            source_step: 1,
            classes: of.stride,
            places: (0..stride).flat_map(|down| (0..stride).map(move |across| class(down, across))).collect(),
            ..Self::of(of)
        }
    }

    fn of(of: &StridedDepthwise) -> Self {
        let (batch, channels, taps) = (of.shape.batch, of.shape.channels, of.taps());
        let nothing = Vec::new();
        Self { batch, channels, taps, source: [0; 2], output: [0; 2], source_step: 1, classes: 1, places: nothing }
    }

    /// `[B, H, W, C]` of the source to that of the output; one task a band of rows.
    pub(super) fn run(&self, source: &[f32], taps: &[Block], bias: Option<&[f32]>) -> Vec<f32> {
        let [height, width] = self.source;
        let [rows, columns] = self.output;
        let (image, row) = (height * width * self.channels, columns * self.channels);
        let band = BAND.min(rows).next_multiple_of(self.classes);
        in_groups_of_tasks(self.batch * rows * row, rows * row, band * row, |[index, part], output| {
            let values = &source[index * image..][..image];
            let source = Image { values, height, width, channels: self.channels };
            gather_band(self, source, part * band, taps, bias, output);
        })
    }

    /// Along an axis: the least and the greatest place.
    fn reach(&self, axis: usize) -> [isize; 2] {
        let places = || self.places.iter().flatten().map(|(place, _)| place[axis]);
        [places().min().unwrap_or(0), places().max().unwrap_or(0)]
    }
}

impl StridedDepthwise {
    /// Row and column of each tap, with its number.
    fn each_tap(&self) -> impl Iterator<Item = ([isize; 2], usize)> {
        let kernel = self.shape.kernel;
        (0..self.taps()).map(move |tap| ([(tap / kernel) as isize, (tap % kernel) as isize], tap))
    }
}

/// The rows of output from `first_row` on, which begins a round of classes.
#[multiversion(targets = "simd")]
fn gather_band(
    gather: &Gather,
    source: Image<'_>,
    first_row: usize,
    taps: &[Block],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let (classes, step) = (gather.classes, gather.source_step);
    let columns = gather.output[1];
    let rows = output.len() / (columns * gather.channels);
    let [highest, lowest] = gather.reach(0);
    let [leftmost, rightmost] = gather.reach(1);
    let first = (first_row / classes * step) as isize;
    let last = first + ((rows - 1) / classes * step) as isize;
    let last_column = ((columns - 1) / classes * step) as isize;
    let mut plane = Plane::default();
    for block in 0..gather.channels.div_ceil(LANES) {
        let first_channel = block * LANES;
        plane.fill(source, first_channel, first + highest..last + lowest + 1, leftmost..last_column + rightmost + 1);
        let lanes = LANES.min(gather.channels - first_channel);
        let start = bias.map_or([0.0; LANES], |bias| load(&bias[first_channel..], lanes));
        for (class, places) in gather.places.iter().enumerate() {
            let (down, across) = (class / classes, class % classes);
            let target = Target { gather, across, lanes };
            let width = plane.width as isize;
            let taps: Vec<(usize, Line)> = places
                .iter()
                .map(|([y, x], tap)| {
                    (((y - highest) * width + x - leftmost) as usize, Line(taps[block * gather.taps + tap]))
                })
                .collect();
            for row in (down..rows).step_by(classes) {
                let source = &plane.lines[row / classes * step * plane.width..];
                let output = &mut output[row * columns * gather.channels + first_channel..];
                match step {
                    1 => gather_row::<1>(source, &taps, start, target, output),
                    2 => gather_row::<2>(source, &taps, start, target, output),
                    _ => gather_singly(source, &taps, start, target, output),
                }
            }
        }
    }
}

/// Which outputs of a row: those of a class that begins at column `across`, the first `lanes` of a block.
#[derive(Clone, Copy)]
struct Target<'a> {
    gather: &'a Gather,
    across: usize,
    lanes: usize,
}

/// One row's outputs of a class, [`AT_ONCE`] at a time.
#[inline(always)]
fn gather_row<const STEP: usize>(
    source: &[Line],
    taps: &[(usize, Line)],
    start: Block,
    target: Target<'_>,
    output: &mut [f32],
) {
    let Target { gather, across, .. } = target;
    let count = gather.output[1].saturating_sub(across).div_ceil(gather.classes);
    let whole = count / AT_ONCE * AT_ONCE;
    let farthest = taps.iter().map(|(offset, _)| *offset).max().unwrap_or(0);
    assert!(source.len() > whole.saturating_sub(1) * STEP + farthest, "windows are inside of the plane");
    for at in (0..whole).step_by(AT_ONCE) {
        let mut sums = [start; AT_ONCE];
        for (offset, tap) in taps {
            for (index, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the last output's farthest tap is inside, as was checked.
                multiply_add(sum, unsafe { &source.get_unchecked((at + index) * STEP + offset).0 }, &tap.0);
            }
        }
        for (index, sum) in sums.iter().enumerate() {
            store(sum, target, across + (at + index) * gather.classes, output);
        }
    }
    for at in whole..count {
        let mut sum = start;
        for (offset, tap) in taps {
            multiply_add(&mut sum, &source[at * STEP + offset].0, &tap.0);
        }
        store(&sum, target, across + at * gather.classes, output);
    }
}

/// The same for other strides.
#[inline(always)]
fn gather_singly(source: &[Line], taps: &[(usize, Line)], start: Block, target: Target<'_>, output: &mut [f32]) {
    let Target { gather, across, .. } = target;
    for (at, column) in (across..gather.output[1]).step_by(gather.classes).enumerate() {
        let mut sum = start;
        for (offset, tap) in taps {
            multiply_add(&mut sum, &source[at * gather.source_step + offset].0, &tap.0);
        }
        store(&sum, target, column, output);
    }
}

/// Writes a block to a column of a row that begins at the block's first channel.
#[inline(always)]
fn store(sum: &Block, target: Target<'_>, column: usize, output: &mut [f32]) {
    let output = &mut output[column * target.gather.channels..];
    if target.lanes < LANES {
        // Number by number: a copy of so many lanes as it may be is a call, for whole blocks too.
        return output.iter_mut().zip(&sum[..target.lanes]).for_each(|(output, sum)| *output = *sum);
    }
    *output.first_chunk_mut().expect("a whole block of channels") = *sum;
}
