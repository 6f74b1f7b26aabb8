use std::collections::BTreeMap;
use std::fmt;

use burn::tensor::TensorData;
use vision_nn::{AssignError, compare_shapes};

use crate::{CheckpointError, WeightsFile};

/// The two ends of a network, which depend on the data and not on the architecture, by the reference's names without `.weight` and `.bias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkEnds {
    /// The convolution that sees the image: its weight is `[out, in, rows, columns]`.
    pub first_convolution: &'static str,
    /// The layer that gives the logits: its weight is `[classes, features]`.
    pub classifier: &'static str,
}

impl NetworkEnds {
    fn stem(&self) -> String {
        format!("{}.weight", self.first_convolution)
    }

    fn head(&self) -> [String; 2] {
        ["weight", "bias"].map(|part| format!("{}.{part}", self.classifier))
    }

    /// Input channels and classes of the network that the weights are of; none where one of its ends is not there.
    pub fn of(&self, weights: &WeightsFile) -> Option<[usize; 2]> {
        let [head, _] = self.head();
        match (weights.shape(&self.stem())?, weights.shape(&head)?) {
            (&[_, channels, _, _], &[classes, _]) => Some([channels, classes]),
            _ => None,
        }
    }
}

/// What happens when weights do not fit a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// It is an error.
    Refuse,
    /// What fits is taken, and what is left out is told.
    Skip,
}

/// Something about weights that is not as in their file, or is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsNote {
    /// The file has averaged weights, and these were taken.
    Averaged {
        /// Where in the file they are.
        key: String,
    },
    /// The first convolution's weight was summed over colours, for grey images.
    SummedOverColours {
        /// Its name.
        name: String,
        /// Input channels in the file.
        from: usize,
    },
    /// The file is for another number of classes, so that the classifier keeps its fresh weights.
    FreshClassifier {
        /// Its name.
        name: String,
        /// Classes in the file.
        from: usize,
        /// Classes of the model.
        to: usize,
    },
    /// A run's file is for as many classes, but others, so that the classifier keeps its fresh weights.
    OtherClasses {
        /// The classifier's name.
        name: String,
        /// Classes of the file, in the order of the logits.
        classes: Vec<String>,
    },
    /// The file is for as many classes and does not say which, so that they are taken for those of the model.
    KeptClassifier {
        /// The classifier's name.
        name: String,
        /// Classes of the model, in the order of the logits.
        classes: Vec<String>,
    },
    /// What the family did to make a checkpoint of another layout fit.
    Adapted(String),
    /// What did not fit, and was left out.
    Skipped(AssignError),
}

impl fmt::Display for WeightsNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Averaged { key } => write!(f, "averaged weights were taken (`{key}`)"),
            Self::SummedOverColours { name, from } => {
                write!(f, "`{name}` was summed over its {from} input channels, for grey images")
            }
            Self::FreshClassifier { name, from, to } => {
                write!(f, "`{name}` starts fresh: the file has {from} classes, the model {to}")
            }
            Self::OtherClasses { name, classes } => {
                write!(f, "`{name}` starts fresh: the file's {} classes are others: {}", classes.len(), listed(classes))
            }
            Self::KeptClassifier { name, classes } => {
                let count = classes.len();
                write!(f, "`{name}` kept: the file has {count} classes too, taken in the order {}", listed(classes))
            }
            Self::Adapted(what) => f.write_str(what),
            Self::Skipped(left_out) => write_left_out(left_out, f),
        }
    }
}

/// Names of classes that a note lists; of more, the others are counted.
const LISTED_CLASSES: usize = 8;

