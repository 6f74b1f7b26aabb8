//! A data set as a folder with one folder per class.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::{
    Dataset, DatasetError, Labels, Sample, UnknownLabels, class_spelt_otherwise, is_image_path, natural_order,
};

/// What a path names.
pub(super) enum Kind {
    Folder,
    Csv,
    Other,
}

pub(super) fn kind_of(path: &Path) -> Result<Kind, DatasetError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DatasetError::missing(path)),
        // `a.png/train`: something above is a file.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(DatasetError::missing(path)),
        Err(error) => return Err(DatasetError::unreadable(path, error)),
    };
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    Ok(match (metadata.is_dir(), metadata.is_file() && is_csv) {
        (true, _) => Kind::Folder,
        (_, true) => Kind::Csv,
        _ => Kind::Other,
    })
}

/// Every folder is a class and needs images.
pub(super) fn open(path: &Path) -> Result<Dataset, DatasetError> {
    let layout = Layout::read(path)?;
    layout.demand_images()?;
    if let Some(empty) = layout.classes.iter().find(|class| class.images.is_empty()) {
        return Err(DatasetError::EmptyClass {
            class: empty.name.clone(),
            path: empty.path.clone(),
            ignored_files: empty.ignored_files,
        });
    }
    let classes: Vec<String> = layout.classes.iter().map(|class| class.name.clone()).collect();
    layout.into_dataset(&classes)
}

/// Every folder with images must be a known class.
pub(super) fn open_for_classes(path: &Path, classes: &[String]) -> Result<Dataset, DatasetError> {
    let layout = Layout::read(path)?;
    layout.demand_images()?;
    layout.into_dataset(classes)
}

/// Every image below the folder counts, and has a label where its topmost folder is a known class.
pub(super) fn open_for_prediction(path: &Path, classes: &[String]) -> Result<(Dataset, UnknownLabels), DatasetError> {
    let found = Found::below(path, &ClassPlaces::default())?;
    if found.images.is_empty() {
        return Err(DatasetError::NoImages { path: path.to_owned(), ignored_files: found.ignored_files });
    }
    let unknown = unknown_folders(path, &found.images, classes);
    let labels = Labels::new(classes);
    let samples = found.images.into_iter().map(|image| {
        let label = topmost_folder(path, &image).and_then(|class| labels.of(class));
        Sample { path: image, label, group: None }
    });
    let samples = samples.collect();
    let dataset =
        Dataset { root: path.to_owned(), classes: classes.to_vec(), samples, ignored_files: found.ignored_files };
    Ok((dataset, unknown))
}

/// The labels of images whose topmost folder is no class, where another topmost folder is one or is meant to be. Elsewhere folders sort images in
/// some other way, and their names are no labels.
fn unknown_folders(root: &Path, images: &[PathBuf], classes: &[String]) -> UnknownLabels {
    let labels = Labels::new(classes);
    let folders: BTreeSet<&str> = images.iter().filter_map(|image| topmost_folder(root, image)).collect();
    let is_class = |folder: &str| labels.of(folder).is_some() || class_spelt_otherwise(folder, classes).is_some();
    if !folders.iter().copied().any(is_class) {
        return UnknownLabels::default();
    }
    let unknown = images.iter().filter_map(|image| {
        let folder = topmost_folder(root, image).filter(|folder| labels.of(folder).is_none())?;
        Some((image.clone(), folder.to_owned()))
    });
    unknown.collect()
}

/// The name of the folder directly below `root` that an image lies in, however deep; none where it lies beside those, or the name is not text.
fn topmost_folder<'i>(root: &Path, image: &'i Path) -> Option<&'i str> {
    image.strip_prefix(root).ok()?.parent()?.iter().next()?.to_str()
}

/// What lies directly in a data set's folder.
struct Layout {
    path: PathBuf,
    classes: Vec<ClassFolder>,
    /// Images beside the class folders.
    loose_images: usize,
    /// Other files beside them.
    loose_files: usize,
}

struct ClassFolder {
    name: String,
    path: PathBuf,
    images: Vec<PathBuf>,
    ignored_files: usize,
}

impl Layout {
    fn read(path: &Path) -> Result<Self, DatasetError> {
        let mut layout = Self { path: path.to_owned(), classes: Vec::new(), loose_images: 0, loose_files: 0 };
        let mut folders = Vec::new();
        for entry in Entry::in_folder(path)? {
            match entry.kind {
                EntryKind::Folder => folders.push(entry.path),
                EntryKind::Image => layout.loose_images += 1,
                EntryKind::Ignored => layout.loose_files += 1,
            }
        }
        let places = ClassPlaces::of(&folders)?;
        layout.classes =
            folders.into_iter().map(|folder| ClassFolder::read(folder, &places)).collect::<Result<_, _>>()?;
        Ok(layout)
    }

    fn demand_images(&self) -> Result<(), DatasetError> {
        if self.classes.iter().any(|class| !class.images.is_empty()) {
            return Ok(());
        }
        let path = self.path.clone();
        match (self.loose_images, self.classes.len()) {
            (0, _) | (_, 1..) => Err(DatasetError::NoImages { path, ignored_files: self.ignored_files() }),
            (images, 0) => Err(DatasetError::NoClassFolders { path, images }),
        }
    }

    fn ignored_files(&self) -> usize {
        let in_classes: usize = self.classes.iter().map(|class| class.ignored_files).sum();
        self.loose_images + self.loose_files + in_classes
    }

