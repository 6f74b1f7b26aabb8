//! The cards that the driver knows, and the CPU.

use std::num::NonZero;

use device::{CardCatalogue, CompiledBackends, CudaDevice, DeviceRequest, HostMemory, SelectedDevice, probe_cuda};
use memory_planner::{Budget, BudgetRequest, MemoryReading, Tier, format_bytes};

use crate::config::Precision;
use crate::error::CommandError;
use crate::run::kernel_cache::kernel_file;
use crate::run::precision::{Arithmetic, Precisions};
use crate::ui;

/// A device in a table: cells as they are printed.
struct Row {
    device: String,
    name: String,
    memory: String,
    free: String,
    compute: String,
    precision: String,
    /// What `--detailed` adds, a line each.
    details: Vec<String>,
}

/// Prints a row a device, and which of them stoker takes when nobody says.
pub(super) fn list(detailed: bool) -> Result<(), CommandError> {
    let (cards, driver) = match probe_cuda() {
        Ok(driver) => {
            let (major, minor) = driver.version;
            (driver.devices, format!("driver for CUDA {major}.{minor}"))
        }
        Err(unavailable) => (Vec::new(), format!("no card: {unavailable}")),
    };
    let mut rows = cards.iter().map(of_card).collect::<Result<Vec<_>, CommandError>>()?;
    rows.push(of_cpu()?);
    ui::out(line(["device", "name", "memory", "free", "compute", "precision"].map(str::to_owned)))?;
    for row in rows {
        ui::out(line([row.device, row.name, row.memory, row.free, row.compute, row.precision]))?;
        if detailed {
            row.details.iter().try_for_each(|detail| ui::out(format_args!("{:<10}{detail}", "")))?;
        }
    }
    if detailed && !cards.is_empty() {
        let (path, bytes) = kernel_file();
        let size = bytes.map_or_else(|| "not there yet".to_owned(), format_bytes);
        ui::out(format_args!("{:<10}kernels of cards are kept in {}, {size}", "", path.display()))?;
    }
    let selection = device::select(DeviceRequest::Auto, CompiledBackends { cuda: cfg!(feature = "cuda") });
    let selection = selection.map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    // On the CPU the note says what keeps stoker from a card; without one the driver's words are the same.
    let reason = selection.note.filter(|_| !cards.is_empty()).unwrap_or(driver);
    ui::out(format_args!("\nstoker takes {} ({reason})", selection.device.request()))
}

fn line([device, name, memory, free, compute, precision]: [String; 6]) -> String {
    format!("{device:<9} {name:<32} {memory:>10} {free:>10}  {compute:<8} {precision}")
}

fn of_card(card: &CudaDevice) -> Result<Row, CommandError> {
    let memory = card.read_memory().ok();
    let known = CardCatalogue::embedded().match_driver_name(&card.name, card.total_bytes);
    let tier = known.map_or_else(|| Tier::of_unknown_card(card.total_bytes, card.compute_capability), |card| card.tier);
    let (major, minor) = card.compute_capability;
    let mut details = vec![match known {
        Some(known) => format!("in the catalogue as `{}`: {} GB/s of memory bandwidth", known.name, known.bandwidth),
        None => "not in the catalogue: its tier follows from memory and compute capability".to_owned(),
    }];
    details.push(format!("a margin of {:.0} % of free memory is left alone", tier.margin_share() * 100.0));
    if let Some(memory) = memory {
        let reading = MemoryReading { total_bytes: memory.total_bytes, free_bytes: memory.free_bytes, own_bytes: 0 };
        details.push(budget_line(Budget::for_card(reading, tier, &BudgetRequest::default())));
    }
    Ok(Row {
        device: format!("cuda:{}", card.index),
        name: card.name.clone(),
        memory: format_bytes(card.total_bytes),
        free: memory.map_or_else(|| "unknown".to_owned(), |memory| format_bytes(memory.free_bytes)),
        compute: format!("{major}.{minor}"),
        precision: precision(Arithmetic::Card(card.compute_capability), &card.name)?,
        details,
    })
}

fn of_cpu() -> Result<Row, CommandError> {
    let host = HostMemory::read().map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let reading = MemoryReading { total_bytes: host.total_bytes, free_bytes: host.available_bytes, own_bytes: 0 };
    let details = vec![
        format!("images are loaded by {} of its threads", threads.div_ceil(2)),
        budget_line(Budget::for_host(reading, &BudgetRequest::default())),
    ];
    Ok(Row {
        device: "cpu".to_owned(),
        name: SelectedDevice::Cpu { threads }.describe().replacen("cpu, ", "", 1),
        memory: format_bytes(host.total_bytes),
        free: format_bytes(host.available_bytes),
        compute: "-".to_owned(),
        precision: precision(Arithmetic::Cpu, "the CPU")?,
        details,
    })
}

/// What stoker computes in there when nobody says.
fn precision(arithmetic: Arithmetic, name: &str) -> Result<String, CommandError> {
    Ok(Precisions::choose("predict.precision", Precision::Auto, arithmetic, name)?.first.to_string())
}

fn budget_line(budget: Result<Budget, memory_planner::BudgetError>) -> String {
    match budget {
        Ok(budget) => format!("a run may take {}: {}", format_bytes(budget.budget_bytes), budget.reason),
        Err(error) => format!("a run may take nothing: {error}"),
    }
}
