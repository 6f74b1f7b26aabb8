//! What each command does: its request made whole, the libraries called, the result shown.

mod activations;
mod bench;
mod bench_plans;
mod calibrate;
mod config;
mod evaluate;
mod export;
mod folds;
mod forward;
mod gpu;
mod groups;
mod help;
mod models;
mod plan;
mod predict;
mod scores;
#[cfg(unix)]
mod signals;
mod train;
mod unknown_labels;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::{BenchCommand, Command};
use crate::error::CommandError;
use crate::run::{dry_process, kernel_choice};
use crate::ui;

/// Carries out a command; none shows the help.
///
/// # Errors
/// Whatever stopped the command, ready to be shown.
pub fn execute(command: Option<Command>) -> Result<(), CommandError> {
    // Else `ulimit -f` would end the process in the middle of a file.
    #[cfg(unix)]
    signals::ignore(&[signals::FILE_SIZE_LIMIT]);
    match command {
        None => help::print(),
        Some(Command::Bench(BenchCommand::Memory(arguments))) => bench::memory(&arguments),
        Some(Command::Bench(BenchCommand::Data(arguments))) => bench::data(&arguments),
        Some(Command::Bench(BenchCommand::Step(arguments))) => bench::step(&arguments),
        Some(Command::Bench(BenchCommand::Infer(arguments))) => bench::infer(&arguments),
        Some(Command::Bench(BenchCommand::Kernels(arguments))) => bench::kernels(&arguments),
        Some(Command::Bench(BenchCommand::Activations(arguments))) => activations::print(&arguments),
        Some(Command::ConfigReference) => config::print_reference(),
        Some(Command::ConfigCheck(arguments)) => config::check(&arguments),
        Some(Command::Export(arguments)) => export::export(&arguments),
        Some(Command::Forward(arguments)) => forward::forward(&arguments),
        Some(Command::ConfigGroups(arguments)) => groups::print(&arguments),
        Some(Command::Bench(BenchCommand::Plans(arguments))) => bench_plans::plans(&arguments),
        Some(Command::DryRun) => dry_process::run_here(),
        Some(Command::MeasureKernels) => kernel_choice::measure_here(),
        Some(Command::Models(arguments)) => models::print(&arguments),
        Some(Command::Plan(arguments)) => plan::plan(&arguments),
        Some(Command::Train(arguments)) => train::train(&arguments, &catch_interrupts()?),
        Some(Command::Gpu(arguments)) => gpu::gpu(&arguments, &catch_interrupts()?),
        Some(Command::Calibrate(arguments)) => calibrate::calibrate(&arguments, &catch_interrupts()?),
        Some(Command::Evaluate(arguments)) => evaluate::evaluate(&arguments, &catch_interrupts()?),
        Some(Command::Predict(arguments)) => predict::predict(&arguments, &catch_interrupts()?),
    }
}

/// A flag that Ctrl-C raises, so that the work can be saved first. A second Ctrl-C ends the process at once.
///
/// A terminal that is closed and a request to terminate do the same. What the process was started to ignore stays ignored, as `nohup` has it.
fn catch_interrupts() -> Result<Arc<AtomicBool>, CommandError> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    #[cfg(unix)]
    let ignored = signals::ignored();
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        ui::note("stopping after this step; press Ctrl-C again to stop at once");
    })
    .map_err(|error| CommandError::from_run(&error).in_context("cannot catch Ctrl-C"))?;
    #[cfg(unix)]
    signals::ignore(&ignored);
    Ok(flag)
}

/// A command line that the user can paste, the way this process was started.
pub(crate) fn next_step(arguments: &str) -> String {
    match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(_) => format!("cargo run --release -- {arguments}"),
        None => format!("stoker {arguments}"),
    }
}

/// The date in UTC, as folders are named.
fn today() -> String {
    time::OffsetDateTime::now_utc().date().to_string()
}