    fn into_dataset(self, classes: &[String]) -> Result<Dataset, DatasetError> {
        let labels = Labels::new(classes);
        let ignored_files = self.ignored_files();
        let mut samples = Vec::new();
        for folder in self.classes {
            let label = labels.of(&folder.name);
            if let (None, Some(example)) = (label, folder.images.first()) {
                let (class, example) = (folder.name, example.clone());
                return Err(DatasetError::UnknownClass { class, example, known: classes.to_vec() });
            }
            samples.extend(folder.images.into_iter().map(|path| Sample { path, label, group: None }));
        }
        Ok(Dataset { root: self.path, classes: classes.to_vec(), samples, ignored_files })
    }
}

impl ClassFolder {
    fn read(path: PathBuf, places: &ClassPlaces) -> Result<Self, DatasetError> {
        let name = path.file_name().and_then(OsStr::to_str).map(str::to_owned);
        let Some(name) = name else { return Err(DatasetError::NameNotUtf8 { path }) };
        let found = Found::below(&path, places)?;
        Ok(Self { name, path, images: found.images, ignored_files: found.ignored_files })
    }
}

/// The real paths of a data set's class folders, each with its own path. Where there are no classes yet, it is empty.
#[derive(Default)]
struct ClassPlaces(BTreeMap<PathBuf, PathBuf>);

impl ClassPlaces {
    /// Refuses a class folder that is a link to another one.
    fn of(folders: &[PathBuf]) -> Result<Self, DatasetError> {
        let mut places = BTreeMap::new();
        for folder in folders {
            let real = fs::canonicalize(folder).map_err(|error| DatasetError::unreadable(folder, error))?;
            if let Some(other) = places.insert(real, folder.clone()) {
                let (link, target) =
                    if folder.is_symlink() { (folder.clone(), other) } else { (other, folder.clone()) };
                return Err(link_to_other_class(&link, link.clone(), target));
            }
        }
        Ok(Self(places))
    }

    /// Refuses what a link below, or at, the class folder `class` leads to, if that is above a class folder, or in one of another class.
    fn check(&self, class: &Path, link: &Path, real: &Path) -> Result<(), DatasetError> {
        let is_in_other = real.ancestors().filter_map(|folder| self.0.get(folder)).any(|owner| owner != class);
        // What lies below a folder comes right behind it.
        let mut behind = self.0.range::<Path, _>((Bound::Excluded(real), Bound::Unbounded));
        let is_above = behind.next().is_some_and(|(place, _)| place.starts_with(real));
        if is_in_other || is_above {
            return Err(link_to_other_class(class, link.to_owned(), real.to_owned()));
        }
        Ok(())
    }
}

fn link_to_other_class(class: &Path, link: PathBuf, target: PathBuf) -> DatasetError {
    let class = class.file_name().unwrap_or_default().to_string_lossy().into_owned();
    DatasetError::LinkToOtherClass { class, link, target }
}

/// All files below one folder, however deep, in natural order.
#[derive(Default)]
struct Found {
    images: Vec<PathBuf>,
    ignored_files: usize,
}

impl Found {
    /// `path` is a class folder where there are `places`.
    fn below(path: &Path, places: &ClassPlaces) -> Result<Self, DatasetError> {
        let mut found = Self::default();
        found.visit(path, &mut Vec::new(), &|link, real| places.check(path, link, real))?;
        Ok(found)
    }

    /// `above` holds the real paths of the folders on the way here: a link back to one of them would never end. `check` judges the others.
    fn visit(&mut self, folder: &Path, above: &mut Vec<PathBuf>, check: &CheckLink<'_>) -> Result<(), DatasetError> {
        let real = fs::canonicalize(folder).map_err(|error| DatasetError::unreadable(folder, error))?;
        if above.contains(&real) {
            return Ok(());
        }
        if folder.is_symlink() {
            check(folder, &real)?;
        }
        above.push(real);
        for entry in Entry::in_folder(folder)? {
            match entry.kind {
                EntryKind::Folder => self.visit(&entry.path, above, check)?,
                EntryKind::Image => self.images.push(entry.path),
                EntryKind::Ignored => self.ignored_files += 1,
            }
        }
        above.pop();
        Ok(())
    }
}

/// Whether a link may lead to that real path.
type CheckLink<'a> = dyn Fn(&Path, &Path) -> Result<(), DatasetError> + 'a;

struct Entry {
    path: PathBuf,
    kind: EntryKind,
}

enum EntryKind {
    Folder,
    Image,
    Ignored,
}

impl Entry {
    fn in_folder(folder: &Path) -> Result<Vec<Self>, DatasetError> {
        let unreadable = |error| DatasetError::unreadable(folder, error);
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            paths.push(entry.map_err(unreadable)?.path());
        }
        paths.sort_by(|left, right| {
            let names = [left, right].map(|path| path.file_name().unwrap_or_default());
            natural_order(&names[0].to_string_lossy(), &names[1].to_string_lossy()).then_with(|| left.cmp(right))
        });
        Ok(paths.into_iter().map(|path| Self { kind: EntryKind::of(&path), path }).collect())
    }
}

impl EntryKind {
    /// Follows links. What is neither file nor folder (a pipe would block its reader) is ignored. An image's name that leads to nothing is an image that
    /// cannot be read, and is told like one.
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Left behind by file managers, notebooks and archivers; never a class.
        if name.starts_with('.') || name == "__MACOSX" {
            return Self::Ignored;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Self::Folder,
            Ok(metadata) if metadata.is_file() && is_image_path(path) => Self::Image,
            Err(_) if is_image_path(path) => Self::Image,
            _ => Self::Ignored,
        }
    }
}
