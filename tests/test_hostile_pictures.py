"""Pictures from strangers: whatever is in them, they cost seconds and end in one sentence."""

import io
import os
import pathlib
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

import handwriting

# Pytest undoes what `picture.py` does about them.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")
PAGE = Image.new("RGB", (120, 90), (235, 230, 220))
FOLDER = pathlib.Path(__file__).parent
HEIC = (FOLDER / "seven.heic").read_bytes()


def encoded(kind, image=PAGE, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunks():
    chunk = struct.pack(">I4sI", 0, b"abCd", zlib.crc32(b"abCd"))
    plain = encoded("PNG")
    start = plain.index(b"IDAT") - 4
    return plain[:start] + 600_000 * chunk + plain[start:]


def jpeg_passes():
    plain = encoded("JPEG", Image.new("RGB", (4000, 4000), "white"), progressive=True)
    return plain[:-2] + 1_000 * plain[plain.rindex(b"\xff\xda") : -2] + plain[-2:]


def tiff_tile(side):
    """A small gray TIFF whose only tile is large."""
    data = zlib.compress(bytes(1_000_000), 9)
    tags = {256: 100, 257: 100, 258: 8, 259: 8, 262: 1, 277: 1}
    tags |= {322: side, 323: side, 324: 8, 325: len(data)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def heic(width, height):
    """A picture from an iPhone that claims any dimensions."""
    size = HEIC.index(b"ispe") + 8
    return HEIC[:size] + struct.pack(">II", width, height) + HEIC[size + 8 :]


LARGE, LONG, DAMAGED = "is too large", "too long", "damaged, cut short"
ATTACKS = {  # How each is made, and what must be said.
    "a PNG of 100 MP": (lambda: encoded("PNG", Image.new("1", (10_000, 10_000))), LARGE),
    "a PNG with 600,000 chunks": (png_chunks, LONG),
    "a JPEG with a thousand passes": (jpeg_passes, LONG),
    "a TIFF with a large tile": (lambda: tiff_tile(40_000), LARGE),
    "a HEIC of 81 MP": (lambda: heic(9_000, 9_000), LARGE),
    "a HEIC that is larger than it claims": (lambda: heic(16, 16), DAMAGED),
    # A picture of eight pictures, each of which is of eight, and so on, eight levels deep.
    "a HEIC in layers": ((FOLDER / "heic-in-layers.bin").read_bytes, LONG),
}


def read(path, content):
    """Read a picture; return its thumbnail, or the sentence in which it ended."""
    path.write_bytes(content)
    try:
        return handwriting.read_picture(path).thumbnail
    except ValueError as error:
        name, problem = str(error).split(": ", 1)
        assert name == str(path)
        return problem


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_costs_seconds_and_ends_in_one_sentence(tmp_path, monkeypatch, name):
    make, says = ATTACKS[name]
    if says == LONG:
        monkeypatch.setattr(handwriting.picture, "MAX_SECONDS", 0.5)
        monkeypatch.setattr(handwriting.picture, "MAX_WAIT", 2)
    content, start = make(), time.process_time()
    assert says in read(tmp_path / "attack", content)
    assert time.process_time() - start < 10, "it ends after half a second, at the next pass"


WHOLE = {
    "png": encoded("PNG", PAGE.convert("P"), transparency=3),
    "jpeg": encoded("JPEG", PAGE.convert("CMYK"), progressive=True),
    "bmp": encoded("BMP"),
    "webp": encoded("WEBP"),
    "tiff of floats": encoded("TIFF", PAGE.convert("F"), compression="tiff_lzw"),
    "tiff of jpeg": encoded("TIFF", compression="jpeg"),
    "heic": HEIC,
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_is_damaged_or_cut_short(tmp_path, kind):
    whole, generator = WHOLE[kind], np.random.default_rng(0)
    assert isinstance(read(tmp_path / "whole", whole), np.ndarray)
    assert isinstance(read(tmp_path / "cut", whole[: len(whole) // 3]), str)
    for end in (64, len(whole)) * 3:
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[generator.integers(end, size=4)] = generator.choice([0, 1, 127, 255], 4)
        read(tmp_path / "damaged", damaged.tobytes())


def test_damaged_exif_and_values_that_are_not_numbers_are_passed_over(tmp_path):
    picture = read(tmp_path / "exif", encoded("PNG", exif=b"damaged"))
    np.testing.assert_array_equal(picture, PAGE)
    gray = np.float32(PAGE.convert("L"))
    gray[:4, 0], gray[4:8] = [np.nan, np.inf, -np.inf, 9], 0
    picture = read(tmp_path / "gray", encoded("TIFF", Image.fromarray(gray)))
    assert np.ptp(picture[4:]) > 250


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFO")
def test_what_is_not_a_file_or_a_very_large_one_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 3_000_000_000)
    not_a_file, too_large = "this is not a picture, but a folder", "the file is larger than 200 MB"
    paths = {tmp_path: not_a_file, tmp_path / "pipe": not_a_file, "/dev/zero": not_a_file}
    for path, says in {**paths, tmp_path / "large": too_large}.items():
        with pytest.raises(ValueError, match=f"^{path}: {says}"):
            handwriting.read_picture(path)
