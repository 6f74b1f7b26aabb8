//! The table of scores that several commands print.

use std::fmt::Display;

use inference::View;

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

/// Whether views say another thing than the image as it is.
pub(super) fn is_augmented(views: &[View]) -> bool {
    views.iter().any(|&view| view != View::IDENTITY)
}

/// The rows for predictions in these views, by name: without them, and with them where they are more than the image itself.
pub(super) fn without_and_with_views<T>(views: &[View], plain: T, merged: T) -> Vec<(String, T)> {
    let mut rows = vec![("without TTA".to_owned(), plain)];
    if is_augmented(views) {
        let count = views.len();
        let noun = if count == 1 { "view" } else { "views" };
        rows.push((format!("with TTA, {count} {noun}"), merged));
    }
    rows
}

#[cfg(test)]
mod tests {
    use inference::Symmetry;

    use super::*;

    #[test]
    fn one_view_that_is_not_the_image_itself_is_augmentation() {
        let names =
            |views: &[View]| without_and_with_views(views, 0, 1).into_iter().map(|row| row.0).collect::<Vec<_>>();
        assert_eq!(names(&[View::IDENTITY]), ["without TTA"]);
        assert_eq!(names(&[Symmetry::Rotate90.into()]), ["without TTA", "with TTA, 1 view"]);
        assert_eq!(names(&[View::IDENTITY, Symmetry::Rotate90.into()])[1], "with TTA, 2 views");
    }
}
