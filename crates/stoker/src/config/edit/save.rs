//! A changed configuration on disk: the original kept beside it, the new one whole or not at all.
//!
//! `checkpoint::write_atomically` does the same for files that stoker owns. A configuration is the user's: its permissions and its owner
//! stay, a link to it stays a link, and a write-protected one is left alone, which renaming over it would not notice.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::error::EditError;
use super::{Edit, edit_text};
use crate::config::UserConfig;
use crate::config::source::read_text;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedConfig {
    /// The configuration that has the new values; behind a link, the file that it leads to.
    pub path: PathBuf,
    /// The copy of what stood there before; `None` for a new file, and when nothing had to change.
    pub backup: Option<PathBuf>,
}

/// A changed configuration that can be written, and is not yet.
#[derive(Debug)]
pub struct PreparedConfig {
    path: PathBuf,
    /// What it replaces.
    old: Option<(String, Metadata)>,
    text: String,
}

impl PreparedConfig {
    /// Writes it.
    ///
    /// # Errors
    /// See [`EditError`]; the file is as it was, and no copy is left.
    pub fn commit(self) -> Result<SavedConfig, EditError> {
        let Self { path, old, text } = self;
        let Some((old, metadata)) = old else {
            replace(&path, None, |file| file.write_all(text.as_bytes()))?;
            return Ok(SavedConfig { path, backup: None });
        };
        if old == text {
            return Ok(SavedConfig { path, backup: None });
        }
        let backup = keep_copy(&path, &metadata, &old)?;
        replace(&path, Some(&metadata), |file| file.write_all(text.as_bytes())).inspect_err(|_| {
            // The original is untouched, and a copy of it would only puzzle; the first error is the one worth telling.
            let _ = fs::remove_file(&backup);
        })?;
        Ok(SavedConfig { path, backup: Some(backup) })
    }
}

/// Sets keys in a configuration file. The original is kept beside it as `NAME.bak`, `NAME.bak.1` and so on, and no older copy is touched.
/// When the values are there already, nothing is written.
///
/// # Errors
/// See [`EditError`]; the file is as it was, and no copy is left.
pub fn save_in_place(path: &Path, edits: &[Edit]) -> Result<SavedConfig, EditError> {
    prepare_in_place(path, edits)?.commit()
}

/// All of [`save_in_place`] but the writing: what can be refused is refused.
///
/// # Errors
/// See [`EditError`].
pub fn prepare_in_place(path: &Path, edits: &[Edit]) -> Result<PreparedConfig, EditError> {
    refuse_special(path)?;
    let text = read_text(path)?;
    let edited = edit_text(path, &text, edits)?;
    prepare_config(&behind_links(path), text, edited)
}

/// Writes a changed copy of a configuration to `output`, and leaves the configuration as it is.
///
/// A plan that is made again goes to the same file, so a configuration that is there already is replaced, with a copy kept as in
/// [`save_in_place`]. Any other file is not: a slip of the keyboard must not cost a class list.
///
/// # Errors
/// See [`EditError`]; what stood at `output` is as it was.
pub fn save_as(path: &Path, output: &Path, edits: &[Edit]) -> Result<SavedConfig, EditError> {
    prepare_as(path, output, edits)?.commit()
}

/// All of [`save_as`] but the writing: what can be refused is refused.
///
/// # Errors
/// See [`EditError`].
pub fn prepare_as(path: &Path, output: &Path, edits: &[Edit]) -> Result<PreparedConfig, EditError> {
    let text = read_text(path)?;
    let edited = edit_text(path, &text, edits)?;
    if output.is_dir() {
        return Err(EditError::Folder { path: output.to_owned() });
    }
    let folder = folder_of(output);
    if !folder.is_dir() {
        return Err(EditError::NoFolder { path: output.to_owned(), folder });
    }
    if is_same_file(path, output) {
        return Err(EditError::SameFile { path: output.to_owned() });
    }
    if !output.exists() {
        return Ok(PreparedConfig { path: output.to_owned(), old: None, text: edited });
    }
    refuse_special(output)?;
    let replaced = read_text(output)
        .and_then(|text| UserConfig::from_text(output, &text, &[]).map(|_| text))
        .map_err(|reason| EditError::NotAConfig { path: output.to_owned(), reason: Box::new(reason) })?;
    prepare_config(&behind_links(output), replaced, edited)
}

