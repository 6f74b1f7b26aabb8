//! Labels of the input that are no classes of the run, as they are told.

use data_pipeline::{UnknownLabels, class_spelt_otherwise};

use crate::ui;

/// Labels that a line shows.
const SHOWN: usize = 6;

/// Says which labels count for nothing, and which of them are classes in another spelling; nothing where every label is a class.
pub(super) fn note_unknown_labels(unknown: &UnknownLabels, classes: &[String]) {
    if unknown.is_empty() {
        return;
    }
    let them = if unknown.len() == 1 { "it" } else { "them" };
    ui::note(format_args!("note: {}; no score counts {them}", describe(unknown)));
    if let Some(spelling) = other_spelling(unknown, classes) {
        ui::note(format_args!("note: {spelling}"));
    }
}

/// ``2 images are labelled `Form`, `xyz`: no classes of the run``.
pub(super) fn describe(unknown: &UnknownLabels) -> String {
    let names = unknown.names();
    let (images, are) = if unknown.len() == 1 { ("image", "is") } else { ("images", "are") };
    let classes = if names.len() == 1 { "no class" } else { "no classes" };
    let named = listed(names.iter().map(|name| format!("`{name}`")));
    format!("{} {images} {are} labelled {named}: {classes} of the run", unknown.len())
}

/// Which labels differ from a class in nothing but case and spaces.
pub(super) fn other_spelling(unknown: &UnknownLabels, classes: &[String]) -> Option<String> {
    let pair = |name: &str| Some(format!("`{name}` and the class `{}`", class_spelt_otherwise(name, classes)?));
    let pairs: Vec<String> = unknown.names().into_iter().filter_map(pair).collect();
    (!pairs.is_empty()).then(|| format!("{} differ in case or spaces alone", listed(pairs.into_iter())))
}

/// The first few, and how many there are beyond.
fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn labels(labels: &[&str]) -> UnknownLabels {
        let image = |(place, label): (usize, &&str)| (PathBuf::from(place.to_string()), (*label).to_owned());
        labels.iter().enumerate().map(image).collect()
    }

    #[test]
    fn labels_are_counted_by_image_and_named_once() {
        assert_eq!(describe(&labels(&["xyz", "Form"])), "2 images are labelled `Form`, `xyz`: no classes of the run");
        assert_eq!(describe(&labels(&["xyz", "xyz"])), "2 images are labelled `xyz`: no class of the run");
        assert_eq!(describe(&labels(&["xyz"])), "1 image is labelled `xyz`: no class of the run");
        let many = describe(&labels(&["a", "b", "c", "d", "e", "f", "g", "h"]));
        assert!(many.contains("`e`, `f` and 2 more: no classes"), "{many}");
    }

    #[test]
    fn only_another_spelling_is_taken_for_a_class() {
        let classes = ["form", "id card"].map(str::to_owned);
        let expected = "`Form` and the class `form`, `idcard` and the class `id card` differ in case or spaces alone";
        assert_eq!(other_spelling(&labels(&["xyz", "Form", "idcard"]), &classes).as_deref(), Some(expected));
        assert_eq!(other_spelling(&labels(&["forms"]), &classes), None);
    }
}
