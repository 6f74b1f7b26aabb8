//! Steps that a loader leaves: done later, they make the bytes that it yields when it leaves none.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{folder, open, path_in, two_classes, write};
use data_pipeline::{
    Batch, Channels, DocumentNoise, EraseFill, LastSteps, Loader, LoaderOptions, MixMode, Mixing, RandAugment,
    ResizeMode, Sampling, Symmetry, TrainTransform, batches,
};

/// Whatever may be left, and what comes between that minds no places.
fn turning() -> TrainTransform {
    TrainTransform {
        scale: (0.4, 1.0),
        horizontal_flip: 0.5,
        vertical_flip: 0.5,
        quarter_turns: true,
        brightness: 0.2,
        contrast: 0.4,
        saturation: 0.3,
        hue: 0.1,
        erase: 0.5,
        ..TrainTransform::new(15, Channels::Rgb, ResizeMode::Squash)
    }
}

/// The batches of an epoch with two views an image, from `first_batch` on.
fn epoch(root: &Path, transform: &TrainTransform, mixing: Mixing, leaves: bool, first_batch: usize) -> Vec<Batch> {
    let dataset = open(root);
    let order = Sampling { balanced: true, repeats: 2 }.order(&dataset, 9, 4);
    let options = LoaderOptions {
        workers: 3,
        seed: 9,
        epoch: 4,
        mixing,
        first_batch,
        leaves_last_steps: leaves,
        ..LoaderOptions::default()
    };
    let loader = Loader::new(dataset, batches(&order, 7), Arc::new(transform.clone()), options);
    loader.map(|batch| batch.expect("corrupt images are skipped")).collect()
}

/// The batch with its steps done.
fn finished(batch: Batch) -> Batch {
    Batch { pixels: batch.finished(0..batch.len()), last_steps: Vec::new(), ..batch }
}

/// An epoch of steps done later is the epoch of a loader that leaves none; the steps of the samples that had any.
fn left_of(root: &Path, transform: &TrainTransform, mixing: Mixing) -> Vec<LastSteps> {
    let expected = epoch(root, transform, mixing, false, 0);
    assert!(expected.iter().all(|batch| batch.last_steps.is_empty()));
    let left = epoch(root, transform, mixing, true, 0);
    let steps = left.iter().flat_map(|batch| batch.last_steps.clone());
    let steps = steps.filter(|steps| *steps != LastSteps::default()).collect();
    assert_eq!(epoch(root, transform, mixing, true, 3), left[3..], "from the middle on");
    assert_eq!(left.into_iter().map(finished).collect::<Vec<_>>(), expected);
    steps
}

fn images() -> tempfile::TempDir {
    let root = folder();
    two_classes(root.path(), 52);
    write(&path_in(&root, "cat/broken.jpg"), "no image");
    root
}

#[test]
fn an_epoch_whose_last_steps_are_done_later_is_the_same_to_the_byte() {
    let root = images();
    for erase_fill in [EraseFill::Mean, EraseFill::Constant, EraseFill::Color, EraseFill::Pixel] {
        for channels in [Channels::Grey, Channels::Rgb] {
            let transform = TrainTransform { erase_fill, channels, ..turning() };
            assert!(transform.may_leave_steps());
            let left = left_of(root.path(), &transform, Mixing::default());
            assert!(left.iter().any(|steps| steps.symmetry.transposed && steps.symmetry.mirrored));
            assert_eq!(left.iter().any(|steps| steps.erased.is_some()), erase_fill != EraseFill::Pixel);
        }
    }
}

#[test]
fn mixing_that_is_done_later_is_the_same_to_the_byte() {
    let root = images();
    for mode in [MixMode::Batch, MixMode::Pair, MixMode::Element] {
        for (mixup_alpha, cutmix_alpha) in [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)] {
            let mixing = Mixing { mixup_alpha, cutmix_alpha, mode, probability: 0.8, ..Mixing::default() };
            let left = left_of(root.path(), &turning(), mixing);
            assert!(left.iter().any(|steps| steps.mixed.is_some() && steps.erased.is_some()), "{mixing:?}");
        }
    }
}

#[test]
fn what_minds_where_pixels_are_has_turns_done_before_it() {
    let root = images();
    let rotated = TrainTransform { rotation_degrees: 15.0, ..turning() };
    let varied = TrainTransform { rand_augment: Some(RandAugment::default()), ..turning() };
    let noisy = TrainTransform { noise: DocumentNoise { speckle: 0.05, ..Default::default() }, ..turning() };
    for transform in [rotated, varied, noisy] {
        assert!(transform.may_leave_steps() && !TrainTransform { erase: 0.0, ..transform.clone() }.may_leave_steps());
        let left = left_of(root.path(), &transform, Mixing::default());
        assert!(left.iter().all(|steps| steps.symmetry == Symmetry::default() && steps.erased.is_some()));
        assert!(!left.is_empty());
    }
}

#[test]
fn a_batch_with_nothing_left_to_do_has_no_steps() {
    let root = images();
    let plain = TrainTransform::new(15, Channels::Rgb, ResizeMode::Squash);
    assert!(!plain.may_leave_steps());
    assert!(epoch(root.path(), &plain, Mixing::default(), true, 0).iter().all(|batch| batch.last_steps.is_empty()));
}
