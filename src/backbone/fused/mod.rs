//! Networks for inference on the processor: batch normalisation goes into the convolutions' weights where it can, and
//! bias, shortcut and rectifier into their last pass ([`outskirt_kernels`]).
//!
//! They give what the layers of libtorch give, to rounding (`golden.rs`), and unlike those give a picture the same
//! embedding and logits, bit for bit, in every batch and on any number of threads (`batches.rs`). Where the processor lacks
//! AVX2, or AVX512-BF16 for bf16, and on other devices libtorch runs.

mod densenet;
mod resnet;

use outskirt_kernels::{Conv, Precision, Scratch, Shape, interleave};

use self::densenet::Dense;
use self::resnet::Residual;
use super::body::Body;
use super::layers::Linear;
use super::network::Network;

#[derive(Debug)]
pub(super) struct Fused {
    loops: Loops,
    /// A linear map is a 1×1 convolution of maps of one pixel.
    classifier: Option<Conv>,
}

#[derive(Debug)]
enum Loops {
    ResNet(Residual),
    DenseNet(Dense),
}

impl Fused {
    /// `None` where there are no such loops: for this network, or on this processor.
    pub(super) fn of(network: &Network, precision: Precision) -> Option<Self> {
        if !outskirt_kernels::available(precision) {
            return None;
        }
        let loops = match &network.body {
            // 3×3 convolutions in groups are libtorch's
            Body::ResNet(resnet) if resnet.is_grouped() => return None,
            Body::ResNet(resnet) => Loops::ResNet(Residual::of(resnet, precision)),
            Body::DenseNet(densenet) => Loops::DenseNet(Dense::of(densenet, precision)),
            Body::Vit(_) | Body::ConvNeXt(_) => return None,
        };
        let linear = |Linear { weight, bias }: &Linear| {
            let to = weight.shape.first().copied().unwrap_or(0);
            let zeros = vec![0.0; to];
            // it is small, and logits are compared with exponentials: f32
            Conv::new(&weight.values, bias.as_ref().map_or(&zeros, |bias| &bias.values), 1, 1, Precision::F32)
        };
        Some(Self { loops, classifier: network.classifier.as_ref().map(linear) })
    }

    /// Pictures (n×3×h×w, of h rows and w columns) to embeddings (n×d).
    pub(super) fn embed(&self, pictures: &[f32], (height, width): (usize, usize), scratch: &mut Scratch) -> Vec<f32> {
        let together = match &self.loops {
            Loops::ResNet(_) => resnet::together(height * width),
            Loops::DenseNet(_) => densenet::TOGETHER,
        };
        let parts = pictures.chunks(together * 3 * height * width);
        parts.flat_map(|part| self.embed_together(part, (height, width), scratch)).collect()
    }

    /// Embeddings (n×d) to class logits (n×classes); `None` where the file has no classifier.
    pub(super) fn classify(&self, embeddings: &[f32], scratch: &mut Scratch) -> Option<Vec<f32>> {
        let classifier = self.classifier.as_ref()?;
        let channels = classifier.inputs();
        let shape = Shape { n: embeddings.len() / channels, height: 1, width: 1, channels };
        let buffer = classifier.run(embeddings, shape, None, false, scratch);
        let logits = buffer.clone();
        scratch.give(buffer);
        Some(logits)
    }

    fn embed_together(&self, pictures: &[f32], (height, width): (usize, usize), scratch: &mut Scratch) -> Vec<f32> {
        let pixels = height * width;
        let shape = Shape { n: pictures.len() / (3 * pixels), height, width, channels: 3 };
        let mut interleaved = scratch.take(shape.len());
        interleave(pictures, pixels, &mut interleaved);
        let embeddings = match &self.loops {
            Loops::ResNet(resnet) => resnet.run(&interleaved, shape, scratch),
            Loops::DenseNet(densenet) => densenet.run(&interleaved, shape, scratch),
        };
        scratch.give(interleaved);
        embeddings
    }
}
