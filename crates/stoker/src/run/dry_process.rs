//! Dry runs in a process of their own: tuning kernels computes for real, and what it takes or breaks goes with the process.
//!
//! The job goes in as JSON on the standard input of `stoker dry-run`, a command that the help does not show, and the footprint comes back as JSON on its
//! standard output. `STOKER_INJECT_DRY_RUN_CRASH`, when it is set, ends that process as a crash of the driver would: a testing aid.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use burn::tensor::Device;
use device::SelectedDevice;
use memory_planner::{Footprint, PlanRequest, Rung};
use memory_probe::{DryRunTask, PoolLayout, dry_run_footprint};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vision_nn::choice::{Site, Way, set_choice, sites_of_burn};

use crate::cli::BenchDevice;
use crate::config::UserConfig;
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::kernel_cache;
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::Subject;
use crate::ui;

/// The command's name.
pub(crate) const COMMAND: &str = "dry-run";

const CRASH: &str = "STOKER_INJECT_DRY_RUN_CRASH";

/// The end of what a failed process said is shown, up to so many characters.
const SHOWN_OF_ERRORS: usize = 300;

/// A step to run dry, and for what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    /// The configuration, as text.
    pub(crate) config: String,
    /// `cuda:0`; `wgpu` where that is compiled.
    pub(crate) device: String,
    pub(crate) num_classes: usize,
    pub(crate) train_samples: Option<usize>,
    pub(crate) rung: Rung,
    /// Whether it is no step but the forward pass of a prediction.
    #[serde(default)]
    pub(crate) predicts: bool,
    /// The sites at which Burn's own operations run.
    #[serde(default)]
    pub(crate) burns: Vec<String>,
    /// Bytes of a page and of a small page, where the memory is not cut CubeCL's way.
    pub(crate) pages: Option<[u64; 2]>,
    pub(crate) budget_bytes: u64,
    pub(crate) request: PlanRequest,
    /// What the recorded step says, where it is at hand.
    #[serde(default)]
    pub(crate) expected: Option<Footprint>,
}

/// Why a process came back without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DryProcessError {
    /// It did not start, or could not be talked to.
    #[error("it could not be run")]
    Run {
        /// Why.
        #[from]
        source: std::io::Error,
    },
    /// It ended badly.
    #[error("it ended with {status}{said}")]
    Failed {
        /// How.
        status: ExitStatus,
        /// The end of what it wrote to the standard error.
        said: String,
    },
    /// It answered something else.
    #[error("its answer cannot be read")]
    Answer {
        /// Why.
        source: serde_json::Error,
    },
}

impl Job {
    /// The job of planning `subject` on `device`, within `budget_bytes`.
    pub(crate) fn of(
        subject: &Subject<'_>,
        device: &SelectedDevice,
        rung: Rung,
        layout: PoolLayout,
        (budget_bytes, request): (u64, &PlanRequest),
    ) -> Self {
        let pages = match layout {
            PoolLayout::Runtime => None,
            PoolLayout::Pages { page_bytes, small_page_bytes } => Some([page_bytes, small_page_bytes]),
        };
        Self {
            config: subject.resolved.config.to_yaml(),
            device: device.request().to_string(),
            num_classes: subject.num_classes,
            train_samples: subject.train_samples,
            rung,
            predicts: false,
            burns: sites_of_burn().iter().map(Site::to_string).collect(),
            pages,
            budget_bytes,
            request: request.clone(),
            expected: None,
        }
    }

    /// With the footprint of the recorded step, by which most sizes need not be run.
    #[must_use]
    pub(crate) fn expecting(self, expected: Option<Footprint>) -> Self {
        Self { expected, ..self }
    }

    /// The forward pass alone.
    #[must_use]
    pub(crate) fn of_prediction(self) -> Self {
        Self { predicts: true, ..self }
    }

    fn layout(&self) -> PoolLayout {
        self.pages.map_or(PoolLayout::Runtime, |[page_bytes, small_page_bytes]| PoolLayout::Pages {
            page_bytes,
            small_page_bytes,
        })
    }
}

/// Has `executable`, which is stoker, run the job.
pub(crate) fn run_elsewhere(executable: &Path, job: &Job) -> Result<Footprint, DryProcessError> {
    answer_elsewhere(executable, COMMAND, job)
}

