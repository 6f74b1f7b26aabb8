//! The operations at the shapes of three models, and what each has to move and to compute at least.

use std::cell::RefCell;

use burn::tensor::{DType, Device, Distribution, Tensor};
use efficientnet::{BlockKind, find_variant};
use vision_nn::{
    BatchNorm, BranchScale, Conv2d, DepthwiseConv2d, DropPath, Initialization, Initializer, LayerNorm, Linear, Padding,
    Pass, SqueezeExcite, cross_entropy, onto_tape, stored_as, window_attention,
};

/// Bytes and floating-point operations of a pass. Every tensor is read or written once, and weights count like maps.
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
    pub(super) forward: Work,
    pub(super) backward: Work,
    prepare: Box<dyn Fn(&Setting) -> Forward>,
}

/// Makes the output, on the tape, of leaves that it holds; `[N, C]`.
pub(super) type Forward = Box<dyn Fn() -> Tensor<2>>;

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

    fn initializer(&self) -> Initializer {
        Initializer::new(1, Initialization::FanIn, &self.device)
    }

    fn pass(&self) -> Pass {
        Pass::training(0, 0).storing(self.storage)
    }
}

impl Case {
    /// With its inputs and weights on the device.
    pub(super) fn prepare(&self, setting: &Setting) -> Forward {
        (self.prepare)(setting)
    }
}

