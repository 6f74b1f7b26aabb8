//! Traces for tests: seeded random ones, and one that looks like a real training step.

use super::{Born, Phase, Role, Trace, TracedOperation, TracedTensor};

/// Random traces from a seed; the numbers are those of SplitMix64.
pub(super) struct Generator {
    state: u64,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// One of `count` numbers from zero.
    fn below(&mut self, count: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % count
    }

    pub(super) fn trace(&mut self) -> Trace {
        let operations = 1 + self.below(60) as usize;
        let layers = 1 + self.below(6);
        let tensors = self.below(120);
        Trace {
            tensors: (0..tensors).map(|_| self.tensor(operations, layers)).collect(),
            operations: (0..operations).map(|_| self.operation(layers)).collect(),
            layers: (0..layers)
                .map(|layer| if layer == 0 { String::new() } else { format!("layer.{layer}") })
                .collect(),
        }
    }

    fn tensor(&mut self, operations: usize, layers: u64) -> TracedTensor {
        let birth = self.below(operations as u64) as usize;
        let born = if self.below(3) == 0 { Born::BeforeStep } else { Born::At(birth) };
        let first = if born == Born::BeforeStep { 0 } else { birth };
        let death = first + self.below((operations - first) as u64) as usize;
        let bytes = self.below(8);
        TracedTensor {
            bytes,
            role: Role::ALL[self.below(9) as usize],
            layer: self.below(layers) as u32,
            born,
            dies: (self.below(4) > 0).then_some(death),
            shape: vec![bytes as usize],
            element_bytes: 1,
        }
    }

    fn operation(&mut self, layers: u64) -> TracedOperation {
        const PHASES: [Phase; 6] =
            [Phase::Forward, Phase::Loss, Phase::Backward, Phase::Clip, Phase::Optimizer, Phase::Ema];
        TracedOperation {
            kind: "any".to_owned(),
            phase: PHASES[self.below(6) as usize],
            layer: self.below(layers) as u32,
            workspace_bytes: if self.below(3) == 0 { self.below(6) } else { 0 },
        }
    }
}

/// A step of a pyramid of `blocks` blocks over a batch, in the manner of ConvNeXt: the forward pass piles up saved
/// activations, the backward pass takes them down, AdamW and the moving average walk over the weights.
pub(crate) fn training_step(blocks: usize, batch: usize) -> Trace {
    let mut step = Step { trace: Trace::default(), saved: Vec::new(), weights: Vec::new() };
    step.trace.layers.push(String::new());
    step.trace.layers.extend((0..blocks).map(|block| format!("stages.{}.blocks.{block}", 4 * block / blocks)));
    for block in 0..blocks {
        step.state_of(block, blocks);
    }
    let input = step.tensor(Role::Input, 0, Born::BeforeStep, vec![batch, 3, 224, 224]);
    for block in 0..blocks {
        step.forward(block, blocks, batch);
    }
    step.loss(batch);
    for block in (0..blocks).rev() {
        step.backward(block, blocks, batch);
    }
    step.trace.tensors[input].dies = Some(step.trace.operations.len() - 1);
    step.update();
    step.trace
}

struct Step {
    trace: Trace,
    /// Indices of the saved activations of each block.
    saved: Vec<Vec<usize>>,
    /// Indices of the weights.
    weights: Vec<usize>,
}

impl Step {
    fn tensor(&mut self, role: Role, layer: usize, born: Born, shape: Vec<usize>) -> usize {
        let bytes = 4 * shape.iter().product::<usize>() as u64;
        let layer = layer as u32;
        self.trace.tensors.push(TracedTensor { bytes, role, layer, born, dies: None, shape, element_bytes: 4 });
        self.trace.tensors.len() - 1
    }

    fn operation(&mut self, kind: &str, phase: Phase, layer: usize, workspace_bytes: u64) -> usize {
        let kind = kind.to_owned();
        self.trace.operations.push(TracedOperation { kind, phase, layer: layer as u32, workspace_bytes });
        self.trace.operations.len() - 1
    }

