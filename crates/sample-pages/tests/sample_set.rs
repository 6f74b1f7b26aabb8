//! What `write_sample_set` promises about the folder that it writes.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sample_pages::{CLASSES, SampleError, SampleSet, Written, write_sample_set};

const SMALL: SampleSet = SampleSet { train: 17, validation: 8, test: 8, seed: 5 };

fn write(root: &Path) -> Result<Written, SampleError> {
    write_set(root, &SMALL)
}

fn write_set(root: &Path, set: &SampleSet) -> Result<Written, SampleError> {
    write_sample_set(root, set, &mut |_, _| ControlFlow::Continue(()))
}

/// A set that is drawn once for all tests, since a debug build draws slowly.
static DRAWN: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().join("pages");
    write(&root).expect("a set");
    files(&root)
});

/// A copy of the drawn set in a folder of its own.
fn copy_of_drawn_set() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().join("pages");
    for (relative, bytes) in DRAWN.iter() {
        let path = root.join(relative);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    (home, root)
}

/// Every file below a folder with its bytes, sorted by path.
fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                let relative = path.strip_prefix(root).expect("below the root");
                found.push((relative.to_owned(), bytes));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_set_has_its_folders_counts_readme_and_marker() {
    let (_home, root) = copy_of_drawn_set();
    for (part, pages) in [("train", 17), ("validation", 8), ("test", 8)] {
        let counts = CLASSES.map(|class| fs::read_dir(root.join(part).join(class)).expect("a class").count());
        assert_eq!(counts.iter().sum::<usize>(), pages, "{part}");
        assert!(counts.iter().all(|&count| count.abs_diff(pages / 8) <= 1), "{part} {counts:?}");
    }
    assert!(root.join("train/form/form_0003.jpg").is_file());
    assert!(root.join("README.txt").is_file() && root.join("complete.json").is_file());
    assert_eq!(DRAWN.len(), 33 + 2);
}

#[test]
fn the_same_seed_writes_the_same_bytes_counts_each_page_once_and_leaves_no_workshop() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().join("deeper/pages");
    let mut seen = Vec::new();
    let written = write_sample_set(&root, &SMALL, &mut |done, total| {
        seen.push((done, total));
        ControlFlow::Continue(())
    });
    assert_eq!(written.expect("a set"), Written::Drawn { pages: 33 });
    assert!(files(&root) == *DRAWN);
    assert_eq!(seen, (0..=33).map(|done| (done, 33)).collect::<Vec<_>>());
    let beside = fs::read_dir(home.path().join("deeper")).expect("a folder").count();
    assert_eq!(beside, 1, "the set alone");
}

#[test]
fn a_caller_that_has_enough_stops_the_drawing_and_nothing_is_left() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().join("pages");
    for enough in [0, 3] {
        let mut seen = 0;
        let written = write_sample_set(&root, &SMALL, &mut |done, _| {
            seen = done;
            if done == enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((written.expect("no error"), seen), (Written::Stopped, enough));
        assert_eq!(fs::read_dir(home.path()).expect("a folder").count(), 0);
    }
}

#[test]
fn no_page_of_one_part_is_in_another() {
    let mut contents: Vec<&[u8]> = DRAWN.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    contents.sort();
    contents.dedup();
    assert_eq!(contents.len(), DRAWN.len());
}

#[test]
fn a_complete_set_is_left_alone() {
    let (_home, root) = copy_of_drawn_set();
    let page = root.join("train/form/form_0001.jpg");
    fs::write(&page, b"mine").expect("a file");
    assert_eq!(write(&root).expect("a set"), Written::AlreadyComplete);
    assert_eq!(fs::read(&page).expect("a file"), b"mine");
}

#[test]
fn a_set_without_its_marker_is_drawn_anew() {
    let (_home, root) = copy_of_drawn_set();
    fs::remove_file(root.join("complete.json")).expect("a marker");
    fs::write(root.join("train/form/form_0001.jpg"), b"half").expect("a file");
    assert_eq!(write(&root).expect("a set"), Written::Drawn { pages: 33 });
    assert!(files(&root) == *DRAWN);
}

#[test]
fn a_complete_set_of_another_seed_is_refused_and_kept() {
    let (_home, root) = copy_of_drawn_set();
    let other = SampleSet { seed: 6, ..SMALL };
    let error = write_set(&root, &other).expect_err("another set");
    assert!(matches!(error, SampleError::OtherSet { found: SMALL, .. }), "{error}");
    assert!(root.join("train/form/form_0001.jpg").is_file());
}

#[test]
fn a_folder_with_other_files_is_refused_and_kept() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().join("pages");
    fs::create_dir_all(root.join("train/cats")).expect("a folder");
    fs::write(root.join("train/cats/tom.jpg"), b"cat").expect("a file");
    let error = write(&root).expect_err("somebody's pictures");
    assert!(error.to_string().contains("holds `train/cats`"), "{error}");
    assert!(root.join("train/cats/tom.jpg").is_file());
}

#[test]
fn a_root_that_cannot_be_written_is_an_error_with_the_path_and_a_hint() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("file");
    fs::write(&file, b"in the way").expect("a file");
    for root in [file.join("pages"), file.clone()] {
        let error = write(&root).expect_err("a file is no folder");
        assert!(error.to_string().contains("file`") || error.to_string().contains("file/pages`"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("choose another folder")));
    }
    assert_eq!(fs::read(&file).expect("a file"), b"in the way");
}

#[test]
fn a_marker_that_is_not_json_is_an_error_that_says_what_to_remove() {
    let home = tempfile::tempdir().expect("a folder");
    fs::write(home.path().join("complete.json"), "{").expect("a file");
    let error = write(home.path()).expect_err("a broken marker");
    assert!(error.hint().is_some_and(|hint| hint.contains("complete.json")), "{error}");
}

#[test]
fn fewer_pages_than_classes_are_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let few = SampleSet { test: 7, ..SMALL };
    let error = write_set(&home.path().join("pages"), &few).expect_err("too few");
    assert!(error.to_string().contains("test has 7 pages for 8 classes"), "{error}");
}
