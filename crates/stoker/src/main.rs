//! `stoker`: trains image classifiers at the batch size that the device can take, and predicts.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::Parser as _;
use device::heap::{self, CountingAllocator};
use stoker::cli::Arguments;
use stoker::run::kernel_cache;
use stoker::{commands, crash};

/// Counts what the CPU backend allocates: the measure of the memory plan there.
#[global_allocator]
static HEAP: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    heap::keep_pages();
    // Help ends here with exit code 0, and a wrong flag with 2.
    let arguments = Arguments::parse();
    crash::catch_messages();
    if !arguments.has_own_settings_for_cards() {
        kernel_cache::keep_kernels();
    }
    // Burn reports some failures of a device by panicking: they end as an error, like every other.
    // Inside the pool that computes: what this thread hands out it also works on, and nobody is woken up for what is too small to share.
    let execute = AssertUnwindSafe(|| rayon::scope(|_| commands::execute(arguments.command)));
    let result = panic::catch_unwind(execute);
    match result.unwrap_or_else(|_| Err(crash::as_error())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report();
            error.outcome.into()
        }
    }
}
