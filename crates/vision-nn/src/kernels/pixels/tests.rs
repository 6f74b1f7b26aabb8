//! The kernel against the table, and both against the definition.

use super::*;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Every byte at every place of a word, and none in the order of the others.
fn pixels(count: usize) -> Vec<u8> {
    (0..count as u64).map(|place| ((place * 2_654_435_761) >> 7) as u8).collect()
}

/// `[B, C, H, W]` of `[B, H, W, C]`.
fn definition(pixels: &[u8], [batch, height, width, channels]: [usize; 4]) -> Vec<f64> {
    let mut images = Vec::with_capacity(pixels.len());
    for image in 0..batch {
        for channel in 0..channels {
            for pixel in 0..height * width {
                let byte = f64::from(pixels[(image * height * width + pixel) * channels + channel]);
                images.push((byte / 255.0 - f64::from(MEAN[channel])) / f64::from(STD[channel]));
            }
        }
    }
    images
}

fn assert_defined(device: &Device) {
    use crate::kernels::test_definition::assert_near;
    // Whole words and not, one channel, one pixel, more than a row of cubes' worth.
    for size in [[2, 4, 4, 3], [3, 5, 7, 3], [1, 1, 1, 1], [2, 3, 3, 1], [5, 1, 1, 3], [4, 64, 48, 3]] {
        let pixels = pixels(size.iter().product());
        let [batch, height, width, channels] = size;
        let (mean, std) = (&MEAN[..channels], &STD[..channels]);
        let images = images_of_pixels(&pixels, [height, width, channels], mean, std, device);
        assert_eq!(images.dims(), [batch, channels, height, width]);
        let found: Vec<f64> = images.into_data().iter::<f64>().collect();
        assert_near(&format!("{size:?}"), &found, &definition(&pixels, size), 1e-6);
    }
}

#[test]
fn the_definition_holds_on_the_cpu() {
    assert_defined(&Device::flex());
    assert_defined(&Device::flex().autodiff());
}

#[cfg(feature = "wgpu")]
#[test]
fn the_definition_holds_on_cards() {
    use burn::tensor::DeviceKind;
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    assert_defined(&device);
    assert_defined(&device.clone().autodiff());
    // Composed, it is the table's.
    super::super::recorded::in_burns_operations(|| assert_defined(&device));
}

#[test]
fn the_recording_knows_the_operation() {
    let device = Device::capture();
    assert!(takes_words(&device) && !takes_words(&Device::flex()));
    let size = [5, 5, 3];
    assert_eq!(words_of_images(2, size), [2, 19]);
    let recording = device.capture_scope(|scope| {
        let words = Tensor::<2>::empty(words_of_images(2, size), &device);
        let constants = Tensor::<2>::empty([2, 3], &device);
        let images = images_of_words(words, constants, size, &device.clone().autodiff());
        assert_eq!(images.dims(), [2, 3, 5, 5]);
        assert!(images.device().is_autodiff() && !images.is_require_grad());
        scope.complete([], [])
    });
    recording.expect("the device is a capture device of its own");
}
