//! Several models' predictions of the same images, as one.

use crate::{Outcome, PredictError, Prediction};

/// The weighted mean of the members' probabilities, image by image. A member's weight is 0 or more, and one at least is above; only their
/// proportions matter. An image that a member has no probabilities for has none: the first reason is kept.
///
/// # Errors
/// [`PredictError::OtherPredictions`] where a member's images or classes are not those of the first, [`PredictError::NoViews`] without a member.
pub fn average(members: &[(f64, Vec<Prediction>)]) -> Result<Vec<Prediction>, PredictError> {
    let Some((_, first)) = members.first() else { return Err(PredictError::NoViews) };
    let other = |index| PredictError::OtherPredictions { index, samples: first.len(), classes: width(first) };
    if let Some((_, longer)) = members.iter().find(|(_, member)| member.len() != first.len()) {
        return Err(other(longer.len().min(first.len())));
    }
    let of_image = |place: usize| members.iter().map(move |(weight, member)| (*weight, &member[place])).collect();
    (0..first.len()).map(|place| mean(of_image(place)).ok_or_else(|| other(place))).collect()
}

/// None where the members speak of different images or classes.
fn mean(members: Vec<(f64, &Prediction)>) -> Option<Prediction> {
    let (_, first) = *members.first()?;
    if members.iter().any(|(_, member)| member.sample != first.sample) {
        return None;
    }
    let sample = first.sample;
    if let Some((_, failed)) = members.iter().find(|(_, member)| member.outcome.error().is_some()) {
        return Some(Prediction { sample, outcome: failed.outcome.clone() });
    }
    let (mut plain, mut merged) = (Vec::new(), Vec::new());
    for (weight, member) in &members {
        let Outcome::Scored { plain: own_plain, merged: own_merged } = &member.outcome else { return None };
        add(&mut plain, own_plain, *weight)?;
        add(&mut merged, own_merged, *weight)?;
    }
    let weights: f64 = members.iter().map(|(weight, _)| weight).sum();
    let finish = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / weights) as f32).collect();
    Some(Prediction { sample, outcome: Outcome::Scored { plain: finish(plain), merged: finish(merged) } })
}

fn add(sums: &mut Vec<f64>, row: &[f32], weight: f64) -> Option<()> {
    if sums.is_empty() {
        sums.resize(row.len(), 0.0);
    }
    (sums.len() == row.len()).then(|| sums.iter_mut().zip(row).for_each(|(sum, &own)| *sum += weight * f64::from(own)))
}

fn width(predictions: &[Prediction]) -> usize {
    let scored = predictions.iter().find_map(|prediction| match &prediction.outcome {
        Outcome::Scored { merged, .. } => Some(merged.len()),
        _ => None,
    });
    scored.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(sample: usize, plain: [f32; 2], merged: [f32; 2]) -> Prediction {
        Prediction { sample, outcome: Outcome::Scored { plain: plain.to_vec(), merged: merged.to_vec() } }
    }

    fn unreadable(sample: usize) -> Prediction {
        Prediction { sample, outcome: Outcome::Unreadable { reason: "cut short".to_owned() } }
    }

    #[test]
    fn probabilities_are_averaged_by_weight() {
        let one = vec![scored(0, [1.0, 0.0], [0.5, 0.5]), unreadable(1)];
        let other = vec![scored(0, [0.0, 1.0], [0.25, 0.75]), unreadable(1)];
        let mean = average(&[(3.0, one.clone()), (1.0, other)]).unwrap();
        assert_eq!(mean, [scored(0, [0.75, 0.25], [0.4375, 0.5625]), unreadable(1)]);
        assert_eq!(average(&[(0.1, one.clone())]).unwrap(), one, "alone, a model is itself");
    }

    #[test]
    fn other_images_or_classes_are_refused() {
        let one = vec![scored(0, [1.0, 0.0], [1.0, 0.0])];
        let others = [
            vec![scored(1, [1.0, 0.0], [1.0, 0.0])],
            vec![],
            vec![scored(0, [1.0, 0.0], [1.0, 0.0]), unreadable(1)],
            vec![Prediction { sample: 0, outcome: Outcome::Scored { plain: vec![1.0], merged: vec![1.0] } }],
        ];
        for other in others {
            let error = average(&[(1.0, one.clone()), (1.0, other)]).unwrap_err();
            assert!(matches!(error, PredictError::OtherPredictions { samples: 1, classes: 2, .. }), "{error}");
        }
        assert!(matches!(average(&[]), Err(PredictError::NoViews)));
    }
}
