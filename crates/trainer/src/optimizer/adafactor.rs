use burn::tensor::Tensor;

use super::{Slots, Turn, towards};
use crate::gradients::sum_of_squares;

const ROWS: &str = "rows";
const COLUMNS: &str = "columns";
const VARIANCE: &str = "variance";

/// PyTorch's first epsilon where none is given: the distance of 1 to the next f32.
const EPSILON_1: f64 = f32::EPSILON as f64;

/// Adafactor's constants; the defaults are `torch.optim.Adafactor`'s, whose learning rate is 1e-2 by default.
///
/// Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018. Of a matrix's second moment it keeps the means of
/// rows and columns; of a kernel, as PyTorch does, those of its last two axes, and of a vector all of it. There is no first moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdafactorOptions {
    /// Power of the step that the second moment's decay follows.
    pub beta_2_decay: f64,
    /// Least scale of a weight, which its step is in proportion to.
    pub epsilon_2: f64,
    /// Root mean square above which an update is scaled down.
    pub clip: f64,
    /// Decoupled decay, times the learning rate. Vectors are not decayed.
    pub weight_decay: f32,
}

impl Default for AdafactorOptions {
    fn default() -> Self {
        Self { beta_2_decay: -0.8, epsilon_2: 1e-3, clip: 1.0, weight_decay: 0.0 }
    }
}

impl AdafactorOptions {
    pub(super) fn slots(shape: &[usize]) -> Vec<(&'static str, usize)> {
        match factored(shape) {
            Some([lead, rows, columns]) => vec![(ROWS, lead * rows), (COLUMNS, lead * columns)],
            None => vec![(VARIANCE, shape.iter().product())],
        }
    }

    pub(super) fn turn(&self, turn: Turn<'_>, state: &mut Slots) -> Tensor<1> {
        let share = (turn.step as f64).powf(self.beta_2_decay);
        let elements = turn.weight.dims()[0] as f64;
        let pace = turn.learning_rate.min((turn.step as f64).powf(-0.5));
        // The scale is that of the weight before its decay.
        let scale = (sum_of_squares(&turn.weight).sqrt() / elements.sqrt()).clamp_min(self.epsilon_2); // [1]
        let estimate = match factored(turn.shape) {
            Some(shape) => factored_variance(&turn.gradient, shape, share, state),
            None => whole_variance(&turn.gradient, share, state),
        };
        let update = turn.gradient.clone() / estimate.clamp_min(EPSILON_1 * EPSILON_1).sqrt();
        let norm = sum_of_squares(&update).sqrt() / elements.sqrt(); // [1]
        let damping = norm.div_scalar(self.clip).clamp_min(1.0);
        turn.decayed_weight() - update * (scale.mul_scalar(pace) / damping)
    }
}

/// The leading axes together, and the last two; none of a vector.
fn factored(shape: &[usize]) -> Option<[usize; 3]> {
    let [lead @ .., rows, columns] = shape else { return None };
    Some([lead.iter().product(), *rows, *columns])
}

/// Rows times columns, over the rows' mean.
///
/// # Shapes
/// - `gradient` and output: `[L * R * C]`
fn factored_variance(gradient: &Tensor<1>, shape: [usize; 3], share: f64, state: &mut Slots) -> Tensor<1> {
    let [lead, rows, columns] = shape;
    let elements = lead * rows * columns;
    let squares = gradient.clone().square().reshape(shape); // [L, R, C]
    let row_means = squares.clone().mean_dim(2).reshape([lead * rows]);
    let column_means = squares.mean_dim(1).reshape([lead * columns]);
    let row_means = moved(state, ROWS, row_means, share).reshape([lead, rows, 1]);
    let column_means = moved(state, COLUMNS, column_means, share).reshape([lead, 1, columns]);
    let mean = row_means.clone().mean_dim(1).clamp_min(EPSILON_1); // [L, 1, 1]
    (row_means * column_means / mean).reshape([elements])
}

fn whole_variance(gradient: &Tensor<1>, share: f64, state: &mut Slots) -> Tensor<1> {
    moved(state, VARIANCE, gradient.clone().square(), share)
}

/// Moves what is kept in a slot towards `value`; at first it is zero.
fn moved(state: &mut Slots, slot: &'static str, value: Tensor<1>, share: f64) -> Tensor<1> {
    let after = match state.remove(slot) {
        Some(before) => towards(before, value, share),
        None => value.mul_scalar(share),
    };
    state.insert(slot, after.clone());
    after
}
