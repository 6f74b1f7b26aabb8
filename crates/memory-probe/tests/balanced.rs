//! Real steps on the CPU with Burn's gradient checkpointing.

use burn::tensor::Device;
use convnext::ConvNextConfig;
use efficientnet::find_variant;
use memory_probe::RealSteps;
use swin::SwinConfig;
use trainer::{Normalization, TrainOptions, TrainStep};
use vision_nn::{Classifier, ClassifierSpec};

/// The second step takes weights that the first one moved: Burn refuses an operation over tensors of two strategies.
fn takes_a_second_step<M: Classifier>(build: impl Fn(&ClassifierSpec) -> M) {
    let device = Device::flex().autodiff().gradient_checkpointing();
    let options = TrainOptions { effective_batch_size: 2, micro_batch_size: usize::MAX, ..TrainOptions::default() };
    let model = build(&ClassifierSpec::new(10, &device));
    let mut steps = RealSteps::new(TrainStep::new(model, options, Normalization::imagenet(3), device), [32, 32, 3]);
    steps.run(2);
    steps.run(2);
}

#[test]
fn a_second_step_with_balanced_checkpointing_finds_the_weights_of_the_first() {
    // One after the other: tapes are made on one thread.
    takes_a_second_step(|spec| {
        let (depths, widths) = ([1, 1, 1, 1], [8, 16, 24, 32]);
        ConvNextConfig { depths, widths, pointwise_mlp: false, response_norm: true }.init(spec)
    });
    // Windows of 3 do not tile a map of 8, and are padded.
    for window_size in [3, 4] {
        takes_a_second_step(|spec| {
            let (depths, num_heads) = ([2, 1, 1, 1], [1, 2, 2, 4]);
            SwinConfig { image_size: [32, 32], window_size, embed_dim: 8, depths, num_heads }.init(spec)
        });
    }
    takes_a_second_step(|spec| find_variant("efficientnet_b0").unwrap().config().init(spec));
}
