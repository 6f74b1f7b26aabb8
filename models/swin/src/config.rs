use vision_nn::{ClassifierSpec, Preprocessing};

use crate::block::MLP_RATIO;
use crate::model::PATCH;
use crate::{ImageSizeError, Swin, WindowLayout, check_image_size};

/// Sizes of one Swin.
#[derive(Debug, Clone, PartialEq)]
pub struct SwinConfig {
    /// Height and width of the images that its windows are laid out for.
    pub image_size: [usize; 2],
    /// Side of a window, in tokens. A stage whose map is smaller has windows of the map's size.
    pub window_size: usize,
    /// Channels of the first stage; each further stage doubles them. Every stage's heads divide its channels.
    pub embed_dim: usize,
    /// Blocks in each stage.
    pub depths: [usize; 4],
    /// Attention heads in each stage.
    pub num_heads: [usize; 4],
}

impl SwinConfig {
    /// Builds the model with fresh weights.
    pub fn init(&self, spec: &ClassifierSpec) -> Swin {
        Swin::init(self, spec)
    }

    /// The same model laid out for another image size, as by `timm.create_model(name, img_size=(height, width))`.
    ///
    /// Where a stage's map is smaller than the window, the window is the map, and its table of relative positions has
    /// another number of rows: a checkpoint for a larger size fits after
    /// [`resize_bias_tables`](crate::resize_bias_tables).
    ///
    /// # Errors
    /// When the patches do not divide the size.
    pub fn at_image_size(&self, height: usize, width: usize) -> Result<Self, ImageSizeError> {
        check_image_size(height, width)?;
        Ok(Self { image_size: [height, width], ..self.clone() })
    }

    /// Channels of each stage.
    pub fn widths(&self) -> [usize; 4] {
        [1, 2, 4, 8].map(|scale| scale * self.embed_dim)
    }

    /// Windows of each stage; every second block shifts them.
    pub fn layouts(&self) -> [WindowLayout; 4] {
        let grid = self.image_size.map(|side| side / PATCH);
        [1, 2, 4, 8].map(|scale| WindowLayout::fit(grid.map(|side| side.div_ceil(scale)), self.window_size))
    }

    /// Number of trainable numbers, by arithmetic alone.
    pub fn num_parameters(&self, in_channels: usize, num_classes: usize) -> usize {
        let widths = self.widths();
        let [first, _, _, last] = widths;
        let embed = in_channels * PATCH * PATCH * first + first + 2 * first;
        // The norm and the reduction of patch merging, from 4 to 2 times the width.
        let merging: usize = widths[..3].iter().map(|c| 2 * 4 * c + 4 * c * 2 * c).sum();
        let stages = widths.iter().zip(self.depths).zip(self.num_heads).zip(self.layouts());
        let blocks: usize =
            stages.map(|(((&channels, depth), heads), layout)| depth * block_parameters(channels, heads, layout)).sum();
        embed + merging + blocks + 2 * last + last * num_classes + num_classes
    }

    /// Multiply-accumulates of a forward pass over one image of that height and width: of linear layers and of attention's two products, in padded windows too.
    /// Norms, softmax, activations and pooling are not counted.
    pub fn num_macs(&self, in_channels: usize, num_classes: usize, [height, width]: [usize; 2]) -> u64 {
        let [first, _, _, last] = self.widths();
        let mut grid = [height / PATCH, width / PATCH];
        let mut macs = grid[0] * grid[1] * in_channels * PATCH * PATCH * first;
        let stages = self.widths().into_iter().zip(self.depths).zip(self.layouts());
        for (stage, ((channels, depth), layout)) in stages.enumerate() {
            if stage > 0 {
                grid = grid.map(|side| side.div_ceil(2));
                macs += grid[0] * grid[1] * 2 * channels * channels; // from 4 halves of the width
            }
            macs += depth * block_macs(channels, grid, layout);
        }
        (macs + last * num_classes) as u64
    }
}

/// Two norms, the table of relative positions, query, key, value and projection, the MLP.
fn block_parameters(channels: usize, heads: usize, layout: WindowLayout) -> usize {
    let attention = 4 * (channels * channels + channels) + layout.num_relative_positions() * heads;
    let hidden = MLP_RATIO * channels;
    4 * channels + attention + (channels * hidden + hidden) + (hidden * channels + channels)
}

