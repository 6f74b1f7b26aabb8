use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use vision_nn::is_batch_count;

use crate::checkpoint_file::{EMA_PREFIX, OPTIMIZER_PREFIX, parse_card};
use crate::tensor_file::{CARD_KEY, LENGTH_BYTES, read_file};
use crate::{CheckpointError, ModelCard, RunFolder, pytorch, tensor_file};

/// What `torch.nn.parallel` and `torch.compile` put before every name; in the order in which timm takes them off.
const NAME_PREFIXES: [&str; 3] = ["_orig_mod.", "module.", "_orig_mod."];

/// Weights as another program or a run left them, by the reference's names.
#[derive(Debug)]
pub struct WeightsFile {
    /// The file they came from; of a run folder, the checkpoint in it.
    pub path: PathBuf,
    /// Values, by name.
    pub tensors: BTreeMap<String, TensorData>,
    /// How many batches each batch norm has seen, by PyTorch's name. No layer here keeps it.
    pub batch_counts: BTreeMap<String, TensorData>,
    /// What the run says of them; none in a file of another program.
    pub card: Option<ModelCard>,
    /// Where in the file averaged weights were found and taken, if there were any.
    pub averaged: Option<String>,
}

/// Reads the weights in a safetensors file, in a file of `torch.save`, in a checkpoint of a run, or in a run folder: there those of the
/// best epoch, or of the last where none has ended. What the file's name ends in does not matter. Averaged weights are taken where there are any.
///
/// Of `torch.save`, a state dict is read, also below the keys that training scripts put it under, and nothing is executed.
///
/// # Errors
/// A missing, unreadable, truncated or foreign file, or a tensor in a type that weights do not come in.
pub fn read_weights(path: &Path) -> Result<WeightsFile, CheckpointError> {
    if path.is_dir() {
        return read_weights(&kept_by(&RunFolder::open(path)?));
    }
    let bytes = read_file(path)?;
    if pytorch::is_archive(&bytes) {
        return of_pytorch(path, &bytes);
    }
    if pytorch::is_old_format(&bytes) {
        let reason = "it is in the format that PyTorch had before 1.6".to_owned();
        return Err(CheckpointError::NotAStateDict { path: path.to_owned(), reason });
    }
    let file = tensor_file::parse(path, &bytes)?;
    let card = file.card.map(|card| parse_card(path, &card)).transpose()?;
    let (tensors, averaged) = match &card {
        Some(_) => of_run(file.tensors),
        None => (file.tensors, None),
    };
    Ok(WeightsFile::new(path, tensors, card, averaged))
}

fn kept_by(run: &RunFolder) -> PathBuf {
    if run.best().exists() { run.best() } else { run.last() }
}

/// The most that the head of a safetensors file may take; the format's own limit.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// What a run says of the weights that [`read_weights`] would read there, from the head of their file alone. None of other weights, and none where there is
/// nothing to read, which reading the weights would tell.
pub fn read_card(path: &Path) -> Option<ModelCard> {
    if path.is_dir() {
        return read_card(&kept_by(&RunFolder::open(path).ok()?));
    }
    let mut file = File::open(path).ok()?;
    let mut length = [0; LENGTH_BYTES];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER_BYTES {
        return None;
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    parse_card(path, header["__metadata__"][CARD_KEY].as_str()?).ok()
}

fn of_pytorch(path: &Path, bytes: &[u8]) -> Result<WeightsFile, CheckpointError> {
    let state = pytorch::read_state_dict(bytes)
        .map_err(|reason| CheckpointError::NotAStateDict { path: path.to_owned(), reason })?;
    let averaged = state.wrappers.into_iter().find(|key| key.ends_with("ema"));
    Ok(WeightsFile::new(path, state.tensors, None, averaged))
}

/// A run's checkpoint without the optimizer's state, and with averaged weights in place of the others.
fn of_run(mut tensors: BTreeMap<String, TensorData>) -> (BTreeMap<String, TensorData>, Option<String>) {
    tensors.retain(|name, _| !name.starts_with(OPTIMIZER_PREFIX));
    let averaged: BTreeMap<String, TensorData> = tensors
        .iter()
        .filter_map(|(name, data)| Some((name.strip_prefix(EMA_PREFIX)?.to_owned(), data.clone())))
        .collect();
    match averaged.is_empty() {
        true => (tensors, None),
        false => (averaged, Some(EMA_PREFIX.trim_end_matches('/').to_owned())),
    }
}

impl WeightsFile {
    fn new(
        path: &Path,
        tensors: BTreeMap<String, TensorData>,
        card: Option<ModelCard>,
        averaged: Option<String>,
    ) -> Self {
        let named = tensors.into_iter().map(|(name, data)| (plain_name(&name).to_owned(), data));
        let (batch_counts, tensors) = named.partition(|(name, _)| is_batch_count(name));
        Self { path: path.to_owned(), tensors, batch_counts, card, averaged }
    }

    /// The sides of the tensor of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|data| data.shape.as_slice())
    }
}

fn plain_name(name: &str) -> &str {
    NAME_PREFIXES.iter().fold(name, |name, prefix| name.strip_prefix(prefix).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_tensors;

    fn tensor(value: f32) -> TensorData {
        TensorData::new(vec![value; 2], [2])
    }

    #[test]
    fn names_lose_what_wrappers_put_before_them() {
        for name in ["a.b", "module.a.b", "_orig_mod.a.b", "_orig_mod.module.a.b", "module._orig_mod.a.b"] {
            assert_eq!(plain_name(name), "a.b", "{name}");
        }
        assert_eq!(plain_name("blocks.module.a"), "blocks.module.a");
    }

    #[test]
    fn counts_of_batches_are_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensors = [("module.bn1.weight", tensor(1.0)), ("module.bn1.num_batches_tracked", tensor(2.0))];
        write_tensors(&path, tensors.iter().map(|(name, data)| ((*name).to_owned(), data)), None).unwrap();
        let file = read_weights(&path).unwrap();
        assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["bn1.weight"]);
        assert_eq!(file.batch_counts.keys().collect::<Vec<_>>(), ["bn1.num_batches_tracked"]);
        assert!(file.card.is_none() && file.averaged.is_none());
    }

    #[test]
    fn a_card_is_read_from_the_head_of_a_runs_file_and_of_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensors = [("head.fc.bias".to_owned(), tensor(1.0))];
        let write = |card| write_tensors(&path, tensors.iter().map(|(name, data)| (name.clone(), data)), card).unwrap();
        let card = crate::checkpoint_file::tests::card();
        write(Some(serde_json::to_string(&card).unwrap()));
        assert_eq!(read_card(&path), Some(card));
        write(None);
        assert_eq!(read_card(&path), None);
        for bytes in [&b""[..], b"\xff\xff\xff\xff\xff\xff\xff\xffx", b"\x05\0\0\0\0\0\0\0nul"] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read_card(&path), None, "{bytes:?}");
        }
        assert_eq!(read_card(folder.path()), None, "no run folder");
    }

    #[test]
    fn a_folder_that_is_no_run_and_a_file_of_old_pytorch_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read_weights(folder.path()), Err(CheckpointError::NotARun { .. })));
        let path = folder.path().join("old.pth");
        std::fs::write(&path, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.").unwrap();
        assert!(matches!(read_weights(&path), Err(CheckpointError::NotAStateDict { .. })));
    }
}