/// A new text for where an old one is, if it may be written there.
fn prepare_config(path: &Path, old: String, text: String) -> Result<PreparedConfig, EditError> {
    let failed = |source| EditError::Write { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    if old != text {
        // The superuser may write anything; a protected file is still not meant to be.
        if metadata.permissions().readonly() {
            return Err(EditError::ReadOnly { path: path.to_owned() });
        }
        OpenOptions::new().append(true).open(path).map_err(failed)?;
    }
    Ok(PreparedConfig { path: path.to_owned(), old: Some((old, metadata)), text })
}

/// More copies than this are not looked through for a free name.
const MOST_BACKUPS: usize = 10_000;

/// Copies the original to the first name that is free.
fn keep_copy(path: &Path, metadata: &Metadata, text: &str) -> Result<PathBuf, EditError> {
    let endings = (0..MOST_BACKUPS).map(|index| if index == 0 { ".bak".to_owned() } else { format!(".bak.{index}") });
    for ending in endings {
        let copy = with_ending(path, &ending);
        let failed = |source| EditError::Backup { path: copy.clone(), source };
        match OpenOptions::new().write(true).create_new(true).open(&copy) {
            Err(reason) if reason.kind() == ErrorKind::AlreadyExists => {}
            Err(reason) => return Err(failed(reason)),
            Ok(mut file) => {
                let written = file.write_all(text.as_bytes()).and_then(|()| finish(&file, Some(metadata)));
                written.map_err(|reason| {
                    let _ = fs::remove_file(&copy);
                    failed(reason)
                })?;
                return Ok(copy);
            }
        }
    }
    let source = io::Error::new(ErrorKind::AlreadyExists, format!("there are {MOST_BACKUPS} copies already"));
    Err(EditError::Backup { path: with_ending(path, ".bak"), source })
}

/// Has `write` fill a file beside `path`, waits until the disk has it, and renames it into place.
pub(super) fn replace(
    path: &Path,
    like: Option<&Metadata>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), EditError> {
    let temporary = with_ending(path, &format!(".{}.writing", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        write(&mut file)?;
        finish(&file, like)
    });
    written.and_then(|()| fs::rename(&temporary, path)).map_err(|source| {
        let _ = fs::remove_file(&temporary);
        EditError::Write { path: path.to_owned(), source }
    })?;
    sync_folder(path);
    Ok(())
}

/// Gives a new file the owner and the permissions of the one that it stands for, and waits until the disk has it.
fn finish(file: &File, like: Option<&Metadata>) -> io::Result<()> {
    if let Some(metadata) = like {
        keep_owner(file, metadata);
        file.set_permissions(metadata.permissions())?;
    }
    file.sync_all()
}

/// Only the superuser can give files away; the others keep what they may.
#[cfg(unix)]
fn keep_owner(file: &File, metadata: &Metadata) {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let _ = fchown(file, Some(metadata.uid()), Some(metadata.gid()));
}

#[cfg(not(unix))]
fn keep_owner(_file: &File, _metadata: &Metadata) {}

/// Makes a rename survive a power cut, where the system lets folders be opened. The file is in place whether or not.
fn sync_folder(path: &Path) {
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
}

/// A pipe or a device can be read as a configuration, but not replaced by one.
fn refuse_special(path: &Path) -> Result<(), EditError> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => Err(EditError::SpecialFile { path: path.to_owned() }),
        _ => Ok(()),
    }
}

/// Where a link leads; any other path is kept as the user wrote it, for messages.
fn behind_links(path: &Path) -> PathBuf {
    match path.is_symlink() {
        true => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        false => path.to_owned(),
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or(Path::new(".")).to_owned()
}
