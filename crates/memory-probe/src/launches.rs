//! Launches of a step, counted in a dry run: CubeCL writes the name of each kernel that it launches into its log.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::cubecl::config::profiling::ProfilingLogLevel;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn::cubecl::dry_run::DryRun;
use burn::tensor::{Device, Distribution, Tensor};
use vision_nn::{Classifier, is_card};

use crate::StepRequest;
use crate::rehearsal::{NoPrompter, Rehearsal};

/// What stands before the name of a kernel in the log (`cubecl-runtime` 0.11.0-pre.3, `logging/server.rs`).
const LAUNCH: &str = "Executing ";

/// Another thread writes the log. A mark that is not in it by then will not come.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why launches were not counted.
#[derive(Debug, thiserror::Error)]
pub enum LaunchesError {
    /// CubeCL reads its settings once.
    #[error("launches can be counted only where no device was used, and no settings of CubeCL made, before")]
    TooLate,
    /// The log cannot be read.
    #[error("the log of launches at `{}` cannot be read", path.display())]
    Log {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The device launches no kernels of CubeCL, or does not say so.
    #[error("the device is no card")]
    Silent,
    /// The step does not fit the device.
    #[error("the device cannot hold the step")]
    Failed,
}

impl LaunchesError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Silent => Some("ask for a card: `--device cuda:0`".to_owned()),
            Self::Failed => Some("ask for a smaller batch: launches do not depend on it".to_owned()),
            Self::TooLate | Self::Log { .. } => None,
        }
    }
}

/// A log that CubeCL writes the names of all launched kernels to. It makes each launch a little slower, for as long as the process runs.
#[derive(Debug)]
pub struct LaunchLog {
    path: PathBuf,
}

impl LaunchLog {
    /// Has the log written to a file in `folder`, under settings that are as `config` says otherwise.
    ///
    /// # Errors
    /// When CubeCL has its settings already, as from the first device on that was used.
    pub fn open(folder: &Path, mut config: CubeClRuntimeConfig) -> Result<Self, LaunchesError> {
        let path = folder.join("launches.log");
        config.profiling.logger.level = ProfilingLogLevel::Minimal;
        config.profiling.logger.file = Some(path.clone());
        match CubeClRuntimeConfig::try_set(config) {
            true => Ok(Self { path }),
            false => Err(LaunchesError::TooLate),
        }
    }

    /// Launches of one optimizer step over a batch, by the kernel's name; nothing is computed but what tuning computes before. Within
    /// [`in_burns_operations`](vision_nn::in_burns_operations) they are those of a step that is composed of Burn's own operations.
    ///
    /// # Errors
    /// When there is no log, or the device cannot hold the step.
    pub fn of_step<M: Classifier>(
        &self,
        request: &StepRequest,
        batch: usize,
        device: &Device,
        build: &dyn Fn(&Device) -> M,
    ) -> Result<BTreeMap<String, usize>, LaunchesError> {
        if !is_card(device) {
            return Err(LaunchesError::Silent);
        }
        let dry = DryRun::new();
        let mut rehearsal = Rehearsal::new(request, device, build);
        // The first step makes the optimizer's state, and tunes.
        for _ in 0..2 {
            rehearsal.run(batch, &mut NoPrompter);
            device.sync().map_err(|_| LaunchesError::Failed)?;
        }
        let before = self.marked(device)?;
        rehearsal.run(batch, &mut NoPrompter);
        device.sync().map_err(|_| LaunchesError::Failed)?;
        let after = self.marked(device)?;
        drop((rehearsal, dry));
        device.memory_cleanup();
        let mut launches = BTreeMap::new();
        for name in &after[before.len()..] {
            *launches.entry(name.clone()).or_default() += 1;
        }
        // The mark at the end.
        launches.retain(|name, _| !is_mark(name));
        Ok(launches)
    }

    /// All launches so far. They are in the log once a launch after them is, for it is written in order.
    fn marked(&self, device: &Device) -> Result<Vec<String>, LaunchesError> {
        let marks = self.names()?.iter().filter(|name| is_mark(name)).count();
        let start = Instant::now();
        drop(Tensor::<1>::random([1], Distribution::Default, device));
        device.sync().map_err(|_| LaunchesError::Failed)?;
        loop {
            let names = self.names()?;
            if names.iter().filter(|name| is_mark(name)).count() > marks {
                return Ok(names);
            }
            if start.elapsed() > LONGEST_WAIT {
                return Err(LaunchesError::Silent);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn names(&self) -> Result<Vec<String>, LaunchesError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.strip_prefix(LAUNCH)).map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(LaunchesError::Log { path: self.path.clone(), source }),
        }
    }
}

/// Whether a kernel draws random numbers, which no step does: drop path and dropout draw on the host.
fn is_mark(name: &str) -> bool {
    name.contains("Prng") || name.contains("prng")
}
