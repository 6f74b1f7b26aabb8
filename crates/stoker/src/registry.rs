//! The one place that names the model families.

use burn::module::Module;
use burn::tensor::Tensor;
use convnext::ConvNext;
use efficientnet::EfficientNet;
use swin::Swin;
use vision_nn::{Classifier, ClassifierSpec, Pass};

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

impl Classifier for Network {
    fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        match self {
            Self::ConvNext(model) => model.forward(images, pass),
            Self::Swin(model) => model.forward(images, pass),
            Self::EfficientNet(model) => model.forward(images, pass),
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
    /// Trainable numbers with RGB input and 1000 classes.
    pub parameters: usize,
    build: Box<dyn Fn(&ClassifierSpec) -> Network + Send + Sync>,
    count_macs: Box<dyn Fn([usize; 2]) -> u64 + Send + Sync>,
    check_image_size: fn(usize) -> Result<(), ImageSizeRefused>,
}

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
        (self.build)(spec)
    }

    /// Multiply-accumulates of convolutions, linear layers and matrix products in a forward pass over one square RGB image of this side in pixels, with 1000
    /// classes.
    pub fn macs(&self, side: usize) -> u64 {
        (self.count_macs)([side; 2])
    }

    /// Whether it takes square images of this side, in pixels.
    ///
    /// # Errors
    /// Why not, and what it would take.
    pub fn check_image_size(&self, side: usize) -> Result<(), ImageSizeRefused> {
        (self.check_image_size)(side)
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
        parameters: variant.config.num_parameters(3, 1000),
        count_macs: Box::new(|image| variant.config.num_macs(3, 1000, image)),
        build: Box::new(|spec| Network::ConvNext(variant.config.init(spec))),
        check_image_size: |_| Ok(()),
    });
    let swin = swin::VARIANTS.iter().map(|variant| Architecture {
        name: variant.name,
        aliases: variant.aliases,
        family: "Swin",
        image_size: variant.image_size,
        parameters: variant.config.num_parameters(3, 1000),
        count_macs: Box::new(|image| variant.config.num_macs(3, 1000, image)),
        build: Box::new(|spec| Network::Swin(variant.config.init(spec))),
        check_image_size: |side| {
            swin::check_image_size(side, side)
                .map_err(|error| ImageSizeRefused { reason: error.to_string(), hint: error.hint() })
        },
    });
    let efficientnet = efficientnet::VARIANTS.iter().map(|variant| Architecture {
        name: variant.name,
        aliases: &[],
        family: "EfficientNet",
        image_size: variant.image_size,
        parameters: variant.config().num_parameters(3, 1000),
        count_macs: Box::new(|image| variant.config().num_macs(3, 1000, image)),
        build: Box::new(|spec| Network::EfficientNet(variant.config().init(spec))),
        check_image_size: |_| Ok(()),
    });
    convnext.chain(swin).chain(efficientnet).collect()
}

/// The architecture of that name or alias, or the nearest name there is.
///
/// # Errors
/// The nearest known name, where one is near.
pub fn find_architecture(name: &str) -> Result<Architecture, Option<String>> {
    let mut all = architectures();
    let is_it = |architecture: &Architecture| architecture.name == name || architecture.aliases.contains(&name);
    match all.iter().position(is_it) {
        Some(position) => Ok(all.swap_remove(position)),
        None => {
            let aliases = all.iter().flat_map(|architecture| architecture.aliases.iter().copied());
            Err(nearest_of(name, all.iter().map(|architecture| architecture.name).chain(aliases)))
        }
    }
}

#[cfg(test)]
mod tests;
