//! Operations of ours on the device that only records: what they read, make and take meanwhile, as the kernels of `cube` do it on a card. And whether
//! they are ours at all.

use std::cell::Cell;

use burn::backend::ir::{CustomOpIr, OperationIr, ScalarIr, TensorIr};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Capture, TensorMetadata};
use burn::tensor::{DType, Device, Shape};
use burn_router::RouterClient;

use super::host::is_cpu;

/// Shape and type of a tensor.
pub(crate) type Form = (Shape, DType);

/// Memory that an operation takes while it runs, in one piece: so many bytes for each stretch of some rows. Of all this only the rows follow the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scratch {
    /// What the operation works on in stretches.
    pub rows: u64,
    /// Bytes of each stretch.
    pub bytes_each: u64,
    /// How the rows are cut.
    pub cut: Cut,
}

/// How rows are cut into stretches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// So many rows in each, unless that makes more than `most` stretches.
    UpTo {
        /// Rows of a stretch.
        rows_each: u64,
        /// No more stretches.
        most: u64,
    },
    /// Equally long, but for the last: a multiple of `lines` rows, at least `least` times.
    Equally {
        /// Rows that are worked on at once.
        lines: u64,
        /// Their number at least.
        least: u64,
        /// No more stretches.
        most: u64,
    },
}

impl Cut {
    /// Into how many stretches so many rows are cut.
    pub(crate) fn stretches(self, rows: u64) -> u64 {
        match self {
            Self::UpTo { rows_each, most } => rows.div_ceil(rows_each).clamp(1, most.max(1)),
            Self::Equally { .. } => rows.div_ceil(self.longest(rows)),
        }
    }

    /// Rows of the longest of them.
    pub(crate) fn longest(self, rows: u64) -> u64 {
        match self {
            Self::UpTo { .. } => rows.div_ceil(self.stretches(rows)),
            Self::Equally { lines, least, most } => rows.div_ceil(lines.saturating_mul(most)).max(least) * lines,
        }
    }
}

impl Scratch {
    /// So many bytes for each row.
    pub fn of_rows(rows: usize, bytes_each: usize) -> Self {
        Self { rows: rows as u64, bytes_each: bytes_each as u64, cut: Cut::UpTo { rows_each: 1, most: u64::MAX } }
    }

    /// All its bytes.
    pub fn bytes(&self) -> u64 {
        self.cut.stretches(self.rows).saturating_mul(self.bytes_each)
    }

    fn numbers(&self) -> [u64; SCRATCH_NUMBERS] {
        match self.cut {
            Cut::UpTo { rows_each, most } => [self.rows, self.bytes_each, rows_each, 0, most],
            Cut::Equally { lines, least, most } => [self.rows, self.bytes_each, lines, least, most],
        }
    }

    /// Back from its [`numbers`](Self::numbers): what is cut equally has at least one line in each stretch.
    fn from_numbers(&[rows, bytes_each, lines, least, most]: &[u64; SCRATCH_NUMBERS]) -> Self {
        let cut = match least {
            0 => Cut::UpTo { rows_each: lines, most },
            least => Cut::Equally { lines, least, most },
        };
        Self { rows, bytes_each, cut }
    }
}

/// In how many numbers a piece of scratch is noted.
const SCRATCH_NUMBERS: usize = 5;

thread_local! {
    static COMPOSES: Cell<bool> = const { Cell::new(false) };
}

/// Has `work` done in Burn's own operations alone, on this thread: for those who read a recording and know no others, and to hold ours against on a
/// card. The CPU runs its loops all the same.
pub fn in_burns_operations<T>(work: impl FnOnce() -> T) -> T {
    let before = COMPOSES.replace(true);
    let result = work();
    COMPOSES.set(before);
    result
}

/// Whether operations of ours are run by a card, and noted, as such.
pub(crate) fn notes_ours() -> bool {
    !COMPOSES.get()
}

/// Whether what this device does is to be composed of Burn's own operations, though it has ours.
pub(crate) fn composes(device: &Device) -> bool {
    !notes_ours() && !is_cpu(device)
}

/// Notes an operation.
pub(crate) fn record<const INPUTS: usize, const OUTPUTS: usize>(
    name: &'static str,
    inputs: [FloatTensor<Capture>; INPUTS],
    outputs: [Form; OUTPUTS],
    scratch: &[Scratch],
) -> [FloatTensor<Capture>; OUTPUTS] {
    let outputs = record_scratch(name, inputs.into(), outputs.into(), scratch);
    outputs.try_into().expect("one tensor is made for each output of the record")
}

