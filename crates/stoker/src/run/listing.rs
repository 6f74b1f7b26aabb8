//! Which images a run trains and validates on: kept in its folder, and held against what is there when the run is gone on with.

use std::collections::BTreeMap;
use std::path::Path;

use checkpoint::{CheckpointError, RunFolder, shell_word, write_atomically};
use data_pipeline::Dataset;

use crate::commands::next_step;
use crate::error::CommandError;

/// Files that a difference names before it only counts.
const MAX_SHOWN: usize = 3;

const TRAIN: &str = "train";
const VALIDATION: &str = "validation";

/// A line an image: the set, the class and the file below the set's folder, in the order of the sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    rows: Vec<[String; 3]>,
}

impl Listing {
    pub(crate) fn of(train: &Dataset, validation: &Dataset) -> Self {
        let rows_of = |set: &'static str, images: &Dataset| -> Vec<[String; 3]> {
            let class = |label: Option<u32>| label.and_then(|label| images.classes.get(label as usize).cloned());
            let row = |(index, sample): (usize, &data_pipeline::Sample)| {
                let file = images.relative_path(index).display().to_string();
                [set.to_owned(), class(sample.label).unwrap_or_default(), file]
            };
            images.samples.iter().enumerate().map(row).collect()
        };
        Self { rows: [rows_of(TRAIN, train), rows_of(VALIDATION, validation)].concat() }
    }

    /// The same for the same images with the same classes in the same order, wherever their folder is.
    pub(crate) fn fingerprint(&self) -> String {
        // FNV-1a in 64 bits: it tells mistakes apart, and nobody is to be kept from making a collision.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        format!("{:016x}", self.to_lines().bytes().fold(0xcbf2_9ce4_8422_2325, step))
    }

    fn to_lines(&self) -> String {
        let line = |row| serde_json::to_string(row).expect("text is JSON") + "\n";
        self.rows.iter().map(line).collect()
    }

    /// Keeps it in the folder of a new run.
    pub(crate) fn write(&self, folder: &RunFolder) -> Result<(), CheckpointError> {
        write_atomically(&folder.images(), self.to_lines().as_bytes())
    }

    /// What a run's folder holds; none where the run is older than such lists.
    fn read(path: &Path) -> Result<Option<Self>, CommandError> {
        let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
        let rows: Result<Vec<[String; 3]>, _> = text.lines().map(serde_json::from_str).collect();
        let rows = rows.map_err(|error| {
            CommandError::wrong_request(format!("`{}` is no list of images", path.display()))
                .with_causes(vec![error.to_string()])
                .with_hint(format!("put it back as it was, or go on without its check: `rm {}`", shell_word(path)))
        })?;
        Ok(Some(Self { rows }))
    }

    /// What is different in `now`, in words; nothing where both are the same.
    fn differences<'a>(&'a self, now: &'a Self) -> Vec<String> {
        let (before, after) = (self.by_place(), now.by_place());
        let gone = before.keys().filter(|place| !after.contains_key(*place));
        let new = after.keys().filter(|place| !before.contains_key(*place));
        // Gone from one set and new in the other.
        let is_moved = |[set, file]: &[&str; 2]| {
            let other = [other_set(set), *file];
            before.contains_key(&other) != after.contains_key(&other)
        };
        let quoted = |[_, file]: &[&str; 2]| format!("`{file}`");
        let (moved, gone): (Vec<&[&str; 2]>, Vec<&[&str; 2]>) = gone.partition(|place| is_moved(place));
        let stayed = before.iter().filter_map(|(place, old)| Some((place[1], old, after.get(place)?)));
        let of_moved = |place: &&[&'a str; 2]| {
            let [set, file] = **place;
            Some((file, before.get(*place)?, after.get(&[other_set(set), file])?))
        };
        let renamed = stayed.chain(moved.iter().filter_map(of_moved)).filter(|(_, old, now)| old != now);
        let renamed = renamed.map(|(file, old, now)| format!("`{file}` from `{old}` to `{now}`"));
        let moved = moved.iter().map(|[set, file]| format!("`{file}` from {set} to {}", other_set(set)));
        let found = [
            ("gone", gone.into_iter().map(quoted).collect::<Vec<String>>()),
            ("new", new.filter(|place| !is_moved(place)).map(quoted).collect()),
            ("of another class", renamed.collect()),
            ("on the other side of the split", moved.collect()),
        ];
        let told = found.iter().filter(|(_, files)| !files.is_empty()).map(|(what, files)| told(what, files));
        let mut told: Vec<String> = told.collect();
        if told.is_empty() && self != now {
            told.push("they are in another order".to_owned());
        }
        told
    }

    /// As one set, by file: what is dealt out to folds.
    fn pooled(&self) -> Self {
        let rows = self.rows.iter().map(|[_, class, file]| [TRAIN.to_owned(), class.clone(), file.clone()]);
        let mut rows: Vec<[String; 3]> = rows.collect();
        rows.sort_by(|one, other| one[2].cmp(&other[2]));
        Self { rows }
    }

    /// The class of each file of each set: both may have files of one name, in folders of their own.
    fn by_place(&self) -> BTreeMap<[&str; 2], &str> {
        self.rows.iter().map(|[set, class, file]| ([set.as_str(), file.as_str()], class.as_str())).collect()
    }
}

