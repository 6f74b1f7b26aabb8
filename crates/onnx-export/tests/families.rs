//! Every family as ONNX: the file holds together by the reading of another program's parser, and computes what the model computes.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Device, Tensor, TensorData};
use onnx_export::{INPUT, OPSET, OUTPUT, Recording, record};
use rten::{Model, NodeId, Value};
use rten_onnx::onnx::{GraphProto, ModelProto};
use vision_nn::{Classifier, ClassifierSpec, Pass, assign_given, named_parameters};

const CLASSES: usize = 7;

/// A model with weights that leave nothing at zero or one, and its file.
struct Exported<M> {
    model: M,
    weights: BTreeMap<String, TensorData>,
    recording: Recording,
    image: [usize; 3],
    file: Vec<u8>,
}

fn export<M: Classifier>(image: [usize; 3], build: impl Fn(&ClassifierSpec) -> M) -> Exported<M> {
    let spec = |device: &Device| ClassifierSpec { in_channels: image[0], ..ClassifierSpec::new(CLASSES, device) };
    let fresh = build(&spec(&Device::flex()));
    let weights: BTreeMap<String, TensorData> =
        named_parameters(&fresh).into_iter().map(|weight| (weight.name, stirred(weight.data))).collect();
    let model = assign_given(fresh, weights.clone());
    let recording = record(image, &|device| build(&spec(device))).unwrap();
    let properties = [("model".to_owned(), "a model".to_owned())];
    let file = recording.to_onnx("a graph", weights.clone(), &properties).unwrap();
    Exported { model, weights, recording, image, file }
}

/// Fresh vectors are zeros and ones, behind which a mistake would hide. Variances stay positive.
fn stirred(data: TensorData) -> TensorData {
    let is_vector = data.shape.num_dims() == 1;
    let stir =
        |(at, value): (usize, f32)| if is_vector { 0.9 * value + 0.1 * (at as f32 * 12.9898).sin() } else { value };
    TensorData::new(data.iter::<f32>().enumerate().map(stir).collect::<Vec<_>>(), data.shape.clone())
}

impl<M: Classifier> Exported<M> {
    fn images(&self, batch: usize) -> TensorData {
        let [channels, height, width] = self.image;
        let numbers = (0..batch * channels * height * width).map(|at| (at as f32 * 78.233).sin()).collect::<Vec<_>>();
        TensorData::new(numbers, [batch, channels, height, width])
    }

    fn expected(&self, images: TensorData) -> Vec<f32> {
        let images = Tensor::from_data(images, &Device::flex());
        self.model.forward(images, &mut Pass::evaluation()).into_data().iter::<f32>().collect()
    }

    /// By a runtime of its own, which has read nothing but the file.
    fn computed(&self, images: &TensorData) -> Vec<f32> {
        let runtime = Model::load(self.file.clone()).unwrap();
        let [input, output] = [INPUT, OUTPUT].map(|name| runtime.node_id(name).unwrap());
        let value = Value::from_shape(&images.shape.to_vec(), images.iter::<f32>().collect::<Vec<_>>()).unwrap();
        let inputs: Vec<(NodeId, _)> = vec![(input, value.into())];
        let [logits] = runtime.run_n(inputs, [output], None).unwrap();
        logits.into_tensor::<f32>().unwrap().into_data()
    }

    /// Sums of some thousand products in f32, in another order in each of the two.
    fn assert_same_logits(&self) {
        for batch in [1, 2, 5] {
            let images = self.images(batch);
            let (found, expected) = (self.computed(&images), self.expected(images));
            assert_eq!(found.len(), batch * CLASSES);
            let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            assert!(largest > 0.1, "logits near zero prove nothing: {largest}");
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{batch} images: {found} {expected}");
            }
        }
    }

    fn assert_sound(&self) {
        let file = ModelProto::parse_buf(&self.file).unwrap();
        let sets: Vec<_> =
            file.opset_import.iter().map(|set| (set.domain.clone().unwrap_or_default(), set.version)).collect();
        assert_eq!(sets, [(String::new(), Some(OPSET))]);
        let graph = file.graph.unwrap();
        assert_ordered(&graph);
        assert_ends(&graph, self.image);
        self.assert_weights(&graph);
    }

    /// Each of the checkpoint's tensors is there under its own name, byte for byte, and each of the model's that the graph needs.
    fn assert_weights(&self, graph: &GraphProto) {
        let names: BTreeSet<&str> = self.recording.parameter_shapes().iter().map(|(name, _)| name.as_str()).collect();
        let mut found = BTreeSet::new();
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap();
            let Some(weight) = self.weights.get(name) else { continue };
            assert_eq!(tensor.dims, weight.shape.iter().map(|&size| size as i64).collect::<Vec<_>>(), "{name}");
            assert_eq!(*tensor.raw_data.as_ref().unwrap().borrow(), weight.as_bytes(), "{name}");
            found.insert(name);
        }
        assert_eq!(found, names);
    }
}

