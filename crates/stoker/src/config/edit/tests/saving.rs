//! What is on disk after a change, and after one that fails.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

const TEXT: &str = "data:\n  train: images # mine\n";

/// A folder with a configuration in it.
struct Stage {
    folder: TempDir,
    path: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("mine.yaml");
        fs::write(&path, TEXT).expect("writable");
        Self { folder, path }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).expect("readable")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("readable");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn assert_untouched(&self) {
        assert_eq!(self.names(), ["mine.yaml"]);
        assert_eq!(self.read("mine.yaml"), TEXT);
    }
}

fn epochs(count: u64) -> [Edit; 1] {
    [Edit::new("train.epochs", count)]
}

#[test]
fn the_original_is_kept_beside_the_change_and_no_older_copy_is_lost() {
    let stage = Stage::new();
    for (count, backup) in [(3, "mine.yaml.bak"), (4, "mine.yaml.bak.1"), (5, "mine.yaml.bak.2")] {
        let before = stage.read("mine.yaml");
        let saved = save_in_place(&stage.path, &epochs(count)).expect("writable");
        assert_eq!(saved, SavedConfig { path: stage.path.clone(), backup: Some(stage.at(backup)) });
        assert_eq!(stage.read(backup), before);
        assert_eq!(UserConfig::load(&stage.path, &[]).expect("valid").train.epochs as u64, count);
    }
    assert_eq!(stage.read("mine.yaml.bak"), TEXT);
    assert_eq!(stage.names(), ["mine.yaml", "mine.yaml.bak", "mine.yaml.bak.1", "mine.yaml.bak.2"]);
}

#[test]
fn values_that_are_there_already_write_nothing() {
    let stage = Stage::new();
    let saved = save_in_place(&stage.path, &[Edit::new("data.train", "images")]).expect("nothing to do");
    assert_eq!(saved.backup, None);
    stage.assert_untouched();
}

#[test]
fn a_change_that_is_refused_writes_nothing() {
    let stage = Stage::new();
    save_in_place(&stage.path, &epochs(0)).expect_err("no epochs");
    save_as(&stage.path, &stage.at("other.yaml"), &epochs(0)).expect_err("no epochs");
    stage.assert_untouched();
}

#[test]
fn a_copy_goes_to_a_new_file_and_leaves_the_configuration() {
    let stage = Stage::new();
    let output = stage.at("planned.yaml");
    let saved = save_as(&stage.path, &output, &epochs(3)).expect("writable");
    assert_eq!(saved, SavedConfig { path: output.clone(), backup: None });
    assert_eq!(stage.read("mine.yaml"), TEXT);
    assert_eq!(stage.read("planned.yaml"), format!("{TEXT}train:\n  epochs: 3\n"));
    let saved = save_as(&stage.path, &output, &epochs(4)).expect("a configuration may be replaced");
    assert_eq!(saved.backup, Some(stage.at("planned.yaml.bak")));
    assert_eq!(save_as(&stage.path, &output, &epochs(4)).expect("nothing to do").backup, None);
    assert_eq!(stage.names(), ["mine.yaml", "planned.yaml", "planned.yaml.bak"]);
}

#[test]
fn a_copy_does_not_replace_what_is_no_configuration() {
    let stage = Stage::new();
    fs::write(stage.at("classes.txt"), "cat\ndog\n").expect("writable");
    let refused = |output: &Path| {
        let error = save_as(&stage.path, output, &epochs(3)).expect_err("not a place for a copy");
        assert!(error.hint().is_some(), "{error}");
        error
    };
    assert!(matches!(refused(&stage.at("classes.txt")), EditError::NotAConfig { .. }));
    assert!(matches!(refused(stage.folder.path()), EditError::Folder { .. }));
    assert!(matches!(refused(&stage.at("none/mine.yaml")), EditError::NoFolder { .. }));
    assert!(matches!(refused(&stage.path), EditError::SameFile { .. }));
    assert!(matches!(refused(&stage.folder.path().join("./mine.yaml")), EditError::SameFile { .. }));
    assert_eq!(stage.read("classes.txt"), "cat\ndog\n");
    assert_eq!(stage.names(), ["classes.txt", "mine.yaml"]);
}

