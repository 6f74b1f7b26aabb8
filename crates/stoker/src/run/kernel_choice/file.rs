//! What was measured on cards, kept between runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use checkpoint::{CheckpointError, write_atomically};
use serde::{Deserialize, Serialize};
use vision_nn::choice::{Measured, Site, Way};

use crate::ui;

/// What is known of a site.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Whether Burn's own operations run there.
    pub(super) burns: bool,
    /// Their time as a multiple of ours.
    pub(super) ratio: f64,
}

impl Kept {
    pub(super) fn of(measured: Measured) -> Self {
        Self { burns: measured.way == Way::Burns, ratio: measured.ratio }
    }

    pub(super) fn way(self) -> Way {
        if self.burns { Way::Burns } else { Way::Ours }
    }
}

/// By the text of a site.
pub(super) type Sites = BTreeMap<String, Kept>;

/// By the card, as [`ChoiceFile::read`] is told.
type Cards = BTreeMap<String, Sites>;

/// The file as it was read, and what was added to it.
pub(super) struct ChoiceFile {
    path: PathBuf,
    card: String,
    cards: Cards,
}

impl ChoiceFile {
    /// What is kept at `path`, of which `card` is asked about; nothing where there is no file yet. A file that cannot be read is told, and what it had is
    /// measured anew.
    pub(super) fn read(path: PathBuf, card: String) -> Self {
        let (cards, wrong) = cards_in(&path, &card);
        if let Some(reason) = wrong {
            let path = path.display();
            ui::warn(format_args!("`{path}` has no kernel choices that can be used, they are measured anew: {reason}"));
        }
        Self { path, card, cards }
    }

    /// What is known of a site on the card.
    pub(super) fn kept(&self, site: &Site) -> Option<Kept> {
        self.cards.get(&self.card)?.get(&site.to_string()).copied()
    }

    /// Adds what was measured on the card, and writes the file with what other processes have added to it meanwhile. What is kept already stays.
    ///
    /// # Errors
    /// When the file cannot be written; all the same what was measured is [known](Self::kept) here.
    pub(super) fn keep(&mut self, measured: Sites) -> Result<(), CheckpointError> {
        self.cards = cards_in(&self.path, &self.card).0;
        let sites = self.cards.entry(self.card.clone()).or_default();
        for (site, kept) in measured {
            sites.entry(site).or_insert(kept);
        }
        if let Some(folder) = self.path.parent() {
            // Where there is no folder, writing says so.
            let _ = fs::create_dir_all(folder);
        }
        let text = serde_json::to_string_pretty(&self.cards).expect("choices have string keys and plain values");
        write_atomically(&self.path, text.as_bytes())
    }
}

