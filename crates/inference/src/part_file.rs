//! Predictions on their way: a file that grows by a batch at a time, and that a later process goes on with.
//!
//! The first line says in JSON what is predicted; then come blocks, one a batch, in the order of the data set. A block that was cut off is
//! dropped when the file is opened again. Numbers are little-endian.

mod block;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use checkpoint::CheckpointError;
use serde::{Deserialize, Serialize};

use crate::part_file::block::{Block, Layout};
use crate::{Prediction, View};

/// The number in the first line; another one is another program's.
const VERSION: u32 = 1;

/// How every such file begins.
const START: &[u8] = b"{\"stoker_part\":";

/// What is predicted, as the first line of the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartHeader {
    stoker_part: u32,
    /// What the rows depend on, by name: the same rows come of the same facts, and of no others.
    facts: Vec<(String, String)>,
    images: usize,
    classes: usize,
    batch_size: usize,
    /// Most images in a pass of the model, each view of an image counted as one; 0 where it is the size of a batch.
    #[serde(default)]
    pass_size: usize,
}

impl PartHeader {
    /// The header of predictions of `images` images in batches of `batch_size`, at least one; `facts` are pairs of a name and a value.
    #[must_use]
    pub fn new(facts: Vec<(String, String)>, images: usize, classes: usize, batch_size: usize) -> Self {
        Self { stoker_part: VERSION, facts, images, classes, batch_size: batch_size.max(1), pass_size: 0 }
    }

    /// The same, in batches of `images`, at least one.
    #[must_use]
    pub fn in_batches_of(self, images: usize) -> Self {
        Self { batch_size: images.max(1), ..self }
    }

    /// The same, with another number of images in a pass than in a batch: each view of an image counts as one.
    #[must_use]
    pub fn in_passes_of(self, images: usize) -> Self {
        Self { pass_size: images, ..self }
    }

    /// The header of the file at `path`; none where there is no such file, or no whole header.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&first_line(&mut File::open(path).ok()?).ok()?)
    }

    /// What the rows depend on, by its name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let header: Self = serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?;
        (header.stoker_part == VERSION).then_some(header)
    }

    fn images_in(&self, batch: usize) -> usize {
        self.images.saturating_sub(batch.saturating_mul(self.batch_size)).min(self.batch_size)
    }

    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("a header is text and whole numbers");
        line.push(b'\n');
        line
    }

    /// The first fact that is another one; sizes of batches are none.
    fn difference(&self, wanted: &Self) -> Option<[String; 3]> {
        let counts = |header: &Self| {
            [("images", header.images), ("classes", header.classes)]
                .map(|(name, count)| (name.into(), count.to_string()))
        };
        let facts = |header: &Self| counts(header).into_iter().chain(header.facts.clone()).collect::<Vec<_>>();
        let value_in = |header: &Self, name: &String| {
            let fact = facts(header).into_iter().find(|(other, _)| other == name);
            fact.map_or_else(|| "nothing".to_owned(), |(_, value)| value)
        };
        let names = facts(self).into_iter().chain(facts(wanted)).map(|(name, _)| name);
        let mut pairs = names.map(|name| (value_in(self, &name), value_in(wanted, &name), name));
        pairs.find(|(there, here, _)| there != here).map(|(there, here, name)| [name, there, here])
    }
}

/// Why predictions cannot be gone on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// Another process writes it.
    #[error("`{}` is being written by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A file of something else.
    #[error("`{}` holds no predictions that could be gone on with", path.display())]
    NotAPart {
        /// The file.
        path: PathBuf,
    },
    /// Predictions of something else, or made otherwise.
    #[error("`{}` holds {done} of {images} predictions that were begun otherwise: {what} `{there}`, and now `{here}`", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// How many are done.
        done: usize,
        /// Of how many.
        images: usize,
        /// What differs.
        what: String,
        /// Its value in the file.
        there: String,
        /// Its value now.
        here: String,
    },
}

