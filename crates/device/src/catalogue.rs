//! Cards that need not be here: `configs/gpus.yaml`.

use std::cmp::Reverse;
use std::sync::LazyLock;

use memory_planner::{MemoryReading, Tier, parse_bytes};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::card_name::{is_pcie, model, normalize};

/// The file is part of the binary, so that it is there wherever the binary runs.
const EMBEDDED: &str = include_str!("../../../configs/gpus.yaml");

/// A driver's total may differ from the nominal memory by this share: error correction takes 1/16, the driver its own.
const MEMORY_TOLERANCE_SHARE: f64 = 0.10;

/// Of a name that no card has, so many others are shown.
const NEAREST: usize = 3;

/// A kind of card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Its key: `rtx3060-12gb`.
    pub name: String,
    /// Its product name: `NVIDIA GeForce RTX 3060 12GB`.
    pub title: String,
    /// All its memory, as its data sheet has it.
    #[serde(rename = "memory", deserialize_with = "bytes_from_text", serialize_with = "bytes_to_text")]
    pub memory_bytes: u64,
    /// What a process can fill: an assumption that the head of the file explains. A CUDA context is taken off already.
    #[serde(rename = "usable", deserialize_with = "bytes_from_text", serialize_with = "bytes_to_text")]
    pub usable_bytes: u64,
    /// Major and minor: (8, 6).
    #[serde(deserialize_with = "capability_from_text", serialize_with = "capability_to_text")]
    pub compute_capability: (u32, u32),
    /// How much headroom it needs.
    pub tier: Tier,
    /// Of its memory, in GB/s.
    pub bandwidth: u32,
    /// Other keys.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Whether error correction takes its share of the memory as the card is delivered.
    #[serde(default)]
    pub inline_ecc: bool,
}

impl Card {
    /// The card as if it were here and idle, for a budget. What the driver and a context take counts as in use.
    pub fn idle_memory(&self) -> MemoryReading {
        MemoryReading { total_bytes: self.memory_bytes, free_bytes: self.usable_bytes, own_bytes: 0 }
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
    }
}

/// All cards known by name, in the order of their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardCatalogue {
    /// The cards.
    pub cards: Vec<Card>,
}

impl CardCatalogue {
    /// The catalogue that this build was made with.
    ///
    /// ```
    /// let card = device::CardCatalogue::embedded().find("RTX 3060")?;
    /// assert_eq!(card.title, "NVIDIA GeForce RTX 3060 12GB");
    /// # Ok::<(), device::UnknownCard>(())
    /// ```
    pub fn embedded() -> &'static Self {
        static CATALOGUE: LazyLock<CardCatalogue> =
            LazyLock::new(|| CardCatalogue::from_yaml(EMBEDDED).expect("a test reads the shipped file"));
        &CATALOGUE
    }

    /// Reads a catalogue from the text of a file.
    ///
    /// # Errors
    /// A [`CatalogueError`] when the text is no catalogue.
    pub fn from_yaml(text: &str) -> Result<Self, CatalogueError> {
        serde_yaml::from_str(text).map_err(|error| CatalogueError { reason: error.to_string() })
    }

    /// The card of this name, alias or title. Case, blanks, dashes, underscores and the maker's name do not matter.
    ///
    /// # Errors
    /// An [`UnknownCard`] with the nearest names.
    pub fn find(&self, name: &str) -> Result<&Card, UnknownCard> {
        let wanted = normalize(name);
        let is_wanted = |card: &&Card| card.keys().chain([card.title.as_str()]).any(|key| normalize(key) == wanted);
        self.cards
            .iter()
            .find(is_wanted)
            .ok_or_else(|| UnknownCard { name: name.to_owned(), nearest: self.nearest(&wanted) })
    }

    /// The entry of a card that runs here, by the name and the memory that its driver reports. `None` for a card of another
    /// kind, or one of these with other memory (a laptop's, a slice of a shared one).
    pub fn match_driver_name(&self, name: &str, total_bytes: u64) -> Option<&Card> {
        let wanted = model(name);
        let off = |card: &Card| card.memory_bytes.abs_diff(total_bytes);
        self.cards
            .iter()
            .filter(|card| model(&card.title) == wanted)
            .filter(|card| off(card) as f64 <= card.memory_bytes as f64 * MEMORY_TOLERANCE_SHARE)
            .min_by_key(|card| (off(card), is_pcie(&card.title) != is_pcie(name)))
    }

    fn nearest(&self, wanted: &str) -> Vec<String> {
        let mut scored: Vec<(u32, &str)> = self
            .cards
            .iter()
            .map(|card| {
                (card.keys().map(|key| likeness(&normalize(key), wanted)).max().unwrap_or(0), card.name.as_str())
            })
            .collect();
        scored.sort_by_key(|(likeness, name)| (Reverse(*likeness), *name));
        scored.into_iter().take(NEAREST).map(|(_, name)| name.to_owned()).collect()
    }
}

/// In thousandths, for an order without floating point.
fn likeness(key: &str, wanted: &str) -> u32 {
    (1000.0 * strsim::normalized_damerau_levenshtein(key, wanted)) as u32
}

/// A name that no card of the catalogue has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown card `{name}`")]
pub struct UnknownCard {
    /// What was given.
    pub name: String,
    /// The nearest names, best first.
    pub nearest: Vec<String>,
}

impl UnknownCard {
    /// A way out that can be pasted, where a name is near.
    pub fn hint(&self) -> Option<String> {
        let nearest: Vec<String> = self.nearest.iter().map(|name| format!("`--gpu {name}`")).collect();
        (!nearest.is_empty()).then(|| format!("pass {}", nearest.join(" or ")))
    }
}

/// A text that is no catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a catalogue of cards: {reason}")]
pub struct CatalogueError {
    /// What is wrong, and where.
    pub reason: String,
}

impl CatalogueError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some("see `configs/gpus.yaml` for what an entry holds".to_owned())
    }
}

fn bytes_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    match parse_bytes(&text).map_err(D::Error::custom)? {
        0 => Err(D::Error::custom("a card has memory")),
        bytes => Ok(bytes),
    }
}

fn bytes_to_text<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{}MiB", bytes >> 20))
}

fn capability_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(u32, u32), D::Error> {
    let text = String::deserialize(deserializer)?;
    let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parts.ok_or_else(|| D::Error::custom(format!("`{text}` is no compute capability, such as `8.6`")))
}

fn capability_to_text<S: Serializer>(capability: &(u32, u32), serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{}.{}", capability.0, capability.1))
}
