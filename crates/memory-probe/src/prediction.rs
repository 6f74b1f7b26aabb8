use std::time::{Duration, Instant};

use burn::tensor::Device;
use memory_planner::{FixedMemory, Footprint, FootprintError, Observation};
use vision_nn::Classifier;

use crate::rehearsal::{NoPrompter, Rehearsal};
use crate::training::ALLOWANCE;
use crate::{Meter, StepRequest, parameter_memory};

/// Batches that are run: peaks bend until the largest map of a pass is another than at batch 1.
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Enough for a line: beyond, none is run after one that took longer than [`LONG_PASS`].
const FIRST: usize = 8;
const LONG_PASS: Duration = Duration::from_millis(500);

/// Runs real forward passes at batch 1, 2, 4 and 8, and up to 64 while they are quick, and fits their peaks; `base_bytes` is what the process held
/// before. Batches whose peak would pass the budget are left out.
///
/// # Errors
/// When the peaks do not grow with the batch.
pub fn measure_prediction<M: Classifier>(
    request: &StepRequest,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
    meter: &dyn Meter,
    base_bytes: u64,
    budget_bytes: u64,
) -> Result<Footprint, FootprintError> {
    let request = StepRequest { predicts: true, ..request.clone() };
    let mut rehearsal = Rehearsal::new(&request, device, build);
    let FixedMemory { weights, buffers, .. } = parameter_memory(rehearsal.step());
    let known = FixedMemory { weights, buffers, overhead: base_bytes, ..FixedMemory::default() };
    rehearsal.run(1, &mut NoPrompter);
    let mut observations: Vec<Observation> = Vec::new();
    for batch in BATCHES {
        let expected = observations.last().map_or(0, |last| 2 * last.peak_bytes);
        if observations.len() >= 2 && expected > budget_bytes {
            break;
        }
        meter.reset();
        let start = Instant::now();
        rehearsal.run(batch, &mut NoPrompter);
        observations.push(Observation { batch, peak_bytes: meter.peak_bytes() });
        if batch >= FIRST && start.elapsed() > LONG_PASS {
            break;
        }
    }
    Ok(Footprint::from_measurements(known, request.image_bytes(), &observations)?.with_allowance(ALLOWANCE))
}
