//! How fast a card of the catalogue would predict, from what its memory can move.

use device::Card;
use memory_planner::{Born, Trace};
use memory_probe::capture_step;

use crate::commands::predict::TrainedRun;
use crate::error::CommandError;
use crate::run::absent::PlannedCard;
use crate::run::precision::Precisions;
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::Subject;

/// Images in the pass that is recorded: enough that weights, which are read once a pass, hardly count.
const RECORDED_BATCH: usize = 16;

/// Of a card's bandwidth, what kernels reach: an assumption, not a measurement. Vendors' copies reach 80 to 90 %, and what small models launch
/// is far below that.
const REACHED_SHARE: f64 = 0.5;

/// Views a second on a card that is not here. A forward pass of these models waits for memory, so that time is what it moves: every buffer is
/// written once and read once, and what was there before the pass is read.
///
/// # Errors
/// A precision that was asked for and that the card lacks, a model that cannot be built.
pub(super) fn views_per_second(run: &TrainedRun, card: &Card) -> Result<f64, CommandError> {
    let planned = PlannedCard::of(card, None);
    let asked = run.config.predict.precision;
    let precision = Precisions::choose("predict.precision", asked, planned.arithmetic, &planned.title)?.first;
    let resolved = ResolvedConfig::new(run.config.clone(), &run.folder.resolved_config())?;
    let architecture = run.architecture()?;
    let subject = Subject::without_data(&resolved, &architecture, run.card.classes.len());
    let trace = capture_step(&subject.prediction(precision), RECORDED_BATCH, &|device| subject.build(device));
    let bytes_per_view = moved_bytes(&trace) as f64 / RECORDED_BATCH as f64;
    Ok(f64::from(card.bandwidth) * 1e9 * REACHED_SHARE / bytes_per_view)
}

fn moved_bytes(trace: &Trace) -> u64 {
    let times = |born: &Born| if *born == Born::BeforeStep { 1 } else { 2 };
    trace.tensors.iter().map(|tensor| tensor.bytes * times(&tensor.born)).sum()
}
