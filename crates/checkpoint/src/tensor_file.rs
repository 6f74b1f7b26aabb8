use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use crc32fast::Hasher;
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors, View};

use crate::CheckpointError;
use crate::temporary::begin;

/// The header key that holds a checkpoint's card.
pub(crate) const CARD_KEY: &str = "stoker";

/// The header key beside the card that holds the CRC-32 of all bytes behind the header, in eight hexadecimal digits. Files of other programs have none,
/// nor have checkpoints of before there was one.
const CHECKSUM_KEY: &str = "stoker_crc32";

/// What stands in the header while the tensors are not written yet.
const NO_CHECKSUM: &str = "00000000";

/// Bytes of the length that a file begins with.
pub(crate) const LENGTH_BYTES: usize = size_of::<u64>();

/// Copied and summed up at once: what was just read for the one is in the processor's cache for the other.
const CHUNK_BYTES: usize = 1 << 16;

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
    let (header_bytes, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
    let key = |name: &str| header.metadata().as_ref().and_then(|keys| keys.get(name)).cloned();
    let expected = key(CHECKSUM_KEY);
    let mut checksum = expected.is_some().then(Hasher::new);
    let data = &bytes[LENGTH_BYTES + header_bytes..];
    let mut tensors = BTreeMap::new();
    // In the order of the file: together they are all of it.
    for name in header.offset_keys() {
        let info = header.info(&name).expect("the header has named it");
        let dtype = number_type(info.dtype).ok_or_else(|| CheckpointError::NumberType {
            path: path.to_owned(),
            name: name.clone(),
            dtype: format!("{:?}", info.dtype),
        })?;
        let (start, end) = info.data_offsets;
        let values = copied(&data[start..end], checksum.as_mut());
        tensors.insert(name, TensorData::from_bytes_vec(values, info.shape.clone(), dtype));
    }
    match (expected, checksum.map(|checksum| digits(&checksum))) {
        (Some(expected), Some(found)) if expected != found => {
            Err(CheckpointError::Damaged { path: path.to_owned(), expected, found })
        }
        _ => Ok(TensorFile { tensors, card: key(CARD_KEY) }),
    }
}

/// A copy of `bytes`, which are read once for it and for the checksum.
fn copied(bytes: &[u8], checksum: Option<&mut Hasher>) -> Vec<u8> {
    let Some(checksum) = checksum else { return bytes.to_vec() };
    let mut copy = Vec::with_capacity(bytes.len());
    for chunk in bytes.chunks(CHUNK_BYTES) {
        checksum.update(chunk);
        copy.extend_from_slice(chunk);
    }
    copy
}

fn digits(checksum: &Hasher) -> String {
    format!("{:08x}", checksum.clone().finalize())
}

/// Writes a safetensors file so that a reader sees the old file or the new one, whole, and never a part.
///
/// Equal input gives equal bytes. With a card, a checksum of the tensors stands beside it, which every reader of ours compares.
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
    let mut tensors: Vec<(String, V)> = tensors.into_iter().collect();
    // As the format wants them: those of the largest numbers first, so that each lies aligned.
    tensors.sort_by(|(name, one), (other_name, other)| other.dtype().cmp(&one.dtype()).then(name.cmp(other_name)));
    let header = header(&tensors, card.as_deref());
    replace(path, |temporary| write_file(temporary, &header, tensors))
}

/// The header in the format's words, padded so that the tensors lie aligned. With a card it has room for the checksum.
fn header<V: View>(tensors: &[(String, V)], card: Option<&str>) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("text is JSON");
    let keys = card.map(|card| {
        format!("\"__metadata__\":{{\"{CARD_KEY}\":{},\"{CHECKSUM_KEY}\":\"{NO_CHECKSUM}\"}}", quoted(card))
    });
    let mut offset = 0;
    let entries = tensors.iter().map(|(name, tensor)| {
        let start = offset;
        offset += tensor.data_len();
        let info = TensorInfo { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data_offsets: (start, offset) };
        format!("{}:{}", quoted(name), serde_json::to_string(&info).expect("it has string keys and plain numbers"))
    });
    let mut header = format!("{{{}}}", keys.into_iter().chain(entries).collect::<Vec<_>>().join(","));
    let padding = header.len().next_multiple_of(LENGTH_BYTES) - header.len();
    header.push_str(&" ".repeat(padding));
    header
}

