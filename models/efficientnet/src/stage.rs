use vision_nn::Initializer;

use crate::{Block, BlockConfig, BlockForm};

/// Blocks of one kind at one resolution, which the first of them may have halved.
///
/// A bare list: the reference names a block by its stage's number and its own, with nothing between.
pub type Stage = Vec<Block>;

/// A stage of one block a config; `drop_paths` gives each its probability, in turn.
pub(crate) fn init_stage(
    configs: &[BlockConfig],
    form: BlockForm,
    drop_paths: &mut impl Iterator<Item = f32>,
    init: &mut Initializer,
) -> Stage {
    let block = |(config, drop_path)| Block::init(config, form, drop_path, init);
    configs.iter().zip(drop_paths).map(block).collect()
}
