//! The built-in networks: what each architecture is made of, and what libtorch makes of pictures with it.

use tch::{TchError, Tensor};

use super::densenet::{self, DenseNet};
use super::layers::{Get, Place};
use super::resnet::{Form, ResNet};
use super::vit::{self, Naming, VisionTransformer};
use crate::error::Result;

#[derive(Debug, Clone)]
pub(super) enum Body {
    ResNet(ResNet),
    DenseNet(DenseNet),
    Vit(VisionTransformer),
}

impl Body {
    /// A copy that libtorch runs in this place.
    pub(super) fn moved(&self, place: Place) -> Result<Self> {
        Ok(match self {
            Self::ResNet(resnet) => Self::ResNet(resnet.moved(place)?),
            Self::DenseNet(densenet) => Self::DenseNet(densenet.moved(place)?),
            Self::Vit(vit) => Self::Vit(vit.moved(place)?),
        })
    }

    /// Images (n×3×h×w) to embeddings (n×d).
    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::ResNet(resnet) => resnet.embed(images, false),
            Self::DenseNet(densenet) => densenet.embed(images),
            Self::Vit(vit) => vit.embed(images),
        }
    }
}

/// What a built-in architecture is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plan {
    ResNet(Form),
    DenseNet,
    Vit(i64),
}

impl Plan {
    /// By the architecture's name.
    pub(super) fn of(architecture: &str) -> Option<Self> {
        match architecture {
            "densenet-bc-100-12" => Some(Self::DenseNet),
            "vit-b16-224" => Some(Self::Vit(224)),
            "vit-b16-384" => Some(Self::Vit(384)),
            resnet => Form::of(resnet).map(Self::ResNet),
        }
    }

    /// A tensor that the network has, whatever it is wrapped in.
    pub(super) fn anchor(self) -> &'static str {
        match self {
            Self::ResNet(_) | Self::DenseNet => "conv1.weight",
            Self::Vit(_) => "class_token",
        }
    }

    /// Numbers per embedding.
    pub(super) fn dimension(self) -> i64 {
        match self {
            Self::ResNet(form) => form.dimension(),
            Self::DenseNet => densenet::DIMENSION,
            Self::Vit(_) => vit::DIMENSION,
        }
    }

    /// Build the network in the dialect of a file with these names.
    pub(super) fn build<'a>(self, mut names: impl Iterator<Item = &'a str>, get: &mut Get<'_>) -> Result<Body> {
        Ok(match self {
            Self::ResNet(form) => {
                let shortcut = if names.any(|name| name.contains(".shortcut.")) { "shortcut" } else { "downsample" };
                Body::ResNet(ResNet::build(form, shortcut, get)?)
            }
            Self::DenseNet => Body::DenseNet(DenseNet::build(get)?),
            Self::Vit(pixels) => Body::Vit(VisionTransformer::build(pixels, Naming::of(names), get)?),
        })
    }
}
