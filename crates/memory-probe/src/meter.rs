use burn::tensor::Device;
use device::heap;

/// Tells the highest memory use since it was last reset.
pub trait Meter {
    /// Bytes in use now.
    fn current_bytes(&self) -> u64;
    /// The most bytes in use since [`reset`](Self::reset).
    fn peak_bytes(&self) -> u64;
    /// Begins anew.
    fn reset(&self);
    /// Begins anew where that costs nothing; elsewhere the peak goes on from what is held.
    fn reset_without_cost(&self);
}

/// The process's heap: what the CPU backend allocates. Needs [`heap::CountingAllocator`] as the global allocator.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeapMeter;

impl Meter for HeapMeter {
    fn current_bytes(&self) -> u64 {
        heap::current_bytes()
    }

    fn peak_bytes(&self) -> u64 {
        heap::peak_bytes()
    }

    fn reset(&self) {
        heap::reset_peak();
    }

    fn reset_without_cost(&self) {
        self.reset();
    }
}

/// A card's memory pools: what they hold reserved from the driver. They grow until they are cleaned up, so that what is reserved is the peak.
#[derive(Debug, Clone)]
pub struct PoolMeter {
    device: Device,
}

impl PoolMeter {
    /// A meter of `device`'s pools.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone().inner() }
    }
}

impl Meter for PoolMeter {
    fn current_bytes(&self) -> u64 {
        self.device.memory_pool_usage().map_or(0, |usage| usage.bytes_in_use)
    }

    /// Waits for the device.
    fn peak_bytes(&self) -> u64 {
        // A failure here shows again, as an error, where the next value is read.
        let _ = self.device.sync();
        self.device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved)
    }

    fn reset(&self) {
        let _ = self.device.sync();
        self.device.memory_cleanup();
    }

    /// Pages that were given back would have to be reserved again: pools hold what they have grown to.
    fn reset_without_cost(&self) {}
}
