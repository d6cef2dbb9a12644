#!/usr/bin/env python3
"""Write pictures.tar.gz: pictures of every kind, and their pixels after PIL's decoding, torchvision's Resize and CenterCrop
(on PIL pictures: bilinear, antialiased), as tests/suite/pixels.rs compares them. Needs Pillow and NumPy."""

import io
import json
import tarfile
from pathlib import Path

import numpy
from PIL import Image

SIDE, CROP = 40, 32


def drawn(width, height, channels, seed, top=256):
    random = numpy.random.default_rng(seed)
    coarse = random.integers(0, top, (7, 9, channels)).astype(numpy.float32)
    rows = numpy.linspace(0, 6, height)[:, None]
    columns = numpy.linspace(0, 8, width)[None, :]
    y, x = rows.astype(int).clip(0, 5), columns.astype(int).clip(0, 7)
    fy, fx = (rows - y)[..., None], (columns - x)[..., None]
    value = (coarse[y, x] * (1 - fy) * (1 - fx) + coarse[y + 1, x] * fy * (1 - fx)
             + coarse[y, x + 1] * (1 - fy) * fx + coarse[y + 1, x + 1] * fy * fx)
    return value.squeeze()


def saved(array, mode, kind, **options):
    out = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(array.astype(numpy.uint16)).save(out, kind, **options)
    else:
        Image.fromarray(array.astype(numpy.uint8), mode).save(out, kind, **options)
    return out.getvalue()


def palette(width, height):
    out = io.BytesIO()
    picture = Image.fromarray(drawn(width, height, 3, 8).astype(numpy.uint8), "RGB").quantize(31)
    picture.save(out, "PNG", transparency=3)
    return out.getvalue()


def rotated(width, height):
    picture = Image.fromarray(drawn(width, height, 3, 9).astype(numpy.uint8), "RGB")
    exif = picture.getexif()
    exif[0x0112] = 6  # turn it by a quarter to see it upright
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90, exif=exif)
    return out.getvalue()


def wide_rgb(width, height):
    """16 bits per channel, which Pillow reads and does not write."""
    import struct
    import zlib

    values = drawn(width, height, 3, 10, 65536).astype(">u2").reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def large(width, height):
    """Few colours, so that the file stays small."""
    picture = numpy.zeros((height, width), numpy.uint8)
    picture[height // 3:, width // 4:] = 200
    picture[: height // 2, width // 2:] = 90
    return saved(picture, "L", "PNG", optimize=True)


PICTURES = {
    "rgb.png": saved(drawn(57, 45, 3, 1), "RGB", "PNG"),
    "rgb.jpg": saved(drawn(61, 83, 3, 2), "RGB", "JPEG", quality=85),
    "rgb-444.jpg": saved(drawn(97, 64, 3, 3), "RGB", "JPEG", quality=95, subsampling=0),
    "progressive.jpg": saved(drawn(90, 71, 3, 4), "RGB", "JPEG", quality=70, progressive=True),
    "grey.png": saved(drawn(33, 70, 1, 5), "L", "PNG"),
    "grey.jpg": saved(drawn(70, 33, 1, 6), "L", "JPEG"),
    "grey-alpha.png": saved(drawn(50, 50, 2, 7), "LA", "PNG"),
    "rgba.png": saved(drawn(50, 60, 4, 7), "RGBA", "PNG"),
    "palette.png": palette(64, 48),
    "cmyk.jpg": saved(drawn(55, 66, 4, 8), "CMYK", "JPEG", quality=90),
    "exif-rotated.jpg": rotated(80, 50),
    "grey-16-bit.png": saved(drawn(44, 48, 1, 11, 400), "I;16", "PNG"),
    "rgb-16-bit.png": wide_rgb(47, 43),
    "one-pixel.png": saved(numpy.array([[[200, 30, 90]]]), "RGB", "PNG"),
    "one-row.png": saved(drawn(40, 1, 3, 12).reshape(1, 40, 3), "RGB", "PNG"),
    "large.png": large(6000, 4000),
}


def expected(content):
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    width, height = picture.size
    size = (SIDE, SIDE * height // width) if width <= height else (SIDE * width // height, SIDE)
    picture = picture.resize(size, Image.BILINEAR)
    left, top = (round((side - CROP) / 2.0) for side in size)
    return numpy.asarray(picture.crop((left, top, left + CROP, top + CROP))).transpose(2, 0, 1).flatten().tolist()


def main():
    with tarfile.open(Path(__file__).with_name("pictures.tar.gz"), "w:gz") as archive:
        def add(name, content):
            entry = tarfile.TarInfo(f"pictures/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

        for name, content in PICTURES.items():
            add(name, content)
        pixels = {name: expected(content) for name, content in PICTURES.items()}
        add("expected.json", json.dumps(pixels, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
