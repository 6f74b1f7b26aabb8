use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, View};

use crate::CheckpointError;

/// The header key that holds a checkpoint's card. One key only: the format writes its keys in no fixed order.
pub(crate) const CARD_KEY: &str = "stoker";

/// Tensors by name and the card that stood with them.
#[derive(Debug)]
pub struct TensorFile {
    /// Values, by name.
    pub tensors: BTreeMap<String, TensorData>,
    /// The card as JSON; none in a file of another program.
    pub card: Option<String>,
}

/// Reads a safetensors file whole.
///
/// # Errors
/// A missing, unreadable, truncated or foreign file, or a tensor in a type that weights do not come in.
pub fn read_tensors(path: &Path) -> Result<TensorFile, CheckpointError> {
    // Mapped, a file does not lie in memory beside the tensors that are copied out of it. An empty one cannot be mapped everywhere.
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    let metadata = file.metadata().map_err(|source| unreadable(path, source))?;
    if !metadata.is_file() || metadata.len() == 0 {
        return parse(path, &read_file(path)?);
    }
    // SAFETY: checkpoints are replaced by a rename and never written in place; who cuts a file short while it is read ends this process.
    let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(|source| unreadable(path, source))?;
    parse(path, &bytes)
}

/// All bytes of a file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    fs::read(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> CheckpointError {
    match source.kind() {
        io::ErrorKind::NotFound => CheckpointError::Missing { path: path.to_owned() },
        _ => CheckpointError::Read { path: path.to_owned(), source },
    }
}

/// Reads the bytes of a safetensors file; `path` is where they came from.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<TensorFile, CheckpointError> {
    let malformed = |error: safetensors::SafeTensorError| CheckpointError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
    let card = header.metadata().as_ref().and_then(|keys| keys.get(CARD_KEY)).cloned();
    let mut tensors = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(bytes).map_err(malformed)?.tensors() {
        let dtype = number_type(view.dtype()).ok_or_else(|| CheckpointError::NumberType {
            path: path.to_owned(),
            name: name.clone(),
            dtype: format!("{:?}", view.dtype()),
        })?;
        tensors.insert(name, TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype));
    }
    Ok(TensorFile { tensors, card })
}

/// Writes a safetensors file so that a reader sees the old file or the new one, whole, and never a part.
///
/// Equal input gives equal bytes.
///
/// # Errors
/// [`CheckpointError::Write`]; what stood at `path` before is untouched.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a TensorData)>,
    card: Option<String>,
) -> Result<(), CheckpointError> {
    write_views(path, tensors.into_iter().map(|(name, data)| (name, HostTensor::new(data))), card)
}

/// The same for whatever has bytes when it is its turn to be written: a [`LiveTensor`] comes to the host then, and leaves it before the next.
///
/// # Errors
/// [`CheckpointError::Write`]; what stood at `path` before is untouched.
pub(crate) fn write_views<V: View>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, V)>,
    card: Option<String>,
) -> Result<(), CheckpointError> {
    let header = card.map(|card| HashMap::from([(CARD_KEY.to_owned(), card)]));
    replace(path, |temporary| {
        safetensors::serialize_to_file(tensors, header, temporary).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(error) => error,
            other => io::Error::other(other.to_string()),
        })
    })
}

/// Writes a small file so that a reader sees the old content or the new, and never a part.
///
/// # Errors
/// [`CheckpointError::Write`]; what stood at `path` before is untouched.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), CheckpointError> {
    replace(path, |temporary| File::create(temporary)?.write_all(content))
}

/// Has `write` make a file beside `path`, waits until the disk has it, and renames it into place.
fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), CheckpointError> {
    let temporary = temporary_path(path);
    let result = write(&temporary).and_then(|()| File::open(&temporary)?.sync_all()).and_then(|()| {
        fs::rename(&temporary, path)?;
        sync_folder(path)
    });
    result.map_err(|source| {
        // A leftover would cost the very space that was missing; the first error is the one worth telling.
        let _ = fs::remove_file(&temporary);
        CheckpointError::Write { path: path.to_owned(), source }
    })
}

