//! The file that is written beside the place that it is for.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the names of files that are being written end in.
const ENDING: &str = ".writing";

/// A file that nobody has written to for so long is of a process that was killed: one that lives writes on within seconds.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// Where a file is written before it takes its place: a name of this process alone, so that another which writes the same file does not write into it.
/// What processes that were killed have left of the same file is removed.
pub(crate) fn begin(path: &Path) -> PathBuf {
    remove_stale(path);
    temporary_path(path)
}

/// The name of [`begin`].
pub(crate) fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(own_ending());
    path.with_file_name(name)
}

/// `.1234.writing`, of process 1234.
fn own_ending() -> String {
    format!(".{}{ENDING}", std::process::id())
}

/// Whether `entry` is, or was, the half of `path` that some process has written.
pub(crate) fn is_half_of(entry: &Path, path: &Path) -> bool {
    let name = |path: &Path| path.file_name().and_then(OsStr::to_str).map(str::to_owned);
    let (Some(entry), Some(file)) = (name(entry), name(path)) else { return false };
    let between = entry.strip_prefix(&file).and_then(|rest| rest.strip_suffix(ENDING));
    // Nothing stands between them in what older versions left.
    between.is_some_and(|process| process.is_empty() || is_number(process.strip_prefix('.').unwrap_or_default()))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Removes what other processes have left half written in `folder`: only right where no other process writes there. What cannot be removed costs space
/// and nothing else.
pub(crate) fn remove_halves(folder: &Path, is_ours: impl Fn(&Path) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(ENDING) && !name.ends_with(&own_ending()) && is_ours(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn remove_stale(path: &Path) {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_stale = |entry: &fs::DirEntry| {
        let changed = entry.metadata().and_then(|metadata| metadata.modified());
        changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|since| since > STALE_AFTER))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_half_of(&entry.path(), path) && is_stale(&entry) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_half_of_a_file_is_known_by_its_name() {
        let path = Path::new("runs/last.safetensors");
        let is_half = |name: &str| is_half_of(&path.with_file_name(name), path);
        assert!(is_half_of(&temporary_path(path), path));
        assert!(is_half("last.safetensors.1.writing") && is_half("last.safetensors.writing"));
        for other in [
            "last.safetensors",
            "best.safetensors.1.writing",
            "last.safetensors.a.writing",
            "last.safetensors..writing",
        ] {
            assert!(!is_half(other), "{other}");
        }
    }

    #[test]
    fn what_a_killed_process_left_goes_with_the_next_file_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [old, young, other] =
            ["rows.csv.1.writing", "rows.csv.2.writing", "notes.csv.1.writing"].map(|name| folder.path().join(name));
        let long_ago = SystemTime::now() - 2 * STALE_AFTER;
        for path in [&old, &young, &other] {
            fs::write(path, "half").unwrap();
        }
        for path in [&old, &other] {
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        begin(&folder.path().join("rows.csv"));
        assert_eq!([old, young, other].map(|path| path.exists()), [false, true, true]);
    }
}
