//! Lists of tensors on several devices, added up by the devices together: Burn's all-reduce, which is NCCL's among CUDA cards. No other device has one.

use std::ops::Range;
use std::vec;

use burn::tensor::distributed::{CollectiveTensor, ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

use crate::ComputeError;

/// Elements that are added up at once, 64 MiB of them, but for a longer tensor.
const LARGEST_BUCKET: usize = 1 << 24;

/// Buffers are as long as their numbers need or a multiple of this many f32, and which of both depends on what made them (`cubecl-cuda`, `runtime.rs`: memory
/// comes in multiples of 512 bytes). NCCL adds up whole buffers, which must be of one length on all devices: so that many numbers, or a multiple of it.
const GRAIN: usize = 128;

/// What a device has got of an all-reduce. Its kernels wait for it, the host does not.
pub(crate) struct Sums {
    /// In the order of the list, `[elements]` each.
    pub(crate) tensors: Vec<Tensor<1>>,
    /// What shows that they are sums.
    pub(crate) witness: Witness,
}

/// How many devices have taken part in an all-reduce.
pub(crate) struct Witness {
    /// `[GRAIN]`, the same number throughout: each has added 1, after all else.
    added: Tensor<1>,
    devices: usize,
}

impl Witness {
    /// Whether all have. Waits for the device. Burn does not tell: what fails in a device's own thread is told on the terminal, and the run would go on with
    /// what this device alone has.
    pub(crate) fn check(self) -> Result<(), ComputeError> {
        let data = self.added.try_into_data().map_err(|error| ComputeError::from_device(&error.to_string()))?;
        let all = self.devices as f32;
        let Some(took_part) = data.iter::<f32>().find(|took_part| *took_part != all) else { return Ok(()) };
        let reason = format!(
            "of {} cards {took_part} took part in a sum by NCCL; `--exchange host` does without it",
            self.devices
        );
        Err(ComputeError::Device { reason })
    }
}

/// Adds up lists of flat f32 tensors, the first of one device with the first of every other. A device without a list adds zeros. Tensors that are given
/// away are freed on the way.
///
/// # Panics
/// On devices that are no CUDA cards, and on tensors that have a tape.
pub(crate) fn all_reduce_lists(lists: Vec<Option<Vec<Tensor<1>>>>, devices: &[Device]) -> Vec<Sums> {
    let form = |list: &Vec<Tensor<1>>| list.iter().map(|tensor| tensor.shape().num_elements()).collect();
    let lengths: Vec<usize> = lists.iter().flatten().next().map_or(Vec::new(), form);
    let mut lists: Vec<Option<vec::IntoIter<Tensor<1>>>> =
        lists.into_iter().map(|list| list.map(Vec::into_iter)).collect();
    let mut asked: Vec<Vec<CollectiveTensor<1>>> = devices.iter().map(|_| Vec::new()).collect();
    let buckets = buckets_of(&lengths);
    // Bucket by bucket, not device by device: what one is asked for waits in a queue of limited length for the others.
    for bucket in &buckets {
        for ((list, asked), device) in lists.iter_mut().zip(&mut asked).zip(devices) {
            let mut tensors: Vec<Tensor<1>> = match list {
                Some(list) => list.by_ref().take(bucket.len()).collect(),
                None => vec![Tensor::zeros([lengths[bucket.clone()].iter().sum::<usize>()], device)],
            };
            tensors.push(Tensor::zeros([tail_of(&lengths[bucket.clone()])], device));
            asked.push(sum(Tensor::cat(tensors, 0), devices));
        }
    }
    for (asked, device) in asked.iter_mut().zip(devices) {
        asked.push(sum(Tensor::from_floats([1.0; GRAIN], device), devices));
    }
    // All are told to wait, also those whose sums nobody looks at: their memory is free then.
    let resolved: Vec<Vec<Tensor<1>>> = asked.into_iter().map(resolved).collect();
    let split = |(tensor, bucket): (Tensor<1>, &Range<usize>)| {
        let lengths = &lengths[bucket.clone()];
        let mut tensors = tensor.split_with_sizes([lengths, &[tail_of(lengths)]].concat(), 0);
        tensors.pop();
        tensors
    };
    let sums = |mut resolved: Vec<Tensor<1>>| {
        let witness = Witness { added: resolved.pop()?, devices: devices.len() };
        Some(Sums { tensors: resolved.into_iter().zip(&buckets).flat_map(split).collect(), witness })
    };
    resolved.into_iter().filter_map(sums).collect()
}

fn sum(tensor: Tensor<1>, devices: &[Device]) -> CollectiveTensor<1> {
    all_reduce(tensor, ReduceOperation::Sum, devices.to_vec())
}

/// Zeros at the end of a bucket. There are always some: of a single tensor none would be made that is free to be written to.
fn tail_of(lengths: &[usize]) -> usize {
    GRAIN - lengths.iter().sum::<usize>() % GRAIN
}

/// What a device gets of what it was asked for.
fn resolved(mut asked: Vec<CollectiveTensor<1>>) -> Vec<Tensor<1>> {
    let Some(last) = asked.pop() else { return Vec::new() };
    let last = last.resolve();
    // SAFETY: a device does these one after the other, and has just been told to wait for the last.
    let others = asked.into_iter().map(|tensor| unsafe { tensor.assume_resolved() });
    others.chain([last]).collect()
}

/// The tensors of each bucket, as many as it holds, but one at least.
fn buckets_of(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut buckets: Vec<Range<usize>> = Vec::new();
    let mut room = 0;
    for (index, length) in lengths.iter().enumerate() {
        match buckets.last_mut() {
            Some(bucket) if *length <= room => bucket.end = index + 1,
            _ => {
                buckets.push(index..index + 1);
                room = LARGEST_BUCKET;
            }
        }
        room = room.saturating_sub(*length);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_neighbours_until_it_is_full() {
        const HALF: usize = LARGEST_BUCKET / 2;
        assert!(buckets_of(&[]).is_empty());
        assert_eq!(buckets_of(&[3, 0, 5, LARGEST_BUCKET]), [0..3, 3..4]);
        assert_eq!(buckets_of(&[HALF, HALF, 1, HALF]), [0..2, 2..4]);
        assert_eq!(buckets_of(&[1, 3 * HALF, 1]), [0..1, 1..2, 2..3]);
    }

    #[test]
    fn sums_that_not_all_devices_are_in_are_an_error() {
        let device = Device::flex();
        let witness = |added: f32| Witness { added: Tensor::from_floats([added; GRAIN], &device), devices: 2 };
        assert_eq!(witness(2.0).check(), Ok(()));
        let error = witness(1.0).check().unwrap_err().to_string();
        assert!(error.contains("of 2 cards 1 took part") && error.contains("`--exchange host`"), "{error}");
    }
}
