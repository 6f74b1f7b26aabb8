//! Parameters by the name that the reference checkpoint gives them.

use std::collections::BTreeMap;
use std::fmt;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use crate::captured_id;

/// One parameter's values with its name and shape.
#[derive(Debug, Clone)]
pub struct NamedTensor {
    /// Dotted path, for example `stages.0.blocks.1.conv_dw.weight`.
    pub name: String,
    /// Values and shape, on the host.
    pub data: TensorData,
}

/// Every float parameter in the module's order, copied to the host. Waits for the device.
pub fn named_parameters<M: Module>(module: &M) -> Vec<NamedTensor> {
    struct Named(ParameterPath, Vec<NamedTensor>);
    impl ModuleVisitor for Named {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push(NamedTensor { name: self.0.name(), data: param.val().into_data() });
        }
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.0.exit(container);
        }
    }
    let mut named = Named(ParameterPath::default(), Vec::new());
    module.visit(&mut named);
    named.1
}

/// Names and shapes of every float parameter, in the module's order. Reads nothing from the device.
pub fn parameter_shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    struct Shapes(ParameterPath, Vec<(String, Vec<usize>)>);
    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push((self.0.name(), param.val().dims().to_vec()));
        }
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.0.exit(container);
        }
    }
    let mut shapes = Shapes(ParameterPath::default(), Vec::new());
    module.visit(&mut shapes);
    shapes.1
}

/// Names of every float parameter of a model on the capture device, by the numbers that the recorded graph knows them by.
pub fn captured_parameters<M: Module>(module: &M) -> BTreeMap<u64, String> {
    struct Numbers(ParameterPath, BTreeMap<u64, String>);
    impl ModuleVisitor for Numbers {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.insert(captured_id(&param.val()), self.0.name());
        }
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.0.exit(container);
        }
    }
    let mut numbers = Numbers(ParameterPath::default(), BTreeMap::new());
    module.visit(&mut numbers);
    numbers.1
}

/// Something that replaces each parameter's tensor, knowing its name and identity.
pub trait ParameterMap {
    /// The tensor to put in place of `tensor`; same shape, same device.
    fn map<const D: usize>(&mut self, name: &str, id: ParamId, tensor: Tensor<D>) -> Tensor<D>;
}

/// Replaces every float parameter by what `map` makes of it. The old tensor is not kept alive.
pub fn map_parameters<M: Module, P: ParameterMap>(module: M, map: &mut P) -> M {
    struct Mapper<'a, P>(ParameterPath, &'a mut P);
    impl<P: ParameterMap> ModuleMapper for Mapper<'_, P> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, tensor, mapper) = param.consume();
            Param::from_mapped_value(id, self.1.map(&self.0.name(), id, tensor), mapper)
        }
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.0.exit(container);
        }
    }
    module.map(&mut Mapper(ParameterPath::default(), map))
}

/// Why tensors do not fit a module. Every list is complete and sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssignError {
    /// Parameters of the module that no tensor was given for.
    pub missing: Vec<String>,
    /// Tensors that no parameter has the name of.
    pub unused: Vec<String>,
    /// Name, the module's shape, the tensor's shape.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl fmt::Display for AssignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("{} missing ({})", self.missing.len(), some_of(&self.missing)));
        }
        if !self.unused.is_empty() {
            parts.push(format!("{} unused ({})", self.unused.len(), some_of(&self.unused)));
        }
        if !self.mismatched.is_empty() {
            let shapes: Vec<String> = self
                .mismatched
                .iter()
                .map(|(name, expected, found)| format!("{name}: expected {expected:?}, found {found:?}"))
                .collect();
            parts.push(format!("{} of another shape ({})", self.mismatched.len(), some_of(&shapes)));
        }
        write!(f, "tensors do not fit the model: {}", parts.join("; "))
    }
}

impl std::error::Error for AssignError {}

/// The first few of a list, and how many more there are.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// Replaces the module's parameters by `tensors`, converted to each parameter's own number type.
///
/// # Errors
/// When a parameter has no tensor, a tensor has no parameter, or shapes differ; the module is not touched then.
pub fn assign_parameters<M: Module>(module: M, tensors: BTreeMap<String, TensorData>) -> Result<M, Box<AssignError>> {
    let error = compare_shapes(&parameter_shapes(&module), &tensors);
    if error != AssignError::default() {
        return Err(Box::new(error));
    }
    Ok(assign_given(module, tensors))
}

/// Replaces those of the module's parameters that `tensors` has, converted to each parameter's own number type; the others stay as they are.
///
/// # Panics
/// When a shape differs. [`compare_shapes`] tells before.
pub fn assign_given<M: Module>(module: M, tensors: BTreeMap<String, TensorData>) -> M {
    map_parameters(module, &mut Assign(tensors))
}

/// What keeps `tensors` from being the parameters of a module of these names and shapes; nothing in it when they are.
pub fn compare_shapes(shapes: &[(String, Vec<usize>)], tensors: &BTreeMap<String, TensorData>) -> AssignError {
    let mut error = AssignError::default();
    let expected: BTreeMap<&String, &Vec<usize>> = shapes.iter().map(|(name, shape)| (name, shape)).collect();
    for (&name, &shape) in &expected {
        match tensors.get(name) {
            None => error.missing.push(name.clone()),
            Some(data) if data.shape.to_vec() != *shape => {
                error.mismatched.push((name.clone(), shape.clone(), data.shape.to_vec()));
            }
            Some(_) => {}
        }
    }
    error.unused = tensors.keys().filter(|name| !expected.contains_key(*name)).cloned().collect();
    error
}

struct Assign(BTreeMap<String, TensorData>);

impl ParameterMap for Assign {
    fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
        let Some(data) = self.0.remove(name) else { return tensor };
        assert_eq!(data.shape.as_slice(), tensor.dims(), "shapes are compared before the first assignment");
        let required = tensor.is_require_grad();
        let data = data.convert_dtype(tensor.dtype());
        Tensor::from_data(data, &tensor.device()).set_require_grad(required)
    }
}

/// The dotted path of the parameter that a visitor is at. An enum's variant is not part of it: checkpoints do not know our enums.
#[derive(Debug, Default, Clone)]
pub struct ParameterPath(Vec<String>);

impl ParameterPath {
    /// To be called from a visitor's or mapper's `enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    /// To be called from a visitor's or mapper's `exit_module`.
    pub fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    /// The dotted name.
    pub fn name(&self) -> String {
        self.0.join(".")
    }
}
