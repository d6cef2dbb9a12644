//! What libraries call the parts of a vision transformer.
//!
//! A file's library is told by one name that only it has. The networks are the same, but for the epsilon of
//! normalisations, which each library's models keep.

/// In what vision transformers differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kindred {
    Plain,
    /// The output of each half of a layer is scaled; position embeddings fit any size.
    Dino,
    /// Normalised before the layers too, patches without bias, projected at the end.
    Clip {
        projected: i64,
        quick: bool,
    },
}

/// Names of one library.
#[derive(Debug)]
pub(super) struct Spelling {
    /// A name by which a file is told.
    pub(super) telltale: &'static str,
    pub(super) class_token: &'static str,
    pub(super) positions: &'static str,
    /// The class token and the positions lack the axes of length 1.
    pub(super) flat: bool,
    pub(super) patches: &'static str,
    /// CLIP: the normalisation before the layers.
    pub(super) before: &'static str,
    pub(super) norm: &'static str,
    pub(super) epsilon: f64,
    /// `{}` is the layer's number, from 0; the names that follow are below it.
    pub(super) layer: &'static str,
    pub(super) layer_epsilon: f64,
    pub(super) before_attention: &'static str,
    pub(super) attention: Attention,
    pub(super) outward: &'static str,
    pub(super) before_mlp: &'static str,
    pub(super) widen: &'static str,
    pub(super) narrow: &'static str,
    /// DINOv2: after attention, and after the MLP.
    pub(super) scales: (&'static str, &'static str),
    /// CLIP: the projection, and whether its rows are the inputs.
    pub(super) projection: (&'static str, bool),
    pub(super) projection_bias: Option<&'static str>,
}

/// Queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attention {
    /// One below the other in one matrix.
    Packed { weight: &'static str, bias: &'static str },
    /// A `weight` and a `bias` of each.
    Apart([&'static str; 3]),
}

const TIMM: Spelling = Spelling {
    telltale: "patch_embed.proj.weight",
    class_token: "cls_token",
    positions: "pos_embed",
    flat: false,
    patches: "patch_embed.proj",
    before: "norm_pre",
    norm: "norm",
    epsilon: 1e-6,
    layer: "blocks.{}",
    layer_epsilon: 1e-6,
    before_attention: "norm1",
    attention: Attention::Packed { weight: "attn.qkv.weight", bias: "attn.qkv.bias" },
    outward: "attn.proj",
    before_mlp: "norm2",
    widen: "mlp.fc1",
    narrow: "mlp.fc2",
    scales: ("ls1.gamma", "ls2.gamma"),
    projection: ("head.weight", false),
    projection_bias: None,
};

const TORCHVISION: Spelling = Spelling {
    telltale: "encoder.layers.encoder_layer_0.mlp.0.weight",
    class_token: "class_token",
    positions: "encoder.pos_embedding",
    patches: "conv_proj",
    norm: "encoder.ln",
    layer: "encoder.layers.encoder_layer_{}",
    before_attention: "ln_1",
    attention: Attention::Packed { weight: "self_attention.in_proj_weight", bias: "self_attention.in_proj_bias" },
    outward: "self_attention.out_proj",
    before_mlp: "ln_2",
    widen: "mlp.0",
    narrow: "mlp.3",
    ..TIMM
};

/// Transformers before version 5, and every file that `save_pretrained` writes.
const HUGGING_FACE: Spelling = Spelling {
    telltale: "encoder.layer.0.attention.attention.query.weight",
    class_token: "embeddings.cls_token",
    positions: "embeddings.position_embeddings",
    patches: "embeddings.patch_embeddings.projection",
    norm: "layernorm",
    epsilon: 1e-12,
    layer: "encoder.layer.{}",
    layer_epsilon: 1e-12,
    before_attention: "layernorm_before",
    attention: Attention::Apart(["attention.attention.query", "attention.attention.key", "attention.attention.value"]),
    outward: "attention.output.dense",
    before_mlp: "layernorm_after",
    widen: "intermediate.dense",
    narrow: "output.dense",
    ..TIMM
};

const HUGGING_FACE_DINO: Spelling = Spelling {
    epsilon: 1e-6,
    layer_epsilon: 1e-6,
    before_attention: "norm1",
    before_mlp: "norm2",
    widen: "mlp.fc1",
    narrow: "mlp.fc2",
    scales: ("layer_scale1.lambda1", "layer_scale2.lambda1"),
    ..HUGGING_FACE
};

const PARTS: Attention = Attention::Apart(["attention.q_proj", "attention.k_proj", "attention.v_proj"]);

/// Of ViT-B/16.
const PLAIN: [Spelling; 6] = [
    TORCHVISION,
    // before torchvision 0.13
    Spelling {
        telltale: "encoder.layers.encoder_layer_0.mlp.linear_1.weight",
        widen: "mlp.linear_1",
        narrow: "mlp.linear_2",
        ..TORCHVISION
    },
    // pytorch-pretrained-vit
    Spelling {
        telltale: "positional_embedding.pos_embedding",
        class_token: "class_token",
        positions: "positional_embedding.pos_embedding",
        patches: "patch_embedding",
        layer: "transformer.blocks.{}",
        attention: Attention::Apart(["attn.proj_q", "attn.proj_k", "attn.proj_v"]),
        outward: "proj",
        widen: "pwff.fc1",
        narrow: "pwff.fc2",
        ..TIMM
    },
    TIMM,
    HUGGING_FACE,
    // the state dict of a model of Transformers 5
    Spelling {
        telltale: "layers.0.attention.q_proj.weight",
        layer: "layers.{}",
        attention: PARTS,
        outward: "attention.o_proj",
        widen: "mlp.fc1",
        narrow: "mlp.fc2",
        ..HUGGING_FACE
    },
];

/// Of DINOv2: its authors' names are timm's.
const DINO: [Spelling; 3] = [
    TIMM,
    HUGGING_FACE_DINO,
    Spelling {
        telltale: "encoder.layer.0.attention.q_proj.weight",
        attention: PARTS,
        outward: "attention.o_proj",
        ..HUGGING_FACE_DINO
    },
];

/// Of CLIP.
const CLIP: [Spelling; 3] = [
    // OpenAI's, and open_clip's
    Spelling {
        telltale: "class_embedding",
        class_token: "class_embedding",
        positions: "positional_embedding",
        flat: true,
        patches: "conv1",
        before: "ln_pre",
        norm: "ln_post",
        epsilon: 1e-5,
        layer: "transformer.resblocks.{}",
        layer_epsilon: 1e-5,
        before_attention: "ln_1",
        attention: Attention::Packed { weight: "attn.in_proj_weight", bias: "attn.in_proj_bias" },
        outward: "attn.out_proj",
        before_mlp: "ln_2",
        widen: "mlp.c_fc",
        narrow: "mlp.c_proj",
        projection: ("proj", true),
        ..TIMM
    },
    // Hugging Face's
    Spelling {
        telltale: "vision_model.embeddings.class_embedding",
        class_token: "vision_model.embeddings.class_embedding",
        positions: "vision_model.embeddings.position_embedding.weight",
        patches: "vision_model.embeddings.patch_embedding",
        flat: true,
        before: "vision_model.pre_layrnorm",
        norm: "vision_model.post_layernorm",
        epsilon: 1e-5,
        layer: "vision_model.encoder.layers.{}",
        layer_epsilon: 1e-5,
        before_attention: "layer_norm1",
        attention: Attention::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        outward: "self_attn.out_proj",
        before_mlp: "layer_norm2",
        projection: ("visual_projection.weight", false),
        ..TIMM
    },
    Spelling {
        telltale: "norm_pre.weight",
        epsilon: 1e-5,
        layer_epsilon: 1e-5,
        projection_bias: Some("head.bias"),
        ..TIMM
    },
];

/// Whose names a file of this kind may have.
pub(super) fn spellings(kind: Kindred) -> &'static [Spelling] {
    match kind {
        Kindred::Plain => &PLAIN,
        Kindred::Dino => &DINO,
        Kindred::Clip { .. } => &CLIP,
    }
}
