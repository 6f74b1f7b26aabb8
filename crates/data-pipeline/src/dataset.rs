//! Which images there are, and what each one shows.

mod error;
mod folder;
mod folds;
mod group_split;
mod labels_csv;
mod natural;
mod split;
mod unknown_labels;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::DatasetError;
pub use folds::stratified_folds;
pub use natural::natural_order;
pub use unknown_labels::{UnknownLabels, class_spelt_otherwise};

/// File name endings that are read, in lower case; the case of the file's own does not matter.
const IMAGE_EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// One image file and, where it is known, its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The file, as the data set's path followed by the place below it.
    pub path: PathBuf,
    /// Index into [`Dataset::classes`].
    pub label: Option<u32>,
    /// What the image belongs to (a document, a person), where a CSV says so: images of one group are too alike to stand
    /// on both sides of a split.
    pub group: Option<String>,
}

/// The images of one data set in a fixed order, which depends on their names alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The folder that the files are named against: the data set's own, or the one that holds the CSV.
    pub root: PathBuf,
    /// Class names in [`natural_order`], or as the caller gave them.
    pub classes: Vec<String>,
    /// The images.
    pub samples: Vec<Sample>,
    /// Files below the folder that were passed over, because they are hidden, are no images, or lie in no class folder.
    pub ignored_files: usize,
}

impl Dataset {
    /// Opens a training set: a folder with one folder per class (images may lie deeper), or a CSV with the columns
    /// `file` and `label` (relative files against the CSV's folder) and perhaps `group`. Classes are sorted in
    /// [`natural_order`].
    ///
    /// # Errors
    /// A path that is missing or neither of the two, a class without images, fewer than two classes, no images at
    /// all, a malformed CSV, or one that names a file twice or files that are not there.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let dataset = match folder::kind_of(path)? {
            folder::Kind::Folder => folder::open(path)?,
            folder::Kind::Csv => labels_csv::open(path)?,
            folder::Kind::Other => return Err(DatasetError::not_a_folder(path)),
        };
        match dataset.classes.as_slice() {
            [class] => Err(DatasetError::OneClass { path: path.to_owned(), class: class.clone() }),
            _ => Ok(dataset),
        }
    }

    /// Opens a validation or test set in the same two forms, labelled by the classes of training. A class that has no
    /// image here is fine.
    ///
    /// # Errors
    /// As [`Dataset::open`], without the demands on the number of classes; [`DatasetError::UnknownClass`] for a class
    /// that `classes` lacks.
    pub fn open_for_classes(path: &Path, classes: &[String]) -> Result<Self, DatasetError> {
        match folder::kind_of(path)? {
            folder::Kind::Folder => folder::open_for_classes(path, classes),
            folder::Kind::Csv => labels_csv::open_for_classes(path, classes),
            folder::Kind::Other => Err(DatasetError::not_a_folder(path)),
        }
    }

    /// Opens what is to be predicted: every image below a folder in [`natural_order`] of its relative path, one image
    /// file, or a CSV with the column `file`. A label is filled where the topmost folder (or the CSV's `label`)
    /// is one of `classes`, and stays `None` elsewhere.
    ///
    /// # Errors
    /// A missing path, a folder without images, a file that is neither image nor CSV, a malformed CSV.
    pub fn open_for_prediction(path: &Path, classes: &[String]) -> Result<Self, DatasetError> {
        Self::open_with_unknown_labels(path, classes).map(|(dataset, _)| dataset)
    }

    /// As [`Dataset::open_for_prediction`], with the labels that are none of `classes`. A CSV's `label` is one wherever it is not empty. A topmost
    /// folder is one where another of them is a class, or is spelt like one but for case and spaces.
    ///
    /// # Errors
    /// As [`Dataset::open_for_prediction`].
    pub fn open_with_unknown_labels(path: &Path, classes: &[String]) -> Result<(Self, UnknownLabels), DatasetError> {
        match folder::kind_of(path)? {
            folder::Kind::Folder => folder::open_for_prediction(path, classes),
            folder::Kind::Csv => labels_csv::open_for_prediction(path, classes),
            folder::Kind::Other if is_image_path(path) => {
                Ok((Self::of_one_image(path, classes), UnknownLabels::default()))
            }
            folder::Kind::Other => Err(DatasetError::not_a_folder(path)),
        }
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// How many images each class has, in the order of [`Dataset::classes`]. Unlabelled ones count nowhere.
    #[must_use]
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        let labels = self.samples.iter().filter_map(|sample| sample.label);
        for label in labels {
            if let Some(count) = counts.get_mut(label as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// The file of a sample as named below [`Dataset::root`]; the whole path where it lies elsewhere.
    ///
    /// # Panics
    /// When `sample` is not below [`Dataset::len`], as slices do.
    #[must_use]
    pub fn relative_path(&self, sample: usize) -> &Path {
        let path = &self.samples[sample].path;
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    fn of_one_image(path: &Path, classes: &[String]) -> Self {
        Self {
            root: path.parent().unwrap_or(Path::new("")).to_owned(),
            classes: classes.to_vec(),
            samples: vec![Sample { path: path.to_owned(), label: None, group: None }],
            ignored_files: 0,
        }
    }
}

/// Whether the file's name ends like that of an image this crate reads: jpg, jpeg, png, bmp or webp in any case.
#[must_use]
pub fn is_image_path(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| IMAGE_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

/// The label of each class name.
struct Labels<'a>(BTreeMap<&'a str, u32>);

impl<'a> Labels<'a> {
    fn new(classes: &'a [String]) -> Self {
        Self(classes.iter().map(String::as_str).zip(0..).collect())
    }

    fn of(&self, class: &str) -> Option<u32> {
        self.0.get(class).copied()
    }
}