/// What the file has, and why that is not all. Of other cards it is taken as it is; of this one, all or nothing.
fn cards_in(path: &Path, card: &str) -> (Cards, Option<String>) {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Cards::new(), None),
        Err(error) => return (Cards::new(), Some(error.to_string())),
    };
    let mut cards: Cards = match serde_json::from_slice(&bytes) {
        Ok(cards) => cards,
        Err(error) => return (Cards::new(), Some(error.to_string())),
    };
    let wrong = cards.get(card).and_then(|sites| sites.keys().find_map(|text| text.parse::<Site>().err()));
    if wrong.is_some() {
        cards.remove(card);
    }
    (cards, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Kept = Kept { burns: false, ratio: 1.25 };
    const BURNS: Kept = Kept { burns: true, ratio: 0.75 };

    fn site(text: &str) -> Site {
        text.parse().unwrap()
    }

    fn sites(of: &[(&str, Kept)]) -> Sites {
        of.iter().map(|(text, kept)| ((*text).to_owned(), *kept)).collect()
    }

    fn read(path: &Path, card: &str) -> ChoiceFile {
        ChoiceFile::read(path.to_owned(), card.to_owned())
    }

    #[test]
    fn what_was_measured_is_read_again_and_other_cards_keep_theirs() {
        let folder = tempfile::tempdir().unwrap();
        // The folder comes with the first choice.
        let path = folder.path().join("cache").join("choices.json");
        let conv = "depthwise bf16 7x7x768x7x1x3x3x7x7";
        let measured = [(conv, BURNS), ("layer_norm bf16 7x7x768", OURS)];
        read(&path, "a card").keep(sites(&measured)).unwrap();
        read(&path, "another").keep(sites(&[(conv, OURS)])).unwrap();
        let of_card = read(&path, "a card");
        for (text, kept) in measured {
            assert_eq!(of_card.kept(&site(text)), Some(kept), "{text}");
        }
        assert_eq!(of_card.kept(&site("batch_norm f32 9")), None);
        assert_eq!(read(&path, "another").kept(&site(conv)), Some(OURS));
        assert_eq!(read(&path, "a third").kept(&site(conv)), None);
    }

    #[test]
    fn what_another_process_kept_first_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("choices.json");
        let mut late = read(&path, "a card");
        read(&path, "a card").keep(sites(&[("batch_norm f32 8", BURNS)])).unwrap();
        late.keep(sites(&[("batch_norm f32 8", OURS), ("batch_norm f32 16", OURS)])).unwrap();
        for file in [late, read(&path, "a card")] {
            assert_eq!(file.kept(&site("batch_norm f32 8")), Some(BURNS));
            assert_eq!(file.kept(&site("batch_norm f32 16")), Some(OURS));
        }
    }

    #[test]
    fn what_cannot_be_read_is_measured_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("choices.json");
        let known = site("batch_norm f32 8");
        for text in [
            "",
            "{",
            "[]",
            r#"{"a card": {"batch_norm f32 8": {"burns": true}"#,
            r#"{"a card": {"batch_norm f32 8": {"burns": "perhaps", "ratio": 1.0}}}"#,
            r#"{"a card": {"batch_norm f32 8": {"burns": true, "ratio": 0.5, "more": 1}}}"#,
            // A device that failed says nothing of the next time.
            r#"{"a card": {"batch_norm f32 8": {"burns": false, "ratio": null}}}"#,
        ] {
            fs::write(&path, text).unwrap();
            assert!(cards_in(&path, "a card").1.is_some(), "{text}");
            let mut file = read(&path, "a card");
            assert_eq!(file.kept(&known), None, "{text}");
            file.keep(sites(&[("batch_norm f32 8", OURS)])).unwrap();
            assert_eq!(read(&path, "a card").kept(&known), Some(OURS), "{text}");
            assert!(cards_in(&path, "a card").1.is_none());
        }
    }

    #[test]
    fn a_site_that_nobody_knows_spoils_its_card_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("choices.json");
        let kept = r#"{"burns": true, "ratio": 0.5}"#;
        let text = format!(
            r#"{{"a card": {{"batch_norm f32 8": {kept}, "norm 8": {kept}}}, "another": {{"batch_norm f32 8": {kept}}}}}"#
        );
        fs::write(&path, text).unwrap();
        let (cards, wrong) = cards_in(&path, "a card");
        assert_eq!(wrong.as_deref(), Some("`norm 8` is no operation at a shape"));
        assert_eq!(cards.keys().collect::<Vec<_>>(), ["another"]);
        read(&path, "a card").keep(sites(&[("batch_norm f32 8", OURS)])).unwrap();
        let known = site("batch_norm f32 8");
        assert_eq!(read(&path, "another").kept(&known).map(Kept::way), Some(Way::Burns));
        assert_eq!(read(&path, "a card").kept(&known).map(Kept::way), Some(Way::Ours));
    }

    #[test]
    fn where_nothing_can_be_written_what_was_measured_is_known_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let mut file = read(&folder.path().join("file").join("choices.json"), "a card");
        assert!(file.keep(sites(&[("batch_norm f32 8", BURNS)])).is_err());
        assert_eq!(file.kept(&site("batch_norm f32 8")), Some(BURNS));
    }
}
