use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::TensorData;
use vision_nn::{assign_parameters, is_batch_count};

use crate::tensor_file::write_views;
use crate::{CARD_VERSION, CheckpointError, LiveTensor, ModelCard, read_tensors, write_tensors};

/// Names of averaged weights start with this.
pub(crate) const EMA_PREFIX: &str = "ema/";

/// Names of optimizer state start with this.
pub(crate) const OPTIMIZER_PREFIX: &str = "optimizer/";

/// Everything of one point in training.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What it is and where training stood.
    pub card: ModelCard,
    /// Weights by the reference's names. In a `best` file with averaging on, these are the averaged ones.
    pub weights: BTreeMap<String, TensorData>,
    /// Averaged weights, where training keeps them.
    pub ema: Option<BTreeMap<String, TensorData>>,
    /// Optimizer state; none in a file for prediction only.
    pub optimizer: Option<OptimizerState>,
}

/// Optimizer state as named tensors: `<slot>/<parameter>`, for example `moment_1/head.fc.weight`.
pub type OptimizerState = BTreeMap<String, TensorData>;

impl Checkpoint {
    /// Writes all of it to one file, atomically.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; what stood at `path` before is untouched.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let weights = self.weights.iter().map(|(name, data)| (name.clone(), data));
        let ema = prefixed(EMA_PREFIX, self.ema.as_ref());
        let optimizer = prefixed(OPTIMIZER_PREFIX, self.optimizer.as_ref());
        write_tensors(path, weights.chain(ema).chain(optimizer), Some(json_of(&self.card)))
    }

    /// Reads a checkpoint of ours.
    ///
    /// # Errors
    /// A missing, unreadable, truncated, damaged or foreign file, or one of a newer version.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let file = read_tensors(path)?;
        let card = file.card.ok_or_else(|| CheckpointError::NoCard { path: path.to_owned() })?;
        let card = parse_card(path, &card)?;
        let mut checkpoint = Self { card, weights: BTreeMap::new(), ema: None, optimizer: None };
        for (name, data) in file.tensors {
            if let Some(name) = name.strip_prefix(EMA_PREFIX) {
                checkpoint.ema.get_or_insert_default().insert(name.to_owned(), data);
            } else if let Some(name) = name.strip_prefix(OPTIMIZER_PREFIX) {
                checkpoint.optimizer.get_or_insert_default().insert(name.to_owned(), data);
            } else {
                checkpoint.weights.insert(name, data);
            }
        }
        Ok(checkpoint)
    }

    /// Puts the weights for prediction into `module`: the averaged ones where there are any.
    ///
    /// # Errors
    /// [`CheckpointError::OtherModel`] with every name and shape that does not fit.
    pub fn load_for_prediction<M: Module>(&self, module: M, path: &Path) -> Result<M, CheckpointError> {
        load_weights(module, self.for_prediction().clone(), &self.card.model, path)
    }

    /// What the weights for prediction take, running statistics among them.
    #[must_use]
    pub fn prediction_bytes(&self) -> u64 {
        self.for_prediction().values().map(|data| data.as_bytes().len() as u64).sum()
    }

    fn for_prediction(&self) -> &BTreeMap<String, TensorData> {
        self.ema.as_ref().unwrap_or(&self.weights)
    }
}

/// What [`Checkpoint`] holds, still on its device.
#[derive(Debug, Clone, Default)]
pub struct LiveState {
    /// Weights by the reference's names.
    pub weights: BTreeMap<String, LiveTensor>,
    /// Averaged weights, where training keeps them.
    pub ema: BTreeMap<String, LiveTensor>,
    /// Optimizer state, named as in [`OptimizerState`].
    pub optimizer: BTreeMap<String, LiveTensor>,
}

impl LiveState {
    /// Writes the bytes that a [`Checkpoint`] of it would write, and holds one tensor at a time on the host.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; what stood at `path` before is untouched.
    pub fn write(self, card: &ModelCard, path: &Path) -> Result<(), CheckpointError> {
        let parts = [("", self.weights), (EMA_PREFIX, self.ema), (OPTIMIZER_PREFIX, self.optimizer)];
        let named = parts.into_iter().flat_map(|(prefix, tensors)| {
            tensors.into_iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
        });
        write_views(path, named, Some(json_of(card)))
    }
}

