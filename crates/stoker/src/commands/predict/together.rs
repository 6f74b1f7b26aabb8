//! One model after the other goes through the images, each in its own size and views; or all at once, where they see the same pixels and memory holds
//! them all: then each image is decoded once.

use std::collections::VecDeque;
use std::iter::once;
use std::path::Path;

use inference::{PartFile, Predictor, predict_together};
use trainer::{Normalization, Pieces};

use super::Task;
use super::batch::{Answers, PlannedBatch};
use super::parts::{Kept, Opened, Place, Start, complete};
use super::trained_run::{Sight, TrainedRun};
use crate::error::CommandError;
use crate::registry::Network;

/// A model whose turn is to come.
pub(super) struct Waiting<'m> {
    pub(super) run: &'m TrainedRun,
    pub(super) weight: f64,
    pub(super) sight: Sight,
    pub(super) part: Opened,
}

/// Has the first of those that wait predict what is missing in its file, and with it all others, where they can go together. A model whose file is
/// complete is not even built. Returns the files of those that have done so, in their order.
pub(super) fn complete_next(
    waiting: &mut VecDeque<Waiting<'_>>,
    task: &Task<'_>,
    place: &Place,
) -> Result<Vec<Kept>, CommandError> {
    let Some(mut first) = waiting.pop_front() else { return Ok(Vec::new()) };
    if let Some(part) = first.part.take_complete() {
        return Ok(vec![Kept { weight: first.weight, part }]);
    }
    let (model, planned) = first.run.planned(task, &first.sight, Answers::Written, first.part.begun())?;
    let others = load_beside(&first, &planned, waiting, task)?;
    // What was measured of the others is no part of the pass.
    task.compute.meter().reset();
    let Some((others, planned)) = others else {
        let path = first.part.path().to_owned();
        return predict_missing(vec![first], &[model], &planned, task, &path);
    };
    let group: Vec<Waiting<'_>> = once(first).chain(waiting.drain(..)).collect();
    let models: Vec<Network> = once(model).chain(others).collect();
    planned.tell_models(models.len());
    predict_missing(group, &models, &planned, task, place.path())
}

/// The models of all others and the batch of all, where they can go together with the first; otherwise none, and nothing of them stays in memory.
///
/// Results are to be the same either way, to the last bit, and rows round otherwise in other batches. So they go together only where each has the
/// batch that it would have alone, and where their files stand at the same place.
fn load_beside(
    first: &Waiting<'_>,
    planned: &PlannedBatch,
    others: &VecDeque<Waiting<'_>>,
    task: &Task<'_>,
) -> Result<Option<(Vec<Network>, PlannedBatch)>, CommandError> {
    if others.is_empty() || !are_alike(first, planned, others, task)? {
        return Ok(None);
    }
    let mut later_bytes: u64 = others.iter().map(|other| other.run.weight_bytes).sum();
    let Some(mut joint) = planned.beside(later_bytes) else { return Ok(None) };
    let mut models = Vec::with_capacity(others.len());
    for Waiting { run, sight, .. } in others {
        later_bytes -= run.weight_bytes;
        let model = run.model(task.compute)?;
        // What does not fit beside others may fit alone; whatever else fails does so again then, and is told.
        let own = run.plan(task, sight, &model, Answers::Written, (Some(later_bytes), None)).ok();
        let Some(both) = own.and_then(|own| joint.in_turn_with(&own)) else { return Ok(None) };
        joint = both;
        models.push(model);
    }
    Ok(Some((models, joint)))
}

/// Whether all see the same pixels, in batches that are cut as planned, and go on with the same one.
fn are_alike(
    first: &Waiting<'_>,
    planned: &PlannedBatch,
    others: &VecDeque<Waiting<'_>>,
    task: &Task<'_>,
) -> Result<bool, CommandError> {
    let start = |member: &Waiting<'_>| Start { at_once: None, ..member.part.start(planned) };
    let expected = Start { first_batch: start(first).first_batch, ..Start::of(planned) };
    let loading = first.run.loading(task)?;
    for member in once(first).chain(others) {
        if start(member) != expected || member.run.loading(task)? != loading {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Has the models predict what is missing in their files, from one batch to the next.
fn predict_missing(
    group: Vec<Waiting<'_>>,
    models: &[Network],
    planned: &PlannedBatch,
    task: &Task<'_>,
    path: &Path,
) -> Result<Vec<Kept>, CommandError> {
    let starts: Vec<Start> = group.iter().map(|member| member.part.start(planned)).collect();
    let mut members = Vec::with_capacity(group.len());
    let mut parts: Vec<PartFile> = Vec::with_capacity(group.len());
    for Waiting { run, weight, sight, part } in group {
        parts.push(part.begin(planned)?);
        members.push((run, weight, sight));
    }
    let (first, start) = (members[0].0, starts[0]);
    let parts = complete(parts, path, |take| {
        // Of several the lowest limit holds: the plan is within all of them.
        let limits = members.iter().filter_map(|(run, ..)| run.config.memory.limit.as_ref());
        task.injection.hold_heap_to(limits.min_by_key(|limit| limit.bytes()), task.compute);
        let normalizations: Vec<Normalization> = members.iter().map(|(run, ..)| run.normalization()).collect();
        let mut pieces: Vec<Pieces> = starts.iter().map(|&start| task.pieces(start)).collect();
        let mut predictors = Vec::with_capacity(models.len());
        for (place, pieces) in pieces.iter_mut().enumerate() {
            let (run, _, sight) = &members[place];
            let options = run.options(task, sight, &normalizations[place])?;
            predictors.push(Predictor { model: &models[place], options, pieces });
        }
        let other_models_bytes: u64 = members[1..].iter().map(|(run, ..)| run.weight_bytes).sum();
        first.go_through(task, ("predicting", start, other_models_bytes), |loader, progress| {
            predict_together(&mut predictors, task.dataset, loader, progress, take)
        })?;
        // Passes stay as they were begun, with another plan perhaps.
        if start.pass_size == planned.at_once {
            planned.tell_peak(task.compute);
        }
        Ok(())
    })?;
    Ok(members.into_iter().zip(parts).map(|((_, weight, _), part)| Kept { weight, part }).collect())
}
