//! The operations at the shapes of three models, and what each has to move and to compute at least.

use std::cell::RefCell;

use burn::tensor::{DType, Device, Distribution, Tensor};
use efficientnet::{BlockKind, find_variant};
use vision_nn::{
    AdamWStep, BatchNorm, BranchScale, Conv2d, DepthwiseConv2d, DropPath, Initialization, Initializer, LayerNorm,
    Linear, Moving, Padding, Pass, SqueezeExcite, Steps, cross_entropy, gelu, images_of_pixels, move_all, onto_tape,
    response_norm, stored_as, window_attention,
};

/// Of a number of weights, running statistics, targets and moments, whatever maps are stored in.
const F32_BYTES: f64 = size_of::<f32>() as f64;

/// Bytes and floating-point operations of a pass. Every tensor counts once, read or written, also where a kernel has to go through it twice: maps in what
/// they are stored in, weights and their gradients in f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Work {
    pub(super) bytes: f64,
    pub(super) flops: f64,
}

/// An operation of a model at one shape.
pub(super) struct Case {
    pub(super) operation: &'static str,
    pub(super) model: &'static str,
    pub(super) shape: String,
    pub(super) passes: Passes,
}

/// What there is to time of an operation.
pub(super) enum Passes {
    /// A forward pass, and a backward pass from its output on, with the gradients of all leaves.
    Both { work: [Work; 2], prepare: Box<dyn Fn(&Setting) -> Forward> },
    /// A single pass, of which nobody wants a gradient.
    One { name: &'static str, work: Work, prepare: Box<dyn Fn(&Setting) -> Action> },
}

/// Makes the output, on the tape, of leaves that it holds; `[N, C]`.
pub(super) type Forward = Box<dyn Fn() -> Tensor<2>>;

/// Does the work once, on tensors that it holds.
pub(super) type Action = Box<dyn Fn()>;

/// Where and in what operations are computed.
pub(super) struct Setting {
    /// With a tape.
    pub(super) device: Device,
    pub(super) storage: DType,
}

impl Setting {
    /// A leaf whose gradient is wanted, of random numbers, stored as maps are.
    fn map<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        let numbers = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &self.device.clone().inner());
        onto_tape(stored_as(numbers, self.storage), &self.device)
    }

    /// A leaf of one number, as weights are.
    fn vector(&self, channels: usize, value: f64) -> Tensor<1> {
        onto_tape(Tensor::full([channels], value, &self.device.clone().inner()), &self.device)
    }

    fn initializer(&self) -> Initializer {
        Initializer::new(1, Initialization::FanIn, &self.device)
    }

    fn pass(&self) -> Pass {
        Pass::training(0, 0).storing(self.storage)
    }
}

/// Of ConvNeXt-B, Swin-B and EfficientNet-B4 for images of `size`; a number takes `bytes` in maps.
pub(super) fn cases(size: usize, batch: usize, bytes: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for stage in 0..4 {
        cases.extend(of_convnext(Grid { batch, side: (size / 4) >> stage, channels: 128 << stage, bytes }));
    }
    for stage in 0..4 {
        let grid = Grid { batch, side: (size / 4) >> stage, channels: 128 << stage, bytes };
        cases.extend(of_swin(grid, window_of(grid.side), 4 << stage));
    }
    cases.extend(of_efficientnet(size, batch, bytes));
    cases.extend([of_the_loss(batch, bytes), of_the_input(size, batch), of_the_optimizer()]);
    cases
}

/// Side of the windows over a map: 7, as in the paper, where that tiles it, else the largest up to 12 that does. The models themselves resize or pad for
/// windows of their own.
fn window_of(side: usize) -> usize {
    if side.is_multiple_of(7) {
        return 7;
    }
    (1..=12).rev().find(|window| side.is_multiple_of(*window)).expect("windows of one cell tile any map")
}

/// A map, `[B, side, side, C]`.
#[derive(Debug, Clone, Copy)]
struct Grid {
    batch: usize,
    side: usize,
    channels: usize,
    /// Of a number.
    bytes: usize,
}

