//! Which way an operation runs where there are two: as a kernel of ours, or composed of Burn's own operations.
//!
//! A process has one table, which is set before a model runs. An operation asks it by its own shape, on devices that compute and on the one that only
//! records, so that a memory plan sees what will run. What is not in the table is ours. [`measure`] finds what belongs there; on the CPU nobody measures.

#[cfg(test)]
mod tests;
mod work;

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device, Tensor};

use crate::tape::Tape;

pub use work::{Forward, operation_at};

/// An operation of ours that Burn has operations of its own for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Its shape: rows, columns and channels of the map, side of the kernel, stride, zeros above and to the left, rows and columns of the output.
    Depthwise,
    /// Its shape: the axes of the input, less the first.
    LayerNorm,
    /// Its shape: rows and columns of the map, rows and columns of a window, heads, width of a head.
    WindowAttention,
    /// Its shape: the channels.
    BatchNorm,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Depthwise, Self::LayerNorm, Self::WindowAttention, Self::BatchNorm];

    fn word(self) -> &'static str {
        match self {
            Self::Depthwise => "depthwise",
            Self::LayerNorm => "layer_norm",
            Self::WindowAttention => "window_attention",
            Self::BatchNorm => "batch_norm",
        }
    }
}

/// The types that maps are stored in.
const STORAGES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// How an operation is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As a kernel of this crate.
    Ours,
    /// In Burn's own operations.
    Burns,
}

/// An operation at a shape: what a choice is made for. The batch is no part of it.
///
/// As text it is the operation, the type and the shape: `layer_norm bf16 56x56x96`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The operation.
    pub operation: Operation,
    /// The type that its map is stored in.
    pub storage: DType,
    /// Its numbers, as [`Operation`] has them.
    pub shape: Vec<usize>,
}

impl Site {
    fn is(&self, operation: Operation, storage: DType, shape: &[usize]) -> bool {
        self.operation == operation && self.storage == storage && self.shape == shape
    }
}

impl fmt::Display for Site {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
        write!(formatter, "{} {} {}", self.operation.word(), self.storage.name(), numbers.join("x"))
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let site = || {
            let (operation, rest) = text.split_once(' ')?;
            let (storage, numbers) = rest.split_once(' ')?;
            Some(Self {
                operation: Operation::ALL.into_iter().find(|known| known.word() == operation)?,
                storage: STORAGES.into_iter().find(|known| known.name() == storage)?,
                shape: numbers.split('x').map(|number| number.parse::<usize>().ok()).collect::<Option<_>>()?,
            })
        };
        site().ok_or_else(|| format!("`{text}` is no operation at a shape"))
    }
}

/// A site that was asked for, and how large its map was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What was asked for.
    pub site: Site,
    /// Length of the map's first axis, which follows the batch; the longest, where several maps have this site.
    pub first: usize,
}

impl Asked {
    /// Numbers of the map that goes in.
    pub fn numbers(&self) -> usize {
        let shape = &self.site.shape;
        let of_first = match (self.site.operation, shape.as_slice()) {
            (Operation::Depthwise, [height, width, channels, ..]) => height * width * channels,
            (Operation::WindowAttention, [height, width, _, _, heads, head_width]) => {
                3 * height * width * heads * head_width
            }
            _ => shape.iter().product(),
        };
        self.first * of_first
    }
}

/// The choices of this process, in the order in which they were made.
static TABLE: RwLock<Vec<(Site, Way)>> = RwLock::new(Vec::new());

thread_local! {
    static ASKED: RefCell<Option<Vec<Asked>>> = const { RefCell::new(None) };
}

/// Whether an operation runs as ours at a shape, as [`Operation`] has it, of a map whose first axis is so long. To be asked where both ways can be taken.
pub(crate) fn is_ours(operation: Operation, storage: DType, shape: &[usize], first: usize) -> bool {
    note(operation, storage, shape, first);
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    let chosen = table.iter().find(|(site, _)| site.is(operation, storage, shape));
    chosen.is_none_or(|(_, way)| *way == Way::Ours)
}

