//! Both ways of an operation timed on a device, in a process of their own: tuning computes for real, and what it takes or breaks goes with the process.
//!
//! The job goes in as JSON on the standard input of `stoker measure-kernels`, a command that the help does not show, and what was found comes back as JSON on
//! its standard output.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, Distribution, Tensor};
use serde::{Deserialize, Serialize};
use swin::{WindowAttention, WindowLayout};
use vision_nn::choice::{Asked, Forward, Measured, Operation, Site, measure, operation_at, time_passes};
use vision_nn::{Initialization, Initializer, off_tape, onto_tape, stored_as};

use super::file::{Kept, Sites};
use crate::error::CommandError;
use crate::run::dry_process::{DryProcessError, answer_elsewhere, device_of};
use crate::ui;

/// The command's name.
const COMMAND: &str = "measure-kernels";

/// Numbers of a map that is timed, where an image has fewer: 64 MiB in f32, more than caches hold, and little beside what a card has.
const NUMBERS: usize = 1 << 24;

/// Images that are timed at once, at most: deep maps are small, and in large batches no model sees them.
const MOST_IMAGES: usize = 64;

/// Operations to time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    /// `cuda:0`.
    device: String,
    /// Each site, and the length of its first axis in a recording of one image.
    asked: Vec<(String, usize)>,
}

/// Has a process of its own time the operations on the device.
pub(super) fn measure_elsewhere(device: String, asked: &[Asked]) -> Result<Sites, DryProcessError> {
    let asked = asked.iter().map(|asked| (asked.site.to_string(), asked.first)).collect();
    answer_elsewhere(&std::env::current_exe()?, COMMAND, &Job { device, asked })
}

/// Times the operations of the job on the standard input here, and prints what was found.
pub(crate) fn measure_here() -> Result<(), CommandError> {
    let job: Job = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|error| CommandError::from_request(&error).in_context("the standard input has no job"))?;
    let found = measured_sites(job.asked, &device_of(&job.device)?)?;
    ui::out(serde_json::to_string(&found).expect("what was found has string keys and plain values"))
}

/// What was found at the sites; nothing of those at which the device failed, so that the next run measures them again.
fn measured_sites(asked: Vec<(String, usize)>, device: &Device) -> Result<Sites, CommandError> {
    let mut found = Sites::new();
    for (text, first) in asked {
        let site: Site = text.parse().map_err(CommandError::wrong_request)?;
        let asked = Asked { site, first };
        // Burn tells some failures of a device by a panic; the next operation may do.
        let measured = catch_unwind(AssertUnwindSafe(|| measured_on(device, &asked, images_of(&asked))));
        found.extend(measured.ok().flatten().map(|measured| (text, Kept::of(measured))));
    }
    Ok(found)
}

/// Images that are timed at once. They do not follow the run's batch, for choices are kept for all runs.
fn images_of(asked: &Asked) -> usize {
    (NUMBERS / asked.numbers().max(1)).clamp(1, MOST_IMAGES)
}

/// Times an operation both ways. None where the device fails.
fn measured_on(device: &Device, asked: &Asked, images: usize) -> Option<Measured> {
    let tracked = device.clone().autodiff();
    let forward = match asked.site.operation {
        Operation::WindowAttention => window_attention_at(asked, images, &tracked)?,
        _ => operation_at(asked, images, &tracked)?,
    };
    let upstream = Tensor::ones_like(&off_tape(forward()));
    measure(&asked.site, |_| time_passes(&*forward, &upstream, device))
}

/// Two neighbouring layers of Swin, whose windows stand in their place and shifted: what is composed instead of the operation takes other products around
/// it, and a mask where windows shift.
fn window_attention_at(asked: &Asked, images: usize, device: &Device) -> Option<Forward> {
    let &[height, width, rows, columns, heads, head_width] = asked.site.shape.as_slice() else { return None };
    let shifted = |side: usize, window: usize| if side > window { window / 2 } else { 0 };
    let layout = WindowLayout { size: [rows, columns], shift: [shifted(height, rows), shifted(width, columns)] };
    let (batch, channels) = (asked.first * images, heads * head_width);
    let mut init = Initializer::new(1, Initialization::FanIn, device);
    let attention = WindowAttention::init(channels, heads, layout, &mut init);
    let shape = [batch, height, width, channels];
    let numbers = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device.clone().inner());
    let map = onto_tape(stored_as(numbers, asked.site.storage), device);
    Some(Box::new(move || {
        let seen = attention.over_map(attention.over_map(map.clone(), layout.unshifted()), layout);
        seen.reshape([batch * height * width, channels])
    }))
}

#[cfg(test)]
mod tests {
    use burn::backend::ir::OperationIr;
    use vision_nn::choice::{Way, asked_by, with_choice};

    use super::*;

    fn asked(text: &str) -> Asked {
        Asked { site: text.parse().unwrap(), first: 1 }
    }

    const ATTENTION: &str = "window_attention f32 4x6x2x3x2x4";

    /// Which way is faster is not for a test to say: both run, and their times make a ratio.
    #[test]
    fn every_operation_is_measured() {
        for text in ["depthwise f32 6x5x8x3x1x1x1x6x5", "layer_norm f32 6x8", "batch_norm f32 8", ATTENTION] {
            let measured = measured_on(&Device::flex(), &asked(text), 2).unwrap();
            assert!(measured.ratio.is_finite() && measured.ratio > 0.0, "{text}: {measured:?}");
        }
        assert!(measured_on(&Device::flex(), &asked("depthwise f32 6x5x8"), 2).is_none(), "this is no shape of it");
    }

    #[test]
    fn of_a_failure_nothing_is_found() {
        // Three numbers are no shape of a depthwise convolution.
        let [failing, norm] = ["depthwise f32 6x5x8", "layer_norm f32 6x8"].map(|text| (text.to_owned(), 1));
        let found = measured_sites(vec![failing, norm], &Device::flex()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["layer_norm f32 6x8"]);
    }

    #[test]
    fn maps_are_large_and_batches_are_not() {
        assert_eq!(images_of(&asked("layer_norm bf16 56x56x96")), NUMBERS / (56 * 56 * 96));
        assert_eq!(images_of(&asked("layer_norm bf16 7x7x768")), MOST_IMAGES);
        assert_eq!(images_of(&asked("layer_norm bf16 1024x1024x96")), 1);
    }

    #[test]
    fn attention_asks_for_its_site_and_is_composed_where_that_is_chosen() {
        let asked = asked(ATTENTION);
        let names = || {
            let device = Device::capture();
            let recording = device.capture_scope(|scope| {
                let forward = window_attention_at(&asked, 2, &device.clone().autodiff()).unwrap();
                let sites = asked_by(|| drop(forward()));
                assert!(sites.iter().any(|found| found.site == asked.site && found.first == 2), "{sites:?}");
                scope.complete([], [])
            });
            let operations = recording.unwrap().graph.operations;
            let own = operations.into_iter().filter_map(|operation| match operation {
                OperationIr::Custom(own) => Some(own.id),
                _ => None,
            });
            own.filter(|name| name == "window attention").count()
        };
        assert_eq!(names(), 2, "a layer whose windows stand in their place, and one whose windows are shifted");
        assert_eq!(with_choice(&asked.site, Way::Burns, names), 0);
    }
}
