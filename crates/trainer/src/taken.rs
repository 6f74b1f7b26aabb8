//! Parameters taken out of a module for as long as they are worked on all at once, so that nobody else holds their memory.

use std::collections::BTreeMap;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use vision_nn::{ParameterMap, map_parameters, off_tape, onto_tape};

/// A parameter that is away from its module.
pub(crate) struct Taken {
    /// `[elements]`, off the tape.
    pub(crate) tensor: Tensor<1>,
    pub(crate) place: Place,
}

/// Where a parameter belongs.
pub(crate) struct Place {
    shape: Vec<usize>,
    /// With or without a tape.
    device: Device,
}

/// Takes out the parameters whose names are wanted. The module is not to be used before [`put_back`].
pub(crate) fn take_out<M: Module>(module: M, is_wanted: impl Fn(&str) -> bool) -> (M, BTreeMap<String, Taken>) {
    let mut taking = Taking { is_wanted, taken: BTreeMap::new() };
    let module = map_parameters(module, &mut taking);
    (module, taking.taken)
}

/// Puts parameters back in their places.
pub(crate) fn put_back<M: Module>(module: M, taken: BTreeMap<String, Taken>) -> M {
    map_parameters(module, &mut Returning(taken))
}

struct Taking<F> {
    is_wanted: F,
    taken: BTreeMap<String, Taken>,
}

impl<F: Fn(&str) -> bool> ParameterMap for Taking<F> {
    fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
        if !(self.is_wanted)(name) {
            return tensor;
        }
        let (shape, device) = (tensor.dims().to_vec(), tensor.device());
        let stand_in = Tensor::empty([1; D], &device.clone().inner());
        let tensor = off_tape(tensor).reshape([shape.iter().product::<usize>()]);
        self.taken.insert(name.to_owned(), Taken { tensor, place: Place { shape, device } });
        stand_in
    }
}

struct Returning(BTreeMap<String, Taken>);

impl ParameterMap for Returning {
    fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
        let Some(Taken { tensor: taken, place: Place { shape, device } }) = self.0.remove(name) else { return tensor };
        let shape: [usize; D] = shape.try_into().expect("the shape was taken from this parameter");
        let tensor = taken.reshape(shape);
        if device.is_autodiff() { onto_tape(tensor, &device) } else { tensor }
    }
}
