//! What cannot be said in ONNX for any number of images is refused, and never said wrongly.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use onnx_export::{ExportError, Recording, record};
use vision_nn::{Classifier, Pass};

/// A linear layer over an image's cells, with something odd behind it.
#[derive(Module, Debug)]
struct Odd {
    weight: Param<Tensor<2>>,
    #[module(skip)]
    oddity: Oddity,
}

#[derive(Debug, Clone, Copy)]
enum Oddity {
    None,
    LooksAtTheFirstImage,
    CountsImages,
    NumbersImages,
    RepeatsForEachImage,
    AddsARowForTheBatch,
    TakesASine,
}

impl Classifier for Odd {
    fn num_segments(&self) -> usize {
        0
    }

    fn forward_segment(&self, _index: usize, map: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        map
    }

    fn forward_head(&self, map: Tensor<4>, _pass: &mut Pass) -> Tensor<2> {
        let [batch, channels, height, width] = map.dims();
        let cells = map.reshape([batch, channels * height * width]);
        let logits = cells.matmul(self.weight.val()); // [B, 3]
        let device = logits.device();
        match self.oddity {
            Oddity::None => logits,
            Oddity::LooksAtTheFirstImage => logits.clone() - logits.slice([0..1, 0..3]),
            Oddity::CountsImages => logits / batch as f32,
            Oddity::NumbersImages => {
                let numbers: Vec<f32> = (0..batch).map(|image| image as f32).collect();
                logits * Tensor::<2>::from_data(TensorData::new(numbers, [batch, 1]), &device)
            }
            Oddity::RepeatsForEachImage => logits + self.weight.val().slice([0..1, 0..3]).expand([batch, 3]),
            Oddity::AddsARowForTheBatch => Tensor::cat(vec![logits.clone(), logits.slice([0..1, 0..3])], 0),
            Oddity::TakesASine => logits.sin(),
        }
    }

    fn is_segment_trained(&self, _index: usize) -> bool {
        true
    }
}

fn recorded(oddity: Oddity) -> Result<Recording, ExportError> {
    record([1, 2, 2], &|device: &Device| Odd { weight: Param::from_tensor(Tensor::empty([4, 3], device)), oddity })
}

fn weights(shape: [usize; 2]) -> BTreeMap<String, TensorData> {
    BTreeMap::from([("weight".to_owned(), TensorData::full(shape, 0.5f32))])
}

fn exported(oddity: Oddity) -> Result<Vec<u8>, ExportError> {
    recorded(oddity)?.to_onnx("odd", weights([4, 3]), &[])
}

#[test]
fn what_depends_on_the_number_of_images_is_refused() {
    exported(Oddity::None).unwrap();
    for oddity in [
        Oddity::LooksAtTheFirstImage,
        Oddity::CountsImages,
        Oddity::NumbersImages,
        Oddity::RepeatsForEachImage,
        Oddity::AddsARowForTheBatch,
    ] {
        let refused = exported(oddity).unwrap_err();
        assert!(matches!(refused, ExportError::BatchBound { .. }), "{oddity:?}: {refused}");
    }
}

#[test]
fn an_operation_without_translation_is_named() {
    assert_eq!(exported(Oddity::TakesASine).unwrap_err(), ExportError::Unsupported { operation: "Sin".to_owned() });
}

#[test]
fn weights_must_be_the_models() {
    let recording = recorded(Oddity::None).unwrap();
    assert_eq!(recording.parameter_shapes(), [("weight".to_owned(), vec![4, 3])]);
    let missing = recording.to_onnx("odd", BTreeMap::new(), &[]).unwrap_err();
    assert_eq!(missing, ExportError::MissingWeight { name: "weight".to_owned() });
    let other = recording.to_onnx("odd", weights([3, 4]), &[]).unwrap_err();
    assert_eq!(other, ExportError::WeightShape { name: "weight".to_owned(), expected: vec![4, 3], found: vec![3, 4] });
}
