//! The run folder, which one process has at a time.

use checkpoint::{RunFolder, RunLock};

use super::checkpoint_request;
use crate::error::CommandError;
use crate::ui;

/// A run folder and the lock that keeps other processes from training there for as long as it lives.
pub(super) type Held = (RunFolder, RunLock);

/// Holds the folder of a run that is gone on with. Refused where another process trains in it.
pub(super) fn hold(folder: RunFolder) -> Result<Held, CommandError> {
    let lock = folder.hold().map_err(|error| checkpoint_request(&error))?;
    tell_refusal(&folder, &lock);
    Ok((folder, lock))
}

/// Tells where the file system has no locks: the run goes on as it would with one, and nothing keeps a second process out.
pub(super) fn tell_refusal(folder: &RunFolder, lock: &RunLock) {
    if let Some(reason) = lock.refusal() {
        let run = folder.root().display();
        ui::note(format_args!(
            "note: `{run}` cannot be locked ({reason}): see to it that no other process trains there"
        ));
    }
}
