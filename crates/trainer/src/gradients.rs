use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, s};
use vision_nn::{ParameterPath, Tape, blend_all, cast_all, scale_all, squares_of_all, takes_lists};

use crate::all_reduce::all_reduce_lists;
use crate::{ComputeError, Exchange};

/// Added to the norm before dividing, as PyTorch's `clip_grad_norm_` does.
const CLIP_EPSILON: f64 = 1e-6;

/// Elements summed at a time. From 2^22 on, Burn's CPU backend shares a sum between threads and adds their parts in an order that depends on
/// which was faster: another run would have another norm in the last bits, and, clipped, other weights.
const LONGEST_SUM: usize = 1 << 21;

/// Elements of half precision that are cast to f32 at once, 64 MiB of them, but for a longer tensor.
const WIDENED_AT_ONCE: usize = 1 << 25;

/// One flat gradient a parameter, by name. Flat, so that one map holds every rank.
#[derive(Debug, Default, Clone)]
pub struct Gradients {
    tensors: BTreeMap<String, Tensor<1>>,
}

impl Gradients {
    /// Takes the gradients of `module`'s parameters out of a backward pass. Frozen parameters have none.
    pub fn take<M: Module>(tape: Tape, module: &M) -> Self {
        Self::take_from_parts(vec![tape], module)
    }

    /// Takes the gradients of `module`'s parameters out of the parts of a backward pass, and adds those that several have.
    pub fn take_from_parts<M: Module>(tapes: Vec<Tape>, module: &M) -> Self {
        let mut visitor = Take { path: ParameterPath::default(), tapes, tensors: BTreeMap::new() };
        module.visit(&mut visitor);
        Self { tensors: visitor.tensors }.widened()
    }

    /// All in f32. Those of weights that were [cast at once](vision_nn::with_half_weights) come in half precision, and are cast back by few launches, each of
    /// which frees what it read: the gradients of a large model are never there twice.
    fn widened(mut self) -> Self {
        let is_half = |(_, tensor): &(&String, &Tensor<1>)| tensor.dtype() != DType::F32;
        let form = |(name, tensor): (&String, &Tensor<1>)| (name.clone(), tensor.shape().num_elements());
        let half: Vec<(String, usize)> = self.tensors.iter().filter(is_half).map(form).collect();
        let mut half = half.into_iter().peekable();
        while half.peek().is_some() {
            let (mut names, mut room) = (Vec::new(), WIDENED_AT_ONCE);
            while let Some((name, length)) = half.next_if(|(_, length)| names.is_empty() || *length <= room) {
                room = room.saturating_sub(length);
                names.push(name);
            }
            let tensors = names.iter().filter_map(|name| self.remove(name)).collect();
            self.tensors.extend(names.into_iter().zip(cast_all(tensors, DType::F32)));
        }
        self
    }

    /// The same on another device.
    pub(crate) fn carried(self, exchange: Exchange, device: &Device) -> Self {
        // Nothing is read and written again where nothing moves.
        let carry =
            |tensor: Tensor<1>| if tensor.device() == *device { tensor } else { exchange.carry(tensor, device) };
        self.tensors.into_iter().map(|(name, tensor)| (name, carry(tensor))).collect()
    }

    /// The sums of what CUDA cards have, on the first of them, which has gradients; others may have none.
    ///
    /// # Errors
    /// [`ComputeError`] when not all have taken part.
    pub(crate) fn all_reduced(parts: Vec<Self>, devices: &[Device]) -> Result<Self, ComputeError> {
        let names: Vec<String> = parts.first().map_or(Vec::new(), |first| first.tensors.keys().cloned().collect());
        let listed = |part: Self| (!part.tensors.is_empty()).then(|| part.tensors.into_values().collect());
        let sums = all_reduce_lists(parts.into_iter().map(listed).collect(), devices).into_iter().next();
        let Some(sums) = sums else { return Ok(Self::default()) };
        sums.witness.check()?;
        Ok(names.into_iter().zip(sums.tensors).collect())
    }

    /// Adds another micro-batch's gradients.
    pub fn add(&mut self, mut other: Self) {
        if self.is_list() {
            self.add_at_once(&mut other);
        }
        for (name, tensor) in other.tensors {
            let sum = match self.tensors.remove(&name) {
                Some(own) => own + tensor,
                None => tensor,
            };
            self.tensors.insert(name, sum);
        }
    }

    /// Takes those out of `other` that both have, and adds them in few launches.
    fn add_at_once(&mut self, other: &mut Self) {
        let common: Vec<String> = self.tensors.keys().filter(|name| other.get(name).is_some()).cloned().collect();
        let [own, others] = [&mut *self, other]
            .map(|gradients| common.iter().filter_map(|name| gradients.remove(name)).collect::<Vec<Tensor<1>>>());
        self.tensors.extend(common.into_iter().zip(blend_all(own, others, 1.0, 1.0)));
    }

