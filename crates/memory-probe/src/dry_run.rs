//! The footprint of a step on the device that will train: everything happens but the computing.

use burn::cubecl::dry_run::DryRun;
use burn::tensor::Device;
use vision_nn::Classifier;

use crate::StepRequest;
use crate::rehearsal::{NoPrompter, Rehearsal};

/// Bytes that the device's pools hold reserved after an optimizer step over micro-batches of `batch`.
pub fn dry_run_reserved<M: Classifier>(
    request: &StepRequest,
    batch: usize,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
) -> u64 {
    let guard = DryRun::new();
    let reserved = reserved_after_steps(request, batch, device, build);
    drop(guard);
    device.memory_cleanup();
    reserved
}

/// The same, with computing.
pub fn real_reserved<M: Classifier>(
    request: &StepRequest,
    batch: usize,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
) -> u64 {
    let reserved = reserved_after_steps(request, batch, device, build);
    device.memory_cleanup();
    reserved
}

fn reserved_after_steps<M: Classifier>(
    request: &StepRequest,
    batch: usize,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
) -> u64 {
    let _ = device.sync();
    device.memory_cleanup();
    let mut rehearsal = Rehearsal::new(request, device, build);
    for _ in 0..2 {
        rehearsal.run(batch, &mut NoPrompter);
        let _ = device.sync();
    }
    let usage = device.memory_pool_usage();
    drop(rehearsal);
    let _ = device.sync();
    usage.map_or(0, |usage| usage.bytes_reserved)
}