/// Names of classes on one line.
fn listed(classes: &[String]) -> String {
    let shown = &classes[..classes.len().min(LISTED_CLASSES)];
    let names: Vec<String> = shown.iter().map(|name| name.replace(char::is_control, " ")).collect();
    match classes.len() - shown.len() {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// All names, for nobody sees them elsewhere.
fn write_left_out(left_out: &AssignError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let AssignError { missing, unused, mismatched } = left_out;
    let shapes = mismatched.iter().map(|(name, own, found)| format!("`{name}` (model {own:?}, file {found:?})"));
    let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
    let groups = [
        ("not in the file, so they start fresh", quoted(missing)),
        ("not in the model", quoted(unused)),
        ("of another shape, so they start fresh", shapes.collect()),
    ];
    let told = groups.iter().filter(|(_, names)| !names.is_empty());
    let told: Vec<String> = told.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect();
    write!(f, "skipped weights {}", told.join("; "))
}

impl WeightsFile {
    /// Makes the tensors fit a model of these names and shapes, and tells what that took: what is left can be assigned.
    ///
    /// A classifier for another number of classes is left out. A first convolution of three channels is summed over them for a model of one,
    /// as timm does it (`adapt_input_conv`). Everything else must be there in the right shape, with `Mismatch::Refuse`, and nothing more.
    ///
    /// # Errors
    /// [`CheckpointError::OtherModel`] with every name and both shapes; or, whatever `mismatch` says, when nothing at all fits.
    pub fn fit(
        &mut self,
        shapes: &[(String, Vec<usize>)],
        ends: NetworkEnds,
        mismatch: Mismatch,
        model: &str,
    ) -> Result<Vec<WeightsNote>, CheckpointError> {
        let expected: BTreeMap<&str, &[usize]> =
            shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        let mut notes: Vec<WeightsNote> =
            self.averaged.iter().map(|key| WeightsNote::Averaged { key: key.clone() }).collect();
        notes.extend(self.sum_over_colours(&ends.stem(), &expected));
        let mut error = compare_shapes(shapes, &self.tensors);
        if let Some(note) = self.leave_classifier_out(ends, &mut error) {
            notes.push(note);
        }
        if error == AssignError::default() {
            return Ok(notes);
        }
        let fits_in_part = error.missing.len() + error.mismatched.len() < shapes.len();
        if mismatch == Mismatch::Refuse || !fits_in_part {
            let (path, model) = (self.path.clone(), model.to_owned());
            return Err(CheckpointError::OtherModel { path, model, source: Box::new(error) });
        }
        for name in error.unused.iter().chain(error.mismatched.iter().map(|(name, ..)| name)) {
            self.tensors.remove(name);
        }
        notes.push(WeightsNote::Skipped(error));
        Ok(notes)
    }

    /// Holds the classes of weights that [`fit`](Self::fit) a model against those of the model, and leaves out the classifier of a run whose classes are
    /// others, or the same in another order. Nothing to tell where they are the same, or where the classifier is left out already.
    pub fn fit_classes(&mut self, ends: NetworkEnds, classes: &[String]) -> Option<WeightsNote> {
        let names = ends.head();
        self.shape(&names[0])?;
        let name = ends.classifier.to_owned();
        match &self.card {
            None => Some(WeightsNote::KeptClassifier { name, classes: classes.to_vec() }),
            Some(card) if card.classes == classes => None,
            Some(card) => {
                let classes = card.classes.clone();
                for name in &names {
                    self.tensors.remove(name);
                }
                Some(WeightsNote::OtherClasses { name, classes })
            }
        }
    }

    /// Three colours to one: of a grey image in all three, the sum gives what the three gave.
    fn sum_over_colours(&mut self, name: &str, expected: &BTreeMap<&str, &[usize]>) -> Option<WeightsNote> {
        let (&[out, from, rows, columns], &[_, 1, ..]) = (self.shape(name)?, *expected.get(name)?) else { return None };
        if from != 3 {
            return None;
        }
        let data = &self.tensors[name];
        let (dtype, values) = (data.dtype, data.iter::<f32>().collect::<Vec<_>>());
        let window = rows * columns;
        let of_filter = |filter: &[f32]| {
            let (red, rest) = filter.split_at(window);
            let (green, blue) = rest.split_at(window);
            red.iter().zip(green).zip(blue).map(|((red, green), blue)| red + green + blue).collect::<Vec<_>>()
        };
        let summed: Vec<f32> = values.chunks_exact((from * window).max(1)).flat_map(of_filter).collect();
        let summed = TensorData::new(summed, [out, 1, rows, columns]).convert_dtype(dtype);
        self.tensors.insert(name.to_owned(), summed);
        Some(WeightsNote::SummedOverColours { name: name.to_owned(), from })
    }

    /// Only where the number of classes is what differs: another width is another model.
    fn leave_classifier_out(&mut self, ends: NetworkEnds, error: &mut AssignError) -> Option<WeightsNote> {
        let names = ends.head();
        let (_, own, found) = error.mismatched.iter().find(|(name, ..)| *name == names[0])?;
        let (&[to, features], &[from, same]) = (own.as_slice(), found.as_slice()) else { return None };
        if features != same {
            return None;
        }
        error.mismatched.retain(|(name, ..)| !names.contains(name));
        for name in &names {
            self.tensors.remove(name);
        }
        Some(WeightsNote::FreshClassifier { name: ends.classifier.to_owned(), from, to })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::ModelCard;
    use crate::checkpoint_file::tests::card;

    const ENDS: NetworkEnds = NetworkEnds { first_convolution: "stem", classifier: "head" };

    fn tensor(shape: &[usize]) -> TensorData {
        let count: usize = shape.iter().product();
        TensorData::new((0..count).map(|number| number as f32).collect::<Vec<_>>(), shape.to_vec())
    }

    fn file(tensors: &[(&str, &[usize])]) -> WeightsFile {
        let tensors = tensors.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape))).collect();
        let path = PathBuf::from("w.safetensors");
        WeightsFile { path, tensors, batch_counts: BTreeMap::new(), card: None, averaged: None }
    }

    fn model(tensors: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
        tensors.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }

    const MODEL: [(&str, &[usize]); 4] =
        [("stem.weight", &[2, 3, 1, 2]), ("block.weight", &[4]), ("head.weight", &[5, 4]), ("head.bias", &[5])];

    fn changed(name: &str, shape: &'static [usize]) -> Vec<(&'static str, &'static [usize])> {
        MODEL.iter().map(|(other, own)| (*other, if *other == name { shape } else { own })).collect()
    }

    #[test]
    fn weights_of_the_same_model_fit_as_they_are() {
        let mut file = file(&MODEL);
        assert_eq!(ENDS.of(&file), Some([3, 5]));
        assert_eq!(file.fit(&model(&MODEL), ENDS, Mismatch::Refuse, "m").unwrap(), []);
        assert_eq!(file.tensors.len(), 4);
    }

    #[test]
    fn another_number_of_classes_leaves_weight_and_bias_of_the_classifier_out() {
        let mut file = file(&[MODEL[0], MODEL[1], ("head.weight", &[1000, 4]), ("head.bias", &[1000])]);
        let notes = file.fit(&model(&MODEL), ENDS, Mismatch::Refuse, "m").unwrap();
        assert_eq!(notes, [WeightsNote::FreshClassifier { name: "head".to_owned(), from: 1000, to: 5 }]);
        assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["block.weight", "stem.weight"]);
    }

    #[test]
    fn a_classifier_is_kept_for_the_same_classes_and_for_as_many_that_have_no_names() {
        let names = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<String>>();
        let own = names("ant bee cat dog eel");
        let of = |classes: Option<&str>| {
            let card = classes.map(|classes| ModelCard { classes: names(classes), ..card() });
            let mut file = WeightsFile { card, ..file(&MODEL) };
            let note = file.fit_classes(ENDS, &own).map(|note| note.to_string());
            (note, file.tensors.len())
        };
        assert_eq!(of(Some("ant bee cat dog eel")), (None, 4));
        let kept = "`head` kept: the file has 5 classes too, taken in the order ant, bee, cat, dog, eel";
        assert_eq!(of(None), (Some(kept.to_owned()), 4));
        for others in ["ant bee cat dog emu", "bee ant cat dog eel"] {
            let (note, left) = of(Some(others));
            let told = format!("`head` starts fresh: the file's 5 classes are others: {}", others.replace(' ', ", "));
            assert_eq!((note, left), (Some(told), 2));
        }
        let mut without = file(&MODEL[..2]);
        assert_eq!(without.fit_classes(ENDS, &own), None, "it is left out already");
    }

    #[test]
    fn classes_are_listed_on_one_line_and_of_many_the_first() {
        let classes = |count: usize| (0..count).map(|number| format!("c{number}")).collect::<Vec<String>>();
        assert_eq!(listed(&["two\nlines".to_owned(), "b".to_owned()]), "two lines, b");
        assert_eq!(listed(&classes(8)), "c0, c1, c2, c3, c4, c5, c6, c7");
        assert_eq!(listed(&classes(1000)), "c0, c1, c2, c3, c4, c5, c6, c7 and 992 more");
    }

    #[test]
    fn a_classifier_of_another_width_is_another_model() {
        let mut file = file(&changed("head.weight", &[5, 7]));
        let error = file.fit(&model(&MODEL), ENDS, Mismatch::Refuse, "m").unwrap_err();
        let CheckpointError::OtherModel { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.mismatched, [("head.weight".to_owned(), vec![5, 4], vec![5, 7])]);
    }

    #[test]
    fn colours_are_summed_for_grey_images_only() {
        let grey = model(&changed("stem.weight", &[2, 1, 1, 2]));
        let mut colour = file(&MODEL);
        let notes = colour.fit(&grey, ENDS, Mismatch::Refuse, "m").unwrap();
        assert_eq!(notes, [WeightsNote::SummedOverColours { name: "stem.weight".to_owned(), from: 3 }]);
        // Filter 0 is [[0, 1], [2, 3], [4, 5]], filter 1 goes on from 6.
        let summed: Vec<f32> = colour.tensors["stem.weight"].iter::<f32>().collect();
        assert_eq!(summed, [6.0, 9.0, 24.0, 27.0]);
        let mut grey = file(&changed("stem.weight", &[2, 1, 1, 2]));
        assert!(grey.fit(&model(&MODEL), ENDS, Mismatch::Refuse, "m").is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_or_skipped_and_told_by_name_and_both_shapes() {
        let tensors = [MODEL[0], ("block.weight", &[9][..]), ("extra", &[1]), MODEL[2]];
        let error = file(&tensors).fit(&model(&MODEL), ENDS, Mismatch::Refuse, "m").unwrap_err();
        assert!(matches!(error, CheckpointError::OtherModel { .. }));
        let mut skipping = file(&tensors);
        let notes = skipping.fit(&model(&MODEL), ENDS, Mismatch::Skip, "m").unwrap();
        assert_eq!(skipping.tensors.keys().collect::<Vec<_>>(), ["head.weight", "stem.weight"]);
        assert_eq!(
            notes[0].to_string(),
            "skipped weights not in the file, so they start fresh: `head.bias`; not in the model: `extra`; \
             of another shape, so they start fresh: `block.weight` (model [4], file [9])"
        );
    }

    #[test]
    fn a_file_that_fits_nowhere_is_refused_even_when_mismatches_are_skipped() {
        assert!(file(&[("extra", &[1])]).fit(&model(&MODEL), ENDS, Mismatch::Skip, "m").is_err());
    }
}
