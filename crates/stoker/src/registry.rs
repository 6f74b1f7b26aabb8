//! The one place that names the model families.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use checkpoint::NetworkEnds;
use convnext::ConvNext;
use efficientnet::EfficientNet;
use swin::Swin;
use vision_nn::{Classifier, ClassifierSpec, LayerNames, Pass, Preprocessing};

use crate::config::nearest_of;

/// A classifier of any family.
#[allow(
    clippy::large_enum_variant,
    reason = "a run has one model or two, and boxes would stand between it and Burn's modules"
)]
#[derive(Module, Debug)]
pub enum Network {
    /// ConvNeXt.
    ConvNext(ConvNext),
    /// Swin Transformer.
    Swin(Swin),
    /// EfficientNet and EfficientNetV2.
    EfficientNet(EfficientNet),
}

/// The same expression over the model of whatever family.
macro_rules! of_family {
    ($network:expr, $model:ident => $of_model:expr) => {
        match $network {
            Network::ConvNext($model) => $of_model,
            Network::Swin($model) => $of_model,
            Network::EfficientNet($model) => $of_model,
        }
    };
}

impl Classifier for Network {
    fn num_segments(&self) -> usize {
        of_family!(self, model => model.num_segments())
    }

    fn forward_segment(&self, index: usize, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        of_family!(self, model => model.forward_segment(index, map, pass))
    }

    fn forward_head(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        of_family!(self, model => model.forward_head(map, pass))
    }

    fn is_segment_trained(&self, index: usize) -> bool {
        of_family!(self, model => model.is_segment_trained(index))
    }

    fn layer_names(&self) -> LayerNames {
        match self {
            Self::ConvNext(model) => model.layer_names(),
            Self::Swin(model) => model.layer_names(),
            Self::EfficientNet(model) => model.layer_names(),
        }
    }
}

/// One architecture that `model.name` takes.
pub struct Architecture {
    /// timm's name.
    pub name: &'static str,
    /// Shorter names for it.
    pub aliases: &'static [&'static str],
    /// The family's name.
    pub family: &'static str,
    /// Image side of the published weights, pixels.
    pub image_size: usize,
    /// How images were brought to the published weights, those of timm's default tag where the name has none.
    pub preprocessing: Preprocessing,
    /// Trainable numbers with RGB input and 1000 classes.
    pub parameters: usize,
    /// What its first convolution and its classifier are called.
    pub ends: NetworkEnds,
    /// Height and width of the images that it is built for, pixels; [`image_size`](Self::image_size) unless another was asked for.
    built_for: [usize; 2],
    build: Build,
    count_macs: Box<dyn Fn([usize; 2]) -> u64 + Send + Sync>,
    adapt: Adapt,
    check_image_size: fn([usize; 2]) -> Result<(), ImageSizeRefused>,
}

type Tensors = BTreeMap<String, TensorData>;

/// Builds the model for images of a height and width.
type Build = Box<dyn Fn(&ClassifierSpec, [usize; 2]) -> Network + Send + Sync>;

/// Brings a checkpoint to the model for images of a height and width.
type Adapt = Box<dyn Fn(&mut Tensors, [usize; 2]) -> Vec<String> + Send + Sync>;

/// A side of an image that an architecture cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSizeRefused {
    /// Why.
    pub reason: String,
    /// What it could take.
    pub hint: Option<String>,
}

impl Architecture {
    /// Builds the model with fresh weights.
    pub fn build(&self, spec: &ClassifierSpec) -> Network {
        (self.build)(spec, self.built_for)
    }

    /// Multiply-accumulates of convolutions, linear layers and matrix products in a forward pass over one square RGB image of this side in pixels, with 1000
    /// classes.
    pub fn macs(&self, side: usize) -> u64 {
        (self.count_macs)([side; 2])
    }

    /// The same architecture built for images of another size, as by timm's `create_model(name, img_size=(height, width))`: Swin lays its windows
    /// out for it, the others are the same for every size.
    ///
    /// # Errors
    /// When it cannot take such images: why not, and what it would take.
    pub fn at_image_size(self, height: usize, width: usize) -> Result<Self, ImageSizeRefused> {
        (self.check_image_size)([height, width])?;
        Ok(Self { built_for: [height, width], ..self })
    }

    /// Brings a checkpoint of another layout to this one's, and tells in sentences what that took: for Swin, names of the paper's code and
    /// tables for windows of another size.
    pub fn adapt(&self, tensors: &mut Tensors) -> Vec<String> {
        (self.adapt)(tensors, self.built_for)
    }

    /// Whether `filter` is part of its name, an alias, or its family's name, in whatever case.
    pub fn matches(&self, filter: &str) -> bool {
        let filter = filter.to_lowercase();
        let mut names = self.aliases.iter().chain([&self.name, &self.family]);
        names.any(|name| name.to_lowercase().contains(&filter))
    }
}

