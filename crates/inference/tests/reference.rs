//! Views and merges against ttach, the library for test-time augmentation in PyTorch.
//!
//! `scripts/view_fixtures.py` makes the fixture, computed in f64 and rounded to nine digits, and says what stands in it.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use inference::{Merge, Variation, View};
use serde::Deserialize;
use trainer::Normalization;

const SIDE: usize = 8;

/// Numbers up to 1 in f32, a handful of roundings each.
const TOLERANCE: f32 = 1e-6;

#[derive(Deserialize)]
struct Fixture {
    image: Vec<f32>,
    views: BTreeMap<String, Vec<f32>>,
    logits: Vec<Vec<Vec<f32>>>,
    merges: BTreeMap<String, Vec<Vec<f32>>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/ttach.json")).unwrap()
}

fn seen(view: View, image: &[f32]) -> Vec<f32> {
    let image = TensorData::new(image.to_vec(), [1, 3, SIDE, SIDE]);
    let image = Tensor::<4>::from_data(image, &Device::flex());
    let normalization = Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] };
    view.apply(image, &normalization).into_data().iter::<f32>().collect()
}

/// Whether a place in a picture is not at its border.
fn is_inside(place: usize) -> bool {
    let (row, column) = (place / SIDE % SIDE, place % SIDE);
    (1..SIDE - 1).contains(&row) && (1..SIDE - 1).contains(&column)
}

#[test]
fn views_are_ttachs() {
    let Fixture { image, views, .. } = fixture();
    assert_eq!(views.len(), 10);
    for (name, expected) in views {
        let view: View = name.parse().unwrap();
        let found = seen(view, &image);
        assert_eq!(found.len(), expected.len());
        for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // PyTorch enlarges what was cut out, and repeats its border; stoker still sees what lay beyond.
            if matches!(view.variation, Variation::CenterCrop { .. }) && !is_inside(place) {
                continue;
            }
            assert!((found - expected).abs() < TOLERANCE, "{name}, {place}: {found} is not {expected}");
        }
    }
}

#[test]
fn merges_are_ttachs() {
    let Fixture { logits, merges, .. } = fixture();
    for rule in [Merge::Mean, Merge::Logits, Merge::Geometric, Merge::Max] {
        for (image, expected) in merges[rule.name()].iter().enumerate() {
            let rows: Vec<Vec<f32>> = logits.iter().map(|view| view[image].clone()).collect();
            let found = rule.probabilities(&rows);
            let close = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < TOLERANCE);
            assert!(close && found.len() == expected.len(), "{rule} of image {image}: {found:?} is not {expected:?}");
        }
    }
}

#[test]
fn every_geometric_view_followed_by_its_inverse_gives_the_image_back() {
    let Fixture { image, views, .. } = fixture();
    let geometric: Vec<(View, View)> = views
        .keys()
        .map(|name| name.parse::<View>().unwrap())
        .filter_map(|view| Some((view, view.inverse()?)))
        .collect();
    assert_eq!(geometric.len(), 8);
    for (view, inverse) in geometric {
        assert_eq!(seen(inverse, &seen(view, &image)), image, "{view} and {inverse}");
    }
}
