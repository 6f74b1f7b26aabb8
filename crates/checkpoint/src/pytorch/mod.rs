//! Weights out of the files that `torch.save` writes.
//!
//! Such a file is a zip archive with a pickle, `NAME/data.pkl`, and the bytes of each storage, `NAME/data/KEY`, beside it (PyTorch's
//! [serialization notes](https://docs.pytorch.org/docs/stable/notes/serialization.html)). Burn's own reader for it (burn-store 0.22.0-pre.3) leaves strides
//! out of account and fills what a storage lacks with zeros, so that a damaged or channels-last checkpoint loads without a word.

mod pickle;
mod tensor;

use std::collections::{BTreeMap, HashMap};

use burn::tensor::TensorData;
use rawzip::{CompressionMethod, ZipArchive};

use pickle::{Object, Objects, Reference, unpickle};
use tensor::Storages;

/// A pickle of weights has a hundred bytes a tensor: one above this is something else, and would take much memory.
const LONGEST_PICKLE: usize = 32 << 20;

/// Where training scripts put the weights in what they save, averaged ones first; the order is timm's.
const WRAPPERS: [&str; 6] = ["state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "module"];

/// Wrappers in wrappers that are looked into.
const DEEPEST_WRAPPER: usize = 2;

/// PyTorch's count of averaged models, which `AveragedModel` saves among the weights.
const AVERAGED_MODELS: &str = "n_averaged";

/// Named tensors out of a file, and where in it they were.
#[derive(Debug)]
pub(crate) struct StateDict {
    pub(crate) tensors: BTreeMap<String, TensorData>,
    /// The keys that led to them; none where they were the whole file.
    pub(crate) wrappers: Vec<String>,
}

/// Whether these are the first bytes of a zip archive.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Whether these are the first bytes of a pickle, which is what PyTorch saved before 1.6: protocol 2, then its magic number.
pub(crate) fn is_old_format(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x80\x02\x8a\x0a")
}

/// Reads the weights in a file of `torch.save`. Nothing in it is executed.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub(crate) fn read_state_dict(bytes: &[u8]) -> Result<StateDict, String> {
    let entries = entries(bytes)?;
    let (prefix, pickle) = find_pickle(&entries)?;
    if entries.get(format!("{prefix}byteorder").as_str()).is_some_and(|order| order.trim_ascii() == b"big") {
        return Err("its numbers are big-endian".to_owned());
    }
    let (objects, root) = unpickle(pickle)?;
    let (wrappers, state) = unwrap(&objects, root)?;
    let storages = Storages { entries: &entries, folder: format!("{prefix}data/"), file_bytes: bytes.len() };
    Ok(StateDict { tensors: storages.read_all(&objects, state)?, wrappers })
}

/// The archive's files by name, where they lie in `bytes`.
fn entries(bytes: &[u8]) -> Result<HashMap<String, &[u8]>, String> {
    let broken = |error: rawzip::Error| format!("its archive is damaged or cut short: {error}");
    let archive = ZipArchive::from_slice(bytes).map_err(broken)?;
    let mut entries = HashMap::new();
    let mut records = archive.entries();
    while let Some(record) = records.next_entry().map_err(broken)? {
        let name = String::from_utf8_lossy(record.file_path().as_bytes()).into_owned();
        if record.is_dir() {
            continue;
        }
        if record.compression_method() != CompressionMethod::STORE {
            return Err(format!("`{name}` in its archive is compressed, which PyTorch never does"));
        }
        let (start, end) = archive.get_entry(record.wayfinder()).map_err(broken)?.compressed_data_range();
        let data = bytes.get(start as usize..end as usize).ok_or("its archive is cut short")?;
        entries.insert(name, data);
    }
    Ok(entries)
}

/// The pickle, and the folder in the archive that everything lies in.
fn find_pickle<'a>(entries: &HashMap<String, &'a [u8]>) -> Result<(String, &'a [u8]), String> {
    let mut found = entries.iter().filter_map(|(name, data)| Some((name.strip_suffix("data.pkl")?, *data)));
    let is_folder = |prefix: &str| prefix.is_empty() || prefix.ends_with('/');
    let (prefix, pickle) = found.find(|(prefix, _)| is_folder(prefix)).ok_or("its archive has no `data.pkl`")?;
    match pickle.len() {
        0..=LONGEST_PICKLE => Ok((prefix.to_owned(), pickle)),
        length => Err(format!("its pickle has {length} bytes, more than any list of weights")),
    }
}

/// Goes through what training scripts wrap weights in, to the dict whose values are tensors.
fn unwrap(objects: &Objects, root: Reference) -> Result<(Vec<String>, Reference), String> {
    let (mut wrappers, mut at) = (Vec::new(), root);
    while wrappers.len() <= DEEPEST_WRAPPER {
        let Object::Dict(items) = objects.get(at) else { break };
        let inner = |key: &str| {
            let is_it = |item: &&(Reference, Reference)| objects.text(item.0) == Some(key);
            items.iter().rfind(is_it).filter(|(_, value)| matches!(objects.get(*value), Object::Dict(_)))
        };
        match WRAPPERS.iter().find_map(|key| Some((key, inner(key)?.1))) {
            Some((key, value)) => {
                wrappers.push((*key).to_owned());
                at = value;
            }
            None if items.iter().any(|(_, value)| tensor::is_tensor(objects, *value)) => return Ok((wrappers, at)),
            None => break,
        }
    }
    Err(what_it_is_instead(objects, at))
}

fn what_it_is_instead(objects: &Objects, at: Reference) -> String {
    match objects.get(at) {
        Object::Made { by, .. } => {
            let class = objects.global(*by).unwrap_or("a class of its own");
            format!("it holds a whole Python object (`{class}`), not the weights alone")
        }
        Object::Dict(items) => {
            let keys: Vec<String> =
                items.iter().filter_map(|(key, _)| Some(format!("`{}`", objects.text(*key)?))).take(8).collect();
            format!("there are no weights in it; its keys are {}", keys.join(", "))
        }
        _ => "there are no weights in it".to_owned(),
    }
}
