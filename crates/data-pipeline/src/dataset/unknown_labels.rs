//! Labels of images that are to be predicted and that are no classes of training.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::natural_order;

/// The images whose label is none of the classes, with what it is. Images without any label are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownLabels(BTreeMap<PathBuf, String>);

impl UnknownLabels {
    /// How many images have such a label.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every label is a class.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The label of an image, by the path that its sample has.
    #[must_use]
    pub fn of(&self, image: &Path) -> Option<&str> {
        self.0.get(image).map(String::as_str)
    }

    /// Each label once, in [`natural_order`].
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = self.0.values().map(String::as_str).collect();
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_by(|left, right| natural_order(left, right));
        names
    }
}

/// From the path of each image and its label.
impl FromIterator<(PathBuf, String)> for UnknownLabels {
    fn from_iter<I: IntoIterator<Item = (PathBuf, String)>>(labels: I) -> Self {
        Self(labels.into_iter().collect())
    }
}

/// The first class that differs from a name in nothing but case and spaces.
#[must_use]
pub fn class_spelt_otherwise<'c>(name: &str, classes: &'c [String]) -> Option<&'c str> {
    let wanted = letters(name);
    classes.iter().find(|class| letters(class) == wanted).map(String::as_str)
}

fn letters(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_whitespace()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_spaces_are_all_that_a_spelling_may_differ_in() {
        let classes = ["form", "ID card", "tables"].map(str::to_owned);
        let meant = |name: &str| class_spelt_otherwise(name, &classes);
        assert_eq!(meant("Form"), Some("form"));
        assert_eq!(meant(" idcard"), Some("ID card"));
        for other in ["table", "id_card", "", "forms"] {
            assert_eq!(meant(other), None, "{other}");
        }
    }

    #[test]
    fn a_label_of_many_images_is_named_once() {
        let labels = [("3.png", "page10"), ("1.png", "page2"), ("2.png", "page10")];
        let labels = labels.map(|(file, label)| (PathBuf::from(file), label.to_owned()));
        let unknown: UnknownLabels = labels.into_iter().collect();
        assert_eq!((unknown.len(), unknown.names()), (3, vec!["page2", "page10"]));
        assert_eq!((unknown.of(Path::new("1.png")), unknown.of(Path::new("4.png"))), (Some("page2"), None));
    }
}
