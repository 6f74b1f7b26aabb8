//! How many images, and how many of their views, go through the model at once.

use serde::{Deserialize, Serialize};

use crate::levels::largest_batch;
use crate::micro_batch::of_budget;
use crate::plan::{BUDGET_CHOICE, footprint_choice};
use crate::{Budget, Choice, Footprint, LARGEST_BATCH, PlanError, PlanRequest, format_bytes};

/// How prediction is cut so that it fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InferencePlan {
    /// Images in flight.
    pub images: usize,
    /// Views of each image: 1 without test-time augmentation.
    pub views: usize,
    /// Views of one image that go through the model in one pass; less than `views` only when `images` is 1.
    pub views_at_once: usize,
    /// Passes until all views of the images in flight are done.
    pub passes: usize,
    /// Samples in one pass: images x views at once.
    pub batch: usize,
    /// The most that a pass is predicted to hold.
    pub predicted_peak_bytes: u64,
    /// What it may hold.
    pub budget_bytes: u64,
    /// Everything that was decided, with its reason.
    pub choices: Vec<Choice>,
}

/// Plans prediction with `views` views an image. The footprint is that of a forward pass, by the samples in it: images x views. Of the request,
/// the bounds and the rounding count, both for the images in flight.
///
/// All views of an image stay together while they fit; otherwise they are split as evenly as can be.
///
/// ```
/// use memory_planner::*;
///
/// let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
/// let observations = [1, 2].map(|batch| Observation { batch, peak_bytes: 1_000 + 100 * batch as u64 });
/// let footprint = Footprint::from_exact(ExactSource::Captured, known, 4, &observations)?;
/// let reading = MemoryReading { total_bytes: 9_000, free_bytes: 9_000, own_bytes: 0 };
/// let limit = BudgetRequest { limit_bytes: Some(3_500), ..BudgetRequest::default() };
/// let budget = Budget::for_host(reading, &limit)?;
///
/// let request = PlanRequest::default();
/// let plan = plan_inference(&footprint, &budget, 5, &request)?;
/// assert_eq!((plan.images, plan.views_at_once, plan.batch), (4, 5, 20));
/// let plan = plan_inference(&footprint, &budget, 30, &request)?;
/// assert_eq!((plan.images, plan.views_at_once, plan.passes), (1, 15, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A [`PlanError`] when not one view or not the fewest images fit, or there is no view or no image to predict.
pub fn plan_inference(
    footprint: &Footprint,
    budget: &Budget,
    views: usize,
    request: &PlanRequest,
) -> Result<InferencePlan, PlanError> {
    request.check()?;
    check("views", views)?;
    let (minimum, maximum) = (request.minimum.unwrap_or(1), request.maximum.unwrap_or(LARGEST_BATCH));
    let ceiling = maximum.saturating_mul(views).min(LARGEST_BATCH);
    let largest = largest_batch(footprint, budget.budget_bytes, ceiling);
    if largest == 0 {
        return Err(PlanError::does_not_fit(footprint, budget, 1, 0));
    }
    let whole_images = (largest / views).min(maximum);
    if whole_images < minimum && minimum > 1 {
        return Err(PlanError::does_not_fit(footprint, budget, minimum.saturating_mul(views), 0));
    }
    let rounded = request.rounding.round_down(whole_images).max(minimum);
    let images = if whole_images == maximum { maximum } else { rounded };
    let passes = if whole_images > 0 { 1 } else { views.div_ceil(largest) };
    let views_at_once = views.div_ceil(passes);
    let batch = images * views_at_once;
    let predicted_peak_bytes = footprint.peak_bytes(batch);
    let images_reason = match whole_images {
        0 => format!("not all views of one fit: {largest} of {views} do"),
        whole => images_reason(images, whole, largest, request),
    };
    Ok(InferencePlan {
        images,
        views,
        views_at_once,
        passes,
        batch,
        predicted_peak_bytes,
        budget_bytes: budget.budget_bytes,
        choices: vec![
            Choice::new("images", images, format!("{images_reason}: {}", of_budget(predicted_peak_bytes, budget))),
            Choice::new("views at once", views_at_once, views_reason(views, passes)),
            Choice::new(BUDGET_CHOICE, format_bytes(budget.budget_bytes), budget.reason.clone()),
            footprint_choice(footprint, batch),
        ],
    })
}

fn check(setting: &'static str, value: usize) -> Result<(), PlanError> {
    match value {
        0 => Err(PlanError::ZeroBatch { setting }),
        value if value > LARGEST_BATCH => Err(PlanError::AbsurdBatch { setting, value }),
        _ => Ok(()),
    }
}

/// `largest` is how many fit, each view counted as one.
fn images_reason(images: usize, fitting: usize, largest: usize, request: &PlanRequest) -> String {
    if Some(images) == request.maximum {
        format!("held to the maximum of {images}")
    } else if images > request.rounding.round_down(fitting) {
        format!("held to the minimum of {images}, though no {}", request.rounding.describe())
    } else if largest == LARGEST_BATCH {
        let each_view = if fitting < largest { ", each view counted as one" } else { "" };
        format!("no more than {LARGEST_BATCH} are computed at once{each_view}")
    } else if images < fitting {
        format!("the largest {} that fits", request.rounding.describe())
    } else {
        "the most that fit".to_owned()
    }
}

