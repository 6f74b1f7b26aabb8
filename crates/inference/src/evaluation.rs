//! All that labels tell of predictions: scores without and with the views, what the views changed, and which images were left out.

use std::path::Path;

use data_pipeline::{Dataset, UnknownLabels};
use metrics::{CalibrationScores, ConfusionMatrix, LabelledProbabilities, TopKAccuracy, TopKCounter, argmax};

use crate::predictions_csv::{file_name, number, to_table};
use crate::{Outcome, PredictError, Prediction, score};

/// How good one set of probabilities is.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Of the most probable classes.
    pub confusion: ConfusionMatrix,
    /// How often the right class is among the most probable; NaN without images.
    pub top_k: TopKAccuracy,
    /// Of the probabilities themselves; NaN without images.
    pub probabilities: CalibrationScores,
}

/// What labels tell of predictions.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Of the images as they are.
    pub plain: Judged,
    /// With the views merged, over the same images.
    pub merged: Judged,
    /// The images whose most probable class the views changed, in the data set's order.
    pub changes: Vec<Change>,
    /// The images that no score counts, in the data set's order.
    pub left_out: Vec<LeftOut>,
}

/// A class and its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Index of the class.
    pub class: usize,
    /// Its probability.
    pub probability: f32,
}

/// An image whose most probable class the views changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Index in the data set.
    pub sample: usize,
    /// Index of its true class.
    pub label: usize,
    /// What the image alone was taken for.
    pub plain: Seen,
    /// What the merged views were taken for.
    pub merged: Seen,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Wrong before, right with the views.
    Helped,
    /// Right before, wrong with the views.
    Hurt,
    /// Wrong before, and wrong in another way with the views.
    StillWrong,
}

/// An image that no score counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Index in the data set.
    pub sample: usize,
    /// Index of its true class, where it has one.
    pub label: Option<usize>,
    /// Its label, where that is no class.
    pub unknown_label: Option<String>,
    /// Why.
    pub reason: String,
}

/// Judges the predictions whose samples have a label; none where not one has. `unknown` are the labels that are no classes: they count for
/// nothing. `top_k` is 1 or more.
#[must_use]
pub fn evaluate(
    dataset: &Dataset,
    unknown: &UnknownLabels,
    predictions: &[Prediction],
    top_k: usize,
) -> Option<Evaluation> {
    let scores = score(dataset, predictions)?;
    let [mut plain, mut merged] = [Tally::new(top_k), Tally::new(top_k)];
    let (mut changes, mut left_out) = (Vec::new(), Vec::new());
    for prediction in predictions {
        let sample = prediction.sample;
        let known = dataset.samples.get(sample);
        let label = known.and_then(|sample| sample.label).map(|label| label as usize);
        let unknown_label = known.and_then(|sample| unknown.of(&sample.path));
        match judge(prediction, label.ok_or(unknown_label), &mut plain, &mut merged) {
            Ok(change) => changes.extend(change),
            Err(reason) => {
                left_out.push(LeftOut { sample, label, unknown_label: unknown_label.map(str::to_owned), reason });
            }
        }
    }
    let plain = plain.judged(scores.plain);
    Some(Evaluation { plain, merged: merged.judged(scores.merged), changes, left_out })
}

/// Counts one image, and tells what the views changed about it, or why it is not counted. The label is a class's index, or else what it says.
fn judge(
    prediction: &Prediction,
    label: Result<usize, Option<&str>>,
    plain_tally: &mut Tally,
    merged_tally: &mut Tally,
) -> Result<Option<Change>, String> {
    let Outcome::Scored { plain, merged } = &prediction.outcome else {
        return Err(prediction.outcome.error().unwrap_or_default());
    };
    let label = label.map_err(|unknown| match unknown {
        Some(unknown) => format!("label `{unknown}` is no class"),
        None => "no label".to_owned(),
    })?;
    let (Some(before), Some(after)) = (most_probable(plain), most_probable(merged)) else {
        return Err("no probabilities".to_owned());
    };
    plain_tally.record(plain, label)?;
    merged_tally.record(merged, label)?;
    let change = Change { sample: prediction.sample, label, plain: before, merged: after };
    Ok((before.class != after.class).then_some(change))
}

fn most_probable(probabilities: &[f32]) -> Option<Seen> {
    argmax(probabilities).map(|class| Seen { class, probability: probabilities[class] })
}