    /// Whether the device has kernels for all of them at once.
    fn is_list(&self) -> bool {
        self.tensors.values().next().is_some_and(|tensor| takes_lists(&tensor.device()))
    }

    /// The gradient of the parameter of that name, `[elements]`.
    pub fn get(&self, name: &str) -> Option<&Tensor<1>> {
        self.tensors.get(name)
    }

    /// Takes one gradient out, so that it can be freed as soon as it is used.
    pub fn remove(&mut self, name: &str) -> Option<Tensor<1>> {
        self.tensors.remove(name)
    }

    /// Euclidean norm over all gradients together. Waits for the device.
    pub fn global_norm(&self) -> f64 {
        let Some(squares) = self.squares() else { return 0.0 };
        squares.into_data().iter::<f32>().map(f64::from).sum::<f64>().sqrt()
    }

    /// Sums of squares whose sum is the square of the global norm, `[parts]`; none without gradients.
    pub fn squares(&self) -> Option<Tensor<1>> {
        if self.is_list() {
            return squares_of_all(self.tensors.values().cloned().collect());
        }
        let squares: Vec<Tensor<1>> = self.tensors.values().flat_map(partial_squares).collect();
        (!squares.is_empty()).then(|| Tensor::cat(squares, 0))
    }

    /// Multiplies all gradients by `factor`.
    pub fn scale(&mut self, factor: f64) {
        let is_list = self.is_list();
        let (names, tensors): (Vec<String>, Vec<Tensor<1>>) = std::mem::take(&mut self.tensors).into_iter().unzip();
        let scaled = match is_list {
            true => scale_all(tensors, factor),
            false => tensors.into_iter().map(|tensor| tensor.mul_scalar(factor)).collect(),
        };
        self.tensors = names.into_iter().zip(scaled).collect();
    }

    /// Scales all gradients down when their norm exceeds `max_norm`; PyTorch's `clip_grad_norm_`.
    pub fn clip(&mut self, norm: f64, max_norm: f64) {
        let factor = clip_factor(norm, max_norm);
        if factor < 1.0 {
            self.scale(factor);
        }
    }

    /// Has a number of one gradient infinite: a fault that a test wants.
    pub(crate) fn make_infinite(&mut self) {
        if let Some(gradient) = self.tensors.values_mut().next() {
            *gradient = gradient.clone().slice_fill(s![0..1], f32::INFINITY);
        }
    }

    /// Names of gradients with a number that is not finite. Waits for the device.
    pub(crate) fn nonfinite_names(&self) -> Vec<&str> {
        let is_finite = |tensor: &Tensor<1>| tensor.to_data().iter::<f32>().all(f32::is_finite);
        self.iter().filter(|(_, tensor)| !is_finite(tensor)).map(|(name, _)| name).collect()
    }

    /// Names and gradients, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<1>)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

/// Names and flat gradients.
impl FromIterator<(String, Tensor<1>)> for Gradients {
    fn from_iter<I: IntoIterator<Item = (String, Tensor<1>)>>(gradients: I) -> Self {
        Self { tensors: gradients.into_iter().collect() }
    }
}

/// What gradients of this norm are multiplied by, at most 1, so that it does not exceed `max_norm`.
pub(crate) fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    let factor = max_norm / (norm + CLIP_EPSILON);
    // Not `min`, which would hide a norm that is no number.
    if factor < 1.0 { factor } else { 1.0 }
}

/// The sum of a tensor's squares, `[1]`; the same bits every time.
///
/// # Shapes
/// - `tensor`: `[elements]`
pub(crate) fn sum_of_squares(tensor: &Tensor<1>) -> Tensor<1> {
    let mut parts = partial_squares(tensor);
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0).sum() }
}

/// Sums of the squares of parts that are short enough.
fn partial_squares(tensor: &Tensor<1>) -> Vec<Tensor<1>> {
    tensor.clone().split(LONGEST_SUM, 0).into_iter().map(vision_nn::sum_of_squares).collect()
}

struct Take {
    path: ParameterPath,
    tapes: Vec<Tape>,
    tensors: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Take {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let parameter = param.val();
        let parts = self.tapes.iter_mut().filter_map(|tape| tape.remove(&parameter));
        if let Some(gradient) = parts.reduce(|sum, part| sum + part) {
            let elements = gradient.shape().num_elements();
            self.tensors.insert(self.path.name(), gradient.reshape([elements]));
        }
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
}