/// All architectures, family by family, from small to large.
pub fn architectures() -> Vec<Architecture> {
    let convnext = convnext::VARIANTS.iter().map(|variant| Architecture {
        name: variant.name,
        aliases: variant.aliases,
        family: "ConvNeXt",
        image_size: variant.image_size,
        preprocessing: variant.preprocessing,
        parameters: variant.config.num_parameters(3, 1000),
        count_macs: Box::new(|image| variant.config.num_macs(3, 1000, image)),
        ends: NetworkEnds { first_convolution: "stem.0", classifier: "head.fc" },
        built_for: [variant.image_size; 2],
        build: Box::new(|spec, _| Network::ConvNext(variant.config.init(spec))),
        adapt: Box::new(|_, _| vec![]),
        check_image_size: |size| at_least(32, "ConvNeXt", size),
    });
    let swin = swin::VARIANTS.iter().map(|variant| {
        let at = move |[height, width]: [usize; 2]| {
            variant.config.at_image_size(height, width).expect("other sizes were refused by `check_image_size`")
        };
        Architecture {
            name: variant.name,
            aliases: variant.aliases,
            family: "Swin",
            image_size: variant.image_size,
            preprocessing: variant.preprocessing,
            parameters: variant.config.num_parameters(3, 1000),
            count_macs: Box::new(|image| variant.config.num_macs(3, 1000, image)),
            ends: NetworkEnds { first_convolution: "patch_embed.proj", classifier: "head.fc" },
            built_for: [variant.image_size; 2],
            build: Box::new(move |spec, size| Network::Swin(at(size).init(spec))),
            adapt: Box::new(move |tensors, size| swin::adapt_checkpoint(tensors, &at(size))),
            check_image_size: |[height, width]| {
                swin::check_image_size(height, width)
                    .map_err(|error| ImageSizeRefused { reason: error.to_string(), hint: error.hint() })
            },
        }
    });
    let efficientnet = efficientnet::VARIANTS.iter().map(|variant| Architecture {
        name: variant.name,
        aliases: &[],
        family: "EfficientNet",
        image_size: variant.image_size,
        preprocessing: variant.preprocessing,
        parameters: variant.config().num_parameters(3, 1000),
        count_macs: Box::new(|image| variant.config().num_macs(3, 1000, image)),
        ends: NetworkEnds { first_convolution: "conv_stem", classifier: "classifier" },
        built_for: [variant.image_size; 2],
        build: Box::new(|spec, _| Network::EfficientNet(variant.config().init(spec))),
        adapt: Box::new(|_, _| vec![]),
        check_image_size: |size| at_least(1, "EfficientNet", size),
    });
    convnext.chain(swin).chain(efficientnet).collect()
}

/// Refuses images of which nothing would be left behind the last stage.
fn at_least(smallest: usize, family: &str, [height, width]: [usize; 2]) -> Result<(), ImageSizeRefused> {
    if height.min(width) >= smallest {
        return Ok(());
    }
    Err(ImageSizeRefused {
        reason: format!("image size {height}x{width} is too small for {family}"),
        hint: Some(format!("both sides need {smallest} pixels or more")),
    })
}

/// The architecture of that name or alias, or the nearest name there is. A name may carry the tag of timm's weights that is not the architecture's own:
/// `convnext_base.fb_in22k_ft_in1k` is a `convnext_base`. One of a size of its own, such as `.._384`, is none of them.
///
/// # Errors
/// The nearest known name, where one is near.
pub fn find_architecture(name: &str) -> Result<Architecture, Option<String>> {
    let mut all = architectures();
    let is_called =
        |architecture: &Architecture, name: &str| architecture.name == name || architecture.aliases.contains(&name);
    let without_tag = name.split_once('.').filter(|(_, tag)| !has_size(tag)).map_or(name, |(bare, _)| bare);
    let position = all.iter().position(|architecture| is_called(architecture, name));
    match position.or_else(|| all.iter().position(|architecture| is_called(architecture, without_tag))) {
        Some(position) => Ok(all.swap_remove(position)),
        None => {
            let aliases = all.iter().flat_map(|architecture| architecture.aliases.iter().copied());
            Err(nearest_of(name, all.iter().map(|architecture| architecture.name).chain(aliases)))
        }
    }
}

/// Whether a tag of timm's weights says an image size: `fb_in22k_ft_in1k_384`, `r384_in12k`.
fn has_size(tag: &str) -> bool {
    tag.split('_').any(|word| word.trim_start_matches('r').parse::<usize>().is_ok())
}

#[cfg(test)]
mod tests;
