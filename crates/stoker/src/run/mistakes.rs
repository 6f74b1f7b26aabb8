//! The predictions that are most wrong, with their pictures.

use std::path::Path;

use data_pipeline::{Channels, Dataset, DecodeOptions, EvalTransform, ResizeMode, SampleKey, Transform, decode};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use inference::{Outcome, Prediction};
use metrics::{Mistake, argmax};

/// Mistakes shown: four rows of a wide page.
const MISTAKES_SHOWN: usize = 24;

/// Side of a mistake's picture, in pixels: what a page shows of it on a screen of twice the density.
const THUMBNAIL_SIDE: usize = 256;

const THUMBNAIL_QUALITY: u8 = 80;

/// A labelled image that was taken for something else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WrongPrediction {
    sample: usize,
    /// Index of the true class.
    label: usize,
    /// Index of the class that was most probable.
    predicted: usize,
    /// Of that class.
    probability: f32,
}

/// All predictions that are wrong over the merged views, the surest first.
pub(crate) fn wrong_predictions(dataset: &Dataset, predictions: &[Prediction]) -> Vec<WrongPrediction> {
    let wrong = predictions.iter().filter_map(|prediction| WrongPrediction::of(dataset, prediction));
    let mut wrong: Vec<WrongPrediction> = wrong.collect();
    wrong.sort_by(|one, other| other.probability.total_cmp(&one.probability).then(one.sample.cmp(&other.sample)));
    wrong
}

/// The first of `wrong` as they are shown, with their pictures.
pub(crate) fn worst_mistakes(dataset: &Dataset, wrong: &[WrongPrediction]) -> Vec<Mistake> {
    wrong.iter().take(MISTAKES_SHOWN).map(|wrong| wrong.shown(dataset)).collect()
}

impl WrongPrediction {
    /// None where the prediction is right or cannot be judged.
    fn of(dataset: &Dataset, prediction: &Prediction) -> Option<Self> {
        let Outcome::Scored { merged, .. } = &prediction.outcome else { return None };
        let sample = prediction.sample;
        let label = dataset.samples[sample].label? as usize;
        let predicted = argmax(merged)?;
        (predicted != label).then(|| Self { sample, label, predicted, probability: merged[predicted] })
    }

    fn shown(&self, dataset: &Dataset) -> Mistake {
        Mistake {
            file: dataset.relative_path(self.sample).display().to_string(),
            label: dataset.classes[self.label].clone(),
            predicted: dataset.classes[self.predicted].clone(),
            probability: f64::from(self.probability),
            thumbnail_jpeg: thumbnail(&dataset.samples[self.sample].path),
        }
    }
}

/// The image, whole, in a small JPEG.
fn thumbnail(path: &Path) -> Option<Vec<u8>> {
    let image = decode(path, &DecodeOptions::default()).ok()?;
    let transform = EvalTransform::new(THUMBNAIL_SIDE, Channels::Rgb, ResizeMode::Letterbox);
    let mut pixels = vec![0; THUMBNAIL_SIDE * THUMBNAIL_SIDE * 3];
    transform.apply(&image, SampleKey { seed: 0, epoch: 0, sample: 0, repeat: 0 }, &mut pixels);
    let mut jpeg = Vec::new();
    let side = THUMBNAIL_SIDE as u32;
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, THUMBNAIL_QUALITY);
    encoder.write_image(&pixels, side, side, ExtendedColorType::Rgb8).ok()?;
    Some(jpeg)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use data_pipeline::Sample;

    use super::*;

    fn scored(sample: usize, plain: [f32; 2], merged: [f32; 2]) -> Prediction {
        Prediction { sample, outcome: Outcome::Scored { plain: plain.to_vec(), merged: merged.to_vec() } }
    }

    #[test]
    fn the_surest_mistake_comes_first_and_what_is_right_or_unknown_is_none() {
        let labels = [Some(0), Some(0), None, Some(1), Some(0)];
        let sample = |label: Option<u32>| Sample { path: PathBuf::from("x.png"), label, group: None };
        let classes = vec!["cat".to_owned(), "dog".to_owned()];
        let samples = labels.into_iter().map(sample).collect();
        let dataset = Dataset { root: PathBuf::new(), classes, samples, ignored_files: 0 };
        let (cat, dog, likely_dog) = ([0.9, 0.1], [0.2, 0.8], [0.4, 0.6]);
        let predictions = [
            scored(0, cat, likely_dog),
            scored(1, likely_dog, dog),
            scored(2, dog, dog),
            scored(3, cat, dog),
            Prediction { sample: 4, outcome: Outcome::Unreadable { reason: "empty".to_owned() } },
        ];
        let wrong = wrong_predictions(&dataset, &predictions);
        assert_eq!(wrong.iter().map(|wrong| wrong.sample).collect::<Vec<_>>(), [1, 0]);
        let shown = worst_mistakes(&dataset, &wrong);
        assert_eq!((shown[0].label.as_str(), shown[0].predicted.as_str()), ("cat", "dog"));
        assert_eq!(shown[0].thumbnail_jpeg, None, "there is no such file");
    }
}
