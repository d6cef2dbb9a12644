//! ResNets (He et al. 2016): the CIFAR form (3×3 stem, no pooling before the stages) and the ImageNet form.
//!
//! The embedding is the global average of the last feature map. Three families share the code:
//!
//! | names | stem | stages | shortcut between stages |
//! |---|---|---|---|
//! | resnet8/20/56-cifar | 3×3 | 16, 32, 64; depth 6n + 2 | every second pixel, zero channels (option A): no weights |
//! | resnet18/34-cifar | 3×3 | 64 to 512 | 1×1 convolution: `shortcut.0/1` or `downsample.0/1` |
//! | resnet18/34/50/101/152 | 7×7, max pooling | 64 to 512, ×4 from resnet50 on | 1×1 convolution: `downsample.0/1` |
//! | wide-resnet, resnext | as resnet50 and resnet101 | 3×3 convolutions of more channels, or in 32 groups | the same |
//!
//! Those of ImageNet are read under the names of torchvision (and timm), or of Hugging Face.

use super::layers::{ConvNorm, Get};
use super::weights::WeightTensor;
use crate::error::Result;

/// Which ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Channels of the stages.
    widths: &'static [i64],
    /// Blocks per stage.
    blocks: &'static [usize],
    /// 1×1, 3×3, 1×1 to four times the channels, instead of two 3×3 convolutions.
    bottleneck: bool,
    /// Groups of the 3×3 convolutions in bottlenecks.
    groups: i64,
    /// Channels of each group where the first stage has 64.
    group_width: i64,
    stem: Stem,
    shortcut: Shortcut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stem {
    Cifar,
    ImageNet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortcut {
    Pad,
    Projection,
}

const SMALL: Form = Form {
    widths: &[16, 32, 64],
    blocks: &[],
    bottleneck: false,
    groups: 1,
    group_width: 64,
    stem: Stem::Cifar,
    shortcut: Shortcut::Pad,
};
const WIDE: Form = Form {
    widths: &[64, 128, 256, 512],
    blocks: &[2, 2, 2, 2],
    bottleneck: false,
    groups: 1,
    group_width: 64,
    stem: Stem::ImageNet,
    shortcut: Shortcut::Projection,
};

impl Form {
    /// By the architecture's name.
    pub(super) fn of(architecture: &str) -> Option<Self> {
        let deep = Self { blocks: &[3, 4, 6, 3], ..WIDE };
        let bottlenecks = Self { bottleneck: true, ..deep };
        let deeper = Self { blocks: &[3, 4, 23, 3], ..bottlenecks };
        Some(match architecture {
            "resnet8-cifar" => Self { blocks: &[1; 3], ..SMALL },
            "resnet20-cifar" => Self { blocks: &[3; 3], ..SMALL },
            "resnet56-cifar" => Self { blocks: &[9; 3], ..SMALL },
            "resnet18-cifar" => Self { stem: Stem::Cifar, ..WIDE },
            "resnet34-cifar" => Self { stem: Stem::Cifar, ..deep },
            "resnet18" => WIDE,
            "resnet34" => deep,
            "resnet50" => bottlenecks,
            "resnet101" => deeper,
            "resnet152" => Self { blocks: &[3, 8, 36, 3], ..bottlenecks },
            "wide-resnet50-2" => Self { group_width: 128, ..bottlenecks },
            "resnext50-32x4d" => Self { groups: 32, group_width: 4, ..bottlenecks },
            "resnext101-32x8d" => Self { groups: 32, group_width: 8, ..deeper },
            _ => return None,
        })
    }

    /// Names by which a file is told: torchvision's, and Hugging Face's.
    pub(super) fn telltales(&self) -> &'static [&'static str] {
        match self.stem {
            Stem::Cifar => &["conv1.weight"],
            Stem::ImageNet => &["conv1.weight", HUGGING_FACE],
        }
    }

    fn expansion(&self) -> i64 {
        if self.bottleneck { 4 } else { 1 }
    }

    /// Numbers per embedding.
    pub(super) fn dimension(&self) -> i64 {
        self.widths.last().copied().unwrap_or(0) * self.expansion()
    }
}