impl PartError {
    /// A way out that can be typed.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::InUse { .. } => Some("wait for it, or write elsewhere with `--output FILE`".to_owned()),
            Self::NotAPart { path } => Some(format!("move it away: `mv '{0}' '{0}.old'`", path.display())),
            Self::Other { path, .. } => Some(format!(
                "finish those with the request that began them, write elsewhere with `--output FILE`, or give them up: `rm {}`",
                checkpoint::shell_word(path)
            )),
        }
    }
}

/// Predictions on their way, held by this process alone until it is dropped.
#[derive(Debug)]
pub struct PartFile {
    path: PathBuf,
    file: File,
    header: PartHeader,
    layout: Layout,
    /// Where blocks begin.
    start: u64,
    /// Behind the last whole block.
    end: u64,
    batches_done: usize,
    at_once: Option<usize>,
}

impl PartFile {
    /// Begins a file at `path`, or goes on with what is there if it is of the same facts; its size of batches is kept then. `views` are those
    /// of the predictions: a fact has to tell them.
    ///
    /// # Errors
    /// [`PartError`]; what is at `path` is untouched then.
    pub fn open(path: &Path, wanted: &PartHeader, views: &[View]) -> Result<Self, PartError> {
        let read = |source| CheckpointError::Read { path: path.to_owned(), source };
        let write = |source| CheckpointError::Write { path: path.to_owned(), source };
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(write)?;
        if file.try_lock().is_err() {
            return Err(PartError::InUse { path: path.to_owned() });
        }
        let line = first_line(&mut file).map_err(read)?;
        let header = match line.ends_with(b"\n") {
            true => PartHeader::parse(&line),
            false => is_cut_off(&line).then(|| wanted.clone()),
        };
        let header = header.ok_or_else(|| PartError::NotAPart { path: path.to_owned() })?;
        let is_new = !line.ends_with(b"\n");
        let bytes = header.line();
        let layout = Layout { classes: header.classes, views: views.to_vec() };
        let start = bytes.len() as u64;
        let mut part =
            Self { path: path.to_owned(), file, header, layout, start, end: start, batches_done: 0, at_once: None };
        if is_new {
            part.begin(&bytes).map_err(write)?;
            return Ok(part);
        }
        part.find_end().map_err(read)?;
        if let Some([what, there, here]) = part.header.difference(wanted) {
            let (done, images) = (part.images_done(), part.header.images);
            return Err(PartError::Other { path: path.to_owned(), done, images, what, there, here });
        }
        part.file.set_len(part.end).map_err(write)?;
        Ok(part)
    }

