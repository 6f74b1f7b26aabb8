//! "Did you mean": the known name that is nearest to one that was written.

use strsim::normalized_damerau_levenshtein;

use super::keys::{KeyTable, last_part};

/// Below this share of common letters a suggestion is more puzzling than none.
const NEAR_ENOUGH: f64 = 0.6;

/// A name that starts as the written one does, or is contained in it, is at least this near.
const SHARED_STEM: f64 = 0.7;

/// A key of another section must be clearly nearer than one of the same section.
const OTHER_SECTION: f64 = 0.15;

/// What PyTorch, timm and their users call our keys.
const COMMON_NAMES: [(&str, &str); 19] = [
    ("lr", "train.learning_rate"),
    ("min_lr", "train.min_learning_rate"),
    ("wd", "train.weight_decay"),
    ("eps", "train.epsilon"),
    ("batch_size", "train.effective_batch_size"),
    ("max_epochs", "train.epochs"),
    ("num_epochs", "train.epochs"),
    ("smoothing", "train.label_smoothing"),
    ("clip_grad", "train.clip_norm"),
    ("model_ema_decay", "train.ema_decay"),
    ("img_size", "model.image_size"),
    ("input_size", "model.image_size"),
    ("in_chans", "model.in_channels"),
    ("drop_path_rate", "model.drop_path"),
    ("drop_rate", "model.dropout"),
    ("hflip", "augment.horizontal_flip"),
    ("vflip", "augment.vertical_flip"),
    ("num_workers", "data.workers"),
    ("val", "data.validation"),
];

/// The key or section that the user most likely meant, with its full path.
pub(crate) fn nearest_key(written: &str, keys: &KeyTable) -> Option<String> {
    let written = written.to_lowercase().replace('-', "_");
    let section_of = |path: &str| path.rsplit_once('.').map(|(section, _)| section.to_owned());
    let name = last_part(&written);
    if keys.key(&written).is_none()
        && let Some((_, known)) = COMMON_NAMES.iter().find(|(common, _)| *common == name)
    {
        return Some((*known).to_owned());
    }
    let sections = keys.sections.iter().map(|section| section.path.as_str());
    let known = keys.keys().map(|key| key.path.as_str()).chain(sections);
    let nearness = |path: &str| {
        let same_section = section_of(path) == section_of(&written);
        let penalty = if same_section { 0.0 } else { OTHER_SECTION };
        let by_name = similarity(name, last_part(path)) - penalty;
        by_name.max(normalized_damerau_levenshtein(&written, path))
    };
    best(known.map(|path| (nearness(path), path)))
}

/// The name that is nearest to a written word.
pub(crate) fn nearest_of<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let written = written.to_lowercase();
    best(names.map(|name| (similarity(&written, name), name)))
}

/// The first of the highest, when it is near enough.
fn best<'n>(scored: impl Iterator<Item = (f64, &'n str)>) -> Option<String> {
    scored
        .filter(|(score, name)| *score >= NEAR_ENOUGH && !name.is_empty())
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, name)| name.to_owned())
}

fn similarity(written: &str, name: &str) -> f64 {
    let letters = normalized_damerau_levenshtein(written, name);
    let shares_stem = written.len() > 3 && (name.starts_with(written) || written.contains(name));
    if shares_stem { letters.max(SHARED_STEM) } else { letters }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(written: &str) -> Option<String> {
        nearest_key(written, &KeyTable::new())
    }

    #[test]
    fn slips_of_the_pen_find_their_key() {
        for (written, meant) in [
            ("train.epoch", "train.epochs"),
            ("train.Epochs", "train.epochs"),
            ("train.learning-rate", "train.learning_rate"),
            ("train.warmup", "train.warmup_epochs"),
            ("trian.epochs", "train.epochs"),
            ("trian", "train"),
            ("sede", "seed"),
            ("epochs", "train.epochs"),
            ("train.image_size", "model.image_size"),
        ] {
            assert_eq!(nearest(written).as_deref(), Some(meant), "{written}");
        }
    }

    #[test]
    fn names_from_pytorch_and_timm_find_their_key() {
        assert_eq!(nearest("train.lr").as_deref(), Some("train.learning_rate"));
        assert_eq!(nearest("batch_size").as_deref(), Some("train.effective_batch_size"));
    }

    #[test]
    fn common_names_lead_to_keys_that_exist() {
        let keys = KeyTable::new();
        for (_, known) in COMMON_NAMES {
            assert!(keys.key(known).is_some(), "{known}");
        }
    }

    #[test]
    fn a_name_like_no_other_finds_nothing() {
        assert_eq!(nearest("train.xyzzy"), None);
        assert_eq!(nearest_of("xyzzy", ["skip", "fail"].into_iter()), None);
    }
}
