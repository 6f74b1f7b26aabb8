//! Labelled images that models may be judged by together: each is predicted by models that were not trained on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_pipeline::{Dataset, Sample};
use inference::{Prediction, average};

use super::Task;
use super::batch::Answers;
use super::members::Members;
use super::trained_run::{Sight, TrainedRun};
use crate::commands::calibrate::validation_of;
use crate::error::CommandError;

/// The images, and who predicts each. A run predicts what it was validated on; of the folds of one run, the one that an image was held out from.
pub(crate) struct HeldOut {
    /// Each once.
    pub(crate) images: Arc<Dataset>,
    /// The member that predicts an image, for each run that was named: `[units][images]`.
    predictors: Vec<Vec<usize>>,
}

/// What an ensemble says of held-out images.
pub(crate) struct Judged {
    /// One an image, averaged over the runs that were named.
    pub(crate) predictions: Vec<Prediction>,
    /// Of each member: the images that it predicted, and how long that took.
    pub(crate) times: Vec<(usize, Duration)>,
}

/// Where an image is, in the words of the system, and what it shows.
type Key = (PathBuf, Option<u32>);

impl HeldOut {
    /// The images that every run that was named has held out.
    ///
    /// # Errors
    /// Validation images that cannot be opened or are of other classes, and runs that have none in common.
    pub(crate) fn of(members: &Members) -> Result<Self, CommandError> {
        let units = 1 + members.all.iter().map(|member| member.unit).max().unwrap_or(0);
        let mut by_unit: Vec<BTreeMap<Key, usize>> = vec![BTreeMap::new(); units];
        let mut all = Vec::new();
        for (place, member) in members.all.iter().enumerate() {
            let validation = validation_of(&member.run)?;
            for sample in &validation.samples {
                by_unit[member.unit].entry(key(sample)).or_insert(place);
            }
            // The first run that was named decides the order.
            if member.unit == 0 {
                all.push(validation);
            }
        }
        let mut images = Dataset { samples: Vec::new(), ..all[0].clone() };
        let mut predictors = vec![Vec::new(); units];
        for sample in all.into_iter().flat_map(|validation| validation.samples) {
            let key = key(&sample);
            let places: Option<Vec<usize>> = by_unit.iter().map(|unit| unit.get(&key).copied()).collect();
            let Some(places) = places else { continue };
            images.samples.push(sample);
            predictors.iter_mut().zip(places).for_each(|(of_unit, place)| of_unit.push(place));
        }
        if images.samples.is_empty() {
            return Err(nothing_in_common(members));
        }
        Ok(Self { images: Arc::new(images), predictors })
    }

    /// So many of the images, evenly from the whole, or all where there are fewer.
    pub(crate) fn evenly(&self, images: usize) -> Self {
        let total = self.images.len();
        let images = images.clamp(1, total);
        let places: Vec<usize> = (0..images).map(|place| place * total / images).collect();
        let samples = places.iter().map(|&place| self.images.samples[place].clone()).collect();
        let of_unit = |unit: &Vec<usize>| places.iter().map(|&place| unit[place]).collect();
        Self {
            images: Arc::new(Dataset { samples, ..(*self.images).clone() }),
            predictors: self.predictors.iter().map(of_unit).collect(),
        }
    }

    /// The images that a member predicts, by their places.
    pub(crate) fn places_of(&self, member: usize) -> Vec<usize> {
        let of_unit = |unit: &&Vec<usize>| unit.contains(&member);
        let unit = self.predictors.iter().find(of_unit);
        let all = unit.into_iter().flatten().enumerate();
        all.filter(|(_, own)| **own == member).map(|(place, _)| place).collect()
    }

    /// Has one member after the other predict its images, each in its own size and views, and averages what several say of one. The data set of
    /// `task` does not matter.
    pub(crate) fn predict(&self, members: &Members, task: &Task<'_>, sights: &[Sight]) -> Result<Judged, CommandError> {
        let weights = members.weights()?;
        let mut units: Vec<(f64, Vec<Option<Prediction>>)> =
            vec![(0.0, vec![None; self.images.len()]); self.predictors.len()];
        let mut times = Vec::with_capacity(sights.len());
        for (place, (member, sight)) in members.all.iter().zip(sights).enumerate() {
            let (weight, said) = &mut units[member.unit];
            *weight += weights[place];
            let places = self.places_of(place);
            let (predictions, time) = self.predict_places(&member.run, task, sight, &places)?;
            for (prediction, &sample) in predictions.into_iter().zip(&places) {
                said[sample] = Some(Prediction { sample, ..prediction });
            }
            times.push((places.len(), time));
        }
        let whole = units.into_iter().map(|(weight, said)| (weight, said.into_iter().flatten().collect())).collect();
        let predictions = average(whole).map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
        Ok(Judged { predictions, times })
    }

    /// Some of the images, with the time that they took; none take none.
    pub(crate) fn predict_places(
        &self,
        run: &TrainedRun,
        task: &Task<'_>,
        sight: &Sight,
        places: &[usize],
    ) -> Result<(Vec<Prediction>, Duration), CommandError> {
        if places.is_empty() {
            return Ok((Vec::new(), Duration::ZERO));
        }
        let samples = places.iter().map(|&place| self.images.samples[place].clone()).collect();
        let own = Arc::new(Dataset { samples, ..(*self.images).clone() });
        run.predict_timed(&Task { dataset: &own, ..*task }, sight, Answers::Held { later: 0 })
    }
}

fn key(sample: &Sample) -> Key {
    let absolute = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    (absolute(&sample.path), sample.label)
}

fn nothing_in_common(members: &Members) -> CommandError {
    let message = "no image was held out by all runs: there is nothing that they can be judged by together";
    CommandError::wrong_request(message)
        .with_causes(vec![format!("each was validated on images of its own: {}", members.paths().join(", "))])
        .with_hint(
            "train them with the same `data.validation`, or the same `data.validation_share` and `seed`".to_owned(),
        )
}
