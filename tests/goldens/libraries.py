"""Golden numbers of networks as torchvision, timm, transformers and open_clip have them: their own models, filled by the
formula of generate.py under the names that their files have.

    python3 tests/goldens/libraries.py      adds them to networks.json (pip install torchvision timm transformers open_clip_torch)

What no library has is written here in plain torch: the authors' ConvNeXt, and how DINOv2's authors interpolate position
embeddings. A library that is not here leaves its networks as they are in networks.json.
"""

import json
import re
import sys
from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from generate import digest, made, pictures

# what a file has and a network for inference does not need
BESIDE = ("num_batches_tracked", "mask_token", "position_ids")


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))).permute(0, 3, 1, 2)


class ByChannel(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Under the authors' names (facebookresearch/ConvNeXt)."""

    def __init__(self, depths=(3, 3, 9, 3), widths=(96, 192, 384, 768), classes=1000):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), ByChannel(widths[0], eps=1e-6))
        self.downsample_layers = nn.ModuleList([stem] + [
            nn.Sequential(ByChannel(a, eps=1e-6), nn.Conv2d(a, b, 2, 2)) for a, b in zip(widths, widths[1:])])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth))) for width, depth in zip(widths, depths))
        self.norm, self.head = nn.LayerNorm(widths[-1], eps=1e-6), nn.Linear(widths[-1], classes)

    def forward(self, x):
        return self.head(self.forward_features(x))

    def forward_features(self, x):
        for smaller, stage in zip(self.downsample_layers, self.stages):
            x = stage(smaller(x))
        return self.norm(x.mean((2, 3)))


def fill(model, saved):
    """`saved` gives the name in a file of a name in memory."""
    state = OrderedDict()
    for name, tensor in model.state_dict().items():
        known = name.endswith("num_batches_tracked") or name.endswith("position_ids")
        state[name] = tensor if known else made(saved(name), tuple(tensor.shape))
    model.load_state_dict(state)
    return model.eval()


