#!/usr/bin/env python3
"""Write formats.tar.gz: small pictures of every format and kind that is read, and what PIL decodes of each (width, height,
SHA-256 of its RGB bytes), as src/image/decode.rs compares them; names that begin with `exif` after ImageOps.exif_transpose.
Needs Pillow and NumPy."""

import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy
from PIL import Image, ImageOps

WIDTH, HEIGHT = 29, 23
RANDOM = numpy.random.default_rng(5)


def drawn(channels, seed, top=256, width=WIDTH, height=HEIGHT):
    coarse = numpy.random.default_rng(seed).integers(0, top, (7, 9, channels)).astype(numpy.float32)
    rows, columns = numpy.linspace(0, 6, height)[:, None], numpy.linspace(0, 8, width)[None, :]
    y, x = rows.astype(int).clip(0, 5), columns.astype(int).clip(0, 7)
    fy, fx = (rows - y)[..., None], (columns - x)[..., None]
    value = (coarse[y, x] * (1 - fy) * (1 - fx) + coarse[y + 1, x] * fy * (1 - fx)
             + coarse[y, x + 1] * (1 - fy) * fx + coarse[y + 1, x + 1] * fy * fx)
    return value.squeeze()


def noise(count):
    return RANDOM.integers(0, 256, count).astype(numpy.uint8).tobytes()


def saved(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def bmp(bits, rows, compression=0, masks=b"", palette=b"", top_down=False, width=16, height=8):
    offset = 54 + len(masks) + len(palette)
    return (b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset)
            + struct.pack("<IiiHHIIiiII", 40, width, -height if top_down else height, 1, bits, compression, len(rows), 0, 0,
                          len(palette) // 4, 0) + masks + palette + rows)


def tga(kind, bits, values, flags=0, palette=b"", entry_bits=0, entries=0):
    head = bytes([0, int(entries > 0), kind]) + struct.pack("<HHB", 0, entries, entry_bits)
    return head + struct.pack("<HHHHBB", 0, 0, 16, 8, bits, flags) + palette + values


def png_grey_16(transparent):
    """16-bit grey with a transparent colour, or without one, which change no pixel."""
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    values = drawn(1, 4, 400).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 0, 0, 0, 0))
    colour = chunk(b"tRNS", struct.pack(">H", 121)) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + colour + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RGB = Image.fromarray(drawn(3, 1).astype(numpy.uint8))
RGBA = Image.fromarray(drawn(4, 2).astype(numpy.uint8))
GREY = Image.fromarray(drawn(1, 3).astype(numpy.uint8))
GREY_ALPHA = Image.fromarray(drawn(2, 3).astype(numpy.uint8))
GREY_16 = Image.fromarray(drawn(1, 4, 400).astype(numpy.uint16))
FLOAT = Image.fromarray(drawn(1, 4, 400).astype(numpy.float32) - 50)
CMYK = Image.merge("CMYK", [Image.fromarray(drawn(1, seed).astype(numpy.uint8)) for seed in (5, 6, 7, 8)])
PALETTE = RGB.quantize(31)
BITS = GREY.convert("1")
ROTATED = [RGB.rotate(90)]
COLOURS = noise(1024)