fn views_reason(views: usize, passes: usize) -> String {
    match (views, passes) {
        (1, _) => "no augmentation".to_owned(),
        (_, 1) => format!("all {views} views of an image in one pass"),
        _ => format!("{views} views in {passes} passes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BudgetRequest, ExactSource, FixedMemory, MemoryReading, Observation, Rounding};

    fn footprint() -> Footprint {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let observations = [1, 2].map(|batch| Observation { batch, peak_bytes: 1_000 + 10 * batch as u64 });
        Footprint::from_exact(ExactSource::Captured, known, 1, &observations).unwrap()
    }

    /// A budget for so many samples.
    fn plan(samples: u64, views: usize, maximum: Option<usize>) -> Result<InferencePlan, PlanError> {
        plan_as(samples, views, &PlanRequest { maximum, ..PlanRequest::default() })
    }

    fn plan_as(samples: u64, views: usize, request: &PlanRequest) -> Result<InferencePlan, PlanError> {
        let reading = MemoryReading { total_bytes: 1 << 30, free_bytes: 1 << 30, own_bytes: 0 };
        let limit = BudgetRequest { limit_bytes: Some(1_000 + 10 * samples), ..BudgetRequest::default() };
        plan_inference(&footprint(), &Budget::for_host(reading, &limit).unwrap(), views, request)
    }

    #[test]
    fn every_view_is_seen_and_no_pass_exceeds_the_budget() {
        for samples in 1..90 {
            for views in [1, 3, 5, 15, 64] {
                for maximum in [None, Some(1), Some(7), Some(32)] {
                    let plan = plan(samples, views, maximum).unwrap();
                    assert!(plan.predicted_peak_bytes <= plan.budget_bytes, "{plan:?}");
                    assert_eq!(plan.batch, plan.images * plan.views_at_once);
                    assert!(plan.views_at_once * plan.passes >= views && plan.views_at_once <= views, "{plan:?}");
                    assert!(plan.passes == 1 || plan.images == 1);
                    assert!(plan.views_at_once * (plan.passes - 1) < views, "no pass is empty: {plan:?}");
                    assert!(plan.images <= maximum.unwrap_or(usize::MAX));
                    let next = (plan.images + 4) * views;
                    let is_held = Some(plan.images) == maximum || plan.passes > 1;
                    assert!(is_held || next as u64 > samples, "{plan:?} of {samples}");
                }
            }
        }
    }

    #[test]
    fn a_plan_tells_its_reasons() {
        let reasons = |plan: InferencePlan| plan.choices[..2].iter().map(|c| c.reason.clone()).collect::<Vec<_>>();
        let together = plan(26, 3, None).unwrap();
        assert_eq!((together.images, together.batch), (8, 24));
        assert_eq!(reasons(together), ["the most that fit: 1.2 KiB of 1.2 KiB", "all 3 views of an image in one pass"]);
        let split = plan(8, 15, None).unwrap();
        assert_eq!((split.views_at_once, split.passes), (8, 2));
        assert_eq!(
            reasons(split),
            ["not all views of one fit: 8 of 15 do: 1.1 KiB of 1.1 KiB", "15 views in 2 passes"]
        );
        assert!(reasons(plan(90, 1, Some(32)).unwrap())[0].starts_with("held to the maximum of 32"));
    }

    /// 15 views of 4369 images are 65535.
    #[test]
    fn a_pass_that_memory_does_not_bound_is_bounded_by_the_largest_there_is() {
        let told = |views, maximum| {
            let plan = plan(1_000_000, views, maximum).unwrap();
            (plan.images, plan.choices[0].reason.split(':').next().unwrap().to_owned())
        };
        let of_views = "no more than 65536 are computed at once, each view counted as one".to_owned();
        assert_eq!(told(15, None), (4368, of_views.clone()));
        assert_eq!(told(15, Some(5_000)), (4368, of_views.clone()));
        assert_eq!(told(2, None), (32_768, of_views));
        assert_eq!(told(1, None), (65_536, "no more than 65536 are computed at once".to_owned()));
        assert_eq!(told(15, Some(4_000)), (4_000, "held to the maximum of 4000".to_owned()));
    }

    #[test]
    fn rounding_and_the_fewest_images_are_kept() {
        let power = PlanRequest { rounding: Rounding::PowerOfTwo, ..PlanRequest::default() };
        assert_eq!(plan_as(90, 3, &power).unwrap().images, 16);
        assert_eq!(plan_as(90, 3, &PlanRequest::default()).unwrap().images, 28);
        let fewest = |minimum| PlanRequest { minimum: Some(minimum), ..power.clone() };
        let held = plan_as(90, 3, &fewest(20)).unwrap();
        assert_eq!(held.images, 20);
        assert!(held.choices[0].reason.starts_with("held to the minimum of 20, though no power of two"), "{held:?}");
        assert!(matches!(plan_as(90, 3, &fewest(31)), Err(PlanError::DoesNotFit { batch: 93, .. })));
        let contradiction = PlanRequest { maximum: Some(4), ..fewest(8) };
        assert!(matches!(plan_as(90, 3, &contradiction), Err(PlanError::MinimumAboveMaximum { .. })));
    }

    #[test]
    fn what_cannot_be_predicted_is_refused() {
        assert!(matches!(plan(0, 5, None), Err(PlanError::DoesNotFit { batch: 1, .. })));
        assert_eq!(plan(9, 0, None).unwrap_err(), PlanError::ZeroBatch { setting: "views" });
        assert!(matches!(plan(9, 1, Some(0)), Err(PlanError::ZeroBatch { .. })));
        assert!(matches!(plan(9, usize::MAX, None), Err(PlanError::AbsurdBatch { .. })));
    }
}