/// Writes one tensor after the other, and then the checksum of all into the header's room for it: so none is asked for twice.
fn write_file<V: View>(path: &Path, header: &str, tensors: Vec<(String, V)>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut checksum = Hasher::new();
    for (_, tensor) in tensors {
        let bytes = tensor.data();
        checksum.update(&bytes);
        file.write_all(&bytes)?;
    }
    // Within the card its quotes would be escaped, so that this is the key.
    let key = format!("\"{CHECKSUM_KEY}\":\"{NO_CHECKSUM}\"");
    if let Some(start) = header.find(&key) {
        let room = LENGTH_BYTES + start + key.len() - NO_CHECKSUM.len() - 1;
        file.seek(SeekFrom::Start(room as u64))?;
        file.write_all(digits(&checksum).as_bytes())?;
    }
    file.flush()
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
    let temporary = begin(path);
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

    /// The bytes of a file with a card, where its tensors begin, and the bytes of the same file as builds without a checksum wrote it.
    fn with_and_without_checksum(path: &Path) -> (Vec<u8>, usize, Vec<u8>) {
        let data = values(&[0.5; 20_000]);
        write_tensors(path, [("a.weight".to_owned(), &data), ("b".to_owned(), &data)], Some("{}".to_owned())).unwrap();
        let bytes = fs::read(path).unwrap();
        let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>().unwrap();
        let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let header = std::str::from_utf8(header).unwrap();
        let start = header.find(&format!(",\"{CHECKSUM_KEY}\"")).unwrap();
        let older = header.replacen(&header[start..start + CHECKSUM_KEY.len() + NO_CHECKSUM.len() + 6], "", 1);
        let older = [&(older.len() as u64).to_le_bytes(), older.as_bytes(), tensors].concat();
        (bytes.clone(), bytes.len() - tensors.len(), older)
    }

    #[test]
    fn a_tensor_that_changed_on_disk_is_told_with_both_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (whole, start, _) = with_and_without_checksum(&path);
        for (first, second) in [(start, start + 1), (start + 70_000, whole.len() - 1)] {
            let mut bytes = whole.clone();
            // Two bits: a sum of the bytes could stay the same.
            bytes[first] ^= 1;
            bytes[second] ^= 1;
            fs::write(&path, bytes).unwrap();
            let error = read_tensors(&path).unwrap_err();
            let CheckpointError::Damaged { expected, found, .. } = &error else { panic!("{error}") };
            assert!(expected != found && expected.len() == 8 && found.len() == 8, "{error}");
            assert!(error.hint().unwrap().contains("best.safetensors"), "another checkpoint is the way out");
        }
        let mut bytes = whole.clone();
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        assert!(matches!(read_tensors(&path), Err(CheckpointError::Damaged { .. })));
        fs::write(&path, whole).unwrap();
        read_tensors(&path).unwrap();
    }

    #[test]
    fn the_checksum_is_the_crc_32_of_all_bytes_behind_the_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        // Bytes that read `123456789` and three zeros; the CRC-32 of the nine digits alone is the well-known cbf43926.
        let numbers = [u32::from_le_bytes(*b"1234"), u32::from_le_bytes(*b"5678"), u32::from_le_bytes(*b"9\0\0\0")];
        let data = values(&numbers.map(f32::from_bits));
        write_tensors(&path, [("a".to_owned(), &data)], Some("{}".to_owned())).unwrap();
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        let expected = format!("\"{CHECKSUM_KEY}\":\"{:08x}\"", crc32fast::hash(b"123456789\0\0\0"));
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.windows(expected.len()).any(|part| part == expected.as_bytes()), "{expected}");
    }

    #[test]
    fn a_checkpoint_of_before_there_were_checksums_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (_, _, older) = with_and_without_checksum(&path);
        let now = read_tensors(&path).unwrap();
        fs::write(&path, older).unwrap();
        let before = read_tensors(&path).unwrap();
        assert_eq!((before.tensors, before.card), (now.tensors, now.card));
    }

    #[test]
    fn other_readers_find_names_shapes_and_numbers_where_the_format_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        let bytes = TensorData::from_bytes_vec(vec![7u8; 3], vec![3], DType::U8);
        let card = "{\"classes\":[\"\\\"stoker_crc32\\\":\\\"00000000\\\"\"]}";
        let tensors = [("a \"b\"".to_owned(), &bytes), ("c".to_owned(), &values(&[1.0, 2.0]))];
        write_tensors(&path, tensors, Some(card.to_owned())).unwrap();
        let written = fs::read(&path).unwrap();
        let read = SafeTensors::deserialize(&written).unwrap();
        assert_eq!(read.tensor("a \"b\"").unwrap().data(), [7; 3]);
        assert_eq!((read.tensor("c").unwrap().shape(), read.tensor("c").unwrap().dtype()), (&[2][..], Dtype::F32));
        // Whatever a class is called, the card is what it was.
        assert_eq!(read_tensors(&path).unwrap().card.as_deref(), Some(card));
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
