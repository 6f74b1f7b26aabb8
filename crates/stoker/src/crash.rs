//! What a panic looks like to the user: an error like every other, with what there is to report it by.

use std::panic::{self, PanicHookInfo};
use std::sync::Mutex;

use crate::error::CommandError;

/// The first panic: later ones are mostly its consequences in other threads.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// From now on a panic is kept for [`as_error`] instead of being printed; with `RUST_BACKTRACE` set it is printed as well.
pub fn catch_messages() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            print(panic);
        }
        if let Ok(mut first) = FIRST.lock() {
            first.get_or_insert_with(|| describe(panic));
        }
    }));
}

/// Forgets the first panic and returns what it said: the program went on after it.
pub fn forget() -> Option<String> {
    FIRST.lock().ok().and_then(|mut first| first.take())
}

/// The error that stands for the first panic.
pub fn as_error() -> CommandError {
    let first = FIRST.lock().ok().and_then(|first| first.clone());
    let cause = first.unwrap_or_else(|| "no message was left".to_owned());
    CommandError::failed("this program made a mistake, or its device failed")
        .with_causes(vec![cause])
        .with_hint("run it again with `RUST_BACKTRACE=1` and report what it prints; what was saved is whole".to_owned())
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    // Devices add a backtrace in lines of their own.
    let message = panic.payload_as_str().and_then(|message| message.lines().next()).unwrap_or("no message");
    match panic.location() {
        Some(place) => format!("{message}, at {}:{}", place.file(), place.line()),
        None => message.to_owned(),
    }
}
