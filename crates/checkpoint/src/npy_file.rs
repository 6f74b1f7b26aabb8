use std::path::Path;

use burn::tensor::{DType, TensorData};

use crate::tensor_file::read_file;
use crate::{CheckpointError, write_atomically};

/// Every `.npy` file begins with this, and the format's version behind it.
const MAGIC: &[u8] = b"\x93NUMPY";

/// The header's length divides by this, so that the numbers behind it are aligned.
const ALIGNMENT: usize = 64;

/// Reads an array of floats (f16, f32 or f64, little-endian) that `numpy.save` wrote in C order.
///
/// The format is NumPy's [`numpy.lib.format`](https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), versions 1 to 3.
///
/// # Errors
/// [`CheckpointError::NotAnArray`] with what is wrong, or a file that is missing or cannot be read.
pub fn read_npy(path: &Path) -> Result<TensorData, CheckpointError> {
    parse(&read_file(path)?).map_err(|reason| CheckpointError::NotAnArray { path: path.to_owned(), reason })
}

/// Writes an array in C order, so that a reader sees the old file or the new one, whole.
///
/// # Errors
/// [`CheckpointError::Write`]; what stood at `path` before is untouched.
///
/// # Panics
/// When the numbers are neither f16, f32 nor f64.
pub fn write_npy(path: &Path, array: &TensorData) -> Result<(), CheckpointError> {
    let description = match array.dtype {
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        other => panic!("arrays of {other:?} are not written"),
    };
    let sides: String = array.shape.iter().map(|side| format!("{side},")).collect();
    let mut header = format!("{{'descr': '{description}', 'fortran_order': False, 'shape': ({sides}), }}");
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    let bytes = [MAGIC, b"\x01\x00", &length, header.as_bytes(), array.as_bytes()].concat();
    write_atomically(path, &bytes)
}

fn parse(bytes: &[u8]) -> Result<TensorData, String> {
    let cut = || "it ends within its header".to_owned();
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a `.npy` file does")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = match version[0] {
        1 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest)),
        2 | 3 => rest.split_first_chunk().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
        other => return Err(format!("it is of version {other} of the format, newer than 3")),
    }
    .ok_or_else(cut)?;
    let (header, numbers) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is no text")?;
    let Header { dtype, shape } = Header::parse(header)?;
    let elements = shape.iter().try_fold(dtype.size(), |product, side| product.checked_mul(*side));
    match elements {
        Some(expected) if expected == numbers.len() => Ok(TensorData::from_bytes_vec(numbers.to_vec(), shape, dtype)),
        _ => Err(format!("it has {} bytes of numbers, which is not what shape {shape:?} needs", numbers.len())),
    }
}

struct Header {
    dtype: DType,
    shape: Vec<usize>,
}

impl Header {
    /// The header is a Python dict with three keys: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
    fn parse(text: &str) -> Result<Self, String> {
        let value = |key: &str| {
            let (_, after) =
                text.split_once(&format!("'{key}':")).ok_or_else(|| format!("its header has no `{key}`"))?;
            Ok::<_, String>(after.trim_start())
        };
        let dtype = match value("descr")?.split('\'').nth(1).unwrap_or_default() {
            "<f2" => DType::F16,
            "<f4" => DType::F32,
            "<f8" => DType::F64,
            other => return Err(format!("its numbers are of type `{other}`, expected `<f4` (float32)")),
        };
        if !value("fortran_order")?.starts_with("False") {
            return Err("it is in Fortran order, expected C order".to_owned());
        }
        let sides = value("shape")?.strip_prefix('(').and_then(|sides| Some(sides.split_once(')')?.0));
        let sides = sides.ok_or("its header has no shape")?.split(',').map(str::trim).filter(|side| !side.is_empty());
        let shape: Result<Vec<usize>, _> = sides.map(str::parse).collect();
        Ok(Self { dtype, shape: shape.map_err(|_| "its shape is not of whole numbers")? })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn npy(header: &str, numbers: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, b"\x01\x00", &length, header.as_bytes(), numbers].concat()
    }

    #[test]
    fn what_is_written_reads_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        for shape in [vec![6], vec![2, 3], vec![1, 3, 2], vec![6, 0]] {
            let numbers = [1.0f32, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, 0.1];
            let count = shape.iter().product();
            let array = TensorData::new(numbers[..count].to_vec(), shape);
            write_npy(&path, &array).unwrap();
            let read = read_npy(&path).unwrap();
            assert_eq!((&read.shape, read.dtype), (&array.shape, array.dtype));
            assert_eq!(read.as_bytes(), array.as_bytes());
        }
    }

    /// As numpy 2.4 lays `numpy.arange(2, dtype="float32")` out.
    #[test]
    fn the_bytes_are_numpys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        write_npy(&path, &TensorData::new(vec![0.0f32, 1.0], [2])).unwrap();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        let mut expected = npy(&format!("{header:117}\n"), &[0, 0, 0, 0, 0, 0, 0x80, 0x3f]);
        assert_eq!(fs::read(&path).unwrap(), expected);
        expected[6] = 2; // version 2: the length has four bytes
        expected.splice(10..10, [0, 0]);
        assert_eq!(parse(&expected).unwrap().shape.to_vec(), [2]);
    }

    #[test]
    fn other_arrays_are_told_what_is_wrong() {
        let header = |descr: &str, order: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}\n")
        };
        for (bytes, expected) in [
            (b"PK\x03\x04".to_vec(), "does not begin"),
            (npy(&header("<i8", "False", "1,"), &[0; 8]), "`<i8`"),
            (npy(&header(">f4", "False", "1,"), &[0; 4]), "`>f4`"),
            (npy(&header("<f4", "True", "1, 1"), &[0; 4]), "Fortran order"),
            (npy(&header("<f4", "False", "2,"), &[0; 7]), "7 bytes"),
            (npy(&header("<f4", "False", "99999999999999999, 9999"), &[0; 4]), "4 bytes"),
            (npy(&header("<f4", "False", "-1,"), &[0; 4]), "whole numbers"),
            (npy("{}", &[]), "no `descr`"),
        ] {
            let reason = parse(&bytes).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
        let whole = npy(&header("<f4", "False", "1,"), &[0; 4]);
        assert!((0..whole.len()).all(|length| parse(&whole[..length]).is_err()));
    }

    #[test]
    fn half_and_double_precision_are_read() {
        let header = |descr: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}\n");
        let half = parse(&npy(&header("<f2"), &[0x00, 0xc0])).unwrap();
        assert_eq!(half.iter::<f32>().collect::<Vec<_>>(), [-2.0]);
        let double = parse(&npy(&header("<f8"), &1.5f64.to_le_bytes())).unwrap();
        assert_eq!(double.iter::<f32>().collect::<Vec<_>>(), [1.5]);
    }
}
