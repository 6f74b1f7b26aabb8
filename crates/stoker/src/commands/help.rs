//! A bare `stoker`: the help, as a result and not as an error.

use std::io;

use clap::CommandFactory as _;

use crate::cli::Arguments;
use crate::error::CommandError;

pub(crate) fn print() -> Result<(), CommandError> {
    match Arguments::command().print_help() {
        Err(reason) if reason.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::from_run(&reason).in_context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}
