//! Parameters by the name that the reference checkpoint gives them.

use std::collections::BTreeMap;
use std::fmt;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use crate::{captured_id, tensor_without_gaps};

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

/// How many of each kind, and below that, on a line for each kind, all names: a hundred of them leave the first line readable. The lines are
/// indented, to stand below a cause in a list of causes.
impl fmt::Display for AssignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let shapes = self.mismatched.iter();
        let shapes = shapes.map(|(name, expected, found)| format!("`{name}` (expected {expected:?}, found {found:?})"));
        let kinds = [
            ("missing", quoted(&self.missing)),
            ("unused", quoted(&self.unused)),
            ("of another shape", shapes.collect::<Vec<_>>()),
        ];
        let told: Vec<_> = kinds.iter().filter(|(_, names)| !names.is_empty()).collect();
        let counts: Vec<String> = told.iter().map(|(kind, names)| format!("{} {kind}", names.len())).collect();
        write!(f, "tensors do not fit the model: {}", counts.join(", "))?;
        told.iter().try_for_each(|(kind, names)| write!(f, "\n    {kind}: {}", names.join(", ")))
    }
}

impl std::error::Error for AssignError {}

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
        tensor_without_gaps(data, &tensor.device()).set_require_grad(required)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn data(shape: &[usize]) -> TensorData {
        TensorData::new(vec![0.0f32; shape.iter().product()], shape.to_vec())
    }

    #[test]
    fn an_error_counts_each_kind_and_lists_all_names_and_both_shapes() {
        let shapes: [(&str, &[usize]); 3] = [("a", &[2]), ("b", &[3]), ("c", &[2, 4])];
        let tensors = [("a", data(&[2])), ("c", data(&[4, 2])), ("d", data(&[1])), ("e", data(&[1]))];
        let tensors = BTreeMap::from(tensors.map(|(name, data)| (name.to_owned(), data)));
        let error = compare_shapes(&shapes.map(|(name, shape)| (name.to_owned(), shape.to_vec())), &tensors);
        assert_eq!(
            error.to_string(),
            "tensors do not fit the model: 1 missing, 2 unused, 1 of another shape\n    \
             missing: `b`\n    \
             unused: `d`, `e`\n    \
             of another shape: `c` (expected [2, 4], found [4, 2])"
        );
    }

    #[test]
    fn an_error_leaves_no_name_out_and_no_kind_without_names_in() {
        let missing: Vec<String> = (0..100).map(|number| format!("blocks.{number}.weight")).collect();
        let error = AssignError { missing: missing.clone(), ..AssignError::default() };
        let text = error.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "tensors do not fit the model: 100 missing");
        assert_eq!(lines.len(), 2);
        assert!(missing.iter().all(|name| lines[1].contains(&format!("`{name}`"))), "{text}");
    }
}
