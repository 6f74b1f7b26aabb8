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