/// Names are used once, and nothing is read before it is made.
fn assert_ordered(graph: &GraphProto) {
    let initializers = graph.initializer.iter().map(|tensor| tensor.name.clone().unwrap());
    let mut known: Vec<String> = initializers.chain([INPUT.to_owned()]).collect();
    let mut read = BTreeSet::new();
    for node in &graph.node {
        for input in &node.input {
            assert!(known.contains(input), "{:?} reads `{input}` too early", node.name);
            read.insert(input.clone());
        }
        known.extend(node.output.iter().cloned());
    }
    let unique: BTreeSet<&String> = known.iter().collect();
    assert_eq!(unique.len(), known.len());
    let unread: Vec<&String> = known.iter().filter(|name| !read.contains(*name)).collect();
    assert_eq!(unread, [OUTPUT]);
    let nodes: BTreeSet<_> = graph.node.iter().map(|node| node.name.clone().unwrap()).collect();
    assert_eq!(nodes.len(), graph.node.len());
}

/// One input and one output, of which the number of images alone is open.
fn assert_ends(graph: &GraphProto, [channels, height, width]: [usize; 3]) {
    let ends = [(&graph.input, INPUT, vec![channels, height, width]), (&graph.output, OUTPUT, vec![CLASSES])];
    for (values, name, sizes) in ends {
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].name.as_deref(), Some(name));
        let shape = values[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
        let (batch, others) = shape.dim.split_first().unwrap();
        assert_eq!((batch.dim_param.as_deref(), batch.dim_value), (Some("batch"), None));
        assert_eq!(others.iter().map(|other| other.dim_value.unwrap() as usize).collect::<Vec<_>>(), sizes);
    }
}

fn convnext(response_norm: bool) -> convnext::ConvNextConfig {
    convnext::ConvNextConfig {
        depths: [1, 1, 2, 1],
        widths: [8, 16, 24, 32],
        pointwise_mlp: !response_norm,
        response_norm,
    }
}

#[test]
fn convnext_is_the_same_in_another_runtime() {
    let exported = export([3, 64, 96], |spec| convnext(false).init(spec));
    exported.assert_sound();
    exported.assert_same_logits();
}

#[test]
fn convnext_v2_is_the_same_in_another_runtime() {
    let exported = export([1, 64, 64], |spec| convnext(true).init(spec));
    exported.assert_sound();
    exported.assert_same_logits();
}

/// Maps of 20x28, 10x14, 5x7 and 3x4 tokens: windows that shift and that do not, windows that fit and that need padding, odd maps that are merged.
#[test]
fn swin_is_the_same_in_another_runtime() {
    let config = swin::SwinConfig {
        image_size: [80, 112],
        embed_dim: 8,
        depths: [2, 2, 2, 1],
        num_heads: [2, 2, 4, 4],
        window_size: 4,
    };
    let exported = export([3, 80, 112], |spec| config.init(spec));
    exported.assert_sound();
    exported.assert_same_logits();
}

/// Images of odd sides, so that TensorFlow's padding differs from PyTorch's in both ways that it can.
#[test]
fn efficientnet_is_the_same_in_another_runtime() {
    for name in ["efficientnet_b0", "tf_efficientnet_b0", "efficientnetv2_rw_t"] {
        let config = efficientnet::find_variant(name).unwrap().config();
        let exported = export([3, 65, 52], |spec| config.init(spec));
        exported.assert_sound();
        exported.assert_same_logits();
    }
}

#[test]
fn equal_input_gives_equal_bytes() {
    let [one, other] = [0, 1].map(|_| export([3, 32, 32], |spec| convnext(true).init(spec)).file);
    assert_eq!(one, other);
}
