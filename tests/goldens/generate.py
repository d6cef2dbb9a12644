#!/usr/bin/env python3
"""Golden numbers of the built-in networks, out of PyTorch.

    python3 tests/goldens/generate.py            writes networks.json beside this file (torch and numpy; libraries.py)
    python3 tests/goldens/generate.py --files DIR    writes checkpoints as torch.save does, for tests/suite/networks.rs
    python3 tests/goldens/generate.py --modules DIR  writes the small modules of tests/fixtures/modules

The architectures are written here in plain torch, under the names that their publishers' files have. Weights and input
come from a formula of a tensor's name and the number's place, which src/backbone/golden.rs computes too: only what the
networks give for them is kept. Where torchvision or pytorch_pretrained_vit can be imported, their own models must take
the same state dict, strictly, and give the same.
"""

import argparse
import json
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

MASK = 0xFFFFFFFFFFFFFFFF


def uniform(name, count):
    """Numbers in [-1, 1): SplitMix64 from the FNV-1a hash of the name, its upper 24 bits."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0


def made(name, shape):
    """A tensor of this name and shape."""
    u = uniform(name, int(np.prod(shape, dtype=np.int64)))
    if name.endswith("running_var"):
        u = 1.0 + 0.25 * u
    elif name.endswith("running_mean") or name.endswith("bias"):
        u = 0.1 * u
    elif len(shape) == 1:
        u = 1.0 + 0.25 * u
    elif len(shape) == 3:
        u = 0.5 * u
    else:
        gain = 6.0 if len(shape) == 4 else 3.0
        u = u * np.sqrt(gain / np.prod(shape[1:], dtype=np.int64))
    return torch.from_numpy(u.astype(np.float32).reshape(shape))


def fill(model):
    state = OrderedDict()
    for name, tensor in model.state_dict().items():
        counter = name.endswith("num_batches_tracked")
        state[name] = tensor if counter else made(name, tuple(tensor.shape))
    model.load_state_dict(state)
    return model.eval()


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 to four times the channels."""

    def __init__(self, inside, width, stride, bottleneck, shortcut):
        super().__init__()
        outside = width * (4 if bottleneck else 1)
        shapes = [(inside, width, 3, stride), (width, width, 3, 1)]
        if bottleneck:
            shapes = [(inside, width, 1, 1), (width, width, 3, stride), (width, outside, 1, 1)]
        for number, (a, b, size, step) in enumerate(shapes, 1):
            setattr(self, f"conv{number}", nn.Conv2d(a, b, size, step, size // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(b))
        self.count, self.named, self.pad = len(shapes), None, 0
        if stride != 1 or inside != outside:
            if shortcut == "pad":
                self.pad = (outside - inside) // 2
            else:
                self.named = shortcut
                setattr(self, shortcut, nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            if number < self.count:
                y = F.relu(y)
        if self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        elif self.named:
            x = getattr(self, self.named)(x)
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, widths, counts, shortcut, classifier, classes, stem="cifar", bottleneck=False, head=False):
        super().__init__()
        cifar = stem == "cifar"
        self.conv1 = nn.Conv2d(3, widths[0], 3 if cifar else 7, 1 if cifar else 2, 1 if cifar else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.pool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        inside = widths[0]
        for stage, (width, count) in enumerate(zip(widths, counts), 1):
            blocks = []
            for block in range(count):
                blocks.append(Block(inside, width, 2 if stage > 1 and block == 0 else 1, bottleneck, shortcut))
                inside = width * (4 if bottleneck else 1)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.stages = len(widths)
        self.classifier = classifier
        if classifier:
            setattr(self, classifier, nn.Linear(inside, classes))
        if head:
            self.head = nn.Sequential(nn.Linear(inside, inside), nn.ReLU(), nn.Linear(inside, 128))

    def embed(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return x.mean((2, 3))

    def both(self, x):
        embedding = self.embed(x)
        return embedding, getattr(self, self.classifier)(embedding) if self.classifier else None


class DenseLayer(nn.Module):
    def __init__(self, inside, growth):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inside), nn.Conv2d(inside, 4 * growth, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))], 1)