/// Has `executable`, which is stoker, carry out one of the commands that the help does not show.
pub(crate) fn answer_elsewhere<J: Serialize, A: DeserializeOwned>(
    executable: &Path,
    command: &str,
    job: &J,
) -> Result<A, DryProcessError> {
    let mut process = Command::new(executable);
    process.arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn()?;
    let text = serde_json::to_vec(job).expect("a job has string keys and plain values");
    if let Some(mut input) = child.stdin.take() {
        // A process that ends before it has read the job says why by its status.
        let _ = input.write_all(&text);
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(DryProcessError::Failed { status: output.status, said: end_of(&output.stderr) });
    }
    serde_json::from_slice(&output.stdout).map_err(|source| DryProcessError::Answer { source })
}

/// Runs the job on the standard input here, and prints the footprint.
pub(crate) fn run_here() -> Result<(), CommandError> {
    if std::env::var_os(CRASH).is_some_and(|value| !value.is_empty()) {
        std::process::abort();
    }
    let job: Job = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|error| CommandError::from_request(&error).in_context("the standard input has no job"))?;
    let user = UserConfig::from_text(Path::new("the job"), &job.config, &[])?;
    let resolved = ResolvedConfig::new(user, Path::new("the job"))?;
    let architecture = resolved.architecture()?;
    let subject = Subject {
        train_samples: job.train_samples,
        ..Subject::without_data(&resolved, &architecture, job.num_classes)
    };
    for text in &job.burns {
        let site: Site = text.parse().map_err(CommandError::wrong_request)?;
        set_choice(&site, Some(Way::Burns));
    }
    let device = device_of(&job.device)?;
    let failed =
        |error: &(dyn std::error::Error + 'static)| CommandError::from_run(error).in_context("cannot run the step dry");
    job.layout().install(&device).map_err(|error| failed(&error))?;
    let build = |device: &Device| subject.build(device);
    let step = if job.predicts { subject.prediction(job.rung.precision) } else { subject.step(job.rung) };
    let Job { budget_bytes, request: plan, expected, train_samples, .. } = &job;
    let task = DryRunTask {
        budget_bytes: *budget_bytes,
        plan,
        expected: expected.as_ref(),
        tuned: kernel_cache::tuned,
        train_samples: train_samples.filter(|_| !job.predicts),
    };
    let footprint = dry_run_footprint(&step, &device, &build, &task).map_err(|error| failed(&error))?;
    ui::out(serde_json::to_string(&footprint).expect("a footprint has string keys and plain values"))
}

/// The device of a job.
pub(crate) fn device_of(name: &str) -> Result<Device, CommandError> {
    match BenchDevice::parse(name).map_err(CommandError::wrong_request)? {
        BenchDevice::Of(request) => Ok(Compute::select(request)?.device),
        #[cfg(feature = "wgpu")]
        BenchDevice::Wgpu => Ok(crate::run::compute::wgpu()),
    }
}

fn end_of(errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(errors);
    let line = text.trim().lines().next_back().unwrap_or_default();
    let end: String = line.chars().take(SHOWN_OF_ERRORS).collect();
    if end.is_empty() { end } else { format!(": {end}") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that does what `script` says in place of stoker.
    fn answer_of(script: &str) -> Result<Footprint, DryProcessError> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\ncat >/dev/null\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        run_elsewhere(&program, &job())
    }

    fn job() -> Job {
        Job {
            config: "data: {train: images}\n".to_owned(),
            device: "cuda:0".to_owned(),
            num_classes: 10,
            train_samples: None,
            rung: Rung::default(),
            predicts: false,
            burns: vec!["batch_norm f32 8".to_owned()],
            pages: Some([1024, 512]),
            budget_bytes: 1 << 30,
            request: PlanRequest::default(),
            expected: None,
        }
    }

    #[test]
    fn a_job_survives_json() {
        let text = serde_json::to_string(&job()).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job());
    }

    #[test]
    fn a_process_that_dies_is_an_error_that_says_how() {
        let died = answer_of("echo 'no memory for tuning' >&2; kill -ABRT $$").unwrap_err().to_string();
        assert!(died.contains("signal: 6") && died.ends_with(": no memory for tuning"), "{died}");
        let refused = answer_of("exit 3").unwrap_err().to_string();
        assert_eq!(refused, "it ended with exit status: 3");
    }

    #[test]
    fn what_is_no_footprint_is_an_error() {
        assert!(matches!(answer_of("echo maybe"), Err(DryProcessError::Answer { .. })));
        let nowhere = run_elsewhere(Path::new("/nowhere/stoker"), &job());
        assert!(matches!(nowhere, Err(DryProcessError::Run { .. })));
    }
}