fn note(operation: Operation, storage: DType, shape: &[usize], first: usize) {
    ASKED.with_borrow_mut(|asked| {
        let Some(asked) = asked else { return };
        match asked.iter_mut().find(|known| known.site.is(operation, storage, shape)) {
            Some(known) => known.first = known.first.max(first),
            None => asked.push(Asked { site: Site { operation, storage, shape: shape.to_vec() }, first }),
        }
    });
}

/// Does `work`, and tells which sites it asked for on this thread, each once.
pub fn asked_by(work: impl FnOnce()) -> Vec<Asked> {
    let before = ASKED.replace(Some(Vec::new()));
    work();
    ASKED.replace(before).unwrap_or_default()
}

/// Puts a choice into the table, or takes it out, and returns the one that was there. No model may be running.
pub fn set_choice(site: &Site, way: Option<Way>) -> Option<Way> {
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let place = table.iter().position(|(known, _)| known == site);
    let before = place.map(|place| table.remove(place).1);
    table.extend(way.map(|way| (site.clone(), way)));
    before
}

/// What the table has for a site.
pub fn choice_of(site: &Site) -> Option<Way> {
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    table.iter().find(|(known, _)| known == site).map(|(_, way)| *way)
}

/// The sites at which Burn's own operations run.
pub fn sites_of_burn() -> Vec<Site> {
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    table.iter().filter(|(_, way)| *way == Way::Burns).map(|(site, _)| site.clone()).collect()
}

/// Does `work` with a choice in the table, which then is what it was.
pub fn with_choice<T>(site: &Site, way: Way, work: impl FnOnce() -> T) -> T {
    let before = set_choice(site, Some(way));
    let result = work();
    set_choice(site, before);
    result
}

/// The part of our time that Burn's way must save to be taken: a smaller difference may be one between two measurements of the same.
const LEAST_SAVED: f64 = 0.05;

/// Times of each way that are compared; odd, for a median. A single disturbance, such as another process's work, moves no median of seven.
const ROUNDS: usize = 7;

/// Times of each way that are not counted: the first compiles and tunes, and the second finds memory and clocks as they stay.
const WARM_ROUNDS: usize = 2;

/// What was measured at a site.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The way to take.
    pub way: Way,
    /// Time of Burn's way as a multiple of ours: the median of rounds in which both were timed.
    pub ratio: f64,
}

/// Finds the way to take at a site. `time` runs the operation forward and backward, the way that it is told and that the table has meanwhile, and says how
/// long that took; none where the device failed, and then none comes back.
pub fn measure(site: &Site, mut time: impl FnMut(Way) -> Option<Duration>) -> Option<Measured> {
    let mut timed = |way| with_choice(site, way, || time(way));
    for way in [Way::Ours, Way::Burns] {
        for _ in 0..WARM_ROUNDS {
            timed(way)?;
        }
    }
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        // Each way is first in turn, for what is second may find a warmer card.
        let (ours, burns) = if round % 2 == 0 {
            let ours = timed(Way::Ours)?;
            (ours, timed(Way::Burns)?)
        } else {
            let burns = timed(Way::Burns)?;
            (timed(Way::Ours)?, burns)
        };
        ratios.push(burns.as_secs_f64() / ours.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ROUNDS / 2];
    let way = if ratio < 1.0 - LEAST_SAVED { Way::Burns } else { Way::Ours };
    Some(Measured { way, ratio })
}

/// Passes between two waits for the device, so that waiting is a small part of the time.
const PASSES: usize = 4;

/// How long an operation takes forward and backward, until `device`, off the tape, is done with it. None where that fails.
pub fn time_passes(forward: &dyn Fn() -> Tensor<2>, upstream: &Tensor<2>, device: &Device) -> Option<Duration> {
    device.sync().ok()?;
    let start = Instant::now();
    for _ in 0..PASSES {
        drop(Tape::backward_from(forward(), upstream.clone()));
    }
    device.sync().ok()?;
    Some(start.elapsed())
}
