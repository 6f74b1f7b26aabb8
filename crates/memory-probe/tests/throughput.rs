//! Real passes on the CPU, timed.

use burn::tensor::Device;
use convnext::ConvNextConfig;
use memory_probe::{WallClock, measure_throughput};
use trainer::{Normalization, TrainOptions, TrainStep};
use vision_nn::ClassifierSpec;

#[test]
fn real_passes_have_a_speed_and_keep_to_their_time() {
    let step = || {
        let device = Device::flex().autodiff();
        let config = ConvNextConfig {
            depths: [1, 1, 1, 1],
            widths: [8, 16, 24, 32],
            pointwise_mlp: false,
            response_norm: false,
        };
        let options = TrainOptions { effective_batch_size: 4, micro_batch_size: usize::MAX, ..TrainOptions::default() };
        TrainStep::new(config.init(&ClassifierSpec::new(10, &device)), options, Normalization::imagenet(3), device)
    };
    // Nine passes over a network of 20,000 parameters take milliseconds; a minute is for a machine that is busy.
    let samples = measure_throughput(step(), [32, 32, 3], &[1, 2, 4], 60.0, &WallClock::default()).unwrap();
    let batches: Vec<usize> = samples.iter().map(|sample| sample.batch).collect();
    assert!(batches == [4, 2] || batches == [4, 2, 1], "{batches:?}");
    assert!(samples.iter().all(|sample| sample.samples_per_second > 0.0 && sample.samples_per_second.is_finite()));
    assert_eq!(measure_throughput(step(), [32, 32, 3], &[1, 2, 4], 0.0, &WallClock::default()), None);
}