impl Grid {
    fn shape(self) -> [usize; 4] {
        [self.batch, self.side, self.side, self.channels]
    }

    fn rows(self) -> usize {
        self.batch * self.side * self.side
    }

    fn numbers(self) -> f64 {
        (self.rows() * self.channels) as f64
    }

    fn describe(self) -> String {
        let Self { batch, side, channels, .. } = self;
        format!("{batch}x{side}x{side}x{channels}")
    }

    /// An operation on a map of this size, by `flops` a number of it forward and backward.
    fn case(
        self,
        of: [&'static str; 2],
        moved: Moved,
        flops: [f64; 2],
        prepare: impl Fn(&Setting) -> Forward + 'static,
    ) -> Case {
        let [operation, model] = of;
        let work = [0, 1].map(|pass| Work {
            bytes: moved.maps[pass] * self.numbers() * self.bytes as f64 + moved.wide[pass] * F32_BYTES,
            flops: flops[pass] * self.numbers(),
        });
        let passes = Passes::Both { work, prepare: Box::new(prepare) };
        Case { operation, model, shape: self.describe(), passes }
    }

    /// A matrix product to so many channels.
    fn product(self, of: [&'static str; 2], out: usize, layer: fn(&Linear, Tensor<2>) -> Tensor<2>) -> Case {
        let [rows, channels] = [self.rows(), self.channels];
        let [input, output, weight, bias] =
            [rows * channels, rows * out, channels * out, out].map(|numbers| numbers as f64);
        let bytes = |maps: f64, wide: f64| maps * self.bytes as f64 + wide * F32_BYTES;
        let flops = 2.0 * input * out as f64;
        let forward = Work { bytes: bytes(input + output, weight + bias), flops };
        // Both sides are read again, and the gradient; what is written is as large as both sides and the bias.
        let backward = Work { bytes: bytes(2.0 * input + output, 2.0 * weight + bias), flops: 2.0 * flops };
        let shape = format!("{rows}x{channels} to {out}");
        let prepare = move |setting: &Setting| -> Forward {
            let (rows, weight) =
                (setting.map([rows, channels]), Linear::init(channels, out, 0.02, &mut setting.initializer()));
            Box::new(move || layer(&weight, rows.clone()))
        };
        let passes = Passes::Both { work: [forward, backward], prepare: Box::new(prepare) };
        Case { operation: of[0], model: of[1], shape, passes }
    }
}

/// What an operation has to move at least, forward and backward.
struct Moved {
    /// Maps as large as the one that goes in: read, or written.
    maps: [f64; 2],
    /// Numbers in f32.
    wide: [f64; 2],
}

impl Moved {
    /// With weights, which both passes read, and biases, which only the forward pass does; the backward pass writes the gradients of both.
    fn of(maps: [f64; 2], weights: usize, biases: usize) -> Self {
        Self { maps, wide: [weights + biases, 2 * weights + biases].map(|numbers| numbers as f64) }
    }
}

/// As rows, for an upstream gradient of one shape for all.
fn rows(map: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = map.dims();
    map.reshape([batch * height * width, channels])
}

const CONVNEXT: &str = "convnext_base";

fn of_convnext(grid: Grid) -> Vec<Case> {
    let Grid { channels, .. } = grid;
    let moved = Moved::of([2.0, 3.0], 49 * channels, channels);
    let depthwise = grid.case(["depthwise 7x7", CONVNEXT], moved, [98.0, 196.0], move |setting| {
        let (map, layer) =
            (setting.map(grid.shape()), DepthwiseConv2d::init(channels, 7, 0.02, &mut setting.initializer()));
        Box::new(move || rows(layer.forward(map.clone())))
    });
    let moved = Moved::of([2.0, 3.0], channels, channels);
    let norm = grid.case(["layer norm", CONVNEXT], moved, [8.0, 16.0], move |setting| {
        let (map, layer) = (setting.map(grid.shape()), LayerNorm::init(channels, 1e-6, &mut setting.initializer()));
        Box::new(move || rows(layer.forward(map.clone())))
    });
    let widened = Grid { channels: 4 * channels, ..grid };
    vec![
        depthwise,
        norm,
        grid.product(["matrix product", CONVNEXT], 4 * channels, Linear::forward),
        gelu_alone(widened),
        response_norm_alone(widened),
        widened.product(["GELU, matrix product", CONVNEXT], channels, Linear::forward_gelu),
        residual_sum(grid),
    ]
}

/// As the CPU computes it: thirty operations a number forward, most of them in the error function, and backward those of an exponential besides.
fn gelu_alone(grid: Grid) -> Case {
    grid.case(["GELU", CONVNEXT], Moved::of([2.0, 3.0], 0, 0), [30.0, 55.0], move |setting| {
        let map = setting.map(grid.shape());
        Box::new(move || rows(gelu(map.clone())))
    })
}

/// Of the second version of the model, whose maps are of the same size.
fn response_norm_alone(grid: Grid) -> Case {
    let Grid { batch, side, channels, .. } = grid;
    let moved = Moved::of([2.0, 3.0], channels, channels);
    grid.case(["response norm", "convnextv2_base"], moved, [5.0, 10.0], move |setting| {
        let cells = setting.map([batch, side * side, channels]);
        let [weight, bias] = [0.5, 0.1].map(|value| setting.vector(channels, value));
        Box::new(move || {
            let normalised = response_norm(cells.clone(), weight.clone(), bias.clone(), 1e-6);
            normalised.reshape([batch * side * side, channels])
        })
    })
}

/// Map, branch and sum forward; backward the sum's gradient is the map's as it is, the branch is read again and its gradient written.
fn residual_sum(grid: Grid) -> Case {
    let moved = Moved::of([3.0, 3.0], 2 * grid.channels, 0);
    grid.case(["bias, layer scale and sum", CONVNEXT], moved, [3.0, 5.0], move |setting| {
        let (map, branch) = (setting.map(grid.shape()), setting.map(grid.shape()));
        let [bias, scale] = [0.1, 0.5].map(|value| setting.vector(grid.channels, value));
        let scale = BranchScale { bias, scale };
        let pass = RefCell::new(setting.pass());
        Box::new(move || {
            let add = DropPath::new(0.0).add(map.clone(), branch.clone(), Some(scale.clone()), &mut pass.borrow_mut());
            rows(add)
        })
    })
}

fn of_swin(grid: Grid, window: usize, heads: usize) -> Vec<Case> {
    const MODEL: &str = "swin_base";
    let (channels, seen) = (grid.channels, window * window);
    // Scores and what they weigh: two products forward, five backward with the scores made again.
    let flops = [4.0, 10.0].map(|products| products * seen as f64);
    let moved = Moved::of([4.0, 7.0], heads * seen * seen, 0);
    let attention = grid.case(["window attention", MODEL], moved, flops, move |setting| {
        let [batch, height, width, _] = grid.shape();
        let projected = setting.map([batch, height, width, 3 * channels]);
        let bias = Tensor::<3>::zeros([heads, seen, seen], &setting.device.clone().inner());
        let bias = onto_tape(bias, &setting.device);
        let shift = if window < grid.side { window / 2 } else { 0 };
        Box::new(move || rows(window_attention(projected.clone(), bias.clone(), [window; 2], [shift; 2])))
    });
    let attention = Case { shape: format!("{}, window {window}", attention.shape), ..attention };
    vec![attention, grid.product(["matrix product", MODEL], 3 * channels, Linear::forward)]
}

/// Each size of depthwise convolution once, and so each of the norm and the squeeze-excite behind those of stride 1.
fn of_efficientnet(size: usize, batch: usize, bytes: usize) -> Vec<Case> {
    const MODEL: &str = "efficientnet_b4";
    let config = find_variant(MODEL).expect("it is one of timm's").config();
    let (mut side, mut channels) = (size.div_ceil(2), config.stem_channels);
    let (mut convolved, mut normed) = (Vec::new(), Vec::new());
    let mut cases = Vec::new();
    for stage in &config.stages {
        for block in stage.block_configs(channels) {
            let grid = Grid { batch, side, channels: block.hidden_channels, bytes };
            side = side.div_ceil(block.stride);
            if !matches!(block.kind, BlockKind::DepthwiseSeparable | BlockKind::InvertedResidual) {
                continue;
            }
            if is_new(&mut convolved, [grid.side, grid.channels, block.kernel, block.stride]) {
                cases.push(strided_depthwise(grid, block.kernel, block.stride, MODEL));
            }
            if block.stride == 1 && is_new(&mut normed, [grid.side, grid.channels]) {
                cases.push(batch_norm(grid, MODEL));
                cases.extend(block.squeezed_channels.map(|squeezed| squeeze_excite(grid, squeezed, MODEL)));
            }
        }
        channels = stage.channels;
    }
    cases
}

/// Whether the key was not seen so far; from now on it is.
fn is_new<const N: usize>(seen: &mut Vec<[usize; N]>, key: [usize; N]) -> bool {
    let is_new = !seen.contains(&key);
    seen.extend(is_new.then_some(key));
    is_new
}

fn strided_depthwise(grid: Grid, kernel: usize, stride: usize, model: &'static str) -> Case {
    let operation = match (kernel, stride) {
        (3, 1) => "depthwise 3x3",
        (3, _) => "depthwise 3x3, stride 2",
        (_, 1) => "depthwise 5x5",
        _ => "depthwise 5x5, stride 2",
    };
    let share = Grid { side: grid.side.div_ceil(stride), ..grid }.numbers() / grid.numbers();
    let flops = 2.0 * (kernel * kernel) as f64 * share;
    let moved = Moved::of([1.0 + share, 2.0 + share], kernel * kernel * grid.channels, 0);
    grid.case([operation, model], moved, [flops, 2.0 * flops], move |setting| {
        let init = &mut setting.initializer();
        let layer = Conv2d::depthwise(grid.channels, kernel, stride, Padding::Symmetric, init);
        let map = setting.map(grid.shape());
        Box::new(move || rows(layer.forward(map.clone())))
    })
}

/// Moments, and the map normalised with its SiLU. The map counts once, although moments must be known before a number can be normalised: what fits in a
/// cache is read once. Forward scale and shift are read, and both running statistics read and written; backward scale and shift are read, for SiLU wants
/// what goes into it, and their gradients written.
fn batch_norm(grid: Grid, model: &'static str) -> Case {
    let moved = Moved { maps: [2.0, 3.0], wide: [6.0, 4.0].map(|vectors| vectors * grid.channels as f64) };
    grid.case(["batch norm, SiLU", model], moved, [12.0, 24.0], move |setting| {
        let layer = BatchNorm::init(grid.channels, 1e-5, &mut setting.initializer()).with_silu();
        let (map, pass) = (setting.map(grid.shape()), setting.pass());
        Box::new(move || rows(layer.forward(map.clone(), &pass)))
    })
}

/// As with [`batch_norm`], the map counts once in a pass. Both layers between are computed again backward, so that their biases are read like weights.
fn squeeze_excite(grid: Grid, squeezed: usize, model: &'static str) -> Case {
    let weights = 2 * grid.channels * squeezed + squeezed + grid.channels;
    grid.case(["squeeze-excite", model], Moved::of([2.0, 3.0], weights, 0), [2.0, 4.0], move |setting| {
        let layer = SqueezeExcite::init(grid.channels, squeezed, &mut setting.initializer());
        let map = setting.map(grid.shape());
        Box::new(move || rows(layer.forward(map.clone())))
    })
}

/// Logits and targets, which are in f32, and the loss; backward its gradient instead, and what is written for the logits.
fn of_the_loss(batch: usize, bytes: usize) -> Case {
    let grid = Grid { batch, side: 1, channels: 1000, bytes };
    let moved = Moved { maps: [1.0, 2.0], wide: [grid.numbers() + 1.0; 2] };
    grid.case(["cross-entropy", "all"], moved, [6.0, 6.0], move |setting| {
        let logits = setting.map([batch, 1000]);
        let targets = Tensor::<2>::full([batch, 1000], 1e-3, &setting.device);
        Box::new(move || cross_entropy(logits.clone(), targets.clone()).reshape([1, 1]))
    })
}

/// Bytes to normalised numbers in f32, with the way onto a card.
fn of_the_input(size: usize, batch: usize) -> Case {
    let numbers = batch * size * size * 3;
    let work = Work { bytes: numbers as f64 * (1.0 + F32_BYTES), flops: 2.0 * numbers as f64 };
    let prepare = move |setting: &Setting| -> Action {
        let pixels: Vec<u8> = (0..numbers).map(|place| (place % 251) as u8).collect();
        let device = setting.device.clone();
        Box::new(move || drop(images_of_pixels(&pixels, [size, size, 3], &[0.5; 3], &[0.25; 3], &device)))
    };
    let passes = Passes::One { name: "forward", work, prepare: Box::new(prepare) };
    Case { operation: "pixels to images", model: "all", shape: format!("{batch}x{size}x{size}x3"), passes }
}

/// All parameters of a block of each stage at once: large matrices and many short vectors. Weight, gradient and both moments are read, all but the gradient
/// written.
fn of_the_optimizer() -> Case {
    let lengths: Vec<usize> = (0..4).flat_map(|stage| parameters_of_a_block(128 << stage)).collect();
    let numbers: usize = lengths.iter().sum();
    let work = Work { bytes: 7.0 * numbers as f64 * F32_BYTES, flops: 16.0 * numbers as f64 };
    let shape = format!("{} tensors, {numbers} numbers", lengths.len());
    let prepare = move |setting: &Setting| -> Action {
        let device = setting.device.clone().inner();
        let zeros = |length: usize| Tensor::<1>::zeros([length], &device);
        let parameter =
            |&length: &usize| Moving { weight: zeros(length), kept: vec![zeros(length), zeros(length)], average: None };
        let parameters: RefCell<Vec<Moving>> = RefCell::new(lengths.iter().map(parameter).collect());
        let gradients: Vec<Tensor<1>> = lengths.iter().map(|&length| Tensor::ones([length], &device)).collect();
        let step =
            AdamWStep { learning_rate: 1e-3, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01, step: 1 };
        Box::new(move || {
            let steps = Steps::AdamW(vec![step; gradients.len()]);
            let moved = move_all(parameters.take(), gradients.clone(), steps, 1.0, 0.0);
            parameters.replace(moved);
        })
    };
    let passes = Passes::One { name: "step", work, prepare: Box::new(prepare) };
    Case { operation: "AdamW", model: CONVNEXT, shape, passes }
}

/// Lengths of the tensors of a ConvNeXt block: depthwise convolution, norm, both products and the layer's scale.
fn parameters_of_a_block(channels: usize) -> [usize; 9] {
    let matrix = 4 * channels * channels;
    [49 * channels, channels, channels, channels, matrix, 4 * channels, matrix, channels, channels]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whose numbers take so many bytes in a map; in half precision weights, which stay in f32, count twice as much as a map's numbers.
    const BYTES: usize = 2;

    fn first(operation: &str) -> Case {
        cases(32, 1, BYTES).into_iter().find(|case| case.operation == operation).unwrap()
    }

    /// The bytes of both passes.
    fn bytes(case: &Case) -> Vec<f64> {
        match &case.passes {
            Passes::Both { work, .. } => work.iter().map(|work| work.bytes).collect(),
            Passes::One { work, .. } => vec![work.bytes],
        }
    }

    #[test]
    fn windows_tile_the_map_at_every_image_size() {
        for size in (32..=512).step_by(4) {
            let attention = cases(size, 1, BYTES).into_iter().filter(|case| case.operation == "window attention");
            let shapes: Vec<String> = attention.map(|case| case.shape).collect();
            assert_eq!(shapes.len(), 4, "a stage each at {size}");
            for shape in shapes {
                let (map, window) = shape.split_once(", window ").unwrap();
                let (side, window): (usize, usize) =
                    (map.split('x').nth(1).unwrap().parse().unwrap(), window.parse().unwrap());
                assert!((1..=12).contains(&window) && side.is_multiple_of(window), "{shape} at {size}");
            }
        }
        // As the models have it at the sizes that they were published for.
        let windows = |size: usize| [0, 1, 2, 3].map(|stage| window_of((size / 4) >> stage));
        assert_eq!([windows(224), windows(384)], [[7; 4], [12; 4]]);
    }

    #[test]
    fn attention_runs_at_a_size_that_neither_window_tiles() {
        let setting = Setting { device: Device::flex().autodiff(), storage: DType::F32 };
        let attention = cases(100, 1, 4).into_iter().filter(|case| case.operation == "window attention");
        let cells = attention.map(|case| {
            let Passes::Both { prepare, .. } = &case.passes else { panic!("{} has a gradient", case.shape) };
            let [cells, _] = prepare(&setting)().dims();
            cells
        });
        assert_eq!(cells.collect::<Vec<_>>(), [25, 12, 6, 3].map(|side: usize| side * side));
    }

    #[test]
    fn every_tensor_counts_once() {
        // In bytes: so many numbers of maps, and of weights, forward and backward.
        let expected = |maps: [usize; 2], wide: [usize; 2]| {
            [0, 1].map(|pass| (BYTES * maps[pass] + size_of::<f32>() * wide[pass]) as f64)
        };
        // ConvNeXt's first stage, 8 x 8 x 128.
        let map = 8 * 8 * 128;
        let depthwise = expected([2 * map, 3 * map], [50 * 128, 99 * 128]);
        assert_eq!(bytes(&first("depthwise 7x7")), depthwise);
        assert_eq!(bytes(&first("layer norm")), expected([2 * map, 3 * map], [2 * 128, 3 * 128]));
        assert_eq!(bytes(&first("bias, layer scale and sum")), expected([3 * map, 3 * map], [2 * 128, 4 * 128]));
        let product = expected([5 * map, 6 * map], [128 * 512 + 512, 2 * 128 * 512 + 512]);
        assert_eq!(bytes(&first("matrix product")), product);
        assert_eq!(bytes(&first("GELU")), expected([8 * map, 12 * map], [0, 0]));
        assert_eq!(bytes(&first("response norm")), expected([8 * map, 12 * map], [2 * 512, 3 * 512]));
        // Swin's first stage: four heads, and a window of all 8 x 8 cells.
        let table = 4 * 64 * 64;
        assert_eq!(bytes(&first("window attention")), expected([4 * map, 7 * map], [table, 2 * table]));
        // EfficientNet's first block, 16 x 16 x 48 with 12 channels between; the first with a stride makes a quarter of 16 x 16 x 144.
        let (map, strided) = (16 * 16 * 48, 16 * 16 * 144);
        assert_eq!(bytes(&first("batch norm, SiLU")), expected([2 * map, 3 * map], [6 * 48, 4 * 48]));
        let layers = 2 * 48 * 12 + 12 + 48;
        assert_eq!(bytes(&first("squeeze-excite")), expected([2 * map, 3 * map], [layers, 2 * layers]));
        let maps = [strided + strided / 4, 2 * strided + strided / 4];
        assert_eq!(bytes(&first("depthwise 3x3, stride 2")), expected(maps, [9 * 144, 2 * 9 * 144]));
        assert_eq!(bytes(&first("cross-entropy")), expected([1000, 2000], [1001, 1001]));
        assert_eq!(bytes(&first("pixels to images")), [(32 * 32 * 3 * 5) as f64]);
        let of_a_block = |channels: usize| 8 * channels * channels + 58 * channels;
        let parameters: usize = [128, 256, 512, 1024].map(of_a_block).iter().sum();
        assert_eq!(bytes(&first("AdamW")), [(7 * 4 * parameters) as f64]);
    }

    #[test]
    fn no_operation_is_listed_twice_at_a_shape() {
        for size in [32, 224, 384] {
            let mut named: Vec<[String; 3]> = cases(size, 1, BYTES)
                .into_iter()
                .map(|case| [case.operation.to_owned(), case.model.to_owned(), case.shape])
                .collect();
            let count = named.len();
            named.sort();
            named.dedup();
            assert_eq!(named.len(), count, "at {size}");
        }
    }
}