/// The first convolution of a ResNet of Hugging Face.
pub(super) const HUGGING_FACE: &str = "embedder.embedder.convolution.weight";

/// What Hugging Face calls the tensor of this name: `layer2.0.conv3.weight` is
/// `encoder.stages.1.layers.0.layer.2.convolution.weight`.
pub(super) fn hugging_face(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let kind = |part: &str| if part.starts_with("conv") || part == "0" { "convolution" } else { "normalization" };
    let number = |part: &str| {
        part.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse().map_or(0, |n: usize| n.saturating_sub(1))
    };
    match *parts {
        [part, last] => format!("embedder.embedder.{}.{last}", kind(part)),
        [stage, block, "downsample", part, last] => {
            format!("encoder.stages.{}.layers.{block}.shortcut.{}.{last}", number(stage), kind(part))
        }
        [stage, block, part, last] => {
            let (stage, layer) = (number(stage), number(part));
            format!("encoder.stages.{stage}.layers.{block}.layer.{layer}.{}.{last}", kind(part))
        }
        _ => name.into(),
    }
}

#[derive(Debug, Clone)]
pub(super) struct ResNet<T = WeightTensor> {
    pub(super) stem: ConvNorm<T>,
    pub(super) max_pool: bool,
    pub(super) blocks: Vec<Block<T>>,
}

#[derive(Debug, Clone)]
pub(super) struct Block<T = WeightTensor> {
    pub(super) convs: Vec<ConvNorm<T>>,
    pub(super) shortcut: Between<T>,
}

/// What a block adds to its convolutions.
#[derive(Debug, Clone)]
pub(super) enum Between<T = WeightTensor> {
    Identity,
    /// Every second pixel, and zero channels on each side.
    Pad(i64),
    Projection(ConvNorm<T>),
}

impl<T> ResNet<T> {
    /// Build from tensors that `get` gives. `shortcut` is what the file calls a block's projection.
    pub(super) fn build(form: Form, shortcut: &str, get: &mut Get<'_, T>) -> Result<Self> {
        let (size, stride) = match form.stem {
            Stem::Cifar => (3, 1),
            Stem::ImageNet => (7, 2),
        };
        let mut from = form.widths.first().copied().unwrap_or(0);
        let stem = ConvNorm::load(get, ("conv1", "bn1"), (3, from), size, stride)?;
        let mut blocks = Vec::new();
        for (stage, (&width, &count)) in form.widths.iter().zip(form.blocks).enumerate() {
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let at = format!("layer{}.{block}", stage + 1);
                let to = width * form.expansion();
                let inside = width * form.group_width / 64 * form.groups;
                let shapes: &[(i64, i64, i64, i64)] = if form.bottleneck {
                    &[(from, inside, 1, 1), (inside, inside, 3, stride), (inside, to, 1, 1)]
                } else {
                    &[(from, width, 3, stride), (width, width, 3, 1)]
                };
                let mut convs = Vec::with_capacity(shapes.len());
                for (number, &(from, to, size, stride)) in (1..).zip(shapes) {
                    let (conv, norm) = (format!("{at}.conv{number}"), format!("{at}.bn{number}"));
                    let groups = if size == 3 { form.groups } else { 1 };
                    convs.push(ConvNorm::grouped(get, (&conv, &norm), (from, to), size, stride, groups)?);
                }
                let shortcut = match form.shortcut {
                    _ if stride == 1 && from == to => Between::Identity,
                    Shortcut::Pad => Between::Pad((to - from) / 2),
                    Shortcut::Projection => {
                        let (conv, norm) = (format!("{at}.{shortcut}.0"), format!("{at}.{shortcut}.1"));
                        Between::Projection(ConvNorm::load(get, (&conv, &norm), (from, to), 1, stride)?)
                    }
                };
                blocks.push(Block { convs, shortcut });
                from = to;
            }
        }
        Ok(Self { stem, max_pool: form.stem == Stem::ImageNet, blocks })
    }

    /// Whether channels are in groups somewhere.
    pub(super) fn is_grouped(&self) -> bool {
        self.blocks.iter().flat_map(|block| &block.convs).any(ConvNorm::is_grouped)
    }
}
