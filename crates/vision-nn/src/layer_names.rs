//! How a family's parameter names tell its layers apart, from the images to the logits.

/// The part of a name, behind the stage's number, of what halves the stage's grid.
const DOWNSAMPLE: &str = "downsample";

/// Where a parameter stands between the images and the logits. Ordered as they are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerPlace {
    /// Before the first block.
    Stem,
    /// A block; a stage's downsampling counts to its first one.
    Block {
        /// Counted from 0.
        stage: usize,
        /// Counted from 0, in its stage.
        block: usize,
    },
    /// Behind the last block, and counted to it.
    AfterBlocks,
    /// Whatever else there is: the head.
    Head,
}

/// The names of a family's parts, as its parameters' dotted names begin with them.
///
/// timm says the same by regular expressions:
/// [`group_matcher`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_manipulate.py) of each model, and
/// `no_weight_decay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerNames {
    /// First parts of the names of the stem.
    pub stem: &'static [&'static str],
    /// First part of the names of stages; the stage's number follows.
    pub stages: &'static str,
    /// First parts of the names of what stands between the last block and the head.
    pub after_blocks: &'static [&'static str],
    /// Last parts of the names of weights that are not decayed although they are no vectors.
    pub undecayed: &'static [&'static str],
}

impl LayerNames {
    /// Of a model whose layers are not told apart: all of it is the head.
    pub const UNKNOWN: Self = Self { stem: &[], stages: "", after_blocks: &[], undecayed: &[] };

    /// Where the parameter of that name stands.
    pub fn place(&self, name: &str) -> LayerPlace {
        let parts: Vec<&str> = name.split('.').collect();
        let first = parts[0];
        if self.stem.contains(&first) {
            return LayerPlace::Stem;
        }
        if self.after_blocks.contains(&first) {
            return LayerPlace::AfterBlocks;
        }
        let number = |position: usize| parts.get(position).and_then(|part| part.parse::<usize>().ok());
        match number(1) {
            Some(stage) if first == self.stages => {
                let block = match parts.get(2) {
                    Some(&DOWNSAMPLE) => 0,
                    // `blocks.0.1.conv`, or `stages.0.blocks.1.conv`.
                    _ => number(2).or_else(|| number(3)).unwrap_or(0),
                };
                LayerPlace::Block { stage, block }
            }
            _ => LayerPlace::Head,
        }
    }

    /// Whether weight decay leaves the parameter of that name alone, whatever its rank.
    pub fn is_undecayed(&self, name: &str) -> bool {
        name.rsplit('.').next().is_some_and(|last| self.undecayed.contains(&last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: LayerNames =
        LayerNames { stem: &["stem"], stages: "stages", after_blocks: &["norm"], undecayed: &["table"] };

    #[test]
    fn places_follow_the_names_and_downsampling_counts_to_the_first_block() {
        let block = |stage, block| LayerPlace::Block { stage, block };
        for (name, place) in [
            ("stem.0.weight", LayerPlace::Stem),
            ("stages.1.downsample.1.weight", block(1, 0)),
            ("stages.2.blocks.11.mlp.fc1.weight", block(2, 11)),
            ("stages.3.4.conv_pw.weight", block(3, 4)),
            ("norm.weight", LayerPlace::AfterBlocks),
            ("norms.weight", LayerPlace::Head),
            ("head.fc.weight", LayerPlace::Head),
        ] {
            assert_eq!(NAMES.place(name), place, "{name}");
        }
        assert!(LayerPlace::Stem < block(0, 0) && block(0, 9) < block(1, 0) && block(9, 9) < LayerPlace::AfterBlocks);
    }

    #[test]
    fn a_weight_is_undecayed_by_its_own_name() {
        assert!(NAMES.is_undecayed("stages.0.attn.table") && !NAMES.is_undecayed("table.weight"));
    }

    #[test]
    fn a_model_that_names_no_layers_is_one() {
        assert_eq!(LayerNames::UNKNOWN.place("stages.0.blocks.0.weight"), LayerPlace::Head);
    }
}
