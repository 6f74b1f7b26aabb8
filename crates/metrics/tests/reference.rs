//! Holds the scores to scikit-learn's, and the temperature to SciPy's optimum. The fixtures are made by `python scripts/metrics_fixtures.py`.

use metrics::{CalibrationScores, ConfusionMatrix, LabelledProbabilities, TopKCounter, softmax};
use serde::Deserialize;

/// Both sides divide the same whole numbers in f64 and sum at most six of them: a few units in the last place.
const TOLERANCE: f64 = 1e-14;
/// Probabilities are f32 here and rounded to 9 decimals in the fixture.
const PROBABILITY_TOLERANCE: f64 = 1e-7;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<ScoreCase>,
    ranking: RankingCase,
}

#[derive(Deserialize)]
struct ScoreCase {
    name: String,
    num_classes: usize,
    labels: Vec<usize>,
    predicted: Vec<usize>,
    counts: Vec<Vec<u64>>,
    accuracy: f64,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    support: Vec<u64>,
    #[serde(rename = "macro")]
    macro_average: [f64; 3],
    weighted: [f64; 3],
}

#[derive(Deserialize)]
struct RankingCase {
    scores: Vec<Vec<f32>>,
    labels: Vec<usize>,
    top_k: Vec<f64>,
    softmax: Vec<Vec<f64>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/scores.json")).expect("the fixture is what the script wrote")
}

fn assert_close(name: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= tolerance, "{name}: {ours} is not {theirs}");
    }
}

#[test]
fn scores_equal_scikit_learns() {
    for case in fixture().cases {
        let mut matrix = ConfusionMatrix::new((0..case.num_classes).map(|class| class.to_string()).collect());
        for (&label, &predicted) in case.labels.iter().zip(&case.predicted) {
            matrix.record(label, predicted).unwrap();
        }
        let name = case.name.as_str();
        let each = matrix.per_class();
        let column = |score: fn(&metrics::ClassScores) -> f64| each.iter().map(score).collect::<Vec<f64>>();
        assert_eq!(matrix.counts(), case.counts, "{name}");
        assert_eq!(each.iter().map(|scores| scores.support).collect::<Vec<_>>(), case.support, "{name}");
        assert_close(name, &[matrix.accuracy()], &[case.accuracy], TOLERANCE);
        assert_close(name, &column(|scores| scores.precision), &case.precision, TOLERANCE);
        assert_close(name, &column(|scores| scores.recall), &case.recall, TOLERANCE);
        assert_close(name, &column(|scores| scores.f1), &case.f1, TOLERANCE);
        for (ours, theirs) in [(matrix.macro_scores(), case.macro_average), (matrix.weighted_scores(), case.weighted)] {
            assert_close(name, &[ours.precision, ours.recall, ours.f1], &theirs, TOLERANCE);
        }
        assert_close(name, &[matrix.macro_f1()], &case.macro_average[2..], TOLERANCE);
    }
}

#[test]
fn top_k_accuracy_equals_scikit_learns() {
    let case = fixture().ranking;
    for (index, &theirs) in case.top_k.iter().enumerate() {
        let mut counter = TopKCounter::new(index + 1);
        case.scores.iter().zip(&case.labels).for_each(|(scores, &label)| counter.record(scores, label));
        assert_close(&format!("top {}", index + 1), &[counter.accuracy().accuracy], &[theirs], TOLERANCE);
    }
}

#[test]
fn softmax_equals_scikit_learns() {
    let case = fixture().ranking;
    for (logits, theirs) in case.scores.iter().zip(&case.softmax) {
        let ours: Vec<f64> = softmax(logits).into_iter().map(f64::from).collect();
        assert_close("softmax", &ours, theirs, PROBABILITY_TOLERANCE);
    }
}

#[derive(Deserialize)]
struct CalibrationCase {
    name: String,
    probabilities: Vec<Vec<f32>>,
    labels: Vec<usize>,
    temperature: f64,
    before: [f64; 3],
    after: [f64; 3],
}

/// SciPy stops when the temperature's logarithm is known to about the square root of what f64 can tell of a flat minimum: 1e-8; scikit-learn wants
/// rows that sum to 1, to which f32 probabilities come within 1e-7.
const CALIBRATION_TOLERANCE: f64 = 1e-6;

#[test]
fn the_temperature_is_scipys_optimum_and_its_scores_are_scikit_learns() {
    let cases: Vec<CalibrationCase> =
        serde_json::from_str(include_str!("fixtures/calibration.json")).expect("the fixture is what the script wrote");
    for case in cases {
        let mut samples = LabelledProbabilities::default();
        for (row, &label) in case.probabilities.iter().zip(&case.labels) {
            samples.push(row, label).unwrap();
        }
        let found = samples.fit_temperature().unwrap();
        let each = |scores: CalibrationScores| [scores.expected_error, scores.negative_log_likelihood, scores.brier];
        assert_close(&case.name, &[found.temperature], &[case.temperature], CALIBRATION_TOLERANCE * case.temperature);
        assert_close(&case.name, &each(found.before), &case.before, CALIBRATION_TOLERANCE);
        assert_close(&case.name, &each(found.after), &case.after, CALIBRATION_TOLERANCE);
    }
}