/// Notes an operation on any number of tensors.
pub(crate) fn record_scratch(
    name: &'static str,
    inputs: Vec<FloatTensor<Capture>>,
    outputs: Vec<Form>,
    scratch: &[Scratch],
) -> Vec<FloatTensor<Capture>> {
    let pieces = scratch.iter().flat_map(|piece| piece.numbers().map(ScalarIr::UInt)).collect();
    note(name, inputs, outputs, pieces)
}

/// Notes an operation whose outputs are inputs that it writes over, given by their places in the order of the outputs. Where others see such an input,
/// a copy is written over.
pub(crate) fn record_in_place(
    name: &'static str,
    inputs: Vec<FloatTensor<Capture>>,
    places: &[usize],
) -> Vec<FloatTensor<Capture>> {
    let outputs = places.iter().map(|&place| (inputs[place].shape(), inputs[place].dtype())).collect();
    let places = places.iter().map(|&place| ScalarIr::Int(i64::try_from(place).expect("lists are short"))).collect();
    note(name, inputs, outputs, places)
}

fn note(
    name: &'static str,
    inputs: Vec<FloatTensor<Capture>>,
    outputs: Vec<Form>,
    scalars: Vec<ScalarIr>,
) -> Vec<FloatTensor<Capture>> {
    let client = inputs[0].client.clone();
    let inputs: Vec<TensorIr> = inputs.into_iter().map(|input| input.into_ir()).collect();
    let outputs: Vec<TensorIr> = outputs
        .into_iter()
        .map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype))
        .collect();
    client.register(OperationIr::Custom(CustomOpIr::with_scalars(name, &inputs, &outputs, scalars)))
}

/// What a noted operation takes while it runs.
pub fn recorded_scratch(record: &CustomOpIr) -> Vec<Scratch> {
    let number = |scalar: &ScalarIr| match scalar {
        ScalarIr::UInt(number) => Some(*number),
        _ => None,
    };
    let numbers: Vec<u64> = record.scalars.iter().filter_map(number).collect();
    let (pieces, _) = numbers.as_chunks();
    pieces.iter().map(Scratch::from_numbers).collect()
}

/// The inputs in whose memory the outputs of a noted operation lie, by their places, in the order of the outputs; none where it writes over nothing.
pub fn recorded_overwrites(record: &CustomOpIr) -> Vec<usize> {
    let place = |scalar: &ScalarIr| match scalar {
        ScalarIr::Int(place) => usize::try_from(*place).ok(),
        _ => None,
    };
    record.scalars.iter().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_all_rows_and_none_is_empty() {
        for rows in [1, 7, 64, 65, 1_000, 50_176, 1_000_000] {
            for most in [1, 3, 78, 1_024] {
                for cut in [Cut::UpTo { rows_each: 8, most }, Cut::Equally { lines: 8, least: 2, most }] {
                    let (stretches, longest) = (cut.stretches(rows), cut.longest(rows));
                    assert!((1..=most).contains(&stretches), "{rows} {cut:?}");
                    assert!(stretches * longest >= rows && stretches <= rows, "{rows} {cut:?}");
                    assert_eq!(Scratch { rows, bytes_each: 5, cut }.bytes(), 5 * stretches);
                }
            }
        }
    }

    #[test]
    fn rows_are_cut_as_a_kernel_wants_them() {
        let of = |cut: Cut, rows| [cut.stretches(rows), cut.longest(rows)];
        assert_eq!(of(Cut::UpTo { rows_each: 1, most: 4 }, 11), [4, 3]);
        assert_eq!(of(Cut::UpTo { rows_each: 8, most: 4 }, 17), [3, 6]);
        assert_eq!(of(Cut::UpTo { rows_each: 8, most: 4 }, 0), [1, 0]);
        // Eight lines have two rows each at least, and three where there would be more than four stretches.
        assert_eq!(of(Cut::Equally { lines: 8, least: 2, most: 4 }, 40), [3, 16]);
        assert_eq!(of(Cut::Equally { lines: 8, least: 2, most: 4 }, 70), [3, 24]);
    }

    #[test]
    fn a_piece_is_told_by_its_numbers() {
        let cuts = [Cut::UpTo { rows_each: 8, most: 3 }, Cut::Equally { lines: 8, least: 1, most: 3 }];
        for cut in cuts {
            let piece = Scratch { rows: 5, bytes_each: 7, cut };
            assert_eq!(Scratch::from_numbers(&piece.numbers()), piece);
        }
        assert_eq!(Scratch::of_rows(12, 4).bytes(), 48);
    }
}
