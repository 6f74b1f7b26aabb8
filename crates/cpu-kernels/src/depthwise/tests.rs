use super::*;
use crate::test_numbers::numbers;

/// Every pair of output and input position with its tap, as the definition has it.
fn for_each_product(of: &StridedDepthwise, mut visit: impl FnMut(usize, usize, usize)) {
    let DepthwiseShape { batch, height, width, channels, kernel } = of.shape;
    let [rows, columns] = of.output;
    let at = |b: usize, y: usize, x: usize, c: usize, [height, width]: [usize; 2]| {
        ((b * height + y) * width + x) * channels + c
    };
    for (b, y, x, c) in positions(batch, rows, columns, channels) {
        for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
            let row = (y * of.stride + ky).wrapping_sub(of.before[0]);
            let column = (x * of.stride + kx).wrapping_sub(of.before[1]);
            if row < height && column < width {
                let output = at(b, y, x, c, of.output);
                visit(output, at(b, row, column, c, [height, width]), (c * kernel + ky) * kernel + kx);
            }
        }
    }
}

fn positions(b: usize, y: usize, x: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..b * y * x * c).map(move |i| (i / (c * x * y), i / (c * x) % y, i / c % x, i % c))
}

fn assert_near(found: &[f32], expected: &[f64]) {
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        // f32 sums of at most some thousand products of numbers below 1.
        assert!((f64::from(*found) - expected).abs() <= 1e-5 * largest, "{found} is not {expected}");
    }
    assert_eq!(found.len(), expected.len());
}

const SHAPES: [DepthwiseShape; 8] = [
    DepthwiseShape { batch: 2, height: 9, width: 7, channels: 40, kernel: 7 },
    DepthwiseShape { batch: 1, height: 1, width: 1, channels: 3, kernel: 7 },
    DepthwiseShape { batch: 3, height: 2, width: 5, channels: 16, kernel: 5 },
    DepthwiseShape { batch: 1, height: 12, width: 3, channels: 17, kernel: 3 },
    DepthwiseShape { batch: 5, height: 4, width: 4, channels: 1, kernel: 7 },
    DepthwiseShape { batch: 1, height: 3, width: 2, channels: 33, kernel: 1 },
    DepthwiseShape { batch: 1, height: 31, width: 17, channels: 20, kernel: 5 },
    DepthwiseShape { batch: 2, height: 16, width: 30, channels: 32, kernel: 3 },
];

/// Each shape at stride 1, and at strides 2 and 3 with the padding of PyTorch and of TensorFlow.
fn cases() -> Vec<StridedDepthwise> {
    let mut cases: Vec<_> = SHAPES.iter().map(DepthwiseShape::keeping_size).collect();
    for (shape, stride) in SHAPES.into_iter().flat_map(|shape| [(shape, 2), (shape, 3)]) {
        let sides = [shape.height, shape.width];
        let symmetric = sides.map(|side| (side + shape.kernel / 2 * 2 - shape.kernel) / stride + 1);
        cases.push(StridedDepthwise { shape, stride, before: [shape.kernel / 2; 2], output: symmetric });
        let same = sides.map(|side| side.div_ceil(stride));
        let before = [0, 1].map(|axis| ((same[axis] - 1) * stride + shape.kernel).saturating_sub(sides[axis]) / 2);
        cases.push(StridedDepthwise { shape, stride, before, output: same });
    }
    cases
}

#[test]
fn forward_and_gradients_follow_the_definition() {
    for of in cases() {
        let channels = of.shape.channels;
        let [inputs, outputs] = [[of.shape.height, of.shape.width], of.output]
            .map(|[rows, columns]| of.shape.batch * rows * columns * channels);
        let taps = channels * of.taps();
        let (map, weight, bias) = (numbers(inputs, 1), numbers(taps, 2), numbers(channels, 3));
        let gradient = numbers(outputs, 4);
        let mut output: Vec<f64> = (0..outputs).map(|i| f64::from(bias[i % channels])).collect();
        let (mut of_map, mut of_weight) = (vec![0.0; inputs], vec![0.0; taps]);
        for_each_product(&of, |out, input, tap| {
            output[out] += f64::from(map[input]) * f64::from(weight[tap]);
            of_map[input] += f64::from(gradient[out]) * f64::from(weight[tap]);
            of_weight[tap] += f64::from(gradient[out]) * f64::from(map[input]);
        });
        assert_near(&of.forward(&map, &weight, Some(&bias)), &output);
        assert_near(&of.map_gradient(&gradient, &weight), &of_map);
        assert_near(&of.weight_gradient(&map, &gradient), &of_weight);
    }
}

#[test]
fn a_convolution_that_keeps_its_size_is_one_of_stride_one() {
    let shape = SHAPES[0];
    let count = shape.batch * shape.height * shape.width * shape.channels;
    let (map, weight) = (numbers(count, 1), numbers(shape.channels * 49, 2));
    let bias = numbers(shape.channels, 3);
    assert_eq!(shape.forward(&map, &weight, &bias), shape.keeping_size().forward(&map, &weight, Some(&bias)));
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let shape = SHAPES[0];
    let count = shape.batch * shape.height * shape.width * shape.channels;
    let (map, gradient) = (numbers(count, 1), numbers(count, 2));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| shape.weight_gradient(&map, &gradient))
    };
    assert_eq!(run(1), run(3));
}
