//! From the device asked for to the device that Burn computes on, and what memory it has.

use std::cell::Cell;

use burn::tensor::Device;
use device::{CardCatalogue, CompiledBackends, DeviceRequest, HostMemory, SelectedDevice, heap};
use memory_planner::{Budget, BudgetRequest, Checkpointing, MemoryReading, Tier};
use memory_probe::{HeapMeter, Meter, PoolMeter};
use trainer::{MemoryGauge, MemoryLap};

use crate::error::CommandError;
use crate::ui;

/// Any card that wgpu finds, Mesa's software Vulkan among them: for tests and benchmarks.
#[cfg(feature = "wgpu")]
pub(crate) fn wgpu() -> Device {
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}

/// Where a command computes.
pub(crate) struct Compute {
    /// What was selected.
    pub(crate) selected: SelectedDevice,
    /// Burn's device, off the tape.
    pub(crate) device: Device,
}

impl Compute {
    /// Selects the device; says on stderr when `auto` did not find what might be hoped for.
    pub(crate) fn select(request: DeviceRequest) -> Result<Self, CommandError> {
        let compiled = CompiledBackends { cuda: cfg!(feature = "cuda") };
        let selection = device::select(request, compiled)
            .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
        if let Some(note) = selection.note {
            ui::note(format_args!("note: {note}"));
        }
        let device = burn_device(&selection.device);
        Ok(Self { selected: selection.device, device })
    }

    /// Whether tensors lie in this process's memory.
    pub(crate) fn is_cpu(&self) -> bool {
        matches!(self.selected, SelectedDevice::Cpu { .. })
    }

    /// All memory of the device.
    pub(crate) fn total_bytes(&self) -> Result<u64, CommandError> {
        Ok(self.budget(&BudgetRequest::default())?.total_bytes)
    }

    /// What the driver says is taken of a card by anyone; none on the CPU, or where it says nothing.
    pub(crate) fn used_bytes(&self) -> Option<u64> {
        match &self.selected {
            SelectedDevice::Cpu { .. } => None,
            SelectedDevice::Cuda(card) => {
                let memory = card.read_memory().ok()?;
                Some(memory.total_bytes.saturating_sub(memory.free_bytes))
            }
        }
    }

    /// The device with a tape, for training.
    pub(crate) fn tracked(&self, checkpointing: Checkpointing) -> Device {
        tracked(&self.device, checkpointing)
    }

    /// What measures memory here.
    pub(crate) fn meter(&self) -> Box<dyn Meter> {
        match self.selected {
            SelectedDevice::Cpu { .. } => Box::new(HeapMeter),
            SelectedDevice::Cuda(_) => Box::new(PoolMeter::new(&self.device)),
        }
    }

    /// Threads that load images when the user leaves it open: on the CPU half the cores, for the model wants them too.
    pub(crate) fn default_workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self.selected {
            SelectedDevice::Cpu { .. } => cores.div_ceil(2),
            SelectedDevice::Cuda(_) => cores.min(16),
        }
    }

    /// What a run may take here.
    pub(crate) fn budget(&self, request: &BudgetRequest) -> Result<Budget, CommandError> {
        let budget = match &self.selected {
            SelectedDevice::Cpu { .. } => {
                let host =
                    HostMemory::read().map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
                let reading = MemoryReading {
                    total_bytes: host.total_bytes,
                    free_bytes: host.available_bytes,
                    own_bytes: heap::current_bytes(),
                };
                Budget::for_host(reading, request)
            }
            SelectedDevice::Cuda(card) => {
                let memory =
                    card.read_memory().map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
                let own_bytes = self.meter().peak_bytes();
                let reading =
                    MemoryReading { total_bytes: memory.total_bytes, free_bytes: memory.free_bytes, own_bytes };
                let known = CardCatalogue::embedded().match_driver_name(&card.name, card.total_bytes);
                let tier = known
                    .map_or_else(|| Tier::of_unknown_card(card.total_bytes, card.compute_capability), |card| card.tier);
                Budget::for_card(reading, tier, request)
            }
        };
        budget.map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))
    }
}

/// A device with the tape that a way of checkpointing wants.
pub(crate) fn tracked(device: &Device, checkpointing: Checkpointing) -> Device {
    let device = device.clone().autodiff();
    match checkpointing {
        Checkpointing::None | Checkpointing::Segments => device,
        Checkpointing::Balanced => device.gradient_checkpointing(),
    }
}

/// Tells the trainer how much memory is used.
pub(crate) struct Gauge {
    meter: Box<dyn Meter>,
    /// The highest peak of the laps before this one.
    earlier_peak_bytes: Cell<u64>,
    allowed_bytes: u64,
}

impl Gauge {
    /// A gauge that measures from now on, for a run that may take so much.
    pub(crate) fn start(meter: Box<dyn Meter>, allowed_bytes: u64) -> Self {
        meter.reset();
        Self { meter, earlier_peak_bytes: Cell::new(0), allowed_bytes }
    }

    /// The most so far.
    pub(crate) fn highest_peak_bytes(&self) -> u64 {
        self.meter.peak_bytes().max(self.earlier_peak_bytes.get())
    }
}

impl MemoryGauge for Gauge {
    fn peak_bytes(&self) -> Option<u64> {
        Some(self.highest_peak_bytes())
    }

    fn begin_lap(&self) {
        self.earlier_peak_bytes.set(self.highest_peak_bytes());
        self.meter.reset();
    }

    fn lap(&self) -> Option<MemoryLap> {
        Some(MemoryLap {
            peak_bytes: self.meter.peak_bytes(),
            resting_bytes: self.meter.current_bytes(),
            allowed_bytes: self.allowed_bytes,
        })
    }
}

fn burn_device(selected: &SelectedDevice) -> Device {
    match selected {
        SelectedDevice::Cpu { .. } => Device::flex(),
        #[cfg(feature = "cuda")]
        SelectedDevice::Cuda(card) => Device::cuda(card.index),
        #[cfg(not(feature = "cuda"))]
        SelectedDevice::Cuda(_) => unreachable!("a build without CUDA selects no card"),
    }
}
