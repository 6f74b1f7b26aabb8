mod elements;

use std::collections::BTreeSet;
use std::sync::Arc;

use burn::module::ParamId;
use burn::tensor::{DType, Tensor};

use crate::RunningStatistic;

/// What one forward pass knows beside its input: whether it trains, where its randomness comes from, and what maps are stored in.
///
/// Images are brought into the pass's type before the first segment ([`images`](Self::images)). From there on each layer goes by the type of its
/// input: matrix products and dense convolutions cast their f32 weights to it on the tape, so that gradients come back in f32; norms, softmax,
/// activations and depthwise sums are computed in f32 and keep their input as it is stored.
///
/// A training pass draws nothing from a shared stream. Each random number is a function of the step's seed, the layer's turn and the
/// sample's position in the *effective* batch. So a batch cut into micro-batches of any size, or replayed after an
/// out-of-memory, sees the same masks as the whole batch did.
#[derive(Debug, Clone)]
pub struct Pass {
    training: Option<Stream>,
    frozen: Arc<BTreeSet<ParamId>>,
    storage: DType,
}

#[derive(Debug, Clone)]
struct Stream {
    step_seed: u64,
    first_sample: u64,
    layer: u64,
}

impl Pass {
    /// A pass without randomness: every branch is kept.
    pub fn evaluation() -> Self {
        Self { training: None, frozen: Arc::default(), storage: DType::F32 }
    }

    /// A training pass over the micro-batch that starts at `first_sample` of its effective batch.
    pub fn training(step_seed: u64, first_sample: usize) -> Self {
        let stream = Stream { step_seed, first_sample: first_sample as u64, layer: 0 };
        Self { training: Some(stream), ..Self::evaluation() }
    }

    /// The same, but norms with these running statistics normalise by them and leave them as they are, as in evaluation.
    pub fn with_frozen(self, frozen: Arc<BTreeSet<ParamId>>) -> Self {
        Self { frozen, ..self }
    }

    /// Whether a norm normalises by the batch, and moves this running statistic of its own.
    pub fn moves(&self, statistic: &RunningStatistic) -> bool {
        self.is_training() && !self.frozen.contains(&statistic.id())
    }

    /// The same with maps stored in `storage`: f32, as it is without this, bf16 or f16.
    pub fn storing(self, storage: DType) -> Self {
        Self { storage, ..self }
    }

    /// Images in the type that maps are stored in.
    ///
    /// # Shapes
    /// - `images` and output: `[B, C, H, W]`
    pub fn images(&self, images: Tensor<4>) -> Tensor<4> {
        stored_as(images, self.storage)
    }

    /// Whether random layers act.
    pub fn is_training(&self) -> bool {
        self.training.is_some()
    }

    /// Draws which of `batch` samples keep a branch that is dropped with probability `drop_probability`.
    ///
    /// Returns `None` when nothing is dropped: in evaluation, or at probability zero. Each call is a layer of its own.
    pub fn draw_kept(&mut self, batch: usize, drop_probability: f32) -> Option<Vec<bool>> {
        let stream = self.training.as_mut()?;
        stream.layer += 1;
        if drop_probability <= 0.0 {
            return None;
        }
        let layer_seed = mix(stream.step_seed ^ mix(stream.layer));
        let kept = (0..batch as u64)
            .map(|position| unit_interval(mix(layer_seed ^ mix(stream.first_sample + position))) >= drop_probability);
        Some(kept.collect())
    }
}

/// The tensor in another type, on its tape: the gradient comes back in the type of now. Itself where it has the type.
pub fn stored_as<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype { tensor } else { tensor.cast(dtype) }
}

/// SplitMix64's finaliser (Steele, Lea and Flood, 2014): every input bit reaches every output bit.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The upper 24 bits as a number in `[0, 1)`: all that an `f32` can tell apart.
fn unit_interval(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1u64 << 24) as f32
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{Tape, onto_tape};

    #[test]
    fn cutting_a_batch_does_not_change_what_is_dropped() {
        let whole = Pass::training(7, 0).draw_kept(8, 0.5).unwrap();
        let first = Pass::training(7, 0).draw_kept(3, 0.5).unwrap();
        let second = Pass::training(7, 3).draw_kept(5, 0.5).unwrap();
        assert_eq!(whole, [first, second].concat());
    }

    #[test]
    fn the_dropped_share_follows_the_probability() {
        let kept = Pass::training(1, 0).draw_kept(20_000, 0.3).unwrap();
        let dropped_share = kept.iter().filter(|kept| !**kept).count() as f64 / 20_000.0;
        // Four standard deviations of a binomial share at n = 20,000.
        assert!((dropped_share - 0.3).abs() < 4.0 * (0.21f64 / 20_000.0).sqrt(), "{dropped_share}");
    }

    #[test]
    fn layers_of_one_pass_draw_differently() {
        let mut pass = Pass::training(1, 0);
        assert_ne!(pass.draw_kept(64, 0.5), pass.draw_kept(64, 0.5));
    }

    #[test]
    fn the_gradient_of_a_cast_comes_back_in_the_type_of_its_source() {
        let gradient = |plain: &Device| {
            let weight = onto_tape(Tensor::<1>::ones([4], plain), &plain.clone().autodiff());
            let half = stored_as(weight.clone(), DType::BF16);
            assert_eq!(half.dtype(), DType::BF16);
            Tape::backward(half.sum()).remove(&weight).unwrap().dtype()
        };
        assert_eq!(gradient(&Device::flex()), DType::F32);
        let capture = Device::capture();
        let recorded = capture.capture_scope(|scope| {
            assert_eq!(gradient(&capture), DType::F32);
            scope.complete([], [])
        });
        assert!(recorded.is_ok());
    }

    #[test]
    fn evaluation_drops_nothing() {
        assert_eq!(Pass::evaluation().draw_kept(4, 0.9), None);
    }
}