class Transition(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inside), nn.Conv2d(inside, outside, 1, bias=False)

    def forward(self, x):
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class DenseBlock(nn.Module):
    def __init__(self, inside, growth, layers):
        super().__init__()
        self.layer = nn.Sequential(*(DenseLayer(inside + i * growth, growth) for i in range(layers)))

    def forward(self, x):
        return self.layer(x)


class DenseNet(nn.Module):
    def __init__(self, growth=12, layers=16, classes=10):
        super().__init__()
        width = 2 * growth
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        for block in (1, 2, 3):
            setattr(self, f"block{block}", DenseBlock(width, growth, layers))
            width += layers * growth
            if block < 3:
                setattr(self, f"trans{block}", Transition(width, width // 2))
                width //= 2
        self.bn1, self.fc = nn.BatchNorm2d(width), nn.Linear(width, classes)

    def embed(self, x):
        x = self.trans2(self.block2(self.trans1(self.block1(self.conv1(x)))))
        return F.relu(self.bn1(self.block3(x))).mean((2, 3))

    def both(self, x):
        embedding = self.embed(x)
        return embedding, self.fc(embedding)


class TorchvisionLayer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, width), nn.Dropout(0.0))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TorchvisionViT(nn.Module):
    def __init__(self, pixels, width=768, heads=12, hidden=3072, layers=12, classes=1000):
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv_proj = nn.Conv2d(3, width, 16, 16)
        self.encoder = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, (pixels // 16) ** 2 + 1, width))
        self.encoder.layers = nn.Sequential(OrderedDict(
            (f"encoder_layer_{i}", TorchvisionLayer(width, heads, hidden)) for i in range(layers)))
        self.encoder.ln = nn.LayerNorm(width, eps=1e-6)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, classes)))

    def both(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.encoder.pos_embedding
        embedding = self.encoder.ln(self.encoder.layers(x))[:, 0]
        return embedding, self.heads(embedding)


class PretrainedVitBlock(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.attn = nn.Module()
        for part in "qkv":
            setattr(self.attn, f"proj_{part}", nn.Linear(width, width))
        self.proj = nn.Linear(width, width)
        self.pwff = nn.Module()
        self.pwff.fc1, self.pwff.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)

    def forward(self, x):
        y = self.norm1(x)
        q, k, v = (getattr(self.attn, f"proj_{part}")(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for part in "qkv")
        seen = torch.softmax(q @ k.transpose(-2, -1) / k.shape[-1] ** 0.5, -1) @ v
        x = x + self.proj(seen.transpose(1, 2).flatten(2))
        return x + self.pwff.fc2(F.gelu(self.pwff.fc1(self.norm2(x))))


class PretrainedVit(nn.Module):
    def __init__(self, pixels, width=768, heads=12, hidden=3072, layers=12, classes=1000):
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embedding = nn.Conv2d(3, width, 16, 16)
        self.positional_embedding = nn.Module()
        self.positional_embedding.pos_embedding = nn.Parameter(torch.zeros(1, (pixels // 16) ** 2 + 1, width))
        self.transformer = nn.Module()
        self.transformer.blocks = nn.ModuleList([PretrainedVitBlock(width, heads, hidden) for _ in range(layers)])
        self.norm, self.fc = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def both(self, x):
        x = self.patch_embedding(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.positional_embedding.pos_embedding
        for block in self.transformer.blocks:
            x = block(x)
        embedding = self.norm(x)[:, 0]
        return embedding, self.fc(embedding)


SMALL, WIDE = (16, 32, 64), (64, 128, 256, 512)
NETWORKS = {
    # name: (architecture, pixels, model)
    "resnet8-cifar": ("resnet8-cifar", 32, lambda: ResNet(SMALL, (1,) * 3, "pad", "linear", 10)),
    "resnet20-cifar": ("resnet20-cifar", 32, lambda: ResNet(SMALL, (3,) * 3, "pad", "linear", 10)),
    "resnet56-cifar": ("resnet56-cifar", 32, lambda: ResNet(SMALL, (9,) * 3, "pad", "linear", 10)),
    "resnet18-cifar": ("resnet18-cifar", 32, lambda: ResNet(WIDE, (2, 2, 2, 2), "shortcut", "linear", 10)),
    "resnet34-cifar": ("resnet34-cifar", 32, lambda: ResNet(WIDE, (3, 4, 6, 3), "shortcut", "linear", 10)),
    "resnet18-cifar with a head": (
        "resnet18-cifar", 32, lambda: ResNet(WIDE, (2, 2, 2, 2), "downsample", "fc", 10, head=True)),
    "densenet-bc-100-12": ("densenet-bc-100-12", 32, DenseNet),
    "resnet18": ("resnet18", 224, lambda: ResNet(WIDE, (2, 2, 2, 2), "downsample", "fc", 1000, "imagenet")),
    "resnet34": ("resnet34", 224, lambda: ResNet(WIDE, (3, 4, 6, 3), "downsample", "fc", 1000, "imagenet")),
    "resnet50": ("resnet50", 224, lambda: ResNet(WIDE, (3, 4, 6, 3), "downsample", "fc", 1000, "imagenet", True)),
    "vit-b16-224 of torchvision": ("vit-b16-224", 224, lambda: TorchvisionViT(224)),
    "vit-b16-384 of torchvision": ("vit-b16-384", 384, lambda: TorchvisionViT(384)),
    "vit-b16-224 of pytorch-pretrained-vit": ("vit-b16-224", 224, lambda: PretrainedVit(224)),
    "vit-b16-384 of pytorch-pretrained-vit": ("vit-b16-384", 384, lambda: PretrainedVit(384)),
}


def pictures(pixels):
    """Two of them, as a network gets them."""
    return torch.from_numpy((2.0 * uniform("input", 2 * 3 * pixels * pixels)).astype(np.float32)).view(
        2, 3, pixels, pixels)


def digest(values):
    """Of a 2×d result: 16 numbers of the second row, and of each row its norm and its product with a known vector."""
    values = values.double().numpy()
    d = values.shape[1]
    probe = uniform("probe", d)
    return {
        "width": d,
        "sample": [float(f"{v:.9g}") for v in values[1, :: max(1, d // 16)][:16]],
        "norms": [float(f"{v:.9g}") for v in np.linalg.norm(values, axis=1)],
        "products": [float(f"{v:.9g}") for v in values @ probe],
    }


def peers():
    """Models of the publishers' own packages, where they can be imported: name → (model, result is logits)."""
    found = {}
    try:
        from torchvision import models
        for name in ("resnet18", "resnet34", "resnet50"):
            found[name] = getattr(models, name)
        for pixels in (224, 384):
            found[f"vit-b16-{pixels} of torchvision"] = lambda p=pixels: models.VisionTransformer(
                p, 16, 12, 12, 768, 3072)
    except ImportError:
        print("torchvision is not here: its models are not compared", file=sys.stderr)
    try:
        from pytorch_pretrained_vit import ViT
        for pixels in (224, 384):
            found[f"vit-b16-{pixels} of pytorch-pretrained-vit"] = lambda p=pixels: ViT(
                "B_16", image_size=p, num_classes=1000)
    except ImportError:
        print("pytorch_pretrained_vit is not here: its models are not compared", file=sys.stderr)
    return found


def goldens():
    result, known = {}, peers()
    for name, (architecture, pixels, model) in NETWORKS.items():
        model, x = fill(model()), pictures(pixels)
        with torch.no_grad():
            embedding, logits = model.both(x)
            if name in known:
                peer = known[name]()
                peer.load_state_dict(model.state_dict(), strict=True)
                theirs = peer.eval()(x)
                off = ((theirs - logits).norm() / theirs.norm()).item()
                print(f"{name}: its publisher's own model differs by {off:.1e}", file=sys.stderr)
                assert off < 1e-5, name
        result[name] = {"architecture": architecture, "pixels": pixels, "tensors": len(model.state_dict()),
                        "embedding": digest(embedding), "logits": digest(logits)}
        print(f"{name}: {embedding.shape[1]} numbers, norm {embedding[0].norm():.3g}", file=sys.stderr)
    return result


def files(folder):
    """Checkpoints as the reference's training code saves them, and the embeddings that they must give."""
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}

    cifar = fill(NETWORKS["resnet18-cifar with a head"][2]())
    optimizer = torch.optim.SGD(cifar.parameters(), 0.5, momentum=0.9)
    cifar.both(pictures(32))[1].sum().backward()
    optimizer.step()  # so that there are momentum buffers
    cifar.load_state_dict(fill(cifar).state_dict())
    state = {f"module.{name}": tensor for name, tensor in cifar.state_dict().items()}
    checkpoint = {"epoch": 500, "state_dict": OrderedDict(state), "optimizer": optimizer.state_dict(),
                  "best_acc1": np.float64(0.95), "arch": "resnet18-supcon"}
    torch.save(checkpoint, folder / "checkpoint_500.pth.tar")
    torch.save(checkpoint, folder / "checkpoint_500_old.pth.tar", _use_new_zipfile_serialization=False)

    supcon = fill(ResNet(WIDE, (3, 4, 6, 3), "downsample", None, 0, "imagenet", True, head=True))
    state = OrderedDict()
    for name, tensor in supcon.state_dict().items():
        state[f"module.{name}" if name.startswith("head.") else f"module.encoder.{name}"] = tensor
    options = argparse.Namespace(batch_size=256, lr_decay_epochs=[700, 800, 900], model="resnet50", cosine=True)
    torch.save({"opt": options, "model": state, "optimizer": {}, "epoch": 700}, folder / "supcon.pth")

    for file, model, pixels in (("checkpoint_500.pth.tar", cifar, 32), ("checkpoint_500_old.pth.tar", cifar, 32),
                                ("supcon.pth", supcon, 224)):
        grey = torch.full((1, 3, pixels, pixels), 0.5)
        with torch.no_grad():
            expected[file] = model.eval().embed(grey)[0].tolist()
    (folder / "expected.json").write_text(json.dumps(expected))


class Quarters(nn.Module):
    """The mean of each channel over 2x2 quarters is the embedding, four times its mean over all a logit."""

    def embedding(self, x: torch.Tensor):
        return F.adaptive_avg_pool2d(x, 2).flatten(1)

    def logits(self, x: torch.Tensor):
        return 4.0 * x.mean((2, 3))


class Pair(Quarters):
    def forward(self, x: torch.Tensor):
        return self.logits(x), self.embedding(x)


class Turned(Quarters):
    def forward(self, x: torch.Tensor):
        return self.embedding(x), self.logits(x)


class Triple(Quarters):
    def forward(self, x: torch.Tensor):
        return self.embedding(x), self.logits(x), self.logits(x)


def modules(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for module in (Pair(), Turned(), Triple()):
        file = folder / f"{type(module).__name__.lower()}.pt"
        torch.jit.script(module.eval()).save(str(file))
        with zipfile.ZipFile(file) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in entries:
                if not name.endswith(".debug_pkl"):  # names of the folders that it was made in
                    archive.writestr(zipfile.ZipInfo(name), content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=Path)
    parser.add_argument("--modules", type=Path)
    chosen = parser.parse_args()
    if chosen.modules:
        modules(chosen.modules)
    elif chosen.files:
        files(chosen.files)
    else:
        import libraries

        path = Path(__file__).with_name("networks.json")
        before = json.loads(path.read_text())
        path.write_text(json.dumps({**goldens(), **libraries.goldens(before)}, indent=1) + "\n")