def pictures():
    for quality in (10, 60, 100):
        yield f"lossy-{quality}.webp", saved(RGB, "WEBP", quality=quality)
    yield "odd-sides.webp", saved(Image.fromarray(drawn(3, 8, 256, 61, 47).astype(numpy.uint8)), "WEBP", quality=77, method=6)
    yield "lossless.webp", saved(RGB, "WEBP", lossless=True)
    yield "alpha.webp", saved(RGBA, "WEBP", quality=70)
    yield "alpha-lossless.webp", saved(RGBA, "WEBP", lossless=True, exact=True)
    yield "animated.webp", saved(RGB, "WEBP", save_all=True, append_images=ROTATED, duration=100)
    for name, picture in (("rgb", RGB), ("rgba", RGBA), ("grey", GREY), ("palette", PALETTE), ("bits", BITS)):
        yield f"{name}.bmp", saved(picture, "BMP")
    yield "555.bmp", bmp(16, noise(256))
    yield "565.bmp", bmp(16, noise(256), 3, struct.pack("<III", 0xf800, 0x7e0, 0x1f))
    yield "32.bmp", bmp(32, noise(512))
    yield "32-masks.bmp", bmp(32, noise(512), 3, struct.pack("<III", 0xff0000, 0xff00, 0xff))
    yield "4.bmp", bmp(4, noise(64), palette=COLOURS[:64])
    yield "4-top-down.bmp", bmp(4, noise(64), palette=COLOURS[:64], top_down=True)
    runs = b"".join(bytes([16, 7 * row, 0, 0]) for row in range(6)) + bytes([4, 9, 0, 2, 3, 1, 9, 5, 0, 0])
    yield "runs-8.bmp", bmp(8, runs + bytes([0, 7, 1, 2, 3, 4, 5, 6, 7, 0, 9, 5, 0, 1]), 1, palette=COLOURS, height=9)
    runs = b"".join(bytes([16, 17 * row, 0, 0]) for row in range(7))
    yield "runs-4.bmp", bmp(4, runs + bytes([0, 6, 0x12, 0x34, 0x56, 0, 10, 0x9a, 0, 1]), 2, palette=COLOURS[:64])
    for name, picture in (("rgb", RGB), ("grey", GREY), ("palette", PALETTE), ("rgba", RGBA)):
        yield f"{name}.gif", saved(picture, "GIF")
    yield "transparent.gif", saved(PALETTE, "GIF", transparency=3)
    yield "interlaced.gif", saved(PALETTE, "GIF", interlace=1)
    yield "animated.gif", saved(RGB, "GIF", save_all=True, append_images=ROTATED)
    # a first picture that leaves some of the canvas free
    canvas = bytearray(saved(PALETTE, "GIF"))
    canvas[6:10] = struct.pack("<HH", WIDTH + 9, HEIGHT + 5)
    yield "canvas.gif", bytes(canvas)
    for name, picture in (("rgb", RGB), ("rgba", RGBA), ("grey", GREY), ("palette", PALETTE), ("grey-alpha", GREY_ALPHA)):
        yield f"{name}.tga", saved(picture, "TGA")
        yield f"{name}-runs.tga", saved(picture, "TGA", compression="tga_rle")
    yield "top-down.tga", saved(RGB, "TGA", orientation=1)
    yield "mirrored.tga", tga(2, 24, noise(384), 0x10)
    yield "16.tga", tga(2, 16, noise(256))
    places = bytes(value % 64 for value in noise(128))
    yield "palette-32.tga", tga(1, 8, places, 0, COLOURS[:256], 32, 64)
    yield "palette-16.tga", tga(1, 8, places, 0, COLOURS[:128], 16, 64)
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        kind = (compression or "plain").removeprefix("tiff_")
        for name, picture in (("rgb", RGB), ("rgba", RGBA), ("grey", GREY), ("palette", PALETTE), ("bits", BITS),
                              ("grey-16", GREY_16), ("grey-alpha", GREY_ALPHA)):
            yield f"{name}-{kind}.tif", saved(picture, "TIFF", compression=compression)
    yield "fax.tif", saved(BITS, "TIFF", compression="group4")
    yield "float.tif", saved(FLOAT, "TIFF")
    yield "cmyk.tiff", saved(CMYK, "TIFF")
    yield "pages.tif", saved(RGB, "TIFF", save_all=True, append_images=ROTATED)
    yield "predicted.tif", saved(RGB, "TIFF", compression="tiff_lzw", tiffinfo={317: 2})
    yield "turned.tif", saved(RGB, "TIFF", tiffinfo={274: 6})
    yield "big.tif", saved(RGB, "TIFF", big_tiff=True)
    yield "rgb.pnm", saved(RGB, "PPM")
    yield "bits.pbm", saved(BITS, "PPM")
    yield "plain.pbm", b"P1\n# bits\n5 3\n1 0 1 1 0\n00110\n#x\n1 1 1 0 0\n"
    yield "plain.pgm", b"P2 4 2 15\n0 1 2 3\n 15 14 # two\n13 7\n"
    yield "plain.ppm", b"P3 2 2 1000\n0 500 1000 1 2 3\n250 251 252 999 998 997\n"
    yield "to-100.pgm", b"P5 4 2 100\n" + bytes([0, 1, 10, 30, 51, 99, 100, 100])
    yield "16-bit.ppm", b"P6 2 2 65535\n" + noise(24)
    yield "to-1000.ppm", b"P6 2 2 1000\n" + struct.pack(">12H", 0, 1, 2, 500, 501, 999, 1000, 333, 334, 335, 336, 700)
    yield "16-bit.pgm", b"P5 2 2 65535\n" + struct.pack(">4H", 0, 200, 256, 65535)
    yield "grey-16.png", png_grey_16(False)
    yield "grey-16-transparent.png", png_grey_16(True)
    yield "name.jfif", saved(RGB, "JPEG", quality=90)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"exif-{orientation}.jpe", saved(RGB, "JPEG", quality=90, exif=exif)
    yield "exif-8.png", saved(RGB, "PNG", exif=exif)
    yield "exif-8.webp", saved(RGB, "WEBP", lossless=True, exif=exif)


def main():
    with tarfile.open(Path(__file__).with_name("formats.tar.gz"), "w:gz") as archive:
        def add(name, content):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

        expected = {}
        for name, content in pictures():
            picture = Image.open(io.BytesIO(content))
            if name.startswith("exif"):
                picture = ImageOps.exif_transpose(picture)
            picture = picture.convert("RGB")
            expected[name] = [*picture.size, hashlib.sha256(picture.tobytes()).hexdigest()]
            add(name, content)
        add("expected.json", json.dumps(expected, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