    /// Goes on with what is at `path`, as [`open`](Self::open) does; none where nothing is, or no more than a part of the header. The size of
    /// batches and of passes in `wanted` does not matter.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn reopen(path: &Path, wanted: &PartHeader, views: &[View]) -> Result<Option<Self>, PartError> {
        let is_begun =
            File::open(path).is_ok_and(|mut file| first_line(&mut file).is_ok_and(|line| !is_cut_off(&line)));
        is_begun.then(|| Self::open(path, wanted, views)).transpose()
    }

    /// Images that are to be in the file.
    #[must_use]
    pub fn images(&self) -> usize {
        self.header.images
    }

    /// Images in a batch.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.header.batch_size
    }

    /// Most images in a pass of the model, each view of an image counted as one.
    #[must_use]
    pub fn pass_size(&self) -> usize {
        if self.header.pass_size == 0 { self.header.batch_size } else { self.header.pass_size }
    }

    /// Batches that are in the file.
    #[must_use]
    pub fn batches_done(&self) -> usize {
        self.batches_done
    }

    /// Images that are in the file.
    #[must_use]
    pub fn images_done(&self) -> usize {
        self.header.images.min(self.batches_done.saturating_mul(self.header.batch_size))
    }

    /// Whether every image is in the file.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.images_done() == self.header.images
    }

    /// How many images the last batch could be computed with at once, where that was fewer than a pass has.
    #[must_use]
    pub fn at_once(&self) -> Option<usize> {
        self.at_once
    }

    /// Adds the next batch, whole; `at_once` is how many images memory allowed at once, if that was a limit.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; what was added before is kept.
    ///
    /// # Panics
    /// When `predictions` are not those of the next batch in their order, or of other classes or views.
    pub fn append(&mut self, predictions: &[Prediction], at_once: Option<usize>) -> Result<(), CheckpointError> {
        let first = self.images_done();
        let expected = first..first + self.header.images_in(self.batches_done);
        assert!(predictions.iter().map(|one| one.sample).eq(expected), "a batch is predicted whole and in order");
        let bytes = self.layout.encode(predictions, at_once);
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(&bytes));
        if let Err(source) = written {
            // What was begun would be dropped by the next reader as well; here it may be the space that others miss.
            let _ = self.file.set_len(self.end);
            return Err(CheckpointError::Write { path: self.path.clone(), source });
        }
        self.end += bytes.len() as u64;
        self.batches_done += 1;
        self.at_once = at_once;
        Ok(())
    }

    /// All predictions of the file from the first on, a batch at a time.
    ///
    /// # Errors
    /// [`CheckpointError::Read`], also of each batch.
    pub fn batches(
        &mut self,
    ) -> Result<impl Iterator<Item = Result<Vec<Prediction>, CheckpointError>> + use<'_>, CheckpointError> {
        let path = self.path.clone();
        let refused = move |source| CheckpointError::Read { path: path.clone(), source };
        self.file.seek(SeekFrom::Start(self.start)).map_err(&refused)?;
        let mut reader = BufReader::new(&self.file);
        let (header, layout) = (&self.header, &self.layout);
        let batches = (0..self.batches_done).map(move |batch| {
            let block = layout.read(&mut reader, batch * header.batch_size, header.images_in(batch));
            let changed = || io::Error::new(io::ErrorKind::InvalidData, "the file was changed while it was read");
            block.and_then(|block| block.ok_or_else(changed)).map(|block| block.predictions).map_err(&refused)
        });
        Ok(batches)
    }

    /// All predictions of the file from the first on, one by one, read a batch at a time.
    ///
    /// # Errors
    /// As [`batches`](Self::batches).
    pub fn predictions(
        &mut self,
    ) -> Result<impl Iterator<Item = Result<Prediction, CheckpointError>> + use<'_>, CheckpointError> {
        let each = |batch: Result<Vec<Prediction>, CheckpointError>| match batch {
            Ok(predictions) => predictions.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        Ok(self.batches()?.flat_map(each))
    }

    /// Removes the file.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn remove(self) -> Result<(), CheckpointError> {
        match std::fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(CheckpointError::Write { path: self.path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(line)
    }

    /// Counts the whole blocks; what follows the last one was cut off, or is none of ours.
    fn find_end(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.start))?;
        let mut reader = BufReader::new(&self.file);
        while self.batches_done * self.header.batch_size < self.header.images {
            let (first, images) =
                (self.batches_done * self.header.batch_size, self.header.images_in(self.batches_done));
            let Some(Block { at_once, bytes, .. }) = self.layout.read(&mut reader, first, images)? else { break };
            self.at_once = at_once;
            self.end += bytes;
            self.batches_done += 1;
        }
        Ok(())
    }
}

/// Whether it is the beginning of a header whose writing was stopped, with nothing behind it.
fn is_cut_off(line: &[u8]) -> bool {
    !line.ends_with(b"\n") && (START.starts_with(line) || line.starts_with(START))
}

/// The first line with its end; what there is of it where it has none.
fn first_line(file: &mut File) -> io::Result<Vec<u8>> {
    /// No header is longer: a file of something else may have no line at all.
    const LONGEST: u64 = 1 << 20;
    let mut line = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    BufReader::new(file).take(LONGEST).read_until(b'\n', &mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests;
