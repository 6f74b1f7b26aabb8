//! The smallest micro-batch that is as fast as the largest, found by timing real steps.

use memory_planner::{
    Budget, Footprint, Plan, PlanRequest, Rung, plan_batch_size, prefer_throughput, throughput_candidates,
};
use memory_probe::{WallClock, measure_throughput};

use crate::config::PreferThroughput;
use crate::run::compute::Compute;
use crate::run::subject::Subject;
use crate::ui::Progress;

/// The most that timing takes, tuning aside.
const ALLOWED_SECONDS: f64 = 10.0;

/// The plan, or one with a smaller micro-batch where that is as fast.
pub(crate) fn prefer_smaller(
    plan: Plan,
    footprint: &Footprint,
    budget: &Budget,
    request: &PlanRequest,
    (subject, compute, rung): (&Subject<'_>, &Compute, Rung),
) -> Plan {
    let is_wanted = match subject.resolved.config.memory.prefer_throughput {
        PreferThroughput::Auto => !compute.is_cpu(),
        PreferThroughput::Always => true,
        PreferThroughput::Never => false,
    };
    let candidates = if is_wanted { throughput_candidates(&plan, request) } else { Vec::new() };
    if candidates.is_empty() {
        return plan;
    }
    let progress = Progress::start("timing training steps", "steps", 0);
    let train_step = subject.train_step(rung, compute.tracked(rung.checkpointing));
    let timed = measure_throughput(train_step, subject.image(), &candidates, ALLOWED_SECONDS, &WallClock::default());
    compute.meter().reset();
    progress.finish("done");
    let chosen = timed.and_then(|samples| prefer_throughput(&plan.levels, &samples));
    let Some((batch, choice)) = chosen.filter(|(batch, _)| *batch < plan.micro_batch) else { return plan };
    match plan_batch_size(footprint, budget, &PlanRequest { maximum: Some(batch), ..request.clone() }) {
        // What fits is what it was; only what is taken of it is less.
        Ok(smaller) => {
            let choices = smaller.choices.into_iter().chain([choice]).collect();
            Plan { levels: plan.levels, choices, ..smaller }
        }
        Err(_) => plan,
    }
}
