//! The footprint of a step without a device: the operation graph is recorded, and its buffers are laid out by rules.

mod allocator;
mod buffers;
mod kind;
mod layout;
mod recording;
mod trace;

use burn::tensor::Device;
use vision_nn::Classifier;

use crate::StepRequest;

pub use allocator::AllocatorModel;

/// Development aid.
pub fn print_recording<M: Classifier>(request: &StepRequest, batch: usize, build: &dyn Fn(&Device) -> M) {
    let started = std::time::Instant::now();
    let recording = recording::record(request, batch, build);
    println!("{} operations in {:?}", recording.operations.len(), started.elapsed());
    let start = recording.phases[0].0;
    for operation in &recording.operations {
        let Some(id) = operation.outputs().map(|out| out.id.value()).max() else { continue };
        if id < start || id >= recording.end {
            continue;
        }
        let phase = recording.phases.iter().rev().find(|(from, _)| *from <= id).unwrap().1;
        let show = |t: &burn::backend::ir::TensorIr| {
            format!(
                "{}{:?}{}",
                t.id.value(),
                t.shape.to_vec(),
                match t.status {
                    burn::backend::ir::TensorStatus::ReadWrite => "!",
                    _ => "",
                }
            )
        };
        let name = format!("{operation:?}");
        let name: String = name.split(|c: char| c == '{').next().unwrap().to_owned();
        println!(
            "{phase:?} {name} {} -> {}",
            operation.inputs().map(show).collect::<Vec<_>>().join(" "),
            operation.outputs().map(show).collect::<Vec<_>>().join(" ")
        );
    }
}

/// Development aid.
pub fn captured_trace<M: Classifier>(
    request: &StepRequest,
    batch: usize,
    build: &dyn Fn(&Device) -> M,
) -> memory_planner::Trace {
    trace::trace_of(&recording::record(request, batch, build))
}

/// Development aid.
pub fn captured_reserved<M: Classifier>(
    request: &StepRequest,
    batch: usize,
    build: &dyn Fn(&Device) -> M,
    model: AllocatorModel,
) -> u64 {
    let recording = recording::record(request, batch, build);
    let events = trace::events_of(&recording);
    allocator::replay(model, &events).map_or(0, |bytes| bytes)
}

/// Development aid.
pub fn print_events<M: Classifier>(request: &StepRequest, batch: usize, build: &dyn Fn(&Device) -> M) {
    let recording = recording::record(request, batch, build);
    for event in trace::events_of(&recording) { println!("{event:?}"); }
}
