//! Learning-rate scales and weight decay of every parameter of each family, against timm's `param_groups_layer_decay`.
//!
//! `scripts/fixtures/layers.py` makes the fixture and says what stands in it.

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde_json::Value;
use stoker::registry::find_architecture;
use trainer::{GroupOptions, ParameterGroups};
use vision_nn::ClassifierSpec;

const CLASSES: usize = 10;

/// Both sides take a power of the decay in f64, by other means.
const TOLERANCE: f64 = 1e-12;

#[test]
fn layers_decay_and_weights_do_as_in_timm() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/layer_decay.json")).expect("it is JSON");
    let layer_decay = fixture["origin"]["layer_decay"].as_f64();
    let models = fixture["models"].as_object().expect("models by name");
    assert_eq!(models.len(), 5);
    for (model, expected) in models {
        let groups = groups_of(model, &GroupOptions { layer_decay, ..GroupOptions::default() });
        let expected = expected_of(expected);
        assert_eq!(groups.iter().count(), expected.len(), "{model}");
        for (name, rule) in groups.iter() {
            let (scale, is_decayed) = expected[name];
            assert!((rule.learning_rate_scale - scale).abs() < TOLERANCE, "{model}: `{name}`: {rule:?}, timm {scale}");
            assert_eq!(rule.is_decayed, is_decayed, "{model}: `{name}`");
        }
    }
}

#[test]
fn without_layer_decay_all_train_alike_but_the_head_where_that_is_asked_for() {
    let options = GroupOptions { head_learning_rate_scale: 10.0, ..GroupOptions::default() };
    for (model, head) in [("convnext_atto", "head."), ("swin_tiny", "head."), ("efficientnet_b0", "classifier.")] {
        for (name, rule) in groups_of(model, &options).iter() {
            let scale = if name.starts_with(head) { 10.0 } else { 1.0 };
            assert_eq!(rule.learning_rate_scale, scale, "{model}: `{name}`");
        }
    }
}

fn groups_of(model: &str, options: &GroupOptions) -> ParameterGroups {
    let architecture = find_architecture(model).unwrap_or_else(|near| panic!("no `{model}`: {near:?}"));
    let device = Device::capture();
    let mut groups = ParameterGroups::default();
    let noted = device.capture_scope(|scope| {
        groups = ParameterGroups::of(&architecture.build(&ClassifierSpec::new(CLASSES, &device)), options);
        scope.complete([], [])
    });
    assert!(noted.is_ok());
    groups
}

/// Scale and whether decayed, by name.
fn expected_of(groups: &Value) -> BTreeMap<&str, (f64, bool)> {
    let groups = groups.as_array().expect("groups");
    let of_group = |group: &'_ Value| (group["scale"].as_f64().expect("a number"), group["decayed"] == true);
    let named = groups.iter().flat_map(|group| {
        let names = group["names"].as_array().expect("names").iter();
        names.map(move |name| (name.as_str().expect("text"), of_group(group)))
    });
    named.collect()
}
