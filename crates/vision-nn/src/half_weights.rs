//! Copies of weights and biases in half precision, made at once: a card would else launch a cast for each of them in every forward pass, and one for each
//! gradient on the way back.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Tensor};

use crate::kernels::{cast_all, prepared_copy, takes_lists};
use crate::pass::stored_as;
use crate::tape::off_tape;

thread_local! {
    /// Of the model that runs on this thread: flat, off the tape, by the parameter that they are of.
    static COPIES: RefCell<BTreeMap<ParamId, Tensor<1>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Does `work`, in which layers of `model` that take weight and bias in the type of their input find them in `storage`. The gradients of those come in
/// `storage` too; they are what [`stored_as`] would have been given by the tape, without the cast.
///
/// Without effect in f32, within work of the same kind, as a block's within its model's, and on devices that do not [take lists](takes_lists).
pub fn with_half_weights<M: Module, T>(model: &M, storage: DType, work: impl FnOnce() -> T) -> T {
    if storage == DType::F32 || !COPIES.with_borrow(BTreeMap::is_empty) {
        return work();
    }
    let mut wanted = Wanted::default();
    model.visit(&mut wanted);
    let is_taken = wanted.tensors.first().is_some_and(|tensor| takes_lists(&tensor.device()));
    let copies = if is_taken { cast_all(wanted.tensors, storage) } else { Vec::new() };
    let _before = Before(COPIES.replace(wanted.ids.into_iter().zip(copies).collect()));
    work()
}

/// What was there before, and is again when this is gone: also after a panic, as running out of memory is one.
struct Before(BTreeMap<ParamId, Tensor<1>>);

impl Drop for Before {
    fn drop(&mut self) {
        COPIES.set(std::mem::take(&mut self.0));
    }
}

/// A weight or bias in `dtype`, on its tape.
pub(crate) fn parameter_as<const D: usize>(parameter: &Param<Tensor<D>>, dtype: DType) -> Tensor<D> {
    let value = parameter.val();
    let copy = COPIES.with_borrow(|copies| copies.get(&parameter.id).cloned());
    match copy.filter(|copy| copy.dtype() == dtype) {
        Some(copy) => {
            let shape = value.dims();
            prepared_copy(value, copy.reshape(shape))
        }
        None => stored_as(value, dtype),
    }
}

/// Layers whose weight and bias go by the type of their input. One that is left out casts its own.
const LAYERS: [&str; 4] = ["Struct:Linear", "Struct:Pointwise", "Struct:PatchConv2d", "Struct:Conv2d"];

/// What such layers are part of that computes in f32.
const IN_F32: &str = "Struct:SqueezeExcite";

/// Parameters to be cast, flat and off the tape.
#[derive(Default)]
struct Wanted {
    containers: Vec<String>,
    is_named: bool,
    ids: Vec<ParamId>,
    tensors: Vec<Tensor<1>>,
}

impl ModuleVisitor for Wanted {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let is_of_layer = self.containers.last().is_some_and(|container| LAYERS.contains(&container.as_str()));
        let (value, is_in_f32) = (param.val(), self.containers.iter().any(|container| container == IN_F32));
        // Kernels of a depthwise convolution, `[C, 1, k, k]`, are read in f32.
        let is_depthwise = D == 4 && value.dims()[1] == 1;
        if self.is_named && is_of_layer && !is_in_f32 && !is_depthwise {
            let elements = value.shape().num_elements();
            self.ids.push(param.id);
            self.tensors.push(off_tape(value).reshape([elements]));
        }
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.is_named = matches!(name, "weight" | "bias");
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.containers.pop();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::tape::onto_tape;
    use crate::{Conv2d, Initialization, Initializer, Linear, Padding, SqueezeExcite, Tape};

    #[derive(Module, Debug)]
    struct Model {
        convolution: Conv2d,
        depthwise: Conv2d,
        squeeze_excite: SqueezeExcite,
        head: Linear,
    }

    fn model(device: &Device) -> Model {
        let mut init = Initializer::new(1, Initialization::FanIn, device);
        Model {
            convolution: Conv2d::dense([3, 8], 3, 2, Padding::Symmetric, &mut init),
            depthwise: Conv2d::depthwise(8, 3, 1, Padding::Symmetric, &mut init),
            squeeze_excite: SqueezeExcite::init(8, 4, &mut init),
            head: Linear::init(8, 5, 0.1, &mut init),
        }
    }

    #[test]
    fn weights_of_products_are_cast_and_those_that_are_read_in_f32_are_not() {
        let model = model(&Device::flex().autodiff());
        let ids = |model: &Model| [model.convolution.weight.id, model.head.weight.id, model.head.bias.id];
        let found = with_half_weights(&model, DType::BF16, || COPIES.with_borrow(|copies| copies.clone()));
        assert_eq!(found.len(), 3);
        assert!(ids(&model).iter().all(|id| found[id].dtype() == DType::BF16));
        assert!(COPIES.with_borrow(BTreeMap::is_empty), "they end with the work");
        let failed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            with_half_weights(&model, DType::BF16, || panic!("memory ran out"));
        }));
        assert!(failed.is_err() && COPIES.with_borrow(BTreeMap::is_empty), "they end with work that fails");
        with_half_weights(&model, DType::F32, || assert!(COPIES.with_borrow(BTreeMap::is_empty)));
    }

    #[test]
    fn a_gradient_comes_in_half_precision_and_is_that_of_the_layers_own_cast() {
        let plain = Device::flex();
        let model = model(&plain.clone().autodiff());
        let rows = Tensor::<2>::random([6, 8], Distribution::Normal(0.0, 1.0), &plain).cast(DType::BF16);
        let gradient = |rows: Tensor<2>| {
            let mut tape = Tape::backward(model.head.forward(rows).powi_scalar(2).sum());
            tape.remove(&model.head.weight.val()).expect("it has one")
        };
        let rows = || Tensor::from_inner(rows.clone());
        let expected = gradient(rows());
        // The backward pass runs outside.
        let output = with_half_weights(&model, DType::BF16, || model.head.forward(rows()).powi_scalar(2).sum());
        let found = Tape::backward(output).remove(&model.head.weight.val()).expect("it has one");
        assert_eq!([found.dtype(), expected.dtype()], [DType::BF16, DType::F32]);
        assert_eq!(found.cast(DType::F32).into_data(), expected.into_data());
    }

    #[test]
    fn a_frozen_weight_has_no_gradient_and_off_the_tape_there_is_none() {
        let plain = Device::flex();
        let frozen = model(&plain.clone().autodiff()).no_grad();
        let input = || onto_tape(Tensor::<2>::ones([2, 8], &plain), &plain.clone().autodiff());
        let rows = input();
        let sum =
            with_half_weights(&frozen, DType::BF16, || frozen.head.forward(stored_as(rows.clone(), DType::BF16)).sum());
        let mut tape = Tape::backward(sum);
        assert!(tape.remove(&frozen.head.weight.val()).is_none());
        assert_eq!(tape.remove(&rows).map(|gradient| gradient.dtype()), Some(DType::F32));

        let off_tape = model(&plain);
        let rows = Tensor::<2>::ones([2, 8], &plain).cast(DType::BF16);
        let output = with_half_weights(&off_tape, DType::BF16, || off_tape.head.forward(rows.clone()));
        assert_eq!(output.into_data(), off_tape.head.forward(rows).into_data());
    }
}