/// What is counted image by image.
struct Tally {
    top_k: TopKCounter,
    probabilities: LabelledProbabilities,
}

impl Tally {
    fn new(top_k: usize) -> Self {
        Self { top_k: TopKCounter::new(top_k), probabilities: LabelledProbabilities::default() }
    }

    fn record(&mut self, probabilities: &[f32], label: usize) -> Result<(), String> {
        self.probabilities.push(probabilities, label).map_err(|error| error.to_string())?;
        self.top_k.record(probabilities, label);
        Ok(())
    }

    fn judged(self, confusion: ConfusionMatrix) -> Judged {
        Judged { confusion, top_k: self.top_k.accuracy(), probabilities: self.probabilities.scores(1.0) }
    }
}

impl Change {
    /// What it did.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self.label {
            label if label == self.merged.class => Effect::Helped,
            label if label == self.plain.class => Effect::Hurt,
            _ => Effect::StillWrong,
        }
    }
}

impl Effect {
    /// In words: `helped`, `hurt`, `still wrong`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Helped => "helped",
            Self::Hurt => "hurt",
            Self::StillWrong => "still wrong",
        }
    }
}

impl Evaluation {
    /// How many changes had this effect.
    #[must_use]
    pub fn count(&self, effect: Effect) -> usize {
        self.changes.iter().filter(|change| change.effect() == effect).count()
    }

    /// Writes `file,label,effect,without_tta,probability_without_tta,with_tta,probability_with_tta`: a row a change. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`PredictError::Write`].
    pub fn write_changes(&self, path: &Path, dataset: &Dataset) -> Result<(), PredictError> {
        let header =
            ["file", "label", "effect", "without_tta", "probability_without_tta", "with_tta", "probability_with_tta"];
        let row = |change: &Change| {
            let name = |class: usize| dataset.classes[class].clone();
            let file = file_name(dataset.relative_path(change.sample));
            let [before, after] =
                [change.plain, change.merged].map(|seen| [name(seen.class), number(seen.probability)]);
            let own = [file, name(change.label), change.effect().name().to_owned()];
            own.into_iter().chain(before).chain(after).collect()
        };
        Ok(checkpoint::write_atomically(path, &to_table(&header, self.changes.iter().map(row)))?)
    }