    /// An operation with one result, which dies with it unless told otherwise.
    fn result(&mut self, kind: &str, phase: Phase, layer: usize, role: Role, shape: &[usize]) -> usize {
        let workspace = if kind == "convolution" { 6 << 20 } else { 0 };
        let operation = self.operation(kind, phase, layer, workspace);
        let tensor = self.tensor(role, layer, Born::At(operation), shape.to_vec());
        if role == Role::Transient {
            self.trace.tensors[tensor].dies = Some(operation);
        }
        tensor
    }

    fn state_of(&mut self, block: usize, blocks: usize) {
        let channels = width(block, blocks);
        for shape in [vec![channels, 1, 7, 7], vec![4 * channels, channels], vec![channels, 4 * channels]] {
            let weight = self.tensor(Role::Weight, block + 1, Born::BeforeStep, shape.clone());
            self.weights.push(weight);
            for role in [Role::OptimizerState, Role::OptimizerState, Role::Ema] {
                self.tensor(role, block + 1, Born::BeforeStep, shape.clone());
            }
        }
    }

    fn forward(&mut self, block: usize, blocks: usize, batch: usize) {
        let (channels, side) = (width(block, blocks), side(block, blocks));
        let (narrow, wide) = ([batch, side, side, channels], [batch, side, side, 4 * channels]);
        let layer = block + 1;
        let steps: [(&str, Role, &[usize]); 6] = [
            ("convolution", Role::SavedActivation, &narrow),
            ("layer_norm", Role::SavedActivation, &narrow),
            ("matmul", Role::SavedActivation, &wide),
            ("gelu", Role::SavedActivation, &wide),
            ("matmul", Role::Transient, &narrow),
            ("add", Role::SavedActivation, &narrow),
        ];
        let results = steps.map(|(kind, role, shape)| (role, self.result(kind, Phase::Forward, layer, role, shape)));
        let saved = results.into_iter().filter(|(role, _)| *role == Role::SavedActivation);
        self.saved.push(saved.map(|(_, tensor)| tensor).collect());
    }

    fn loss(&mut self, batch: usize) {
        for kind in ["matmul", "log_softmax", "gather", "mean"] {
            self.result(kind, Phase::Loss, 0, Role::Transient, &[batch, 1000]);
        }
    }

    fn backward(&mut self, block: usize, blocks: usize, batch: usize) {
        let (channels, side) = (width(block, blocks), side(block, blocks));
        let wide = [batch, side, side, 4 * channels];
        let layer = block + 1;
        for (index, saved) in self.saved[block].clone().into_iter().rev().enumerate() {
            self.result("multiply", Phase::Backward, layer, Role::Transient, &wide);
            let last = self.trace.operations.len();
            if index < 3 {
                let shape = self.trace.tensors[self.weights[3 * block + index]].shape.clone();
                self.result("matmul", Phase::Backward, layer, Role::Gradient, &shape);
            } else {
                self.result("convolution", Phase::Backward, layer, Role::Transient, &[batch, side, side, channels]);
            }
            self.trace.tensors[saved].dies = Some(last);
        }
    }

    /// Clipping, the optimizer and the moving average, weight by weight; the gradient dies with its update.
    fn update(&mut self) {
        let is_gradient = |tensor: &TracedTensor| tensor.role == Role::Gradient;
        let gradients: Vec<usize> =
            (0..self.trace.tensors.len()).filter(|&id| is_gradient(&self.trace.tensors[id])).collect();
        for phase in [Phase::Clip, Phase::Optimizer, Phase::Ema] {
            for &gradient in &gradients {
                let TracedTensor { shape, layer, .. } = self.trace.tensors[gradient].clone();
                self.result("multiply", phase, layer as usize, Role::Transient, &shape);
                if phase == Phase::Optimizer {
                    self.trace.tensors[gradient].dies = Some(self.trace.operations.len() - 1);
                }
            }
        }
    }
}

fn width(block: usize, blocks: usize) -> usize {
    96 << (4 * block / blocks)
}

fn side(block: usize, blocks: usize) -> usize {
    56 >> (4 * block / blocks)
}
