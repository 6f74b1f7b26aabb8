//! Checkpoints of other layouts: the paper's own, and those for windows of another size.

use std::collections::BTreeMap;

use burn::tensor::TensorData;

use crate::{SwinConfig, resize_bias_tables};

/// What a checkpoint may hold beside weights: it follows from the sizes.
const DERIVED: [&str; 2] = ["relative_position_index", "attn_mask"];

/// A tensor that only the paper's checkpoints have: they merge patches at the end of a stage, timm at the beginning of the next.
const MERGING_AT_THE_END: &str = "layers.0.downsample.reduction.weight";

/// Brings a checkpoint to timm's names and to the config's windows, as timm's `checkpoint_filter_fn` does; what it did is told in sentences.
///
/// Buffers that follow from the sizes are left out; names as in the paper's code become timm's; tables for windows of another size are resized
/// ([`resize_bias_tables`]).
pub fn adapt_checkpoint(tensors: &mut BTreeMap<String, TensorData>, config: &SwinConfig) -> Vec<String> {
    let mut done = Vec::new();
    tensors.retain(|name, _| !DERIVED.iter().any(|derived| name.contains(derived)));
    if tensors.contains_key(MERGING_AT_THE_END) {
        let named = std::mem::take(tensors);
        tensors.extend(named.into_iter().map(|(name, data)| (timms_name(&name), data)));
        done.push("names as in the paper's code became timm's".to_owned());
    }
    let resized = resize_bias_tables(tensors, config);
    if !resized.is_empty() {
        let [height, width] = config.image_size;
        let count = resized.len();
        done.push(format!("bias tables of {count} blocks were resized to the windows of {height}x{width} images"));
    }
    done
}

/// `layers.2.downsample` of the paper is `layers.3.downsample` of timm, and `head` is `head.fc`.
fn timms_name(name: &str) -> String {
    if let Some(of_head) = name.strip_prefix("head.") {
        return format!("head.fc.{of_head}");
    }
    let parts: Vec<&str> = name.splitn(3, '.').collect();
    match parts.as_slice() {
        ["layers", stage, rest] if rest.starts_with("downsample.") => match stage.parse::<usize>() {
            Ok(stage) => format!("layers.{}.{rest}", stage + 1),
            Err(_) => name.to_owned(),
        },
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VARIANTS;

    #[test]
    fn the_papers_names_become_timms() {
        let tensor = TensorData::new(vec![0.0f32], [1]);
        let names = [
            "head.weight",
            "layers.0.downsample.reduction.weight",
            "layers.2.downsample.norm.bias",
            "layers.2.blocks.1.attn.proj.weight",
            "layers.2.blocks.1.attn.relative_position_index",
            "layers.2.blocks.1.attn_mask",
        ];
        let mut tensors: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), tensor.clone())).collect();
        assert_eq!(adapt_checkpoint(&mut tensors, &VARIANTS[0].config).len(), 1);
        let expected = [
            "head.fc.weight",
            "layers.1.downsample.reduction.weight",
            "layers.2.blocks.1.attn.proj.weight",
            "layers.3.downsample.norm.bias",
        ];
        assert_eq!(tensors.keys().collect::<Vec<_>>(), expected);
        // timm's own names stay.
        assert!(adapt_checkpoint(&mut tensors, &VARIANTS[0].config).is_empty());
        assert_eq!(tensors.keys().collect::<Vec<_>>(), expected);
    }
}
