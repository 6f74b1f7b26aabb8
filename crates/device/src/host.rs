//! The memory of the machine, as far as this process may have it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sysinfo::{MemoryRefreshKind, System};
use thiserror::Error;

use crate::cgroup::{self, CgroupMemory};

/// Host memory at this moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMemory {
    /// All there is, or the limit of the container or job if that is less.
    pub total_bytes: u64,
    /// What can be allocated without swapping: free memory, and file cache that the system gives up when asked.
    pub available_bytes: u64,
    /// The limit of the container or job, where it is what makes `total_bytes`.
    pub container_limit_bytes: Option<u64>,
}

impl HostMemory {
    /// Asks the system, and on Linux the control groups of this process (versions 1 and 2). Takes less than a
    /// millisecond.
    ///
    /// # Errors
    /// [`HostMemoryError::Unknown`] where the system does not tell.
    pub fn read() -> Result<Self, HostMemoryError> {
        let mut system = System::new();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        if system.total_memory() == 0 {
            return Err(HostMemoryError::Unknown);
        }
        let machine = Self {
            total_bytes: system.total_memory(),
            available_bytes: system.available_memory(),
            container_limit_bytes: None,
        };
        Ok(machine.within(&cgroup::read_limits(Path::new("/"))))
    }

    fn within(mut self, limits: &[CgroupMemory]) -> Self {
        for limit in limits {
            if limit.limit_bytes < self.total_bytes {
                self.total_bytes = limit.limit_bytes;
                self.container_limit_bytes = Some(limit.limit_bytes);
            }
            let left_bytes = limit.limit_bytes.saturating_sub(limit.used_bytes);
            self.available_bytes = self.available_bytes.min(left_bytes);
        }
        self.available_bytes = self.available_bytes.min(self.total_bytes);
        self
    }
}

/// Why host memory is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HostMemoryError {
    /// The system gives no answer.
    #[error("the system does not tell how much memory it has")]
    Unknown,
}

impl HostMemoryError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some("set `memory.limit: 4GiB`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_memory_and_no_more_free_than_it_has() {
        let memory = HostMemory::read().unwrap();
        assert!(memory.total_bytes > 1 << 24, "{memory:?}");
        assert!((1..=memory.total_bytes).contains(&memory.available_bytes), "{memory:?}");
    }

    #[test]
    fn the_tightest_limit_counts_for_total_and_for_available() {
        let machine = HostMemory { total_bytes: 1000, available_bytes: 900, container_limit_bytes: None };
        let limits = [(5000, 4990), (800, 100), (600, 50)]
            .map(|(limit_bytes, used_bytes)| CgroupMemory { limit_bytes, used_bytes });
        let within = machine.within(&limits);
        assert_eq!(within, HostMemory { total_bytes: 600, available_bytes: 10, container_limit_bytes: Some(600) });
        assert_eq!(machine.within(&[]), machine);
        let unlimited = CgroupMemory { limit_bytes: 9_223_372_036_854_771_712, used_bytes: 700 };
        assert_eq!(machine.within(&[unlimited]), machine);
    }
}