fn other_set(set: &str) -> &'static str {
    if set == TRAIN { VALIDATION } else { TRAIN }
}

fn told(what: &str, files: &[String]) -> String {
    let (shown, verb) = (files[..files.len().min(MAX_SHOWN)].join(", "), if files.len() == 1 { "is" } else { "are" });
    match files.len().saturating_sub(MAX_SHOWN) {
        0 => format!("{} {verb} {what}: {shown}", files.len()),
        more => format!("{} {verb} {what}: {shown} and {more} more", files.len()),
    }
}

/// Whether a run that is gone on with finds the images that it was begun with. Others would change which are validated, and what the classes mean.
///
/// # Errors
/// What is different, and how to train on what is there now.
pub(crate) fn check_same_images(folder: &RunFolder, now: &Listing) -> Result<(), CommandError> {
    let Some(before) = Listing::read(&folder.images())? else { return Ok(()) };
    let differences = before.differences(now);
    if differences.is_empty() {
        return Ok(());
    }
    let run = folder.root().display();
    let message = format!("the images are not those that the run `{run}` was begun with");
    Err(CommandError::wrong_request(message).with_causes(differences).with_hint(train_anew(folder, "put them back")))
}

/// Whether the images that a run was validated on are those that would be found now. Among others there may be some that it was trained on.
///
/// # Errors
/// What is different, and how to train on what is there now.
pub(crate) fn check_same_validation(folder: &RunFolder, now: &Listing) -> Result<(), CommandError> {
    let Some(before) = Listing::read(&folder.images())? else { return Ok(()) };
    let validation = |listing: &Listing| -> Vec<[String; 3]> {
        listing.rows.iter().filter(|[set, ..]| set == VALIDATION).cloned().collect()
    };
    if validation(&before) == validation(now) {
        return Ok(());
    }
    let run = folder.root().display();
    let message = format!("the validation images are not those that the run `{run}` was validated on");
    let hint = train_anew(folder, "put the images back");
    Err(CommandError::wrong_request(message).with_causes(before.differences(now)).with_hint(hint))
}

/// Whether a fold that begins in `root` is dealt from the images that the folds beside it were dealt from. Of others, some would be trained on in one
/// fold and validated in none, or in two.
///
/// # Errors
/// What is different, and how to train on what is there now.
pub(crate) fn check_same_as_other_folds(root: &Path, now: &Listing) -> Result<(), CommandError> {
    let Some(group) = root.parent() else { return Ok(()) };
    let beside = std::fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
    let others = beside.filter(|path| path != root).filter_map(|path| RunFolder::open(&path).ok());
    for other in others {
        let Some(before) = Listing::read(&other.images())? else { continue };
        let differences = before.pooled().differences(&now.pooled());
        if !differences.is_empty() {
            let message = format!("the images are not those that the run `{}` was dealt from", other.root().display());
            let config = shell_word(group.join("config.resolved.yaml"));
            let anew = format!("train --config {config} --set name=OTHER");
            let hint = format!("put them back, or train all folds on what is there now: {}", next_step(&anew));
            return Err(CommandError::wrong_request(message).with_causes(differences).with_hint(hint));
        }
    }
    Ok(())
}

