//! What an evaluation prints.

use data_pipeline::Dataset;
use inference::{Effect, Evaluation, Judged, LeftOut};
use metrics::ClassScores;

use super::Subject;
use super::files::Files;
use crate::commands::calibrate::short_temperature;
use crate::commands::scores::{is_augmented, score_head, score_row, without_and_with_views};
use crate::error::CommandError;
use crate::ui;

/// Classes whose scores are printed; of more, the worst.
const CLASSES_SHOWN: usize = 30;

pub(super) fn print(
    subject: &Subject<'_>,
    dataset: &Dataset,
    evaluation: &Evaluation,
    files: &Files,
) -> Result<(), CommandError> {
    if evaluation.plain.confusion.total() > 0 {
        print_scores(subject, evaluation)?;
        print_classes(evaluation)?;
    }
    if is_augmented(&subject.views) {
        let [helped, hurt, still] =
            [Effect::Helped, Effect::Hurt, Effect::StillWrong].map(|effect| evaluation.count(effect));
        let changed = evaluation.changes.len();
        ui::out(format_args!(
            "TTA changed the class of {changed} images: helped {helped}, hurt {hurt}, still wrong {still}"
        ))?;
    }
    if !evaluation.left_out.is_empty() {
        ui::out(not_evaluated(&evaluation.left_out, dataset.len()))?;
    }
    ui::out(format_args!("written to {}: {}", files.folder.display(), files.names()))
}

/// How many images no score counts, by what keeps them from it; labels that are no classes only where there are any.
fn not_evaluated(left_out: &[LeftOut], images: usize) -> String {
    let of_no_class = left_out.iter().filter(|left| left.unknown_label.is_some()).count();
    let unscored = left_out.iter().filter(|left| left.label.is_some()).count();
    let unlabelled = left_out.len() - of_no_class - unscored;
    let of_no_class = match of_no_class {
        0 => String::new(),
        count => format!("{count} labelled with no class of the run, "),
    };
    format!(
        "not evaluated: {unlabelled} without label, {of_no_class}{unscored} with a label but unreadable or without scores, of {images} images"
    )
}

/// Without and with the views, a row each.
fn print_scores(subject: &Subject<'_>, evaluation: &Evaluation) -> Result<(), CommandError> {
    let top_k = format!("top-{}", evaluation.plain.top_k.k);
    ui::out(format_args!("{} {top_k:>8} {:>8} {:>10} {:>8}", score_head(), "ECE", "NLL, nats", "Brier"))?;
    let mut rows = without_and_with_views(&subject.views, &evaluation.plain, &evaluation.merged);
    if !is_augmented(&subject.views) && subject.changes_probabilities() {
        rows.push(("calibrated".to_owned(), &evaluation.merged));
    }
    for (name, Judged { confusion, top_k, probabilities }) in rows {
        let row = score_row(&name, confusion.macro_f1(), confusion.accuracy(), confusion.total());
        let (error, loss) = (probabilities.expected_error, probabilities.negative_log_likelihood);
        let (top_k, brier) = (top_k.accuracy, probabilities.brier);
        ui::out(format_args!("{row} {top_k:>8.4} {error:>8.4} {loss:>10.4} {brier:>8.4}"))?;
    }
    if let Some(temperature) = subject.temperature {
        ui::out(format_args!("the last row is at temperature {}", short_temperature(temperature)))?;
    }
    Ok(())
}

/// The classes in their order; of many, those of the lowest F1.
fn print_classes(evaluation: &Evaluation) -> Result<(), CommandError> {
    let merged = &evaluation.merged.confusion;
    let mut classes: Vec<(&String, ClassScores)> = merged.classes().iter().zip(merged.per_class()).collect();
    let all = classes.len();
    let is_cut = all > CLASSES_SHOWN;
    if is_cut {
        classes.sort_by(|one, other| one.1.f1.total_cmp(&other.1.f1));
        classes.truncate(CLASSES_SHOWN);
    }
    let head = if is_cut { format!("worst {CLASSES_SHOWN} of {all} classes") } else { "class".to_owned() };
    ui::out(format_args!("\n{head:<24} {:>10} {:>10} {:>8} {:>8}", "precision", "recall", "F1", "images"))?;
    for (name, scores) in classes {
        let ClassScores { precision, recall, f1, support } = scores;
        ui::out(format_args!("{name:<24} {precision:>10.4} {recall:>10.4} {f1:>8.4} {support:>8}"))?;
    }
    ui::out("")
}
