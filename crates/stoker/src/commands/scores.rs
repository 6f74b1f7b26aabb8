//! The table of scores that several commands print.

use std::fmt::Display;

/// The table's head.
pub(super) fn score_head() -> String {
    score_line("", "macro-F1", "accuracy", "images")
}

/// A row of it: scores from 0 to 1.
pub(super) fn score_row(name: &str, macro_f1: f64, accuracy: f64, images: impl Display) -> String {
    score_line(name, &format!("{macro_f1:.4}"), &format!("{accuracy:.4}"), images)
}

fn score_line(name: &str, macro_f1: &str, accuracy: &str, images: impl Display) -> String {
    format!("{name:<24} {macro_f1:>10} {accuracy:>10} {images:>8}")
}

/// The rows for predictions in so many views, by name: without them, and with them where there is more than the image itself.
pub(super) fn without_and_with_views<T>(views: usize, plain: T, merged: T) -> Vec<(String, T)> {
    let mut rows = vec![("without TTA".to_owned(), plain)];
    if views > 1 {
        rows.push((format!("with TTA, {views} views"), merged));
    }
    rows
}
