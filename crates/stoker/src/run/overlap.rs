//! Images that are trained on and scored as well, whatever paths lead to them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use data_pipeline::Dataset;

use crate::error::CommandError;
use crate::ui;

/// Refuses validation images that are training images where the two were `given_apart`: their scores choose the weights, and would choose those that know
/// the images by heart. A set that was split has none. Test images that are one or the other are told.
pub(crate) fn check_apart(
    train: &Dataset,
    validation: &Dataset,
    test: Option<&Dataset>,
    given_apart: bool,
) -> Result<(), CommandError> {
    if !given_apart && test.is_none() {
        return Ok(());
    }
    let trained = real_files(train);
    let validated = real_files(validation);
    if given_apart && let Some(shared) = Shared::between(validation, &validated, &trained) {
        return Err(shared.refused(validation.len()));
    }
    let Some(test) = test else { return Ok(()) };
    let tested = real_files(test);
    for (known, name) in [(&trained, "training"), (&validated, "validation")] {
        if let Some(shared) = Shared::between(test, &tested, known) {
            ui::warn(shared.told(test.len(), name));
        }
    }
    Ok(())
}

/// Files of one set that are files of another.
struct Shared {
    count: usize,
    /// The first of them, as the one set names it.
    first: PathBuf,
}

impl Shared {
    /// What `images`, whose real paths are `files`, have of those of the other set.
    fn between(images: &Dataset, files: &[PathBuf], others: &[PathBuf]) -> Option<Self> {
        let others: HashSet<&Path> = others.iter().map(PathBuf::as_path).collect();
        let mut shared = images.samples.iter().zip(files).filter(|(_, file)| others.contains(file.as_path()));
        let first = shared.next()?.0.path.clone();
        Some(Self { count: 1 + shared.count(), first })
    }

    fn refused(&self, images: usize) -> CommandError {
        let message = format!(
            "{} of the {images} validation images are training images too, `{}` the first of them: \
             the scores would say nothing",
            self.count,
            self.first.display()
        );
        CommandError::wrong_request(message).with_hint(
            "leave `data.validation` out, and `data.validation_share` of the training images is held out; \
             or take these images out of one of the two"
                .to_owned(),
        )
    }

    fn told(&self, images: usize, name: &str) -> String {
        format!(
            "{} of the {images} test images are {name} images too, `{}` the first of them: \
             the test scores flatter the model",
            self.count,
            self.first.display()
        )
    }
}

/// Where each image of a set really is, in their order. Links are followed; the folder that images share is asked for once, for there may be a hundred
/// thousand of them.
fn real_files(images: &Dataset) -> Vec<PathBuf> {
    let mut folders: HashMap<&Path, PathBuf> = HashMap::new();
    images.samples.iter().map(|sample| real_file(&sample.path, &mut folders)).collect()
}

/// What leads nowhere stands for itself: the loader tells of it.
fn real_file<'p>(path: &'p Path, folders: &mut HashMap<&'p Path, PathBuf>) -> PathBuf {
    let linked = if path.is_symlink() { fs::canonicalize(path).ok() } else { None };
    if let Some(file) = linked {
        return file;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    let real = folders.entry(folder).or_insert_with(|| {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        fs::canonicalize(here).unwrap_or_else(|_| folder.to_owned())
    });
    real.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data set of so many empty files in each of two classes.
    fn drawn(folder: &Path, files: usize) -> Dataset {
        for class in ["ant", "bee"] {
            fs::create_dir_all(folder.join(class)).expect("writable");
            for number in 0..files {
                fs::write(folder.join(class).join(format!("{number}.png")), "").expect("writable");
            }
        }
        Dataset::open(folder).expect("two classes")
    }

    fn shared(images: &Dataset, others: &Dataset) -> Option<(usize, PathBuf)> {
        let shared = Shared::between(images, &real_files(images), &real_files(others));
        shared.map(|shared| (shared.count, shared.first))
    }

    #[test]
    fn the_same_files_are_found_by_another_way_and_copies_are_not() {
        let root = tempfile::tempdir().expect("the system's temporary folder is writable");
        let train = drawn(&root.path().join("train"), 2);
        let copies = drawn(&root.path().join("copies"), 2);
        let around = root.path().join("copies/../train");
        assert_eq!(shared(&Dataset::open(&around).unwrap(), &train), Some((4, around.join("ant/0.png"))));
        assert_eq!(shared(&copies, &train), None);
        let error = check_apart(&train, &train, None, true).expect_err("they are the same");
        assert!(error.message.starts_with("4 of the 4 validation images are training images too"), "{error}");
        assert!(check_apart(&train, &copies, Some(&train), true).is_ok(), "of test images it is only told");
    }

    #[cfg(unix)]
    #[test]
    fn links_to_folders_and_to_files_are_followed() {
        use std::os::unix::fs::symlink;

        let root = tempfile::tempdir().expect("the system's temporary folder is writable");
        let train = drawn(&root.path().join("train"), 2);
        let link = root.path().join("link");
        symlink(root.path().join("train"), &link).expect("writable");
        assert_eq!(shared(&Dataset::open(&link).unwrap(), &train), Some((4, link.join("ant/0.png"))));
        let others = root.path().join("others");
        drawn(&others, 1);
        symlink(root.path().join("train/bee/1.png"), others.join("bee/x.png")).expect("writable");
        assert_eq!(shared(&Dataset::open(&others).unwrap(), &train), Some((1, others.join("bee/x.png"))));
    }
}
