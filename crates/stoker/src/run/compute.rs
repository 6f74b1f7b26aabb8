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
    /// What was measured before the meter was last reset.
    earlier: Cell<Peaks>,
    allowed_bytes: u64,
}

/// The most that was held, bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Peaks {
    run: u64,
    /// Since the micro-batch last changed.
    lap: u64,
    /// Training or validation of one epoch.
    stretch: u64,
}

impl Gauge {
    /// A gauge that measures from now on, for a run that may take so much.
    pub(crate) fn start(meter: Box<dyn Meter>, allowed_bytes: u64) -> Self {
        meter.reset();
        Self { meter, earlier: Cell::default(), allowed_bytes }
    }

    /// The most so far.
    pub(crate) fn highest_peak_bytes(&self) -> u64 {
        self.peaks().run
    }

    fn peaks(&self) -> Peaks {
        let Peaks { run, lap, stretch } = self.earlier.get();
        let held = self.meter.peak_bytes();
        Peaks { run: run.max(held), lap: lap.max(held), stretch: stretch.max(held) }
    }
}

impl MemoryGauge for Gauge {
    fn peak_bytes(&self) -> Option<u64> {
        Some(self.highest_peak_bytes())
    }

    fn begin_lap(&self) {
        self.earlier.set(Peaks { lap: 0, ..self.peaks() });
        self.meter.reset();
    }

    fn lap(&self) -> Option<MemoryLap> {
        Some(MemoryLap {
            peak_bytes: self.peaks().lap,
            resting_bytes: self.meter.current_bytes(),
            allowed_bytes: self.allowed_bytes,
        })
    }

    fn end_stretch(&self) -> Option<u64> {
        let peaks = self.peaks();
        self.earlier.set(Peaks { stretch: 0, ..peaks });
        self.meter.reset_without_cost();
        Some(peaks.stretch)
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// What is held when nothing is done.
    const RESTING: u64 = 5;

    /// A meter whose peak a test sets.
    #[derive(Clone, Default)]
    struct Held {
        peak: Rc<Cell<u64>>,
        /// Whether only a full reset lets the peak begin anew.
        is_of_pools: bool,
    }

    impl Meter for Held {
        fn current_bytes(&self) -> u64 {
            RESTING
        }

        fn peak_bytes(&self) -> u64 {
            self.peak.get()
        }

        fn reset(&self) {
            self.peak.set(RESTING);
        }

        fn reset_without_cost(&self) {
            if !self.is_of_pools {
                self.reset();
            }
        }
    }

    fn lap_peak(gauge: &Gauge) -> u64 {
        gauge.lap().expect("a gauge measures").peak_bytes
    }

    #[test]
    fn a_stretch_tells_of_itself_and_the_run_of_all_stretches() {
        let held = Held::default();
        let gauge = Gauge::start(Box::new(held.clone()), 100);
        held.peak.set(90);
        assert_eq!(gauge.end_stretch(), Some(90));
        held.peak.set(40);
        assert_eq!(gauge.end_stretch(), Some(40));
        assert_eq!(gauge.end_stretch(), Some(RESTING));
        assert_eq!((gauge.peak_bytes(), lap_peak(&gauge)), (Some(90), 90));
    }

    #[test]
    fn a_lap_ends_no_stretch() {
        let held = Held::default();
        let gauge = Gauge::start(Box::new(held.clone()), 100);
        held.peak.set(60);
        gauge.begin_lap();
        held.peak.set(30);
        assert_eq!(lap_peak(&gauge), 30);
        assert_eq!(gauge.end_stretch(), Some(60));
        assert_eq!((gauge.peak_bytes(), lap_peak(&gauge)), (Some(60), 30));
    }

    #[test]
    fn pools_hold_in_the_next_stretch_what_they_have_grown_to() {
        let held = Held { is_of_pools: true, ..Held::default() };
        let gauge = Gauge::start(Box::new(held.clone()), 100);
        held.peak.set(90);
        assert_eq!([gauge.end_stretch(), gauge.end_stretch()], [Some(90); 2]);
        gauge.begin_lap();
        gauge.end_stretch();
        assert_eq!((gauge.end_stretch(), gauge.peak_bytes()), (Some(RESTING), Some(90)));
    }
}
