//! No space while a run saves.

use std::fs;
use std::time::Duration;

use crate::stage::{Ended, RUN, Stage, leftovers, undisturbed_end};

/// More than `best` and less than `last` takes, in the units of `ulimit -f`: 512 bytes by POSIX, 1024 in some shells. So the second
/// checkpoint of the first epoch does not fit.
const FILE_SIZE_LIMIT: u32 = 40_000;

/// Runs `stoker` so that no file may become larger than `limit` units of `ulimit -f`.
pub(crate) fn run_limited(stage: &Stage, arguments: &str, limit: u32) -> Ended {
    stage.run_after(&format!("ulimit -f {limit}"), arguments)
}

/// `room` is what gives it room, in the folder of the run.
fn assert_tells_to_make_room(stage: &Stage, ended: &Ended, file: &str, reason: &str, room: &str) {
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let run = stage.run_folder();
    let said = format!(
        "error: cannot write `{run}/{file}`\n  caused by: {reason}\n\n\
         hint: {room}, then go on with `stoker train --resume {run}`; what was saved before is whole\n"
    );
    assert!(ended.stderr.ends_with(&said), "{}", ended.stderr);
    assert_eq!(leftovers(&stage.path("runs")), [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_checkpoint_that_outgrows_a_limit_costs_nothing_that_was_saved() {
    let stage = Stage::new();
    let ended = run_limited(&stage, "train --config tiny.yaml", FILE_SIZE_LIMIT);
    let (reason, room) =
        ("File too large (os error 27)", "lift the limit on the size of a file (`ulimit -f unlimited`)");
    assert_tells_to_make_room(&stage, &ended, "checkpoints/last.safetensors", reason, room);
    stage.succeed(&format!("predict --run {RUN} --input data/test --output all.csv"));
    stage.succeed(&format!("train --resume {RUN}"));
    stage.end().assert_is(undisturbed_end());
}

/// A file that is being written is a link to a device that is always full: the next attempt to save it fails as on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_nothing_that_was_saved() {
    let stage = Stage::new();
    let mut running = stage.start("train --config tiny.yaml");
    running.wait_for_epoch_after(1, Duration::ZERO);
    running.kill();
    let saved = |name: &str| fs::read(stage.run_path(name)).expect("an epoch was saved");
    let before = saved("checkpoints/last.safetensors");
    for file in ["curves.svg", "checkpoints/last.safetensors"] {
        let full = format!("ln -s /dev/full {RUN}/{file}.$$.writing");
        let ended = stage.run_after(&full, &format!("train --resume {RUN}"));
        let room = format!("free some space there (`df -h {}`)", stage.run_folder());
        assert_tells_to_make_room(&stage, &ended, file, "No space left on device (os error 28)", &room);
        assert!(saved("checkpoints/last.safetensors") == before, "`last` was touched");
    }
    for checkpoint in ["best", "last"] {
        stage.succeed(&format!("predict --run {RUN} --checkpoint {checkpoint} --input data/test --output all.csv"));
    }
    stage.succeed(&format!("train --resume {RUN}"));
    stage.end().assert_is(undisturbed_end());
}