/// Query, key, value and projection in windows, scores and weighted values, the MLP.
fn block_macs(channels: usize, grid: [usize; 2], layout: WindowLayout) -> usize {
    let padded: usize = layout.padded(grid).iter().product();
    let attention = padded * (4 * channels * channels + 2 * layout.num_tokens() * channels);
    attention + grid[0] * grid[1] * 2 * MLP_RATIO * channels * channels
}

/// A size that people fine-tune, under timm's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// timm's name.
    pub name: &'static str,
    /// Shorter names for it.
    pub aliases: &'static [&'static str],
    /// Image side that the published weights were trained at.
    pub image_size: usize,
    /// How images were brought to its published weights, timm's default ones.
    pub preprocessing: Preprocessing,
    /// Its sizes.
    pub config: SwinConfig,
}

const fn variant(
    name: &'static str,
    aliases: &'static [&'static str],
    [image_size, window_size, embed_dim]: [usize; 3],
    depths: [usize; 4],
    num_heads: [usize; 4],
) -> Variant {
    let config = SwinConfig { image_size: [image_size; 2], window_size, embed_dim, depths, num_heads };
    // All of the shorter side at 384 pixels, and timm's `crop_pct` of the family else.
    let preprocessing = Preprocessing::imagenet(if image_size == 384 { 1.0 } else { 0.9 });
    Variant { name, aliases, image_size, preprocessing, config }
}

/// All sizes, from small to large; numbers as in timm's `swin_transformer.py`.
#[rustfmt::skip]
pub const VARIANTS: [Variant; 6] = [
    variant("swin_tiny_patch4_window7_224", &["swin_tiny"], [224, 7, 96], [2, 2, 6, 2], [3, 6, 12, 24]),
    variant("swin_small_patch4_window7_224", &["swin_small"], [224, 7, 96], [2, 2, 18, 2], [3, 6, 12, 24]),
    variant("swin_base_patch4_window7_224", &["swin_base"], [224, 7, 128], [2, 2, 18, 2], [4, 8, 16, 32]),
    variant("swin_base_patch4_window12_384", &["swin_base_384"], [384, 12, 128], [2, 2, 18, 2], [4, 8, 16, 32]),
    variant("swin_large_patch4_window7_224", &["swin_large"], [224, 7, 192], [2, 2, 18, 2], [6, 12, 24, 48]),
    variant("swin_large_patch4_window12_384", &["swin_large_384"], [384, 12, 192], [2, 2, 18, 2], [6, 12, 24, 48]),
];

/// The variant of that name or alias, if there is one.
pub fn find_variant(name: &str) -> Option<&'static Variant> {
    VARIANTS.iter().find(|variant| variant.name == name || variant.aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_answers_to_its_name_and_its_alias() {
        for variant in &VARIANTS {
            for name in variant.aliases.iter().chain([&variant.name]) {
                assert_eq!(find_variant(name).unwrap().name, variant.name);
            }
        }
        assert_eq!(find_variant("swin"), None);
    }

    #[test]
    fn published_sizes_need_no_padding() {
        for variant in &VARIANTS {
            let [first, second, third, last] = variant.config.layouts();
            let side = variant.config.window_size;
            let shifted = WindowLayout { size: [side; 2], shift: [side / 2; 2] };
            assert_eq!([first, second, third], [shifted; 3], "{}", variant.name);
            assert_eq!(last, shifted.unshifted(), "{}: one window is the whole map", variant.name);
            assert_eq!(variant.image_size % (32 * side), 0, "{}", variant.name);
        }
    }

    #[test]
    fn a_smaller_image_has_smaller_windows_and_tables() {
        let tiny = &VARIANTS[0].config;
        let small = tiny.at_image_size(64, 96).unwrap();
        let sizes = small.layouts().map(|layout| layout.size);
        assert_eq!(sizes, [[7, 7], [7, 7], [4, 6], [2, 3]]);
        let shifts = small.layouts().map(|layout| layout.shift);
        assert_eq!(shifts, [[3, 3], [3, 3], [0, 0], [0, 0]]);
        let rows_fewer = 6 * 12 * (169 - 7 * 11) + 2 * 24 * (169 - 3 * 5);
        assert_eq!(tiny.num_parameters(3, 10) - small.num_parameters(3, 10), rows_fewer);
        assert!(tiny.at_image_size(65, 96).is_err());
    }
}