/// Of ConvNeXt-B, Swin-B and EfficientNet-B4 for images of `size`; a number takes `bytes` in maps.
pub(super) fn cases(size: usize, batch: usize, bytes: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for stage in 0..4 {
        cases.extend(of_convnext(Grid { batch, side: (size / 4) >> stage, channels: 128 << stage, bytes }));
    }
    for stage in 0..4 {
        let window = if size.is_multiple_of(7 * 32) { 7 } else { 12 };
        let grid = Grid { batch, side: (size / 4) >> stage, channels: 128 << stage, bytes };
        cases.extend(of_swin(grid, window.min(grid.side), 4 << stage));
    }
    cases.extend(of_efficientnet(size, batch, bytes));
    cases.push(of_the_loss(batch, bytes));
    cases
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

    /// An operation that moves so many maps of this size forward and backward, by `flops` a number.
    fn case(
        self,
        of: [&'static str; 2],
        maps: [f64; 2],
        flops: [f64; 2],
        prepare: impl Fn(&Setting) -> Forward + 'static,
    ) -> Case {
        let [operation, model] = of;
        let work = |pass: usize| Work {
            bytes: maps[pass] * self.numbers() * self.bytes as f64,
            flops: flops[pass] * self.numbers(),
        };
        let (forward, backward) = (work(0), work(1));
        Case { operation, model, shape: self.describe(), forward, backward, prepare: Box::new(prepare) }
    }

    /// A matrix product to so many channels.
    fn product(self, of: [&'static str; 2], out: usize, layer: fn(&Linear, Tensor<2>) -> Tensor<2>) -> Case {
        let [rows, channels] = [self.rows(), self.channels];
        let [input, output, weight] = [rows * channels, rows * out, channels * out].map(|numbers| numbers as f64);
        let bytes = |numbers: f64| numbers * self.bytes as f64;
        let flops = 2.0 * input * out as f64;
        let forward = Work { bytes: bytes(input + weight + output), flops };
        // Both sides are read again, and the gradient; what is written is as large as both sides.
        let backward = Work { bytes: bytes(2.0 * (input + weight) + output), flops: 2.0 * flops };
        let shape = format!("{rows}x{channels} to {out}");
        let prepare = move |setting: &Setting| -> Forward {
            let (rows, weight) =
                (setting.map([rows, channels]), Linear::init(channels, out, 0.02, &mut setting.initializer()));
            Box::new(move || layer(&weight, rows.clone()))
        };
        Case { operation: of[0], model: of[1], shape, forward, backward, prepare: Box::new(prepare) }
    }
}

/// As rows, for an upstream gradient of one shape for all.
fn rows(map: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = map.dims();
    map.reshape([batch * height * width, channels])
}

fn of_convnext(grid: Grid) -> Vec<Case> {
    const MODEL: &str = "convnext_base";
    let Grid { channels, .. } = grid;
    let depthwise = grid.case(["depthwise 7x7", MODEL], [2.0, 3.0], [98.0, 196.0], move |setting| {
        let (map, layer) =
            (setting.map(grid.shape()), DepthwiseConv2d::init(channels, 7, 0.02, &mut setting.initializer()));
        Box::new(move || rows(layer.forward(map.clone())))
    });
    let norm = grid.case(["layer norm", MODEL], [2.0, 3.0], [8.0, 16.0], move |setting| {
        let (map, layer) = (setting.map(grid.shape()), LayerNorm::init(channels, 1e-6, &mut setting.initializer()));
        Box::new(move || rows(layer.forward(map.clone())))
    });
    let widened = Grid { channels: 4 * channels, ..grid };
    let residual = grid.case(["bias, layer scale and sum", MODEL], [3.0, 3.0], [3.0, 5.0], move |setting| {
        let (map, branch) = (setting.map(grid.shape()), setting.map(grid.shape()));
        let [bias, scale] = [0.1, 0.5]
            .map(|value| onto_tape(Tensor::full([channels], value, &setting.device.clone().inner()), &setting.device));
        let scale = BranchScale { bias, scale };
        let pass = RefCell::new(setting.pass());
        Box::new(move || {
            let add = DropPath::new(0.0).add(map.clone(), branch.clone(), Some(scale.clone()), &mut pass.borrow_mut());
            rows(add)
        })
    });
    vec![
        depthwise,
        norm,
        grid.product(["matrix product", MODEL], 4 * channels, Linear::forward),
        widened.product(["GELU, matrix product", MODEL], channels, Linear::forward_gelu),
        residual,
    ]
}

fn of_swin(grid: Grid, window: usize, heads: usize) -> Vec<Case> {
    const MODEL: &str = "swin_base";
    let (channels, seen) = (grid.channels, window * window);
    // Scores and what they weigh: two products forward, five backward with the scores made again.
    let flops = [4.0, 10.0].map(|products| products * seen as f64);
    let attention = grid.case(["window attention", MODEL], [4.0, 7.0], flops, move |setting| {
        let [batch, height, width, _] = grid.shape();
        let projected = setting.map([batch, height, width, 3 * channels]);
        let bias = Tensor::<3>::zeros([heads, seen, seen], &setting.device.clone().inner());
        let bias = onto_tape(bias, &setting.device);
        let shift = if window < grid.side { window / 2 } else { 0 };
        Box::new(move || rows(window_attention(projected.clone(), bias.clone(), [window; 2], [shift; 2])))
    });
    vec![attention, grid.product(["matrix product", MODEL], 3 * channels, Linear::forward)]
}

/// Each size of depthwise convolution, norm and squeeze-excite once.
fn of_efficientnet(size: usize, batch: usize, bytes: usize) -> Vec<Case> {
    const MODEL: &str = "efficientnet_b4";
    let config = find_variant(MODEL).expect("it is one of timm's").config();
    let (mut side, mut channels) = (size.div_ceil(2), config.stem_channels);
    let mut seen: Vec<[usize; 4]> = Vec::new();
    let mut cases = Vec::new();
    for stage in &config.stages {
        for block in stage.block_configs(channels) {
            let grid = Grid { batch, side, channels: block.hidden_channels, bytes };
            side = side.div_ceil(block.stride);
            let is_new = |seen: &[[usize; 4]]| !seen.contains(&[grid.side, grid.channels, block.kernel, block.stride]);
            let is_depthwise = matches!(block.kind, BlockKind::DepthwiseSeparable | BlockKind::InvertedResidual);
            if !is_depthwise || !is_new(&seen) {
                continue;
            }
            seen.push([grid.side, grid.channels, block.kernel, block.stride]);
            cases.push(strided_depthwise(grid, block.kernel, block.stride, MODEL));
            let out = Grid { side, ..grid };
            if block.stride == 1 {
                cases.push(batch_norm(out, MODEL));
                cases.extend(block.squeezed_channels.map(|squeezed| squeeze_excite(out, squeezed, MODEL)));
            }
        }
        channels = stage.channels;
    }
    cases
}

fn strided_depthwise(grid: Grid, kernel: usize, stride: usize, model: &'static str) -> Case {
    let operation = match (kernel, stride) {
        (3, 1) => "depthwise 3x3",
        (3, _) => "depthwise 3x3, stride 2",
        (_, 1) => "depthwise 5x5",
        _ => "depthwise 5x5, stride 2",
    };
    let share = 1.0 / (stride * stride) as f64;
    let flops = 2.0 * (kernel * kernel) as f64 * share;
    grid.case([operation, model], [1.0 + share, 2.0 + share], [flops, 2.0 * flops], move |setting| {
        let init = &mut setting.initializer();
        let layer = Conv2d::depthwise(grid.channels, kernel, stride, Padding::Symmetric, init);
        let map = setting.map(grid.shape());
        Box::new(move || rows(layer.forward(map.clone())))
    })
}

/// Moments, and the map normalised with its SiLU: the map is read twice forward, and with its gradient twice backward.
fn batch_norm(grid: Grid, model: &'static str) -> Case {
    grid.case(["batch norm, SiLU", model], [3.0, 5.0], [12.0, 24.0], move |setting| {
        let layer = BatchNorm::init(grid.channels, 1e-5, &mut setting.initializer()).with_silu();
        let (map, pass) = (setting.map(grid.shape()), setting.pass());
        Box::new(move || rows(layer.forward(map.clone(), &pass)))
    })
}

fn squeeze_excite(grid: Grid, squeezed: usize, model: &'static str) -> Case {
    grid.case(["squeeze-excite", model], [3.0, 5.0], [2.0, 4.0], move |setting| {
        let layer = SqueezeExcite::init(grid.channels, squeezed, &mut setting.initializer());
        let map = setting.map(grid.shape());
        Box::new(move || rows(layer.forward(map.clone())))
    })
}

fn of_the_loss(batch: usize, bytes: usize) -> Case {
    let grid = Grid { batch, side: 1, channels: 1000, bytes };
    grid.case(["cross-entropy", "all"], [2.0, 3.0], [6.0, 6.0], move |setting| {
        let logits = setting.map([batch, 1000]);
        let targets = Tensor::<2>::full([batch, 1000], 1e-3, &setting.device);
        Box::new(move || cross_entropy(logits.clone(), targets.clone()).reshape([1, 1]))
    })
}
