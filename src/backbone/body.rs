//! The built-in networks: what each architecture is made of.

use super::convnext::{self, ConvNeXt};
use super::densenet::{self, DenseNet};
use super::layers::Get;
use super::resnet::{self, ResNet};
use super::spelling::{Kindred, spellings};
use super::vit::{self, VisionTransformer};
use super::weights::WeightTensor;
use crate::error::Result;

#[derive(Debug, Clone)]
pub(super) enum Body<T = WeightTensor> {
    ResNet(ResNet<T>),
    DenseNet(DenseNet<T>),
    Vit(VisionTransformer<T>),
    ConvNeXt(ConvNeXt<T>),
}

/// What a built-in architecture is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plan {
    ResNet(resnet::Form),
    DenseNet,
    Vit(vit::Form),
    ConvNeXt,
}

impl Plan {
    /// By the architecture's name.
    pub(super) fn of(architecture: &str) -> Option<Self> {
        match architecture {
            "densenet-bc-100-12" => Some(Self::DenseNet),
            "convnext-tiny" => Some(Self::ConvNeXt),
            other => vit::Form::of(other).map(Self::Vit).or_else(|| resnet::Form::of(other).map(Self::ResNet)),
        }
    }

    /// For each library whose files may hold the network, a tensor's name that only those have.
    pub(super) fn telltales(self) -> Vec<&'static str> {
        match self {
            Self::ResNet(form) => form.telltales().to_vec(),
            Self::DenseNet => vec!["conv1.weight"],
            Self::Vit(form) => spellings(form.kind).iter().map(|names| names.telltale).collect(),
            Self::ConvNeXt => convnext::TELLTALES.to_vec(),
        }
    }

    /// Numbers per embedding.
    pub(super) fn dimension(self) -> i64 {
        match self {
            Self::ResNet(form) => form.dimension(),
            Self::DenseNet => densenet::DIMENSION,
            Self::Vit(form) => form.dimension(),
            Self::ConvNeXt => convnext::DIMENSION,
        }
    }

    /// Whether a classifier of the file takes the embedding. That of CLIP is the text; those of DINOv2 may take more than
    /// the class token.
    pub(super) fn has_classifier(self, inputs: usize) -> bool {
        match self {
            Self::Vit(vit::Form { kind: Kindred::Clip { .. }, .. }) => false,
            Self::Vit(vit::Form { kind: Kindred::Dino, width, .. }) => inputs as i64 == width,
            _ => true,
        }
    }

    /// What to say of a file that fits but for the pictures it is for.
    pub(super) fn other_pixels(self, telltale: &str, shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Option<String> {
        let Self::Vit(form) = self else { return None };
        let names = spellings(form.kind).iter().find(|names| names.telltale == telltale)?;
        form.other_pixels(&shape(names.positions)?)
    }

    /// Build the network under the names that `telltale` is one of. `shape` is that of a tensor of the file.
    pub(super) fn build(
        self,
        telltale: &str,
        shape: &dyn Fn(&str) -> Option<Vec<usize>>,
        get: &mut Get<'_>,
    ) -> Result<Body> {
        Ok(match self {
            Self::ResNet(form) if telltale == resnet::HUGGING_FACE => {
                let mut renamed = |name: &str, shape: &[i64]| get(&resnet::hugging_face(name), shape);
                Body::ResNet(ResNet::build(form, "downsample", &mut renamed)?)
            }
            Self::ResNet(form) => {
                let named_shortcut = ["layer2.0.shortcut.0.weight", "layer1.0.shortcut.0.weight"];
                let is_shortcut = named_shortcut.into_iter().any(|name| shape(name).is_some());
                Body::ResNet(ResNet::build(form, if is_shortcut { "shortcut" } else { "downsample" }, get)?)
            }
            Self::DenseNet => Body::DenseNet(DenseNet::build(get)?),
            Self::Vit(form) => {
                let spellings = spellings(form.kind);
                let names = spellings.iter().find(|names| names.telltale == telltale);
                let names = names.or(spellings.first()).expect("every kind has names");
                Body::Vit(VisionTransformer::build(form, names, shape, get)?)
            }
            Self::ConvNeXt => Body::ConvNeXt(ConvNeXt::build(telltale, get)?),
        })
    }
}
