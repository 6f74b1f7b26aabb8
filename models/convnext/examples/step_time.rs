use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use convnext::find_variant;
use std::time::Instant;
use vision_nn::{Classifier, ClassifierSpec, Pass};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let size: usize = args[2].parse().unwrap();
    let batch: usize = args[3].parse().unwrap();
    let device = Device::flex().autodiff();
    let variant = find_variant(&args[1]).unwrap();
    let mut model = variant.config.init(&ClassifierSpec {
        in_channels: 3,
        num_classes: 10,
        drop_path: 0.0,
        initialization: vision_nn::Initialization::Reference,
        seed: 1,
        device: device.clone(),
    });
    let mut optim = AdamWConfig::new().init();
    for _ in 0..6 {
        let x = Tensor::<4>::random([batch, 3, size, size], Distribution::Normal(0., 1.), &device);
        let t = Instant::now();
        let y = model.forward(x, &mut Pass::training(1, 0));
        let l = burn::tensor::activation::log_softmax(y, 1).mean();
        let _ = l.clone().into_data();
        let tf = t.elapsed();
        let t = Instant::now();
        let g = l.backward();
        let tb = t.elapsed();
        let t = Instant::now();
        let g = GradientsParams::from_grads(g, &model);
        model = optim.step(1e-3, model, g);
        println!("fwd {:?} bwd {:?} opt {:?}", tf, tb, t.elapsed());
    }
}
