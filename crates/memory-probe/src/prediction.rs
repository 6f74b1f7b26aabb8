use burn::tensor::Device;
use memory_planner::{FixedMemory, Footprint, FootprintError, Observation};
use vision_nn::Classifier;

use crate::rehearsal::{NoPrompter, Rehearsal};
use crate::{Meter, StepRequest, parameter_memory};

/// Batches that are run: enough for a line.
const BATCHES: [usize; 4] = [1, 2, 4, 8];

/// Runs real forward passes at batch 1, 2, 4 and 8, and fits their peaks; `base_bytes` is what the process held before. Batches whose peak would
/// pass the budget are left out.
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
    let weights = parameter_memory(rehearsal.step()).weights;
    let known = FixedMemory { weights, overhead: base_bytes, ..FixedMemory::default() };
    rehearsal.run(1, &mut NoPrompter);
    let mut observations: Vec<Observation> = Vec::new();
    for batch in BATCHES {
        let expected = observations.last().map_or(0, |last| 2 * last.peak_bytes);
        if observations.len() >= 2 && expected > budget_bytes {
            break;
        }
        meter.reset();
        rehearsal.run(batch, &mut NoPrompter);
        observations.push(Observation { batch, peak_bytes: meter.peak_bytes() });
    }
    Footprint::from_measurements(known, request.image_bytes(), &observations)
}
