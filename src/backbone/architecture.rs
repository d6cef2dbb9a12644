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
}

/// A module of one's own, not built in.
pub const TORCHSCRIPT: &str = "torchscript";

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

const fn cifar(name: &'static str, about: &'static str, dimension: usize) -> Architecture {
    Architecture { name, about, dimension: Some(dimension), input: Some(CIFAR), pixels: None }
}

const fn imagenet(name: &'static str, about: &'static str, dimension: usize) -> Architecture {
    Architecture { name, about, dimension: Some(dimension), input: Some(IMAGENET), pixels: None }
}

/// Every architecture. All but the last are built in, with weights by state dict.
pub const ARCHITECTURES: [Architecture; 12] = [
    cifar("resnet8-cifar", "ResNet-8 for 32×32 images", 64),
    cifar("resnet20-cifar", "ResNet-20 for 32×32 images", 64),
    cifar("resnet56-cifar", "ResNet-56 for 32×32 images", 64),
    cifar("resnet18-cifar", "ResNet-18 for 32×32 images, SupCon and SupCE too", 512),
    cifar("resnet34-cifar", "ResNet-34 for 32×32 images, SupCon and SupCE too", 512),
    cifar("densenet-bc-100-12", "DenseNet-BC (depth 100, growth 12) for 32×32 images", 342),
    imagenet("resnet18", "ResNet-18 as torchvision has it, SupCon and SupCE too", 512),
    imagenet("resnet34", "ResNet-34 as torchvision has it, SupCon and SupCE too", 512),
    imagenet("resnet50", "ResNet-50 as torchvision has it, SupCon and SupCE too", 2048),
    Architecture {
        pixels: Some(224),
        ..imagenet("vit-b16-224", "ViT-B/16 for 224×224 images, as torchvision or pytorch-pretrained-vit has it", 768)
    },
    Architecture {
        pixels: Some(384),
        input: Some(VIT_384),
        ..imagenet("vit-b16-384", "ViT-B/16 for 384×384 images, as torchvision or pytorch-pretrained-vit has it", 768)
    },
    Architecture {
        name: TORCHSCRIPT,
        about: "any TorchScript module of images (n×3×h×w); 'output' says what it gives",
        dimension: None,
        input: None,
        pixels: None,
    },
];

/// The architecture of this name, or the names that there are.
pub fn architecture(name: &str) -> Result<&'static Architecture, String> {
    ARCHITECTURES.iter().find(|known| known.name == name).ok_or_else(|| {
        let known: Vec<_> = ARCHITECTURES.iter().map(|known| known.name).collect();
        format!("architecture '{name}' is unknown: known are {}", known.join(", "))
    })
}