/// The way out where a run cannot go on with what is there: `first`, or a new run that starts from its weights.
pub(crate) fn train_anew(folder: &RunFolder, first: &str) -> String {
    let settings = format!("--set name=OTHER --set model.weights={}", shell_word(folder.root()));
    let again = format!("train --config {} {settings}", shell_word(folder.resolved_config()));
    format!("{first}, or train a new run from its weights: {}", next_step(&again))
}

#[cfg(test)]
mod tests {
    use data_pipeline::Sample;

    use super::*;

    fn set(files: &[(&str, u32)]) -> Dataset {
        let sample = |&(file, label): &(&str, u32)| Sample {
            path: Path::new("data").join(file),
            label: Some(label),
            group: None,
        };
        let samples = files.iter().map(sample).collect();
        Dataset { root: "data".into(), classes: vec!["cat".to_owned(), "dog".to_owned()], samples, ignored_files: 0 }
    }

    #[test]
    fn each_kind_of_change_is_told_and_none_where_nothing_changed() {
        let (train, validation) = (set(&[("a.png", 0), ("b.png", 1), ("c.png", 1)]), set(&[("d.png", 0)]));
        let before = Listing::of(&train, &validation);
        assert_eq!(before.differences(&before), [] as [String; 0]);
        let after = Listing::of(&set(&[("a.png", 1), ("d.png", 0), ("e.png", 0)]), &set(&[("b.png", 1)]));
        let told = [
            "1 is gone: `c.png`",
            "1 is new: `e.png`",
            "1 is of another class: `a.png` from `cat` to `dog`",
            "2 are on the other side of the split: `b.png` from train to validation, `d.png` from validation to train",
        ];
        assert_eq!(before.differences(&after), told);
        let both = Listing::of(&set(&[("b.png", 1), ("c.png", 1)]), &set(&[("d.png", 0), ("a.png", 1)]));
        let told = [
            "1 is of another class: `a.png` from `cat` to `dog`",
            "1 is on the other side of the split: `a.png` from train to validation",
        ];
        assert_eq!(before.differences(&both), told);
        let turned = Listing::of(&set(&[("b.png", 1), ("a.png", 0), ("c.png", 1)]), &validation);
        assert_eq!(before.differences(&turned), ["they are in another order"]);
        assert!([&after, &turned].iter().all(|other| other.fingerprint() != before.fingerprint()));
    }

    #[test]
    fn sets_with_files_of_one_name_are_told_apart() {
        let (train, validation) = (set(&[("a.png", 0), ("b.png", 1)]), set(&[("a.png", 0), ("b.png", 1)]));
        let before = Listing::of(&train, &validation);
        assert_eq!(before.differences(&Listing::of(&train, &set(&[("a.png", 0)]))), ["1 is gone: `b.png`"]);
    }

    #[test]
    fn a_listing_does_not_depend_on_where_the_folder_is_and_reads_back() {
        let here = set(&[("a \"b\"\n.png", 0), ("b.png", 1)]);
        let mut there = here.clone();
        there.root = "elsewhere".into();
        there.samples.iter_mut().for_each(|sample| {
            sample.path = Path::new("elsewhere").join(sample.path.strip_prefix("data").expect("it is below"));
        });
        let listing = Listing::of(&here, &here);
        assert_eq!(Listing::of(&there, &there), listing);
        let file = tempfile::NamedTempFile::new().expect("writable");
        std::fs::write(file.path(), listing.to_lines()).expect("writable");
        assert_eq!(Listing::read(file.path()).expect("written by us"), Some(listing));
        std::fs::write(file.path(), "[]").expect("writable");
        assert!(Listing::read(file.path()).is_err());
    }
}
