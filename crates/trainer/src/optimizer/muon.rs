use burn::tensor::Tensor;

use super::{AdamWOptions, Slots, Turn, towards};
use crate::gradients::sum_of_squares;

const MOMENTUM: &str = "momentum";

/// Keller Jordan's coefficients of the quintic iteration, PyTorch's default.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// PyTorch's default number of iterations.
const ITERATIONS: usize = 5;

/// Least norm that a gradient is divided by.
const EPSILON: f64 = 1e-7;

/// A matrix with a side below this is no matrix to Muon (timm's `min_dim_size`).
const SHORTEST_SIDE: usize = 4;

/// Nor is one whose longer side is more than this times the shorter (timm's `max_aspect_ratio`).
const LARGEST_ASPECT: f64 = 128.0;

/// Muon's constants; the defaults are `torch.optim.Muon`'s, as of PyTorch 2.9: momentum, look ahead, decay and step length here, and
/// coefficients, iterations and epsilon above. The learning rate is the caller's: PyTorch's default is 1e-3, Jordan's 0.02.
///
/// Jordan and others, ["Muon: An optimizer for hidden layers in neural networks"](https://kellerjordan.github.io/posts/muon/), 2024. Matrices
/// and dense kernels move by it, all else by AdamW, at the same learning rate. Which is which is timm's
/// [rule](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/optim/muon.py): a kernel `[O, I, h, w]` is the matrix `[O, I h w]`, unless
/// it is depthwise; both sides are at least 4, and neither is above 128 times the other. (PyTorch's own takes matrices alone.)
///
/// The iteration is done in the gradient's number type, where PyTorch and timm take bf16: f32 costs little at the sizes of image classifiers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonOptions {
    /// Decay of the momentum.
    pub momentum: f32,
    /// Whether the gradient is looked at where the momentum leads to.
    pub nesterov: bool,
    /// Decoupled decay, times the learning rate; of what moves by AdamW, too. Vectors are not decayed.
    pub weight_decay: f32,
    /// How long a matrix's step is.
    pub step_length: MuonStepLength,
    /// The constants of what moves by AdamW, but for the decay.
    pub adamw: AdamWOptions,
}

/// How the learning rate becomes the length of a matrix's step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MuonStepLength {
    /// Times the root of rows over columns, at least 1: Jordan's, and PyTorch's default. It wants a rate some twenty times that of AdamW.
    Original,
    /// Times a fifth of the root of the longer side, so that a rate and a decay that suit AdamW do here (PyTorch's `match_rms_adamw`, timm's default).
    MatchAdamW,
}

impl Default for MuonOptions {
    fn default() -> Self {
        let adamw = AdamWOptions::default();
        Self { momentum: 0.95, nesterov: true, weight_decay: 0.1, step_length: MuonStepLength::Original, adamw }
    }
}

impl MuonOptions {
    pub(super) fn slots(shape: &[usize]) -> Vec<(&'static str, usize)> {
        let elements = shape.iter().product();
        match matrix(shape) {
            Some(_) => vec![(MOMENTUM, elements)],
            None => AdamWOptions::slots(elements),
        }
    }

    pub(super) fn turn(&self, turn: Turn<'_>, state: &mut Slots) -> Tensor<1> {
        let Some([rows, columns]) = matrix(turn.shape) else { return self.adamw.turn(turn, state) };
        let share = 1.0 - f64::from(self.momentum);
        let gradient = turn.gradient.clone();
        let momentum = match state.remove(MOMENTUM) {
            Some(momentum) => towards(momentum, gradient.clone(), share),
            None => gradient.clone().mul_scalar(share),
        };
        state.insert(MOMENTUM, momentum.clone());
        let direction = if self.nesterov { towards(gradient, momentum, f64::from(self.momentum)) } else { momentum };
        let direction = orthogonalized(direction.reshape([rows, columns])).reshape([rows * columns]);
        let [rows, columns] = [rows, columns].map(|side| side as f64);
        let length = match self.step_length {
            MuonStepLength::Original => (rows / columns).max(1.0).sqrt(),
            MuonStepLength::MatchAdamW => 0.2 * rows.max(columns).sqrt(),
        };
        turn.decayed_weight_less(direction, length)
    }
}

/// Rows and columns of what moves as a matrix.
fn matrix(shape: &[usize]) -> Option<[usize; 2]> {
    let [rows, inner @ ..] = shape else { return None };
    let columns: usize = inner.iter().product();
    let [short, long] = [columns.min(*rows), columns.max(*rows)];
    let is_matrix = inner.first().is_some_and(|&first| first > 1)
        && short >= SHORTEST_SIDE
        && long as f64 <= LARGEST_ASPECT * short as f64;
    is_matrix.then_some([*rows, columns])
}

/// A matrix of the same singular vectors whose singular values are all near 1, by a Newton-Schulz iteration.
///
/// # Shapes
/// - `matrix` and output: `[R, C]`
fn orthogonalized(matrix: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = matrix.dims();
    let norm = sum_of_squares(&matrix.clone().reshape([rows * columns])).sqrt().clamp_min(EPSILON); // [1]
    let is_tall = rows > columns;
    let matrix = if is_tall { matrix.transpose() } else { matrix };
    let mut matrix = matrix / norm.reshape([1, 1]); // [S, L], the short side first
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let gram = matrix.clone().matmul(matrix.clone().transpose()); // [S, S]
        let polynomial = gram.clone().mul_scalar(b) + gram.clone().matmul(gram).mul_scalar(c); // [S, S]
        matrix = matrix.clone().mul_scalar(a) + polynomial.matmul(matrix); // [S, L]
    }
    if is_tall { matrix.transpose() } else { matrix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_and_dense_kernels_are_orthogonalized_as_timm_chooses_them() {
        for (shape, expected) in [
            (&[64, 128][..], Some([64, 128])),
            (&[96, 3, 4, 4], Some([96, 48])),
            (&[64, 64, 1, 1], Some([64, 64])),
            (&[4, 2048], None),
            (&[3, 64], None),
            (&[64], None),
            (&[1], None),
            (&[64, 1, 7, 7], None),
            (&[512, 4], Some([512, 4])),
            (&[], None),
        ] {
            assert_eq!(matrix(shape), expected, "{shape:?}");
        }
    }
}
