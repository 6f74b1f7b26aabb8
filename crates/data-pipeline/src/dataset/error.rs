//! What can be wrong with a data set, and the way out of each.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::class_spelt_otherwise;

/// Why a data set cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// Nothing is there.
    #[error("data set `{}` does not exist", path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
        /// The deepest folder above it that does exist.
        nearest: PathBuf,
        /// The first few names in that folder.
        found: Vec<String>,
    },
    /// A file that is no CSV.
    #[error("data set `{}` is neither a folder nor a CSV file", path.display())]
    NotAFolder {
        /// What was asked for.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A class folder whose name is not text.
    #[error("the name of class folder `{}` is not valid UTF-8", path.display())]
    NameNotUtf8 {
        /// The folder, its name shown with replacement characters.
        path: PathBuf,
    },
    /// Not one image in the whole data set.
    #[error("data set `{}` holds no images ({ignored_files} other {})", path.display(), files(*ignored_files))]
    NoImages {
        /// The folder or the CSV.
        path: PathBuf,
        /// Files that were seen and passed over.
        ignored_files: usize,
    },
    /// Images, but no folder per class.
    #[error("data set `{}` holds {images} {}, but no class folders", path.display(), count_noun(*images, "image", "images"))]
    NoClassFolders {
        /// The folder.
        path: PathBuf,
        /// Images that lie directly in it.
        images: usize,
    },
    /// A class folder without images.
    #[error("class `{class}` has no images: `{}` holds {ignored_files} other {}", path.display(), files(*ignored_files))]
    EmptyClass {
        /// The class.
        class: String,
        /// Its folder.
        path: PathBuf,
        /// Files in it that are no images.
        ignored_files: usize,
    },
    /// A link by which images of one class, or of all, would count as of another.
    #[error("`{}` in class `{class}` leads to `{}`, where images of other classes lie", link.display(), target.display())]
    LinkToOtherClass {
        /// The class that the link lies in, or that it is.
        class: String,
        /// The link.
        link: PathBuf,
        /// The folder it leads to.
        target: PathBuf,
    },
    /// Nothing to tell apart.
    #[error("data set `{}` has one class only, `{class}`", path.display())]
    OneClass {
        /// The folder or the CSV.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// A class that the model was not trained on.
    #[error("class `{class}` is not among the {} classes of training (`{}`)", known.len(), example.display())]
    UnknownClass {
        /// The class.
        class: String,
        /// One of its images.
        example: PathBuf,
        /// The classes of training.
        known: Vec<String>,
    },
    /// A CSV that cannot be understood.
    #[error("`{}`, line {line}: {reason}", path.display())]
    MalformedCsv {
        /// The CSV.
        path: PathBuf,
        /// Line in it, from 1.
        line: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A CSV that names files which are not there.
    #[error("`{}` names {count} missing {} of {rows}: {}", path.display(), files(*count), listed(missing, *count))]
    MissingFiles {
        /// The CSV.
        path: PathBuf,
        /// The first few, each with its line: the path that was looked for.
        missing: Vec<(u64, PathBuf)>,
        /// How many are missing in all.
        count: usize,
        /// How many files the CSV names.
        rows: usize,
    },
    /// A CSV that names a file twice.
    #[error("`{}`, line {line}: `{}` is named a second time, first on line {first_line}", path.display(), file.display())]
    DuplicateFile {
        /// The CSV.
        path: PathBuf,
        /// Line of the second mention, from 1.
        line: u64,
        /// Line of the first mention.
        first_line: u64,
        /// The file.
        file: PathBuf,
        /// The label of the first mention and that of the second, where they differ; an empty one is none.
        labels: Option<[String; 2]>,
    },
    /// A share that splits nothing off, or everything.
    #[error("a held-out share of {share} is not between 0 and 1")]
    BadShare {
        /// What was asked for.
        share: f64,
    },
    /// A class that cannot be on both sides of a split.
    #[error("class `{class}` has {images} {}, but a split needs at least 2", count_noun(*images, "image", "images"))]
    ClassTooSmall {
        /// The class.
        class: String,
        /// How many images it has.
        images: usize,
    },
    /// All images of a class belong together, so they cannot be on both sides of a split.
    #[error("all {images} images of class `{class}` are in one group, but a split needs at least 2")]
    ClassOfOneGroup {
        /// The class.
        class: String,
        /// How many images it has.
        images: usize,
    },
    /// Groups that hold several classes each, so that no split of them has every class on both sides.
    #[error("no split of the groups was found that has images of class `{class}` on both sides")]
    GroupsTooCoarse {
        /// The class.
        class: String,
    },
    /// A number of folds that cannot be made.
    #[error("{folds} folds cannot be made of {parts} {}", if *grouped { count_noun(*parts, "group", "groups") } else { count_noun(*parts, "image", "images") })]
    BadFolds {
        /// What was asked for.
        folds: usize,
        /// Images, or groups of them.
        parts: usize,
        /// Whether there are groups.
        grouped: bool,
    },
    /// More folds than any class has images.
    #[error("{folds} folds cannot be made: the largest class, `{class}`, has {images} {}", count_noun(*images, "image", "images"))]
    FoldsAboveClasses {
        /// The largest class.
        class: String,
        /// How many images it has.
        images: usize,
        /// What was asked for.
        folds: usize,
    },
    /// An unlabelled image where labels are needed.
    #[error("`{}` has no label", path.display())]
    NoLabel {
        /// The image.
        path: PathBuf,
    },
}

impl DatasetError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { nearest, found, .. } if found.is_empty() => format!("`{}` is empty", nearest.display()),
            Self::Missing { nearest, found, .. } => {
                format!("`{}` exists and holds {}", nearest.display(), quoted(found))
            }
            Self::NotAFolder { .. } => {
                "give a folder with one folder per class, or a `.csv` file with the columns `file,label`".into()
            }
            Self::Unreadable { path, .. } => format!("check who may read it: `ls -ld '{}'`", path.display()),
            Self::NameNotUtf8 { .. } => "rename the folder: class names are written into results as text".into(),
            Self::NoImages { .. } => "images end in .jpg, .jpeg, .png, .bmp or .webp, in any case".into(),
            Self::NoClassFolders { path, .. } => {
                format!("put the images of each class into a folder of its own: `{}/<class>/`", path.display())
            }
            Self::EmptyClass { .. } => {
                "add images (.jpg, .jpeg, .png, .bmp, .webp), or move the folder out of the data set".into()
            }
            Self::LinkToOtherClass { class, link, .. } => {
                format!("remove the link, so that these images do not count as `{class}`: `rm '{}'`", link.display())
            }
            Self::OneClass { .. } => {
                "a classifier needs at least two; is the path one level too deep (a class folder)?".into()
            }
            Self::UnknownClass { class, known, .. } => match class_spelt_otherwise(class, known) {
                Some(meant) => format!("it and the class `{meant}` differ in case or spaces alone: rename one of them"),
                None => format!("training knows {}; rename or move the others", quoted(known)),
            },
            Self::MalformedCsv { .. } => {
                "the first line is `file,label`; each other line names one image and its class".into()
            }
            Self::MissingFiles { path, .. } => {
                let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                format!("relative files are looked for below the CSV's folder, `{}`", folder.display())
            }
            Self::DuplicateFile { line, first_line, labels: Some([first, second]), .. } => format!(
                "line {first_line} has {}, and line {line} has {}: remove the wrong one",
                label_in_words(first),
                label_in_words(second)
            ),
            Self::DuplicateFile { line, labels: None, .. } => format!("remove line {line}"),
            Self::BadShare { .. } => "0.15 holds out 15 % of each class".into(),
            Self::ClassTooSmall { class, .. } => {
                format!("add images of `{class}`, or give a validation set of its own")
            }
            Self::ClassOfOneGroup { class, .. } => {
                format!("add images of `{class}` from elsewhere, or leave the column `group` out")
            }
            Self::GroupsTooCoarse { class } => {
                format!("add images of `{class}` from elsewhere, or give a validation set of its own")
            }
            Self::BadFolds { grouped: true, .. } => "at least 2 folds, and no more than there are groups".into(),
            Self::BadFolds { .. } => "at least 2 folds, and no more than there are images; 5 are usual".into(),
            Self::FoldsAboveClasses { images, .. } => {
                format!("at most {images} folds, so that some class is in each; 5 are usual")
            }
            Self::NoLabel { .. } => "only labelled images can be split by class".into(),
        })
    }

    pub(super) fn not_a_folder(path: &Path) -> Self {
        Self::NotAFolder { path: path.to_owned() }
    }

    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }

    /// Looks upwards for what does exist, for the hint.
    pub(super) fn missing(path: &Path) -> Self {
        let here = Path::new(".");
        let parents = path.ancestors().skip(1).map(|parent| if parent.as_os_str().is_empty() { here } else { parent });
        let nearest = parents.into_iter().find(|parent| parent.is_dir()).unwrap_or(here).to_owned();
        let entries = std::fs::read_dir(&nearest).into_iter().flatten().flatten();
        let mut found: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        found.retain(|name| !name.starts_with('.'));
        found.sort_by(|left, right| super::natural_order(left, right));
        Self::Missing { path: path.to_owned(), nearest, found }
    }
}

/// How many names a list shows before it counts the rest.
const MAX_LISTED: usize = 12;

fn quoted(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(MAX_LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn label_in_words(label: &str) -> String {
    if label.is_empty() { "no label".to_owned() } else { format!("the label `{label}`") }
}

fn listed(missing: &[(u64, PathBuf)], count: usize) -> String {
    let shown: Vec<String> = missing.iter().map(|(line, file)| format!("`{}` (line {line})", file.display())).collect();
    match count.saturating_sub(missing.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn files(count: usize) -> &'static str {
    count_noun(count, "file", "files")
}

fn count_noun(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}
