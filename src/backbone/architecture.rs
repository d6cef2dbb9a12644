//! The architectures that a manifest can name, and what each expects where nobody says otherwise.

use super::input::Input;

/// One architecture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Architecture {
    /// As a manifest names it.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// Numbers per embedding; `None` where the weights file decides.
    pub dimension: Option<usize>,
    /// The input that such networks are usually trained with; `None` where there is nothing usual.
    pub input: Option<Input>,
    /// The only picture size that it takes, in pixels.
    pub pixels: Option<u32>,
    /// Pixels of which width and height must be multiples.
    pub multiple: Option<u32>,
}

/// A module of one's own, not built in.
pub const TORCHSCRIPT: &str = "torchscript";

/// What to do with a network that is not built in.
pub(crate) const EXPORT: &str = "For a network that is not built in export TorchScript instead: \
    torch.jit.trace(net.eval(), torch.zeros(1, 3, 224, 224)).save('net.pt'), then --arch torchscript; where the trace \
    disagrees with the network, torch.backends.mha.set_fastpath_enabled(False) before it";

/// CIFAR-10, as KNN-OOD and most papers on CIFAR normalise it.
const CIFAR: Input = Input {
    width: 32,
    height: 32,
    shorter_side: None,
    exif_orientation: false,
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.2023, 0.1994, 0.2010],
};

/// ImageNet, as torchvision's weights want it.
const IMAGENET: Input = Input {
    width: 224,
    height: 224,
    shorter_side: Some(256),
    exif_orientation: false,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};

/// ViT at 384 pixels, as its authors trained it.
const VIT_384: Input =
    Input { width: 384, height: 384, shorter_side: None, exif_orientation: false, mean: [0.5; 3], std: [0.5; 3] };

/// CLIP, as its authors trained it.
const CLIP: Input = Input {
    shorter_side: Some(224),
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_55, 0.261_302_6, 0.275_777_1],
    ..IMAGENET
};

const fn cifar(name: &'static str, about: &'static str, dimension: usize) -> Architecture {
    Architecture { name, about, dimension: Some(dimension), input: Some(CIFAR), pixels: None, multiple: None }
}

const fn imagenet(name: &'static str, about: &'static str, dimension: usize) -> Architecture {
    Architecture { name, about, dimension: Some(dimension), input: Some(IMAGENET), pixels: None, multiple: None }
}

const fn clip(name: &'static str, about: &'static str) -> Architecture {
    Architecture { input: Some(CLIP), pixels: Some(224), ..imagenet(name, about, 512) }
}

const fn dino(name: &'static str, about: &'static str, dimension: usize) -> Architecture {
    Architecture { multiple: Some(14), ..imagenet(name, about, dimension) }
}

/// Every architecture. All but the last are built in, with weights by state dict.
pub const ARCHITECTURES: [Architecture; 25] = [
    cifar("resnet8-cifar", "ResNet-8 for 32×32 images", 64),
    cifar("resnet20-cifar", "ResNet-20 for 32×32 images", 64),
    cifar("resnet56-cifar", "ResNet-56 for 32×32 images", 64),
    cifar("resnet18-cifar", "ResNet-18 for 32×32 images, SupCon and SupCE too", 512),
    cifar("resnet34-cifar", "ResNet-34 for 32×32 images, SupCon and SupCE too", 512),
    cifar("densenet-bc-100-12", "DenseNet-BC (depth 100, growth 12) for 32×32 images", 342),
    imagenet("resnet18", "ResNet-18 of torchvision, timm or Hugging Face, SupCon and SupCE too", 512),
    imagenet("resnet34", "ResNet-34 of torchvision, timm or Hugging Face, SupCon and SupCE too", 512),
    imagenet("resnet50", "ResNet-50 of torchvision, timm or Hugging Face, SupCon, SupCE, MoCo and DINO too", 2048),
    imagenet("resnet101", "ResNet-101, likewise", 2048),
    imagenet("resnet152", "ResNet-152, likewise", 2048),
    imagenet("wide-resnet50-2", "Wide ResNet-50-2 of torchvision or timm", 2048),
    imagenet("resnext50-32x4d", "ResNeXt-50 32×4d of torchvision or timm", 2048),
    imagenet("resnext101-32x8d", "ResNeXt-101 32×8d of torchvision or timm", 2048),
    imagenet("convnext-tiny", "ConvNeXt-T of its authors, torchvision, timm or Hugging Face", 768),
    Architecture {
        pixels: Some(224),
        ..imagenet(
            "vit-b16-224",
            "ViT-B/16 for 224×224 images, of torchvision, timm, Hugging Face or pytorch-pretrained-vit",
            768,
        )
    },
    Architecture {
        pixels: Some(384),
        input: Some(VIT_384),
        ..imagenet("vit-b16-384", "ViT-B/16 for 384×384 images, likewise", 768)
    },
    dino("dinov2-vits14", "DINOv2 ViT-S/14 of its authors, timm or Hugging Face; sizes that are multiples of 14", 384),
    dino("dinov2-vitb14", "DINOv2 ViT-B/14, likewise", 768),
    dino("dinov2-vitl14", "DINOv2 ViT-L/14, likewise", 1024),
    clip("clip-vit-b32", "CLIP ViT-B/32 as OpenAI trained it (QuickGELU), its image side"),
    clip("clip-vit-b16", "CLIP ViT-B/16 as OpenAI trained it (QuickGELU), its image side"),
    clip("openclip-vit-b32", "CLIP ViT-B/32 with GELU, as LAION and DataComp trained it, its image side"),
    clip("openclip-vit-b16", "CLIP ViT-B/16 with GELU, as LAION and DataComp trained it, its image side"),
    Architecture {
        name: TORCHSCRIPT,
        about: "any TorchScript module of images (n×3×h×w); 'output' says what it gives",
        dimension: None,
        input: None,
        pixels: None,
        multiple: None,
    },
];

/// The architecture of this name, which may be written with `_` for `-`, as torchvision has it; or the names that there are.
pub fn architecture(name: &str) -> Result<&'static Architecture, String> {
    let dashed = name.replace('_', "-");
    ARCHITECTURES.iter().find(|known| known.name == dashed).ok_or_else(|| {
        let known: Vec<_> = ARCHITECTURES.iter().map(|known| known.name).collect();
        format!("architecture '{name}' is unknown: known are {}. {EXPORT}", known.join(", "))
    })
}