/// Where a file is written before it takes its place.
pub(crate) fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".writing");
    path.with_file_name(name)
}

/// Makes a rename survive a power cut. Folders cannot be opened on every system; there the rename stands as it is.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().map(File::open) {
        Some(Ok(folder)) => folder.sync_all(),
        _ => Ok(()),
    }
}

/// A tensor on its device, to be written as f32.
#[derive(Debug, Clone)]
pub struct LiveTensor {
    shape: Vec<usize>,
    values: Tensor<1>,
}

impl LiveTensor {
    /// A tensor of this shape.
    ///
    /// # Shapes
    /// - `values`: `[elements]`, in f32, with as many elements as the shape has
    ///
    /// # Panics
    /// When it has others.
    pub fn new(values: Tensor<1>, shape: Vec<usize>) -> Self {
        assert_eq!(values.dims(), [shape.iter().product::<usize>()], "elements of {shape:?}");
        Self { shape, values }
    }
}

impl View for LiveTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Waits for the device.
    fn data(&self) -> Cow<'_, [u8]> {
        let data = self.values.to_data().convert_dtype(DType::F32);
        Cow::Owned(data.as_bytes().to_vec())
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

struct HostTensor<'a> {
    data: &'a TensorData,
    shape: Vec<usize>,
}

impl<'a> HostTensor<'a> {
    fn new(data: &'a TensorData) -> Self {
        Self { data, shape: data.shape.to_vec() }
    }
}

impl View for HostTensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.data.dtype {
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::F64 => Dtype::F64,
            DType::I64 => Dtype::I64,
            DType::U8 => Dtype::U8,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.data.as_bytes())
    }

    fn data_len(&self) -> usize {
        self.data.as_bytes().len()
    }
}

fn number_type(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F64 => Some(DType::F64),
        Dtype::I64 => Some(DType::I64),
        Dtype::U8 => Some(DType::U8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(numbers: &[f32]) -> TensorData {
        TensorData::new(numbers.to_vec(), [numbers.len()])
    }

    #[test]
    fn what_is_written_reads_back_with_its_card() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let data = values(&[1.0, -2.5, f32::MIN_POSITIVE]);
        write_tensors(&path, [("a.weight".to_owned(), &data)], Some("{}".to_owned())).unwrap();
        let file = read_tensors(&path).unwrap();
        assert_eq!(file.card.as_deref(), Some("{}"));
        assert_eq!(file.tensors["a.weight"], data);
    }

    #[test]
    fn equal_tensors_give_equal_bytes_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (values(&[1.0]), values(&[2.0, 3.0]));
        let paths = [folder.path().join("1"), folder.path().join("2")];
        write_tensors(&paths[0], [("a".to_owned(), &a), ("b".to_owned(), &b)], Some("card".to_owned())).unwrap();
        write_tensors(&paths[1], [("b".to_owned(), &b), ("a".to_owned(), &a)], Some("card".to_owned())).unwrap();
        assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        fs::write(&path, "old").unwrap();
        let error = replace(&path, |temporary| {
            fs::write(temporary, "half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // Only a folder with a configuration is a run that can go on.
        assert!(error.hint().unwrap().ends_with("then start again"));
        fs::write(folder.path().join("config.resolved.yaml"), "").unwrap();
        assert!(error.hint().unwrap().contains("--resume"));
    }

    #[test]
    fn a_truncated_file_is_told_from_a_missing_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        assert!(matches!(read_tensors(&path), Err(CheckpointError::Missing { .. })));
        write_tensors(&path, [("a".to_owned(), &values(&[1.0; 100]))], None).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
        assert!(matches!(read_tensors(&path), Err(CheckpointError::Malformed { .. })));
    }
}