def names(model, saved):
    """A hash (FNV-1a) of the names in a file and their shapes."""
    lines = sorted(f"{saved(name)} {list(tensor.shape)}\n" for name, tensor in model.state_dict().items()
                   if not name.endswith(BESIDE))
    seed = 0xCBF29CE484222325
    for byte in "".join(lines).encode():
        seed = ((seed ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{seed:016x}"


def same(name):
    return name


def hugging_face(name):
    """What save_pretrained calls what Transformers 5 calls otherwise in memory: ViT and DINOv2."""
    name = re.sub(r"^((?:vit\.)?)layers\.", r"\1encoder.layer.", name)
    for part, long in (("q", "query"), ("k", "key"), ("v", "value")):
        name = name.replace(f"attention.{part}_proj.", f"attention.attention.{long}.")
    name = name.replace("attention.o_proj.", "attention.output.dense.")
    if "dinov2" not in name and "norm" not in name:
        name = name.replace("mlp.fc1.", "intermediate.dense.").replace("mlp.fc2.", "output.dense.")
    return name


def hugging_face_dino(name):
    return hugging_face("dinov2." + name).removeprefix("dinov2.")


def interpolated(model, pixels):
    """Position embeddings of a timm DINOv2 for pictures of so many pixels, as facebookresearch/dinov2 makes them."""
    class_token, patches = model.pos_embed[:, :1], model.pos_embed[:, 1:]
    side, to = int(patches.shape[1] ** 0.5), pixels // 14
    factor = (to + 0.1) / side
    patches = F.interpolate(patches.reshape(1, side, side, -1).permute(0, 3, 1, 2), mode="bicubic",
                            scale_factor=(factor, factor))
    assert patches.shape[-2:] == (to, to)
    return torch.cat([class_token, patches.flatten(2).transpose(1, 2)], 1)


def dino(model, x):
    if x.shape[-1] == 518:
        return model.forward_features(x)[:, 0]
    tokens = model.patch_embed.proj(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([model.cls_token.expand(len(x), -1, -1), tokens], 1) + interpolated(model, x.shape[-1])
    return model.norm(model.blocks(tokens))[:, 0]


def networks():
    """name → (architecture, telltale, pixels or None for names alone, classifier or None, model, saved, embed, classify)"""
    found = {}

    def add(name, architecture, telltale, pixels, classifier, model, embed, classify=None, saved=same):
        found[name] = (architecture, telltale, pixels, classifier, model, saved, embed, classify)

    def classifier_of(path):
        return lambda model, x: model.get_submodule(path)(x)

    add("convnext-tiny of its authors", "convnext-tiny", "downsample_layers.0.0.weight", 64, "head", ConvNeXt,
        lambda model, x: model.forward_features(x), classifier_of("head"))
    try:
        from torchvision import models

        def pooled(model, x):
            kept, model.fc = model.fc, nn.Identity()
            result = model(x)
            model.fc = kept
            return result

        for ours, theirs in (("resnet101", "resnet101"), ("resnet152", "resnet152"),
                             ("wide-resnet50-2", "wide_resnet50_2"), ("resnext50-32x4d", "resnext50_32x4d"),
                             ("resnext101-32x8d", "resnext101_32x8d")):
            add(ours, ours, "conv1.weight", 64, "fc", getattr(models, theirs), pooled, classifier_of("fc"))
        add("convnext-tiny of torchvision", "convnext-tiny", "features.0.0.weight", 64, "classifier.2",
            models.convnext_tiny, lambda model, x: model.classifier[:2](model.avgpool(model.features(x))),
            classifier_of("classifier.2"))
    except ImportError:
        print("torchvision is not here", file=sys.stderr)
    try:
        import timm

        def timm_model(name, **options):
            return lambda: timm.create_model(name, **options)

        add("convnext-tiny of timm", "convnext-tiny", "stem.0.weight", 64, "head.fc", timm_model("convnext_tiny"),
            lambda model, x: model.forward_head(model.forward_features(x), pre_logits=True), classifier_of("head.fc"))
        add("vit-b16-224 of timm", "vit-b16-224", "patch_embed.proj.weight", 224, "head",
            timm_model("vit_base_patch16_224"), lambda model, x: model.forward_features(x)[:, 0], classifier_of("head"))
        small = timm_model("vit_small_patch14_dinov2")
        add("dinov2-vits14 at 518", "dinov2-vits14", "patch_embed.proj.weight", 518, None, small, dino)
        add("dinov2-vits14 at 224", "dinov2-vits14", "patch_embed.proj.weight", 224, None, small, dino)
        add("dinov2-vitb14", "dinov2-vitb14", "patch_embed.proj.weight", 56, None,
            timm_model("vit_base_patch14_dinov2"), dino)
        add("dinov2-vitl14", "dinov2-vitl14", "patch_embed.proj.weight", None, None,
            timm_model("vit_large_patch14_dinov2"), dino)
        add("clip-vit-b32 of timm", "clip-vit-b32", "norm_pre.weight", 224, None,
            timm_model("vit_base_patch32_clip_quickgelu_224", num_classes=512), lambda model, x: model(x))
    except ImportError:
        print("timm is not here", file=sys.stderr)
    try:
        import transformers as hf

        add("resnet50 of Hugging Face", "resnet50", "embedder.embedder.convolution.weight", 64, "classifier.1",
            lambda: hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=1000)),
            lambda model, x: model.resnet(x).pooler_output.flatten(1), classifier_of("classifier.1"),
            lambda name: name.removeprefix("resnet."))
        add("convnext-tiny of Hugging Face", "convnext-tiny", "embeddings.patch_embeddings.weight", 64, "classifier",
            lambda: hf.ConvNextForImageClassification(hf.ConvNextConfig(num_labels=1000)),
            lambda model, x: model.convnext(x).pooler_output, classifier_of("classifier"),
            lambda name: name.removeprefix("convnext."))
        vit = lambda: hf.ViTForImageClassification(hf.ViTConfig(num_labels=1000))
        add("vit-b16-224 of Hugging Face", "vit-b16-224", "encoder.layer.0.attention.attention.query.weight", 224,
            "classifier", vit, lambda model, x: model.vit(x).last_hidden_state[:, 0], classifier_of("classifier"),
            lambda name: hugging_face(name).removeprefix("vit."))
        add("vit-b16-224 of Transformers 5", "vit-b16-224", "layers.0.attention.q_proj.weight", None, "classifier", vit,
            None, None, lambda name: name.removeprefix("vit."))
        small = lambda: hf.Dinov2Model(hf.Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518))
        add("dinov2-vits14 of Hugging Face", "dinov2-vits14", "encoder.layer.0.attention.attention.query.weight", 518,
            None, small, lambda model, x: model(x).last_hidden_state[:, 0], None, hugging_face_dino)
        add("dinov2-vits14 of Transformers 5", "dinov2-vits14", "encoder.layer.0.attention.q_proj.weight", None, None,
            small, None)
        clip = lambda: hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(projection_dim=512))
        add("clip-vit-b32 of Hugging Face", "clip-vit-b32", "vision_model.embeddings.class_embedding", 224, None, clip,
            lambda model, x: model(x).image_embeds)
    except ImportError:
        print("transformers is not here", file=sys.stderr)
    try:
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        def tower(patch, quick):
            vision = CLIPVisionCfg(layers=12, width=768, patch_size=patch)
            return lambda: CLIP(512, vision, CLIPTextCfg(layers=1), quick_gelu=quick).visual

        for ours, patch, quick in (("clip-vit-b32", 32, True), ("clip-vit-b16", 16, True),
                                   ("openclip-vit-b32", 32, False)):
            add(ours, ours, "class_embedding", 224, None, tower(patch, quick), lambda model, x: model(x))
        add("openclip-vit-b16", "openclip-vit-b16", "class_embedding", None, None, tower(16, False), None)
    except ImportError:
        print("open_clip is not here", file=sys.stderr)
    return found


def goldens(before):
    result = {name: golden for name, golden in before.items() if "names" in golden}
    for name, (architecture, telltale, pixels, classifier, model, saved, embed, classify) in networks().items():
        model = fill(model(), saved) if pixels else model()
        entry = {"architecture": architecture, "telltale": telltale, "names": names(model, saved)}
        if classifier:
            entry["classifier"] = classifier
        if pixels:
            with torch.no_grad():
                embedding = embed(model, pictures(pixels))
                entry |= {"pixels": pixels, "embedding": digest(embedding)}
                if classify:
                    entry["logits"] = digest(classify(model, embedding))
                    whole = model(pictures(pixels))
                    whole = getattr(whole, "logits", whole)
                    if isinstance(whole, torch.Tensor):
                        off = ((whole - classify(model, embedding)).norm() / whole.norm()).item()
                        assert off < 1e-5, f"{name}: the classifier gets something else, {off:.1e}"
            print(f"{name}: {embedding.shape[1]} numbers, norm {embedding[0].norm():.3g}", file=sys.stderr)
        result[name] = entry
    return result


if __name__ == "__main__":
    path = Path(__file__).with_name("networks.json")
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **goldens(found)}, indent=1) + "\n")
