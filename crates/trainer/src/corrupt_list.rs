//! The run folder's list of images that could not be read.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use checkpoint::{CheckpointError, write_atomically};
use data_pipeline::{CorruptImage, Dataset, one_line, path_text};

/// `corrupt_images.txt`: a line an image, kept over all processes that a run takes.
#[derive(Debug)]
pub(crate) struct CorruptList {
    path: PathBuf,
    lines: BTreeSet<String>,
}

impl CorruptList {
    /// The list as it was left; an empty one where there is none yet.
    pub(crate) fn open(path: PathBuf) -> Self {
        // A list that cannot be read is begun anew: it is no reason to stop a run.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Self { path, lines: text.lines().map(str::to_owned).collect() }
    }

    /// How many of its lines are of images of these sets; the others are of test images.
    pub(crate) fn count_of(&self, sets: [&Dataset; 2]) -> usize {
        if self.lines.is_empty() {
            return 0;
        }
        let paths = sets.into_iter().flat_map(|set| &set.samples).map(|sample| one_line(&path_text(&sample.path)));
        let paths: HashSet<String> = paths.collect();
        // A path may hold what separates it from the reason.
        let is_of_them = |line: &&String| line.match_indices(": ").any(|(end, _)| paths.contains(&line[..end]));
        self.lines.iter().filter(is_of_them).count()
    }

    /// Takes up images, writes the list where it grew, and returns those that were not on it.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub(crate) fn add<'a>(&mut self, corrupt: &'a [CorruptImage]) -> Result<Vec<&'a CorruptImage>, CheckpointError> {
        let new: Vec<&CorruptImage> = corrupt.iter().filter(|image| self.lines.insert(image.line())).collect();
        if !new.is_empty() {
            let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
            write_atomically(&self.path, text.as_bytes())?;
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use data_pipeline::Sample;

    use super::*;

    fn corrupt(name: &str) -> CorruptImage {
        CorruptImage { sample: 0, path: name.into(), reason: "cut off: no end".to_owned() }
    }

    #[test]
    fn a_list_goes_on_where_it_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corrupt_images.txt");
        let (first, second) = ([corrupt("b: 1.png"), corrupt("test.png")], [corrupt("b: 1.png"), corrupt("a.png")]);
        assert_eq!(CorruptList::open(path.clone()).add(&first).unwrap().len(), 2);
        let mut again = CorruptList::open(path.clone());
        let sample = Sample { path: "b: 1.png".into(), label: None, group: None };
        let set = Dataset { root: "".into(), classes: Vec::new(), samples: vec![sample], ignored_files: 0 };
        assert_eq!(again.count_of([&set, &set]), 1, "a test image is not counted");
        assert_eq!(again.add(&second).unwrap(), [&corrupt("a.png")], "only what is new");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, "a.png: cut off: no end\nb: 1.png: cut off: no end\ntest.png: cut off: no end\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_name_of_two_lines_and_one_that_is_no_text_have_a_line_each() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corrupt_images.txt");
        let names: [&[u8]; 2] = [b"a\nb.png", b"caf\xe9.png"];
        let images = names.map(|name| CorruptImage {
            sample: 0,
            path: std::ffi::OsStr::from_bytes(name).into(),
            reason: "cut off".to_owned(),
        });
        assert_eq!(CorruptList::open(path.clone()).add(&images).unwrap().len(), 2);
        let mut again = CorruptList::open(path.clone());
        assert_eq!(again.add(&images).unwrap(), [] as [&CorruptImage; 0], "both are known");
        let samples = images.map(|image| Sample { path: image.path, label: None, group: None }).to_vec();
        let set = Dataset { root: "".into(), classes: Vec::new(), samples, ignored_files: 0 };
        assert_eq!(again.count_of([&set, &set]), 2);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a\\x0ab.png: cut off\ncaf\\xe9.png: cut off\n");
    }
}
