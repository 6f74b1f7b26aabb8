//! Writes a sample set to disk: all of it or nothing, drawn on every core.

use std::fmt;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use image::codecs::jpeg::JpegEncoder;
use serde::{Deserialize, Serialize};

use crate::dice::{Dice, mix_seed};
use crate::workshop::{Workshop, find_foreign_entry, io_error, write_file};
use crate::{CLASSES, SampleError, draw_page, turn_page};

/// The marker that is written last: a set without it is not complete.
pub(crate) const MARKER: &str = "complete.json";
pub(crate) const README: &str = "README.txt";
pub(crate) const PARTS: [&str; 3] = ["train", "validation", "test"];

/// How many pages to draw, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleSet {
    /// Pages to train on, all classes together; the first classes get one more when it does not divide by eight.
    pub train: usize,
    /// Pages to validate on, upright as the training pages.
    pub validation: usize,
    /// Pages to test on, turned by quarter turns and mirrored at random.
    pub test: usize,
    /// The seed of all pages. Each page depends on it, its part, its class and its number alone.
    pub seed: u64,
}

impl Default for SampleSet {
    /// 800 pages to train on, 200 to validate and 200 to test.
    fn default() -> Self {
        Self { train: 800, validation: 200, test: 200, seed: 42 }
    }
}

impl SampleSet {
    /// All pages of the set.
    pub fn total(&self) -> usize {
        self.counts().iter().sum()
    }

    fn counts(&self) -> [usize; 3] {
        [self.train, self.validation, self.test]
    }
}

impl fmt::Display for SampleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { train, validation, test, seed } = self;
        write!(f, "{train} + {validation} + {test} pages of seed {seed}")
    }
}

/// What [`write_sample_set`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The set was complete already and is untouched.
    AlreadyComplete,
    /// The set was drawn, this many pages.
    Drawn {
        /// Pages written.
        pages: usize,
    },
    /// The caller asked for no more, and nothing is left of the pages that were drawn.
    Stopped,
}

/// Writes the set to `root`, unless it is there already: `root/{train,validation,test}/<class>/<class>_0001.jpg`,
/// a `README.txt`, and last `complete.json`. Missing parents are created.
///
/// The set is drawn in a folder beside `root` and moved there when it is whole, so that a run that was stopped leaves
/// no half set behind; a set without `complete.json` is drawn anew. `progress` is called on this thread with the
/// pages done and the pages in all, first with none done; drawing stops where it breaks. Uses all cores.
///
/// # Errors
/// [`SampleError`]: an unwritable folder, a folder with other things in it, or a complete set that is another one.
pub fn write_sample_set(
    root: &Path,
    set: &SampleSet,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Written, SampleError> {
    refuse_too_small(set)?;
    if is_complete(root, set)? {
        return Ok(Written::AlreadyComplete);
    }
    if let Some(found) = find_foreign_entry(root)? {
        let path = root.to_owned();
        return Err(SampleError::ForeignFiles { path, found });
    }
    let workshop = Workshop::open(root)?;
    if draw_pages(workshop.path(), set, progress)?.is_break() {
        return Ok(Written::Stopped);
    }
    write_file(&workshop.path().join(README), readme(set).as_bytes())?;
    let marker = serde_json::to_string_pretty(set).expect("four numbers are always JSON");
    write_file(&workshop.path().join(MARKER), marker.as_bytes())?;
    if is_complete(root, set)? {
        // Another process was faster; its pages are the same.
        return Ok(Written::AlreadyComplete);
    }
    workshop.move_to(root)?;
    Ok(Written::Drawn { pages: set.total() })
}

fn refuse_too_small(set: &SampleSet) -> Result<(), SampleError> {
    let classes = CLASSES.len();
    for (part, found) in PARTS.into_iter().zip(set.counts()) {
        if found < classes {
            return Err(SampleError::TooFewPages { part, found, classes });
        }
    }
    Ok(())
}

/// Whether the folder holds the set that is asked for; an error when it holds another.
fn is_complete(root: &Path, expected: &SampleSet) -> Result<bool, SampleError> {
    let path = root.join(MARKER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(false),
        Err(source) => return Err(io_error("read", &path, source)),
    };
    let found: SampleSet = serde_json::from_str(&text).map_err(|error| {
        let reason = error.to_string();
        SampleError::MalformedMarker { path, reason }
    })?;
    if found == *expected {
        return Ok(true);
    }
    Err(SampleError::OtherSet { path: root.to_owned(), expected: *expected, found })
}

/// One page to draw.
struct Job {
    path: PathBuf,
    class: usize,
    seed: u64,
    turned: bool,
}

fn list_jobs(root: &Path, set: &SampleSet) -> Vec<Job> {
    let mut jobs = Vec::with_capacity(set.total());
    for (part_index, (part, pages)) in PARTS.into_iter().zip(set.counts()).enumerate() {
        for page in 0..pages {
            let (class, number) = (page % CLASSES.len(), page / CLASSES.len() + 1);
            let name = CLASSES[class];
            jobs.push(Job {
                path: root.join(part).join(name).join(format!("{name}_{number:04}.jpg")),
                class,
                seed: mix_seed(mix_seed(set.seed, part_index as u64), number as u64),
                turned: part == "test",
            });
        }
    }
    jobs
}

/// Draws all pages on all cores; the first error stops the others, and so does the caller.
fn draw_pages(
    root: &Path,
    set: &SampleSet,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, SampleError> {
    for part in PARTS {
        for class in CLASSES {
            let folder = root.join(part).join(class);
            fs::create_dir_all(&folder).map_err(|source| io_error("create", &folder, source))?;
        }
    }
    let jobs = list_jobs(root, set);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, results) = mpsc::channel();
    if progress(0, jobs.len()).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(16) {
            let sender = sender.clone();
            let (jobs, next, stop) = (&jobs, &next, &stop);
            scope.spawn(move || {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let sent = sender.send(draw_job(job));
                    if sent.is_err() || stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (done, result) in results.iter().enumerate() {
            if let Err(error) = result {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
            if progress(done + 1, jobs.len()).is_break() {
                stop.store(true, Ordering::Relaxed);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn draw_job(job: &Job) -> Result<(), SampleError> {
    let mut page = draw_page(job.class, job.seed);
    if job.turned {
        page = turn_page(&page, job.seed);
    }
    let quality = Dice::new(job.seed).whole(70, 92) as u8;
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(&page)
        .expect("an RGB image of at most 256 pixels a side is always a JPEG");
    write_file(&job.path, &bytes)
}

fn readme(set: &SampleSet) -> String {
    format!(
        "Document pages drawn by code, for a first training run: {set}.\n\
         \n\
         train/       {} pages, upright\n\
         validation/  {} pages, upright\n\
         test/        {} pages, turned by quarter turns and mirrored at random\n\
         \n\
         One folder a class: {}.\n\
         All names, amounts and faces are made up. Remove this folder, and the same pages are drawn anew.\n",
        set.train,
        set.validation,
        set.test,
        CLASSES.join(", "),
    )
}
