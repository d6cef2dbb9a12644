"""What the tests share: vectors near directions, and a database of them."""

import numpy as np
import pytest

import outskirt

CLASSES = 5
DIMENSION = 24


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def near(rng, rows, spread=0.2):
    """Vectors near five directions, and which."""
    centres = np.eye(CLASSES, DIMENSION)
    of = rng.integers(0, CLASSES, rows)
    return (centres[of] + spread * rng.standard_normal((rows, DIMENSION))).astype(np.float32), of


def far(rng, rows):
    """Vectors near none of them."""
    vectors = rng.standard_normal((rows, DIMENSION)).astype(np.float32)
    vectors[:, :CLASSES] = -np.abs(vectors[:, :CLASSES])
    return vectors


@pytest.fixture
def db(tmp_path, rng):
    """train, val and test rows, and a calibrated bank."""
    database = outskirt.connect(tmp_path / "shop.db")
    for split, rows in (("train", 300), ("val", 120), ("test", 60)):
        vectors, of = near(rng, rows)
        database.append(
            vectors, backbone="net", model_version="1", dataset="shop", split=split,
            uri=[f"{split}/{row}.jpg" for row in range(rows)], label=of,
        )
    database.append(far(rng, 60), backbone="net", dataset="junk", split="test", uri=[f"junk/{row}" for row in range(60)])
    bank = database.create_bank("shop", backbone="net", where="dataset = 'shop' AND split = 'train'", k=10)
    bank.calibrate("dataset = 'shop' AND split = 'val'")
    return database


def brute(bank, queries, k, cosine=True):
    """The slow twin."""
    bank, queries = bank.astype(np.float64), queries.astype(np.float64)
    if cosine:
        bank = bank / np.linalg.norm(bank, axis=1, keepdims=True)
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return np.sort(np.linalg.norm(queries[:, None] - bank[None], axis=2), axis=1)[:, k - 1]
