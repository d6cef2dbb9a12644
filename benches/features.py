"""Features of real images, for `make bench`: CIFAR-10 and four OOD sets through a published network, in PyTorch.

Writes unit vectors, f32, little-endian: bank (50,000 training images), id (test images), ood (four sets), and mixed
(90 % id, 10 % ood, shuffled from a seed); shape.json is written last, and says that all is there.
"""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

SETS = {
    "bank": ["cifar10/train-0.tar.gz", "cifar10/train-1.tar.gz"],
    "id": ["cifar10/test.tar.gz"],
    "ood": ["ood/textures.tar", "ood/cifar100.tar", "ood/tinyimagenet32.tar", "ood/places.tar"],
}


def norm(w, name, x):
    return F.batch_norm(x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"], w[f"{name}.bias"])


def resnet20(w, x):
    x = F.relu(norm(w, "bn1", F.conv2d(x, w["conv1.weight"], padding=1)))
    for layer in (1, 2, 3):
        for block in (0, 1, 2):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = F.relu(norm(w, f"{name}.bn1", F.conv2d(x, w[f"{name}.conv1.weight"], stride=stride, padding=1)))
            y = norm(w, f"{name}.bn2", F.conv2d(y, w[f"{name}.conv2.weight"], padding=1))
            if stride == 2:
                more = y.shape[1] // 4
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
            x = F.relu(x + y)
    return x.mean((2, 3))


def densenet(w, x):
    x = F.conv2d(x, w["conv1.weight"], padding=1)
    for block in (1, 2, 3):
        for layer in range(16):
            name = f"block{block}.layer.{layer}"
            y = F.conv2d(F.relu(norm(w, f"{name}.bn1", x)), w[f"{name}.conv1.weight"])
            y = F.conv2d(F.relu(norm(w, f"{name}.bn2", y)), w[f"{name}.conv2.weight"], padding=1)
            x = torch.cat([x, y], 1)
        if block < 3:
            y = F.relu(norm(w, f"trans{block}.bn1", x))
            x = F.avg_pool2d(F.conv2d(y, w[f"trans{block}.conv1.weight"]), 2)
    return F.relu(norm(w, "bn1", x)).mean((2, 3))


MODELS = {
    "resnet20": (resnet20, "resnet20-12fca82f", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "densenet": (densenet, "densenet-bc-100-12-dice-cifar10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}


def images(archive):
    with tarfile.open(archive) as members:
        for member in members:
            if member.isfile():
                image = Image.open(io.BytesIO(members.extractfile(member).read())).convert("RGB")
                if image.size != (32, 32):
                    image = image.resize((32, 32), Image.BILINEAR)
                yield np.asarray(image)


def unit(features):
    values = features.astype(np.float64)
    return (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-10)).astype("<f4")


def embed(model, data, archives):
    """Unit vectors of the images of archives, in their order."""
    return unit(features(model, data, np.stack([image for archive in archives for image in images(data / archive)])))


def features(model, data, pixels):
    """What a network makes of images, N × 32 × 32 × 3 bytes: its penultimate features, N × D f32, not normalised."""
    network, file, mean, std = MODELS[model]
    weights = load_file(data / f"checkpoints/{file}.safetensors")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    found = []
    with torch.inference_mode():
        for first in range(0, len(pixels), 250):
            batch = torch.from_numpy(pixels[first:first + 250]).permute(0, 3, 1, 2).float() / 255
            batch = ((batch - mean) / std).contiguous(memory_format=torch.channels_last)
            found.append(network(weights, batch).float().numpy())
            if first % 10_000 == 0 and first:
                print(f"{model}: {first} of {len(pixels)} images", flush=True)
    return np.concatenate(found)


def save(out, sets):
    """Write what was embedded, and a mixture of it."""
    ood = sets["ood"][np.random.default_rng(1).permutation(len(sets["ood"]))]
    mixed = np.concatenate([sets["id"], ood[:len(sets["id"]) // 9]])
    sets["mixed"] = mixed[np.random.default_rng(2).permutation(len(mixed))]
    out.mkdir(parents=True, exist_ok=True)
    for name, values in sets.items():
        values.tofile(out / f"{name}.f32")
    shape = {"dimension": sets["id"].shape[1], "rows": {name: len(values) for name, values in sets.items()}}
    (out / "shape.json").write_text(json.dumps(shape))


def main():
    model, data, out, threads = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    save(out, {name: embed(model, data, archives) for name, archives in SETS.items()})


if __name__ == "__main__":
    main()
