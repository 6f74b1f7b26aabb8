//! The folder in which a set is drawn before it takes its place, and the check that nothing else is in that place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sample_set::{MARKER, PARTS, README};
use crate::{CLASSES, SampleError};

/// The folder beside the set in which it is drawn; removed again unless the set was moved out of it.
pub(crate) struct Workshop {
    path: PathBuf,
}

impl Workshop {
    pub(crate) fn open(root: &Path) -> Result<Self, SampleError> {
        static OPENED: AtomicUsize = AtomicUsize::new(0);
        let parent = match root.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|source| io_error("create", parent, source))?;
        let name = root.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.drawing-");
        remove_leftovers(parent, &prefix);
        // Unlike any other's, should two processes draw the same set at once.
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{prefix}{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|source| io_error("create", &path, source))?;
        Ok(Self { path })
    }

    /// Where to draw.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the whole set in place of what is there.
    pub(crate) fn move_to(self, root: &Path) -> Result<(), SampleError> {
        match fs::remove_dir_all(root) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("replace", root, source));
            }
            _ => {}
        }
        fs::rename(&self.path, root).map_err(|source| io_error("create", root, source))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Already gone when the set was moved; and when it cannot be removed, the first error is the one to report.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes workshops of runs that were killed: untouched for an hour, when drawing takes seconds. A failure here
/// costs disk space only.
fn remove_leftovers(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let old = || {
            let age = entry.metadata().ok()?.modified().ok()?.elapsed().ok()?;
            Some(age.as_secs() > 3600)
        };
        if entry.file_name().to_string_lossy().starts_with(prefix) && old() == Some(true) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The first thing in the folder that no sample set has, so that nobody's own files are replaced.
pub(crate) fn find_foreign_entry(root: &Path) -> Result<Option<String>, SampleError> {
    let belongs = |relative: &[String]| match relative {
        [name] => name == README || name == MARKER || PARTS.contains(&name.as_str()),
        [part, class] => PARTS.contains(&part.as_str()) && CLASSES.contains(&class.as_str()),
        [part, class, file] => {
            PARTS.contains(&part.as_str()) && file.starts_with(class.as_str()) && file.ends_with(".jpg")
        }
        _ => false,
    };
    let mut folders = vec![Vec::<String>::new()];
    while let Some(folder) = folders.pop() {
        let path = folder.iter().fold(root.to_owned(), |path, name| path.join(name));
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(io_error("open the folder", &path, source)),
        };
        for entry in entries {
            let entry = entry.map_err(|source| io_error("read", &path, source))?;
            let mut relative = folder.clone();
            relative.push(entry.file_name().to_string_lossy().into_owned());
            if !belongs(&relative) {
                return Ok(Some(relative.join("/")));
            }
            if entry.path().is_dir() {
                folders.push(relative);
            }
        }
    }
    Ok(None)
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SampleError> {
    fs::write(path, bytes).map_err(|source| io_error("write", path, source))
}

pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> SampleError {
    let path = path.to_owned();
    SampleError::Io { action, path, source }
}
