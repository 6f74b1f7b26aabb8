//! Signals that end or stop a process unless it says otherwise: which of them this one was started to ignore.

use std::mem::MaybeUninit;
use std::ptr;

use libc::c_int;

/// What the system sends when a file grows beyond `ulimit -f`. A process that ignores it gets an error from the write instead, as on a full disk.
pub(super) const FILE_SIZE_LIMIT: c_int = libc::SIGXFSZ;

/// Those that the handler of Ctrl-C catches.
const CAUGHT: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Those of the signals to be caught that are ignored so far: `nohup` sees to that, and so do shells that start a job in the background.
pub(super) fn ignored() -> Vec<c_int> {
    CAUGHT.into_iter().filter(|&signal| is_ignored(signal)).collect()
}

/// Has this process ignore signals, whatever handler they have.
pub(super) fn ignore(signals: &[c_int]) {
    for &signal in signals {
        // SAFETY: to ignore a signal runs no code of this process. It fails for numbers that are no signals alone.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn is_ignored(signal: c_int) -> bool {
    let mut current = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action none is set; the pointer is to memory for the present one.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), current.as_mut_ptr()) };
    // SAFETY: the system has filled it in where it says that it could.
    asked == 0 && unsafe { current.assume_init() }.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_known_from_one_that_is_not() {
        // Nothing in this process has a handler for it, and nobody sends it.
        let signal = libc::SIGUSR2;
        assert!(!is_ignored(signal));
        ignore(&[signal]);
        assert!(is_ignored(signal));
    }
}
