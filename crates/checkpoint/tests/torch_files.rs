//! Files of `torch.save`, as PyTorch wrote them and as no program would.
//!
//! `python scripts/timm_fixtures.py` writes the fixtures; `scripts/fixtures/checkpoint.py` says what stands in them.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use checkpoint::{CheckpointError, WeightsFile, read_tensors, read_weights};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Reads bytes as a file in `folder`.
fn read(folder: &TempDir, bytes: &[u8]) -> Result<WeightsFile, CheckpointError> {
    let path = folder.path().join("weights.pth");
    fs::write(&path, bytes).unwrap();
    read_weights(&path)
}

fn assert_expected(file: &WeightsFile, but_for: &[&str]) {
    let mut expected = read_tensors(&fixture("expected.safetensors")).unwrap().tensors;
    expected.retain(|name, _| !but_for.contains(&name.as_str()));
    let count = expected.remove("bn.num_batches_tracked").unwrap();
    assert_eq!(file.batch_counts["bn.num_batches_tracked"], count);
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, data) in &expected {
        assert_eq!(file.tensors[name], *data, "{name}");
    }
}

#[test]
fn every_float_type_and_every_order_of_strides_is_read_as_pytorch_reads_it() {
    assert_expected(&read_weights(&fixture("plain.pth")).unwrap(), &[]);
}

#[test]
fn what_a_training_script_saves_is_searched_for_averaged_weights() {
    let file = read_weights(&fixture("training.pth")).unwrap();
    assert_eq!(file.averaged.as_deref(), Some("state_dict_ema"));
    assert_expected(&file, &["view"]);
}

#[test]
fn parameters_and_protocol_4_are_read() {
    assert_expected(&read_weights(&fixture("protocol_4.pth")).unwrap(), &["view"]);
}

#[test]
fn a_file_without_a_state_dict_says_what_it_holds() {
    let error = read_weights(&fixture("whole_model.pth")).unwrap_err();
    assert!(error.to_string().contains("`torch.nn.modules.linear.Linear`"), "{error}");
    assert!(error.hint().unwrap().contains("save_file(model.state_dict()"), "{error}");
}

#[test]
fn a_tensor_that_its_storage_does_not_hold_is_refused() {
    let bytes = fs::read(fixture("plain.pth")).unwrap();
    // The shape of `single`, (4, 5), is pickled as `K 4 K 5 TUPLE2`.
    let shape = b"K\x04K\x05\x86";
    let at = bytes.windows(shape.len()).position(|window| window == shape).unwrap();
    let mut larger = bytes.clone();
    larger[at + 1] = 5;
    let error = read(&tempfile::tempdir().unwrap(), &larger).unwrap_err().to_string();
    assert!(error.contains("tensor `single` of shape [5, 5] does not fit its storage of 80 bytes"), "{error}");
}

#[test]
fn a_missing_storage_is_refused() {
    let bytes = fs::read(fixture("plain.pth")).unwrap();
    let name = b"data/0";
    let mut renamed = bytes.clone();
    for at in 0..bytes.len() - name.len() {
        if &bytes[at..at + name.len()] == name {
            renamed[at + 5] = b'x';
        }
    }
    let error = read(&tempfile::tempdir().unwrap(), &renamed).unwrap_err().to_string();
    assert!(error.contains("the storage `0`, which the file lacks"), "{error}");
}

#[test]
fn a_file_cut_at_any_length_is_refused() {
    let bytes = fs::read(fixture("plain.pth")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for length in (0..bytes.len()).step_by(7) {
        assert!(read(&folder, &bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
}

#[test]
fn no_changed_byte_makes_it_panic() {
    let bytes = fs::read(fixture("training.pth")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pth");
    // Changed in place: to write it anew each time would take half a minute.
    let mut file = File::create(&path).unwrap();
    file.write_all(&bytes).unwrap();
    for (at, byte) in bytes.iter().enumerate() {
        put(&mut file, at, !byte);
        // Numbers may change without a word; what is read is whole all the same.
        if let Ok(file) = read_weights(&path) {
            let is_whole = |data: &burn::tensor::TensorData| {
                data.as_bytes().len() == data.shape.num_elements() * data.dtype.size()
            };
            assert!(file.tensors.values().all(is_whole), "byte {at}");
        }
        put(&mut file, at, *byte);
    }
}

fn put(file: &mut File, at: usize, byte: u8) {
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&[byte]).unwrap();
}
