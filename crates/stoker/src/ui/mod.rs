//! What the user sees: results on stdout, everything else on stderr.
//!
//! Lines go around a live bar: whoever has something to say calls [`note`] or [`warn`], and need not
//! know whether one is being drawn.

mod meter;
mod progress;

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::LazyLock;

use anstyle::AnsiColor;
use indicatif::MultiProgress;

pub(crate) use meter::{short_number, short_time};
pub use progress::Progress;

use crate::error::CommandError;

/// All live bars, which lines must not run into.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Writes a result to stdout, with a line end. A reader that went away (`| head`) is no error.
///
/// # Errors
/// When stdout cannot be written, because a disk is full for instance.
pub fn out(text: impl Display) -> Result<(), CommandError> {
    let written = BARS.suspend(|| {
        let mut stdout = anstream::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush())
    });
    match written {
        Err(reason) if reason.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::from_run(&reason).in_context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}

/// Tells on stderr what is going on, with a line end.
pub fn note(text: impl Display) {
    BARS.suspend(|| {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    });
}

/// Tells on stderr what is not as it should be and does not stop the work.
pub fn warn(text: impl Display) {
    let style = AnsiColor::Yellow.on_default().bold();
    note(format_args!("{style}warning:{style:#} {text}"));
}