    /// Writes `file,label,reason`: a row for each image that no score counts. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`PredictError::Write`].
    pub fn write_left_out(&self, path: &Path, dataset: &Dataset) -> Result<(), PredictError> {
        let row = |left_out: &LeftOut| {
            let class = left_out.label.and_then(|label| dataset.classes.get(label));
            let label = class.or(left_out.unknown_label.as_ref()).cloned().unwrap_or_default();
            vec![file_name(dataset.relative_path(left_out.sample)), label, left_out.reason.clone()]
        };
        let table = to_table(&["file", "label", "reason"], self.left_out.iter().map(row));
        Ok(checkpoint::write_atomically(path, &table)?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use data_pipeline::Sample;

    use super::*;

    fn dataset(labels: &[Option<u32>]) -> Dataset {
        let sample = |(index, &label): (usize, &Option<u32>)| Sample {
            path: PathBuf::from(format!("test/{index}.png")),
            label,
            group: None,
        };
        let classes = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
        let samples = labels.iter().enumerate().map(sample).collect();
        Dataset { root: PathBuf::from("test"), classes, samples, ignored_files: 0 }
    }

    fn scored(sample: usize, plain: [f32; 3], merged: [f32; 3]) -> Prediction {
        Prediction { sample, outcome: Outcome::Scored { plain: plain.to_vec(), merged: merged.to_vec() } }
    }

    const CAT: [f32; 3] = [0.75, 0.25, 0.0];
    const DOG: [f32; 3] = [0.25, 0.75, 0.0];
    const OWL: [f32; 3] = [0.0, 0.25, 0.75];

    /// Two images that the views help, one that they hurt, one that stays wrong, one without change, two that count nowhere.
    fn of_seven() -> (Dataset, Vec<Prediction>) {
        let dataset = dataset(&[Some(0), Some(0), Some(1), Some(2), Some(2), None, Some(1)]);
        let unreadable = Outcome::Unreadable { reason: "cut, short".to_owned() };
        let predictions = vec![
            scored(0, DOG, CAT),
            scored(1, OWL, CAT),
            scored(2, DOG, CAT),
            scored(3, CAT, DOG),
            scored(4, OWL, OWL),
            scored(5, DOG, CAT),
            Prediction { sample: 6, outcome: unreadable },
        ];
        (dataset, predictions)
    }

    #[test]
    fn every_image_is_counted_changed_or_left_out_and_none_is_lost() {
        let (dataset, predictions) = of_seven();
        let evaluation = evaluate(&dataset, &UnknownLabels::default(), &predictions, 2).unwrap();
        let effects = [Effect::Helped, Effect::Hurt, Effect::StillWrong].map(|effect| evaluation.count(effect));
        assert_eq!(effects, [2, 1, 1]);
        assert_eq!(evaluation.left_out.iter().map(|left| left.sample).collect::<Vec<_>>(), [5, 6]);
        let [plain, merged] = [&evaluation.plain, &evaluation.merged];
        assert_eq!((plain.confusion.total(), merged.confusion.total()), (5, 5));
        assert_eq!((plain.confusion.accuracy(), merged.confusion.accuracy()), (0.4, 0.6));
        // Of the two most probable: without views DOG has cat, OWL has not; CAT has no owl.
        assert_eq!((plain.top_k.accuracy, merged.top_k.accuracy), (0.6, 0.8));
        // Right at 0.75: (0.25² + 0.25²); the opposite: twice 0.75²; a label without probability: 0.75² + 0.25² + 1.
        let (right, swapped, none) = (0.125, 1.125, 1.625);
        assert!((plain.probabilities.brier - (2.0 * right + swapped + 2.0 * none) / 5.0).abs() < 1e-9);
        assert!((merged.probabilities.brier - (3.0 * right + swapped + none) / 5.0).abs() < 1e-9);
    }

    #[test]
    fn without_labels_there_is_nothing_to_judge() {
        assert_eq!(evaluate(&dataset(&[None]), &UnknownLabels::default(), &[scored(0, CAT, CAT)], 1), None);
    }

    #[test]
    fn images_that_were_all_unreadable_are_all_left_out() {
        let unreadable = Prediction { sample: 0, outcome: Outcome::Unreadable { reason: "empty".to_owned() } };
        let evaluation = evaluate(&dataset(&[Some(0)]), &UnknownLabels::default(), &[unreadable], 1).unwrap();
        assert_eq!((evaluation.left_out.len(), evaluation.plain.confusion.total()), (1, 0));
        assert!(evaluation.plain.top_k.accuracy.is_nan() && evaluation.merged.probabilities.brier.is_nan());
    }

    #[test]
    fn the_tables_have_a_row_a_change_and_a_row_an_image_left_out() {
        let (dataset, predictions) = of_seven();
        let evaluation = evaluate(&dataset, &UnknownLabels::default(), &predictions, 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        evaluation.write_changes(&folder.path().join("changes.csv"), &dataset).unwrap();
        evaluation.write_left_out(&folder.path().join("left_out.csv"), &dataset).unwrap();
        let changes = "\
file,label,effect,without_tta,probability_without_tta,with_tta,probability_with_tta
0.png,cat,helped,dog,0.75,cat,0.75
1.png,cat,helped,owl,0.75,cat,0.75
2.png,dog,hurt,dog,0.75,cat,0.75
3.png,owl,still wrong,cat,0.75,dog,0.75
";
        assert_eq!(read("changes.csv"), changes);
        assert_eq!(read("left_out.csv"), "file,label,reason\n5.png,,no label\n6.png,dog,\"cut, short\"\n");
    }

    #[test]
    fn a_label_that_is_no_class_is_the_reason_and_stays_to_be_read() {
        let dataset = dataset(&[Some(0), None, None]);
        let unreadable = Prediction { sample: 2, outcome: Outcome::Unreadable { reason: "empty".to_owned() } };
        let predictions = [scored(0, CAT, CAT), scored(1, CAT, CAT), unreadable];
        let unknown = [1, 2].map(|sample: usize| (dataset.samples[sample].path.clone(), "Cat".to_owned()));
        let unknown: UnknownLabels = unknown.into_iter().collect();
        let evaluation = evaluate(&dataset, &unknown, &predictions, 1).unwrap();
        assert_eq!(evaluation.merged.confusion.total(), 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left_out.csv");
        evaluation.write_left_out(&path, &dataset).unwrap();
        let expected = "file,label,reason\n1.png,Cat,label `Cat` is no class\n2.png,Cat,empty\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }
}
