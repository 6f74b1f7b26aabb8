//! Short names for long contents, to tell whether something is still the same. They guard against mistakes, not against malice.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use checkpoint::CheckpointError;
use data_pipeline::Dataset;

use crate::predictions_csv::file_name;

/// Of a file's content.
///
/// # Errors
/// [`CheckpointError::Missing`], [`CheckpointError::Read`].
pub fn weights_fingerprint(path: &Path) -> Result<String, CheckpointError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => CheckpointError::Missing { path: path.to_owned() },
        _ => CheckpointError::Read { path: path.to_owned(), source },
    };
    let mut file = File::open(path).map_err(refused)?;
    let mut context = md5::Context::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(refused)? {
            0 => return Ok(format!("{:x}", context.finalize())),
            count => context.consume(&buffer[..count]),
        }
    }
}

/// Of the files of a data set, in their order: their relative paths, and as far as they can be had their sizes and the times at which they
/// were changed. Of their contents it reads nothing.
#[must_use]
pub fn listing_fingerprint(dataset: &Dataset) -> String {
    let mut context = md5::Context::new();
    for sample in 0..dataset.len() {
        let name = file_name(dataset.relative_path(sample));
        context.consume((name.len() as u64).to_le_bytes());
        context.consume(name);
        let metadata = std::fs::metadata(&dataset.samples[sample].path).ok();
        let bytes = metadata.as_ref().map_or(u64::MAX, std::fs::Metadata::len);
        let changed =
            metadata.and_then(|metadata| metadata.modified().ok()).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        context.consume(bytes.to_le_bytes());
        context.consume(changed.map_or(u128::MAX, |since| since.as_nanos()).to_le_bytes());
    }
    format!("{:x}", context.finalize())
}

#[cfg(test)]
mod tests {
    use data_pipeline::Sample;

    use super::*;

    #[test]
    fn another_name_order_or_content_is_another_listing() {
        let folder = tempfile::tempdir().unwrap();
        let listing = |names: &[&str]| {
            let sample = |name: &&str| Sample { path: folder.path().join(name), label: None, group: None };
            let samples = names.iter().map(sample).collect();
            let root = folder.path().to_owned();
            listing_fingerprint(&Dataset { root, classes: Vec::new(), samples, ignored_files: 0 })
        };
        std::fs::write(folder.path().join("a.png"), "one").unwrap();
        std::fs::write(folder.path().join("b.png"), "other").unwrap();
        let first = listing(&["a.png", "b.png"]);
        assert_eq!(listing(&["a.png", "b.png"]), first);
        assert_ne!(listing(&["b.png", "a.png"]), first);
        assert_ne!(listing(&["a.png"]), first);
        assert_ne!(listing(&["a.png", "c.png"]), first, "one that is not there");
        std::fs::write(folder.path().join("b.png"), "longer").unwrap();
        assert_ne!(listing(&["a.png", "b.png"]), first);
    }

    #[test]
    fn weights_are_told_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        assert!(matches!(weights_fingerprint(&path), Err(CheckpointError::Missing { .. })));
        std::fs::write(&path, "abc").unwrap();
        // RFC 1321, A.5
        assert_eq!(weights_fingerprint(&path).unwrap(), "900150983cd24fb0d6963f7d28e17f72");
    }
}
