//! Tensors of a pickle: which storage, from where on, in which shape and order.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::{DType, TensorData};

use super::AVERAGED_MODELS;
use super::pickle::{Object, Objects, Reference};

/// The functions that give a tensor of `(storage, offset, size, stride, ..)`.
const REBUILDS: [&str; 2] = ["torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"];

/// Functions whose first argument is the tensor: parameters.
const PARAMETERS: [&str; 2] = ["torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"];

/// All tensors together may be so many times the file: weights that share a storage are saved once.
const LARGEST_EXPANSION: usize = 4;

/// The archive's storages.
pub(super) struct Storages<'a> {
    pub(super) entries: &'a HashMap<String, &'a [u8]>,
    /// Where they lie in the archive, with the slash.
    pub(super) folder: String,
    pub(super) file_bytes: usize,
}

/// A tensor as the pickle describes it.
struct Described<'a> {
    key: &'a str,
    dtype: DType,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Whether a call of a function that is known to give a tensor.
pub(super) fn is_tensor(objects: &Objects, at: Reference) -> bool {
    rebuild_arguments(objects, at).is_some()
}

/// The arguments of the rebuilding function, behind a parameter if it is one.
fn rebuild_arguments(objects: &Objects, at: Reference) -> Option<&[Reference]> {
    let Object::Made { by, arguments } = objects.get(at) else { return None };
    let (name, Object::Tuple(arguments)) = (objects.global(*by)?, objects.get(*arguments)) else { return None };
    match name {
        _ if REBUILDS.contains(&name) => Some(arguments),
        // A parameter holds a tensor, not another parameter: one step is all there is.
        _ if PARAMETERS.contains(&name) => match objects.get(*arguments.first()?) {
            Object::Made { by, arguments } if REBUILDS.contains(&objects.global(*by)?) => match objects.get(*arguments)
            {
                Object::Tuple(arguments) => Some(arguments),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

impl Storages<'_> {
    /// Every tensor of a state dict by name. What is no tensor, such as an epoch's number, is left out.
    pub(super) fn read_all(&self, objects: &Objects, state: Reference) -> Result<BTreeMap<String, TensorData>, String> {
        let Object::Dict(items) = objects.get(state) else { return Err("there are no weights in it".to_owned()) };
        let mut tensors = BTreeMap::new();
        let mut allowed = self.file_bytes.saturating_mul(LARGEST_EXPANSION);
        for (key, value) in items {
            let (Some(name), Some(arguments)) = (objects.text(*key), rebuild_arguments(objects, *value)) else {
                continue;
            };
            if name == AVERAGED_MODELS {
                continue;
            }
            let read = describe(objects, arguments).and_then(|described| self.read(&described, &mut allowed));
            tensors.insert(name.to_owned(), read.map_err(|reason| format!("tensor `{name}` {reason}"))?);
        }
        Ok(tensors)
    }

    fn read(&self, described: &Described<'_>, allowed: &mut usize) -> Result<TensorData, String> {
        let Described { key, dtype, offset, shape, strides } = described;
        let storage = self.entries.get(&format!("{}{key}", self.folder));
        let storage = storage.ok_or_else(|| format!("lies in the storage `{key}`, which the file lacks"))?;
        let width = dtype.size();
        let too_large = || format!("of shape {shape:?} does not fit its storage of {} bytes", storage.len());
        let elements =
            shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side)).ok_or_else(too_large)?;
        let bytes = elements.checked_mul(width).ok_or_else(too_large)?;
        *allowed = allowed.checked_sub(bytes).ok_or("makes the weights larger than their file")?;
        if elements > 0 {
            let reach = shape
                .iter()
                .zip(strides)
                .try_fold(*offset, |reach, (side, stride)| reach.checked_add((side - 1).checked_mul(*stride)?));
            let end = reach.and_then(|last| last.checked_add(1)?.checked_mul(width));
            end.filter(|end| *end <= storage.len()).ok_or_else(too_large)?;
        }
        let data = match is_row_major(shape, strides) {
            true if elements > 0 => storage[offset * width..][..bytes].to_vec(),
            _ => gather(storage, described, bytes),
        };
        Ok(TensorData::from_bytes_vec(data, shape.clone(), *dtype))
    }
}

/// Copies the elements in row-major order. The caller has seen that they are all there.
fn gather(storage: &[u8], described: &Described<'_>, bytes: usize) -> Vec<u8> {
    let Described { dtype, offset, shape, strides, .. } = described;
    let width = dtype.size();
    let mut data = Vec::with_capacity(bytes);
    let mut index = vec![0; shape.len()];
    for _ in 0..bytes / width {
        let at = offset + index.iter().zip(strides).map(|(index, stride)| index * stride).sum::<usize>();
        data.extend_from_slice(&storage[at * width..][..width]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    data
}

/// Strides of axes of one element mean nothing.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(side, stride)| {
        let fits = *side == 1 || *stride == expected;
        expected *= side;
        fits
    })
}

/// Takes `(storage, offset, size, stride, ..)` apart.
fn describe<'a>(objects: &'a Objects, arguments: &[Reference]) -> Result<Described<'a>, String> {
    let unknown = || "is described in a way that is not known".to_owned();
    let &[storage, offset, shape, strides, ..] = arguments else { return Err(unknown()) };
    let Object::Persistent(storage) = objects.get(storage) else { return Err(unknown()) };
    let Object::Tuple(storage) = objects.get(*storage) else { return Err(unknown()) };
    // ("storage", torch.FloatStorage, key, device, elements)
    let &[_, class, key, ..] = storage.as_slice() else { return Err(unknown()) };
    let (class, key) = objects.global(class).zip(objects.text(key)).ok_or_else(unknown)?;
    let [shape, strides] = [shape, strides].map(|sizes| whole_numbers(objects, sizes));
    let (shape, strides) =
        shape.zip(strides).filter(|(shape, strides)| shape.len() == strides.len()).ok_or_else(unknown)?;
    let offset = whole_number(objects, offset).ok_or_else(unknown)?;
    let dtype = number_type(class).ok_or_else(|| format!("is stored as `{class}`, expected floats"))?;
    Ok(Described { key, dtype, offset, shape, strides })
}

fn whole_numbers(objects: &Objects, at: Reference) -> Option<Vec<usize>> {
    match objects.get(at) {
        Object::Tuple(parts) | Object::List(parts) => parts.iter().map(|part| whole_number(objects, *part)).collect(),
        _ => None,
    }
}

fn whole_number(objects: &Objects, at: Reference) -> Option<usize> {
    match objects.get(at) {
        Object::Integer(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

fn number_type(class: &str) -> Option<DType> {
    match class.strip_prefix("torch.")? {
        "FloatStorage" => Some(DType::F32),
        "HalfStorage" => Some(DType::F16),
        "BFloat16Storage" => Some(DType::BF16),
        "DoubleStorage" => Some(DType::F64),
        "LongStorage" => Some(DType::I64),
        "ByteStorage" => Some(DType::U8),
        _ => None,
    }
}