#[test]
fn missing_files_and_folders_are_refused_as_everywhere() {
    let stage = Stage::new();
    let missing = save_in_place(&stage.at("other.yaml"), &epochs(3)).expect_err("missing");
    assert!(matches!(missing, EditError::Config(crate::config::ConfigError::Missing { .. })));
    let folder = save_in_place(stage.folder.path(), &epochs(3)).expect_err("a folder");
    assert!(matches!(folder, EditError::Config(crate::config::ConfigError::Folder { .. })));
    stage.assert_untouched();
}

#[test]
fn a_write_protected_file_is_left_alone() {
    let stage = Stage::new();
    let mut permissions = fs::metadata(&stage.path).expect("there").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&stage.path, permissions).expect("ours");
    let error = save_in_place(&stage.path, &epochs(3)).expect_err("protected");
    assert!(matches!(error, EditError::ReadOnly { .. }));
    assert!(error.hint().is_some_and(|hint| hint.contains("chmod u+w") && hint.contains("--save-config")));
    stage.assert_untouched();
}

#[test]
fn a_disk_that_fills_up_leaves_nothing_half_written() {
    let stage = Stage::new();
    let error = save::replace(&stage.path, None, |file| {
        file.write_all(b"data:")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    let error = error.expect_err("full");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("free some space there (`df -h")));
    stage.assert_untouched();
}

#[cfg(unix)]
mod on_unix {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn permissions_are_kept() {
        let stage = Stage::new();
        fs::set_permissions(&stage.path, fs::Permissions::from_mode(0o640)).expect("ours");
        save_in_place(&stage.path, &epochs(3)).expect("writable");
        for name in ["mine.yaml", "mine.yaml.bak"] {
            let mode = fs::metadata(stage.at(name)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{name}");
        }
    }

    #[test]
    fn a_link_stays_a_link_and_what_it_leads_to_is_changed() {
        let stage = Stage::new();
        fs::create_dir(stage.at("links")).expect("writable");
        let link = stage.at("links/current.yaml");
        symlink("../mine.yaml", &link).expect("writable");
        let saved = save_in_place(&link, &epochs(3)).expect("writable");
        assert!(link.is_symlink());
        assert_eq!(fs::canonicalize(&saved.path).expect("there"), fs::canonicalize(&stage.path).expect("there"));
        assert_eq!(stage.read("mine.yaml"), format!("{TEXT}train:\n  epochs: 3\n"));
        assert_eq!(stage.read("mine.yaml.bak"), TEXT);
        assert_eq!(fs::read_dir(stage.at("links")).expect("readable").count(), 1);
        assert!(matches!(save_as(&stage.path, &link, &epochs(4)), Err(EditError::SameFile { .. })));
    }

    #[test]
    fn a_device_is_no_place_for_a_configuration() {
        let stage = Stage::new();
        let error = save_as(&stage.path, Path::new("/dev/null"), &epochs(3)).expect_err("a device");
        assert!(matches!(error, EditError::SpecialFile { .. }), "{error}");
        assert!(matches!(save_in_place(Path::new("/dev/null"), &epochs(3)), Err(EditError::SpecialFile { .. })));
    }

    #[test]
    fn a_copy_that_cannot_be_made_stops_the_change() {
        let stage = Stage::new();
        // The longest name that file systems take has 255 bytes: the configuration fits, and its copy does not.
        let path = stage.at(&format!("{}.yaml", "x".repeat(248)));
        fs::rename(&stage.path, &path).expect("writable");
        let error = save_in_place(&path, &epochs(3)).expect_err("the name of the copy is too long");
        assert!(matches!(error, EditError::Backup { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("there"), TEXT);
        assert_eq!(stage.names().len(), 1);
    }
}
