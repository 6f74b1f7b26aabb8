//! The one place that names the model families.

use burn::module::Module;
use burn::tensor::Tensor;
use convnext::{ConvNext, VARIANTS};
use vision_nn::{Classifier, ClassifierSpec, Pass};

use crate::config::nearest_of;

/// A classifier of any family.
#[derive(Module, Debug)]
pub enum Network {
    /// ConvNeXt.
    ConvNext(ConvNext),
}

impl Classifier for Network {
    fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        match self {
            Self::ConvNext(model) => model.forward(images, pass),
        }
    }
}

/// One architecture that `model.name` takes.
pub struct Architecture {
    /// timm's name.
    pub name: &'static str,
    /// The family's name.
    pub family: &'static str,
    /// Image side of the published weights, pixels.
    pub image_size: usize,
    /// Trainable numbers with RGB input and 1000 classes.
    pub parameters: usize,
    build: Box<dyn Fn(&ClassifierSpec) -> Network + Send + Sync>,
}

impl Architecture {
    /// Builds the model with fresh weights.
    pub fn build(&self, spec: &ClassifierSpec) -> Network {
        (self.build)(spec)
    }
}

/// All architectures, family by family, from small to large.
pub fn architectures() -> Vec<Architecture> {
    let convnext = VARIANTS.iter().map(|variant| Architecture {
        name: variant.name,
        family: "ConvNeXt",
        image_size: variant.image_size,
        parameters: variant.config.num_parameters(3, 1000),
        build: Box::new(|spec| Network::ConvNext(variant.config.init(spec))),
    });
    convnext.collect()
}

/// The architecture of that name, or the nearest name there is.
///
/// # Errors
/// The nearest known name, where one is near.
pub fn find_architecture(name: &str) -> Result<Architecture, Option<String>> {
    let mut all = architectures();
    match all.iter().position(|architecture| architecture.name == name) {
        Some(position) => Ok(all.swap_remove(position)),
        None => Err(nearest_of(name, all.iter().map(|architecture| architecture.name))),
    }
}
