//! Forward and backward over one micro-batch, whole or segment by segment.

use burn::tensor::{DType, Device, Tensor};
use memory_planner::{Checkpointing, Phase};
use vision_nn::{Classifier, Pass, Tape, leaf_on_tape, off_tape, onto_tape, with_half_weights};

use crate::Gradients;
use crate::ema::off_tape_model;

/// Which segments of a [`Classifier`] the backward pass computes again, from what went into them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recompute {
    /// None: all that the backward pass reads is kept.
    #[default]
    Nothing,
    /// The first two thirds of the segments, rounded up; the rest is kept.
    ///
    /// Maps shrink with depth, so early segments keep most bytes for each operation. A segment keeps `c` times what goes into it, `c` being about 8 in
    /// ConvNeXt and 14 in Swin. In units of a map of ConvNeXt-B's third stage the segments of its four stages take in 4, 2, 1 and 0.5, and there are 3, 3,
    /// 27 and 3: 46.5 in all. With 24 recomputed, 9 of 27 and the last 3 are kept, 10.5 units and so 23 %, and of the 24 what goes into them, 36 units
    /// that count one `c`-th: 10 % more. Meanwhile two thirds of a forward pass, itself a third of a step or less, come on top: 22 %.
    LeadingSegments,
}

impl Recompute {
    /// What a step with this checkpointing computes again by segments.
    pub fn of(checkpointing: Checkpointing) -> Self {
        match checkpointing {
            Checkpointing::Segments => Self::LeadingSegments,
            Checkpointing::None | Checkpointing::Balanced => Self::Nothing,
        }
    }

    /// How many of so many segments are computed again; they are the first.
    pub fn count(self, num_segments: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::LeadingSegments => (2 * num_segments).div_ceil(3),
        }
    }
}

/// Gradients of one micro-batch, and its logits off the tape.
///
/// Segments that are to be computed again run off the tape first; only what goes into each is kept, with the state of its pass, so that it draws the
/// same random numbers again. Statistics that move with a forward pass are moved when a segment runs on the tape, and so once. Segments before the first
/// that has a parameter to train are neither kept nor computed again.
///
/// `loss` makes the loss, `[1]`, of the logits, `[B, K]`. `phase` is told when a part of the step begins; they come again with each segment.
///
/// # Shapes
/// - `images`: `[B, C, H, W]`, on the device of the model's tape
pub fn backpropagate<M: Classifier>(
    model: &M,
    images: Tensor<4>,
    mut pass: Pass,
    recompute: Recompute,
    loss: impl FnOnce(Tensor<2>) -> Tensor<1>,
    phase: &mut dyn FnMut(Phase),
) -> (Gradients, Tensor<2>) {
    phase(Phase::Forward);
    let images = pass.images(images);
    let (device, num_segments) = (images.device(), model.num_segments());
    let recomputed = recompute.count(num_segments);
    // Copies of all weights would be there at once: where memory is short enough to compute again, each segment makes its own.
    let storage = if recompute == Recompute::Nothing { images.dtype() } else { DType::F32 };
    let (mut kept, entry, logits) = with_half_weights(model, storage, || {
        let (kept, entry) = forward_keeping_inputs(model, images, recomputed, &mut pass);
        let rest = recomputed..num_segments;
        let map = rest.fold(entry.clone(), |map, index| model.forward_segment(index, map, &mut pass)); // [B, H, W, C]
        (kept, entry, model.forward_head(map, &mut pass)) // [B, K]
    });
    phase(Phase::Loss);
    let loss = loss(logits.clone());
    phase(Phase::Backward);
    let mut tape = Tape::backward(loss);
    let mut gradient = tape.remove(&entry);
    drop(entry);
    let mut tapes = vec![tape];
    while let (Some(segment), Some(of_output)) = (kept.pop(), gradient.take()) {
        let (tape, of_input) = segment.backward(model, of_output, &device, phase);
        tapes.push(tape);
        gradient = of_input;
    }
    (Gradients::take_from_parts(tapes, model), off_tape(logits))
}

/// A segment that the backward pass computes again.
struct Kept {
    index: usize,
    /// What goes into it, off the tape.
    input: Tensor<4>,
    /// Whether there is anything to train before it.
    wants_gradient: bool,
    pass: Pass,
}

/// Runs the first `recomputed` segments; what is kept of them, and what the next one takes, on the tape.
fn forward_keeping_inputs<M: Classifier>(
    model: &M,
    images: Tensor<4>,
    recomputed: usize,
    pass: &mut Pass,
) -> (Vec<Kept>, Tensor<4>) {
    let first = (0..recomputed).find(|&index| model.is_segment_trained(index)).unwrap_or(recomputed);
    // Nothing is trained there: the tape keeps nothing.
    let map = (0..first).fold(images, |map, index| model.forward_segment(index, map, pass));
    if first == recomputed {
        return (Vec::new(), map);
    }
    let device = map.device();
    // It shares the weights. Its running statistics are its own, and what moves them is not seen.
    let off_tape_model = off_tape_model(model);
    let mut kept = Vec::with_capacity(recomputed - first);
    let mut map = off_tape(map);
    for index in first..recomputed {
        kept.push(Kept { index, input: map.clone(), wants_gradient: index > first, pass: pass.clone() });
        map = off_tape_model.forward_segment(index, map, pass);
    }
    (kept, onto_tape(map, &device))
}

impl Kept {
    /// Runs the segment on the tape, and back from the gradient of what comes out of it; the gradient of what goes in comes along, where it is wanted.
    fn backward<M: Classifier>(
        mut self,
        model: &M,
        of_output: Tensor<4>,
        device: &Device,
        phase: &mut dyn FnMut(Phase),
    ) -> (Tape, Option<Tensor<4>>) {
        phase(Phase::Forward);
        let input = match self.wants_gradient {
            true => onto_tape(self.input, device),
            false => leaf_on_tape(self.input, device),
        };
        let output = model.forward_segment(self.index, input.clone(), &mut self.pass);
        phase(Phase::Backward);
        let mut tape = Tape::backward_from(output, of_output);
        let of_input = if self.wants_gradient { tape.remove(&input) } else { None };
        (tape, of_input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_of_the_segments_are_computed_again() {
        let counts = [0, 1, 2, 3, 4, 12, 36].map(|segments| Recompute::LeadingSegments.count(segments));
        assert_eq!(counts, [0, 1, 2, 2, 3, 8, 24]);
        assert_eq!(Recompute::Nothing.count(36), 0);
    }
}
