use std::fs;

use super::*;
use crate::{Outcome, Variation};

const MAGNIFIED: View = View { variation: Variation::Zoom { factor: 1.25 }, ..View::IDENTITY };
const VIEWS: [View; 2] = [View::IDENTITY, MAGNIFIED];

fn header(step: &str, batch_size: usize) -> PartHeader {
    PartHeader::new(vec![("weights".to_owned(), step.to_owned())], 5, 2, batch_size)
}

/// One of each kind, and the rest scored.
fn prediction(sample: usize) -> Prediction {
    let outcome = match sample {
        1 => Outcome::Unreadable { reason: "not an image\nat all".to_owned() },
        2 => Outcome::NotFinite { view: VIEWS[1] },
        3 => Outcome::NotFinite { view: View::IDENTITY },
        _ => Outcome::Scored { plain: vec![0.25, 0.75], merged: vec![1.0 / (sample + 3) as f32, 0.75] },
    };
    Prediction { sample, outcome }
}

fn batch(range: std::ops::Range<usize>) -> Vec<Prediction> {
    range.map(prediction).collect()
}

fn all(part: &mut PartFile) -> Vec<Prediction> {
    part.batches().unwrap().map(Result::unwrap).collect::<Vec<_>>().concat()
}

#[test]
fn what_was_added_is_read_back_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv.part");
    let mut part = PartFile::open(&path, &header("7", 2), &VIEWS).unwrap();
    part.append(&batch(0..2), None).unwrap();
    part.append(&batch(2..4), Some(1)).unwrap();
    assert_eq!((part.images_done(), part.is_complete()), (4, false));
    drop(part);
    let mut part = PartFile::open(&path, &header("7", 64), &VIEWS).unwrap();
    let state = (part.batch_size(), part.batches_done(), part.at_once());
    assert_eq!(state, (2, 2, Some(1)), "batches stay as they were begun");
    part.append(&batch(4..5), Some(1)).unwrap();
    assert!(part.is_complete());
    assert_eq!(all(&mut part), batch(0..5));
    part.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_file_cut_off_anywhere_loses_the_last_batch_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv.part");
    let mut part = PartFile::open(&path, &header("7", 2), &VIEWS).unwrap();
    let mut ends = vec![part.end];
    for range in [0..2, 2..4, 4..5] {
        part.append(&batch(range), None).unwrap();
        ends.push(part.end);
    }
    drop(part);
    let whole = fs::read(&path).unwrap();
    assert_eq!(*ends.last().unwrap(), whole.len() as u64);
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let mut part = PartFile::open(&path, &header("7", 2), &VIEWS).unwrap();
        let batches = ends.iter().filter(|&&end| end <= length as u64).count().saturating_sub(1);
        assert_eq!(part.batches_done(), batches, "{length} bytes");
        for range in [0..2, 2..4, 4..5].into_iter().skip(batches) {
            part.append(&batch(range), None).unwrap();
        }
        drop(part);
        assert!(fs::read(&path).unwrap() == whole, "{length} bytes");
    }
}

#[test]
fn bytes_that_a_disk_lost_are_no_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv.part");
    let mut part = PartFile::open(&path, &header("7", 2), &VIEWS).unwrap();
    let start = part.end as usize;
    part.append(&batch(0..2), None).unwrap();
    let end = part.end as usize;
    drop(part);
    let whole = fs::read(&path).unwrap();
    for place in start..end {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(PartFile::open(&path, &header("7", 2), &VIEWS).unwrap().batches_done(), 0, "byte {place}");
    }
    fs::write(&path, [&whole[..start], &[0; 64]].concat()).unwrap();
    assert_eq!(PartFile::open(&path, &header("7", 2), &VIEWS).unwrap().batches_done(), 0, "zeros");
}

#[test]
fn predictions_of_something_else_are_kept_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv.part");
    let mut part = PartFile::open(&path, &header("7", 2), &VIEWS).unwrap();
    part.append(&batch(0..2), None).unwrap();
    let in_use = PartFile::open(&path, &header("7", 2), &VIEWS).unwrap_err();
    assert!(matches!(in_use, PartError::InUse { .. }), "{in_use}");
    drop(part);
    let before = fs::read(&path).unwrap();
    let error = PartFile::open(&path, &header("8", 2), &VIEWS).unwrap_err();
    assert!(
        error.to_string().ends_with("holds 2 of 5 predictions that were begun otherwise: weights `7`, and now `8`"),
        "{error}"
    );
    let other = PartHeader { images: 6, ..header("7", 2) };
    let error = PartFile::open(&path, &other, &VIEWS).unwrap_err();
    assert!(matches!(&error, PartError::Other { what, .. } if what == "images"), "{error}");
    assert!(error.hint().unwrap().contains(&format!("`rm {}`", checkpoint::shell_word(&path))));
    assert_eq!(fs::read(&path).unwrap(), before);
    for foreign in ["file,class\na,b\n", "notes", "{\"stoker_part\":9}\n"] {
        fs::write(&path, foreign).unwrap();
        let error = PartFile::open(&path, &header("7", 2), &VIEWS).unwrap_err();
        assert!(matches!(error, PartError::NotAPart { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
    }
}

#[test]
fn a_header_is_read_without_touching_the_file_and_only_a_whole_one_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv.part");
    let reopened = |wanted: &PartHeader| PartFile::reopen(&path, wanted, &VIEWS);
    assert!(PartHeader::read(&path).is_none() && reopened(&header("7", 2)).unwrap().is_none());
    drop(PartFile::open(&path, &header("7", 2).in_passes_of(30), &VIEWS).unwrap());
    let whole = fs::read(&path).unwrap();
    assert_eq!(PartHeader::read(&path).unwrap().fact("weights"), Some("7"));
    assert_eq!(PartHeader::read(&path).unwrap().fact("views"), None);
    let part = reopened(&header("7", 1)).unwrap().unwrap();
    assert_eq!((part.batch_size(), part.pass_size()), (2, 30), "as they were begun");
    drop(part);
    assert!(matches!(reopened(&header("8", 2)), Err(PartError::Other { .. })));
    for length in [0, 5, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(reopened(&header("7", 2)).unwrap().is_none(), "{length} bytes");
        assert!(PartHeader::read(&path).is_none(), "{length} bytes");
    }
    // Written before passes had a size of their own.
    let older = String::from_utf8(whole).unwrap().replace(",\"pass_size\":30", "");
    fs::write(&path, &older).unwrap();
    assert_eq!(reopened(&header("7", 1)).unwrap().unwrap().pass_size(), 2);
}