fn json_of(card: &ModelCard) -> String {
    serde_json::to_string(card).expect("a card has string keys and plain values")
}

/// Puts named weights into `module`.
///
/// # Errors
/// [`CheckpointError::OtherModel`] with every name and shape that does not fit.
pub fn load_weights<M: Module>(
    module: M,
    weights: BTreeMap<String, TensorData>,
    model: &str,
    path: &Path,
) -> Result<M, CheckpointError> {
    let weights = weights.into_iter().filter(|(name, _)| !is_batch_count(name)).collect();
    assign_parameters(module, weights).map_err(|source| CheckpointError::OtherModel {
        path: path.to_owned(),
        model: model.to_owned(),
        source,
    })
}

fn prefixed<'a>(
    prefix: &'a str,
    tensors: Option<&'a BTreeMap<String, TensorData>>,
) -> impl Iterator<Item = (String, &'a TensorData)> {
    tensors.into_iter().flatten().map(move |(name, data)| (format!("{prefix}{name}"), data))
}

/// Parses the card, looking at its version before its fields.
pub(crate) fn parse_card(path: &Path, json: &str) -> Result<ModelCard, CheckpointError> {
    let malformed =
        |error: serde_json::Error| CheckpointError::Malformed { path: path.to_owned(), reason: error.to_string() };
    let value: serde_json::Value = serde_json::from_str(json).map_err(malformed)?;
    let found = value["version"].as_u64().unwrap_or(0);
    if found != u64::from(CARD_VERSION) {
        return Err(CheckpointError::Version { path: path.to_owned(), found, supported: CARD_VERSION });
    }
    // Parsed from the text again: a `Value` would round the numbers on the way.
    serde_json::from_str(json).map_err(malformed)
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::{BestEpoch, LossScale, PatienceState, PlateauState, Progress, RunningSums};

    pub(crate) fn card() -> ModelCard {
        ModelCard {
            version: CARD_VERSION,
            model: "convnext_atto".to_owned(),
            classes: vec!["a".to_owned(), "b".to_owned()],
            image_size: 64,
            in_channels: 3,
            resize: "squash".to_owned(),
            interpolation: "bicubic".to_owned(),
            crop_share: 0.9,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            images: Some("0123456789abcdef".to_owned()),
            progress: Progress {
                epochs_done: 3,
                batches_done: 7,
                step: 82,
                sums: RunningSums {
                    loss: 0.1 + 0.2,
                    correct: 5,
                    samples: 9,
                    skipped: 1,
                    nonfinite_steps: 2,
                    gradient_norms: 0.1 + 0.7,
                    moved_steps: 4,
                },
                best: Some(BestEpoch { epoch: 2, macro_f1: 1.0 / 3.0, loss: 0.7 }),
                kept: vec![BestEpoch { epoch: 2, macro_f1: 1.0 / 3.0, loss: 0.1 + 0.2 }],
                idle_steps: 3,
                nonfinite_in_a_row: 1,
                plateau: PlateauState { best: Some(0.1 + 0.2), epochs_without: 1, reductions: 2 },
                early_stopping: PatienceState { best: Some(1.0 / 3.0), epochs_without: 4 },
                loss_scale: Some(LossScale { factor: 32_768.0, quiet_steps: 3 }),
            },
        }
    }

    fn checkpoint() -> Checkpoint {
        let tensors = |value: f32| BTreeMap::from([("head.fc.bias".to_owned(), TensorData::new(vec![value; 2], [2]))]);
        Checkpoint { card: card(), weights: tensors(1.0), ema: Some(tensors(2.0)), optimizer: Some(tensors(3.0)) }
    }

    #[test]
    fn a_checkpoint_reads_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        checkpoint().write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path).unwrap(), checkpoint());
    }

    #[test]
    fn tensors_on_their_device_are_written_as_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["host", "live"].map(|name| folder.path().join(name));
        let device = Device::flex();
        let numbers = [1.5, -2.0, f32::MIN_POSITIVE, 4.0, 5.0, 6.0];
        let of = |names: &[&str]| {
            let host = |name: &&str| ((*name).to_owned(), TensorData::new(numbers.to_vec(), [2, 3]));
            let live =
                |name: &&str| ((*name).to_owned(), LiveTensor::new(Tensor::from_floats(numbers, &device), vec![2, 3]));
            (names.iter().map(host).collect::<BTreeMap<_, _>>(), names.iter().map(live).collect::<BTreeMap<_, _>>())
        };
        let ((weights, live_weights), (slots, live_slots)) = (of(&["b.weight", "a.weight"]), of(&["moment/a"]));
        let host = Checkpoint { card: card(), ema: Some(weights.clone()), weights, optimizer: Some(slots) };
        host.write(&paths[0]).unwrap();
        let live = LiveState { ema: live_weights.clone(), weights: live_weights, optimizer: live_slots };
        live.write(&card(), &paths[1]).unwrap();
        let [host, live] = paths.map(|path| std::fs::read(path).unwrap());
        assert_eq!(host, live);
    }

    #[test]
    fn a_run_whose_validation_was_not_finite_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        for loss in [f64::NAN, f64::INFINITY] {
            let mut written = checkpoint();
            let epoch = BestEpoch { epoch: 1, macro_f1: 0.5, loss };
            (written.card.progress.best, written.card.progress.kept) = (Some(epoch), vec![epoch]);
            written.card.progress.plateau.best = Some(loss);
            written.write(&path).unwrap();
            let progress = Checkpoint::read(&path).unwrap().card.progress;
            let best = progress.best.unwrap();
            assert!((best.epoch, best.macro_f1) == (1, 0.5) && best.loss.is_nan() && progress.kept[0].loss.is_nan());
        }
    }

    /// Of before cards named their images.
    #[test]
    fn a_card_without_a_fingerprint_is_read() {
        let older = ModelCard { images: None, ..card() };
        let json = serde_json::to_string(&older).unwrap();
        assert!(!json.contains("images"), "{json}");
        assert_eq!(parse_card(Path::new("last.safetensors"), &json).unwrap(), older);
    }

    /// Of before there was another way: all were bilinear, and a centre crop kept 0.875.
    #[test]
    fn a_card_says_how_images_were_resized_unless_it_was_the_only_way_there_was() {
        let path = Path::new("last.safetensors");
        let older = ModelCard { interpolation: "bilinear".to_owned(), crop_share: 0.875, ..card() };
        let json = serde_json::to_string(&older).unwrap();
        assert!(!json.contains("interpolation") && !json.contains("crop_share"), "{json}");
        assert_eq!(parse_card(path, &json).unwrap(), older);
        let json = serde_json::to_string(&card()).unwrap();
        assert!(json.contains("\"interpolation\":\"bicubic\",\"crop_share\":0.9,"), "{json}");
        assert_eq!(parse_card(path, &json).unwrap(), card());
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let mut newer = checkpoint();
        newer.card.version = 99;
        newer.write(&path).unwrap();
        assert!(matches!(Checkpoint::read(&path), Err(CheckpointError::Version { found: 99, .. })));
    }

    #[test]
    fn a_file_of_another_program_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.safetensors");
        let data = TensorData::new(vec![1.0f32], [1]);
        write_tensors(&path, [("x".to_owned(), &data)], None).unwrap();
        assert!(matches!(Checkpoint::read(&path), Err(CheckpointError::NoCard { .. })));
    }

    /// A class may be called otherwise, and the last digit of a number may be another: the checksum is of the tensors alone. A tensor under another name does not
    /// fit the model, which loading it tells.
    #[test]
    fn no_bit_of_the_header_can_bring_a_reader_down() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        checkpoint().write(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let mut refused = 0;
        // Every third bit: of neighbouring letters other ones.
        for bit in (0..8 * header).step_by(3) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            refused += usize::from(Checkpoint::read(&path).is_err());
        }
        assert!(refused > header / 2, "{refused} of {} were refused", 8 * header / 3);
    }
}
