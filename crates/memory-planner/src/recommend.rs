//! The whole of it in one call.

use crate::{Budget, Footprint, MemoryAnalysis, PlanError, PlanRequest, plan_batch_size};

/// The recommended batch: the largest within the budget that is a multiple of 4, or just the largest when that is below 4.
///
/// ```
/// use memory_planner::*;
///
/// let known = FixedMemory { weights: 110 << 20, gradients: 110 << 20, optimizer: 220 << 20, ..FixedMemory::default() };
/// let observations = [
///     Observation { batch: 1, peak_bytes: 560 << 20 },
///     Observation { batch: 2, peak_bytes: 660 << 20 },
///     Observation { batch: 4, peak_bytes: 860 << 20 },
/// ];
/// let footprint = Footprint::from_exact(ExactSource::Captured, known, 224 * 224 * 3 * 4, &observations)?;
/// let card = MemoryReading { total_bytes: 12 << 30, free_bytes: 11 << 30, own_bytes: 0 };
/// let budget = Budget::for_card(card, Tier::Budget, &BudgetRequest::default())?;
///
/// assert_eq!(recommend_batch_size(&footprint, &budget)?, 88);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`PlanError::DoesNotFit`] when not even one sample does; it carries what that takes, part by part.
pub fn recommend_batch_size(footprint: &Footprint, budget: &Budget) -> Result<usize, PlanError> {
    Ok(plan_batch_size(footprint, budget, &PlanRequest::default())?.micro_batch)
}

/// Plans a step and gathers all that is known of its memory. The result displays as the memory report and serialises
/// as `plan.json`.
///
/// ```
/// use memory_planner::*;
///
/// let known = FixedMemory { weights: 14 << 20, gradients: 14 << 20, optimizer: 28 << 20, ..FixedMemory::default() };
/// let observations = [4, 8].map(|batch| Observation { batch, peak_bytes: (68 + 7 * batch as u64) << 20 });
/// let footprint = Footprint::from_measurements(known, 64 * 64 * 3 * 4, &observations)?;
/// let reading = MemoryReading { total_bytes: 8 << 30, free_bytes: 6 << 30, own_bytes: 0 };
/// let budget = Budget::for_host(reading, &BudgetRequest::default())?;
/// let request = PlanRequest { effective_batch: Some(128), current: Some(32), ..PlanRequest::default() };
///
/// let analysis = analyze_memory("cpu, 8 threads", "convnext_atto at 64x64", footprint, budget, &request)?;
/// assert_eq!(analysis.plan.micro_batches, [128]);
/// assert!(analysis.render().starts_with("memory of convnext_atto at 64x64 on cpu, 8 threads"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`plan_batch_size`].
pub fn analyze_memory(
    device: impl Into<String>,
    model: impl Into<String>,
    footprint: Footprint,
    budget: Budget,
    request: &PlanRequest,
) -> Result<MemoryAnalysis, PlanError> {
    let plan = plan_batch_size(&footprint, &budget, request)?;
    Ok(MemoryAnalysis { device: device.into(), model: model.into(), footprint, budget, plan, at_peak: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BudgetRequest, ExactSource, FixedMemory, MemoryReading, Observation};

    #[test]
    fn the_recommended_batch_is_the_level_of_that_name_or_an_error() {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let observations = [1, 2].map(|batch| Observation { batch, peak_bytes: 1_000 + 100 * batch as u64 });
        let footprint = Footprint::from_exact(ExactSource::DryRun, known, 1, &observations).unwrap();
        for limit in (500..9_000).step_by(37) {
            let reading = MemoryReading { total_bytes: 1 << 20, free_bytes: 1 << 20, own_bytes: 0 };
            let limit_bytes = Some(limit);
            let budget = Budget::for_host(reading, &BudgetRequest { limit_bytes, ..Default::default() }).unwrap();
            match recommend_batch_size(&footprint, &budget) {
                Ok(batch) => {
                    let request = PlanRequest { effective_batch: Some(4096), ..PlanRequest::default() };
                    let analysis = analyze_memory("cpu", "model", footprint.clone(), budget.clone(), &request).unwrap();
                    assert_eq!(batch, analysis.plan.levels.recommended.batch, "{limit}");
                    assert!(footprint.peak_bytes(batch) <= limit && footprint.peak_bytes(batch + 4) > limit);
                }
                Err(error) => {
                    assert!(limit < 1_100, "{limit}: {error}");
                    assert!(matches!(error, PlanError::DoesNotFit { batch: 1, .. }));
                }
            }
        }
    }
}
