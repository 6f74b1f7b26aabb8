//! The kernels against the table, and both against the definition, without steps and with some.

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

/// Numbers below a bound without a pattern, as many as wanted.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's MMIX generator.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn span(&mut self, side: usize) -> [usize; 2] {
        let (one, other) = (self.below(side + 1), self.below(side + 1));
        [one.min(other), one.max(other)]
    }

    fn rectangle(&mut self, [height, width, _]: [usize; 3]) -> PixelRectangle {
        PixelRectangle { rows: self.span(height), columns: self.span(width) }
    }

    /// Some steps of some images, and none of others.
    fn steps(&mut self, batch: usize, size: [usize; 3]) -> PixelSteps {
        let steps = PixelSteps {
            transposed: size[0] == size[1] && self.below(2) == 1,
            mirrored: self.below(2) == 1,
            upended: self.below(2) == 1,
            erased: self.rectangle(size),
            color: std::array::from_fn(|_| self.below(256) as u8),
            partner: self.below(batch),
            weight: [0, 1, 20_000, 32_768][self.below(4)],
            mixed: self.rectangle(size),
        };
        [steps, PixelSteps { weight: 0, ..steps }, PixelSteps::default()][self.below(3)]
    }
}

/// The byte of a place before anything is mixed with it.
fn byte_alone(
    pixels: &[u8],
    steps: &PixelSteps,
    [image, y, x, c]: [usize; 4],
    [height, width, channels]: [usize; 3],
) -> u8 {
    let is_in = |[from, to]: [usize; 2], place: usize| from <= place && place < to;
    if is_in(steps.erased.rows, y) && is_in(steps.erased.columns, x) {
        return steps.color[c];
    }
    let down = if steps.upended { height - 1 - y } else { y };
    let across = if steps.mirrored { width - 1 - x } else { x };
    let (row, column) = if steps.transposed { (across, down) } else { (down, across) };
    pixels[((image * height + row) * width + column) * channels + c]
}

/// All bytes once their steps are done, in f64 up to the rounding that the steps want: `[B, H, W, C]`.
fn finished(pixels: &[u8], steps: &[PixelSteps], size @ [height, width, channels]: [usize; 3]) -> Vec<u8> {
    let byte = |place: usize| {
        let (pixel, c) = (place / channels, place % channels);
        let [image, y, x] = [pixel / (height * width), pixel / width % height, pixel % width];
        let own = byte_alone(pixels, &steps[image], [image, y, x, c], size);
        let PixelSteps { partner, weight, mixed, .. } = steps[image];
        let is_mixed = (mixed.rows[0]..mixed.rows[1]).contains(&y) && (mixed.columns[0]..mixed.columns[1]).contains(&x);
        if !is_mixed {
            return own;
        }
        let other = byte_alone(pixels, &steps[partner], [partner, y, x, c], size);
        let share = f64::from(weight) / 32_768.0;
        (f64::from(own) * (1.0 - share) + f64::from(other) * share + 0.5).floor() as u8
    };
    (0..pixels.len()).map(byte).collect()
}

/// Sizes with whole words and without, squares and others, one channel, more than a row of cubes' worth.
const STEPPED: [[usize; 4]; 5] = [[6, 4, 4, 3], [5, 5, 5, 3], [4, 7, 3, 1], [1, 1, 1, 1], [4, 64, 64, 3]];

/// Calls with pixels, steps and what becomes of them, some times a size.
fn each_stepped(mut check: impl FnMut(&[u8], &[PixelSteps], &[u8], [usize; 3])) {
    let mut chance = Chance(7);
    for [batch, height, width, channels] in STEPPED {
        let (size, pixels) = ([height, width, channels], pixels(batch * height * width * channels));
        for _ in 0..6 {
            let steps: Vec<PixelSteps> = (0..batch).map(|_| chance.steps(batch, size)).collect();
            check(&pixels, &steps, &finished(&pixels, &steps, size), size);
        }
    }
}

#[test]
fn steps_on_the_way_make_the_numbers_of_finished_bytes_on_the_cpu() {
    let device = Device::flex();
    let numbers = |images: Tensor<4>| images.into_data().iter::<f32>().collect::<Vec<f32>>();
    let mut changed = 0;
    each_stepped(|pixels, steps, finished, size| {
        let (mean, std) = (&MEAN[..size[2]], &STD[..size[2]]);
        let found = finished_images_of_pixels(pixels, steps, size, mean, std, &device);
        assert_eq!(numbers(found), numbers(images_of_pixels(finished, size, mean, std, &device)), "{size:?} {steps:?}");
        changed += usize::from(finished != pixels);
    });
    assert!(changed > 20, "{changed} batches had anything done to them");
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn assert_finished(device: &Device) {
    use crate::kernels::test_definition::assert_near;
    each_stepped(|pixels, steps, finished, size @ [height, width, channels]| {
        let (mean, std) = (&MEAN[..channels], &STD[..channels]);
        let expected = definition(finished, [steps.len(), height, width, channels]);
        for device in [device, &device.clone().autodiff()] {
            let images = finished_images_of_pixels(pixels, steps, size, mean, std, device);
            let found: Vec<f64> = images.into_data().iter::<f64>().collect();
            // As without steps: a byte more or less would be 1e-2.
            assert_near(&format!("{size:?} {steps:?}"), &found, &expected, 1e-6);
        }
    });
}

#[cfg(feature = "wgpu")]
#[test]
fn steps_on_the_way_make_the_numbers_of_finished_bytes_on_software_vulkan() {
    assert_finished(&Device::wgpu(burn::tensor::DeviceKind::DefaultDevice));
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there"]
fn pixels_become_numbers_on_cuda() {
    let device = Device::cuda(0);
    assert_defined(&device);
    assert_finished(&device);
}

#[test]
#[should_panic(expected = "the steps are not those of 1 images")]
fn a_partner_that_is_elsewhere_is_refused() {
    let steps = PixelSteps { partner: 1, weight: 1, ..PixelSteps::default() };
    finished_images_of_pixels(&[0; 3], &[steps], [1, 1, 3], &MEAN, &STD, &Device::flex());
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
        let list = Tensor::<2>::empty(words_of_steps(2), &device);
        for steps in [None, Some(list)] {
            let (words, constants) = (words.clone(), constants.clone());
            let images = images_of_words(words, constants, steps, size, &device.clone().autodiff());
            assert_eq!(images.dims(), [2, 3, 5, 5]);
            assert!(images.device().is_autodiff() && !images.is_require_grad());
        }
        scope.complete([], [])
    });
    recording.expect("the device is a capture device of its own");
}
