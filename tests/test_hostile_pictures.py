"""Pictures from strangers: whatever is in them, they cost seconds and end in one sentence."""

import io
import os
import pathlib
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


LARGE, LONG, DAMAGED, UNKNOWN = "is too large", "too long", "damaged, cut short", "not a picture"
ATTACKS = {  # How each is made, and what must be said.
    "a PNG of 100 MP": (lambda: encoded("PNG", Image.new("1", (10_000, 10_000))), LARGE),
    "a PNG with 600,000 chunks": (png_chunks, LONG),
    "a JPEG with a thousand passes": (jpeg_passes, LONG),
    "a TIFF with a large tile": (lambda: tiff_tile(40_000), LARGE),
    "a HEIC of 81 MP": (lambda: heic(9_000, 9_000), LARGE),
    "a HEIC that is larger than it claims": (lambda: heic(16, 16), DAMAGED),
    "a HEIC that is smaller": (lambda: heic(7_000, 7_000), DAMAGED),
    # A picture of eight pictures, each of which is of eight, and so on, eight levels deep.
    "a HEIC in layers": ((FOLDER / "layers.heic").read_bytes, LONG),
    "a GIF": (lambda: encoded("GIF"), UNKNOWN),
}


def read(path, content):
    """Read a picture; return its thumbnail, or the sentence in which it ended."""
    path.write_bytes(content)
    try:
        return handwriting.read_picture(path).thumbnail
    except ValueError as error:
        name, problem = str(error).split(": ", 1)
        return problem if name == str(path) else None


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_costs_little_and_ends_in_one_sentence(tmp_path, monkeypatch, name):
    import resource

    make, says = ATTACKS[name]
    if says == LONG:
        monkeypatch.setattr(handwriting.picture, "MAX_SECONDS", 0.5)
        monkeypatch.setattr(handwriting.picture, "MAX_WAIT", 5)
    content, start = make(), time.process_time()
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000, limits[1]))
    try:
        assert says in read(tmp_path / "attack", content)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - start < 10, "it ends after half a second, at the next pass"


def test_a_file_of_3_gb_is_not_opened(tmp_path):
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 3_000_000_000)
    with pytest.raises(ValueError, match="larger than 200 MB"):
        handwriting.read_picture(tmp_path / "large")


WHOLE = {
    "png": encoded("PNG", PAGE.convert("P"), transparency=3),
    "jpeg": encoded("JPEG", PAGE.convert("CMYK"), progressive=True),
    "bmp": encoded("BMP"),
    "webp": encoded("WEBP"),
    "tiff of floats": encoded("TIFF", PAGE.convert("F"), compression="tiff_lzw"),
    "tiff of jpeg": encoded("TIFF", compression="jpeg"),
    "heic": HEIC,
}


@pytest.mark.parametrize("examples", [5, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_is_damaged_or_cut_short(tmp_path_factory, kind, examples):
    whole, path = WHOLE[kind], tmp_path_factory.mktemp("damaged") / "picture"
    assert isinstance(read(path, whole), np.ndarray)
    assert isinstance(read(path, whole[: len(whole) // 3]), str)
    start = st.integers(0, 63) | st.integers(0, len(whole) - 1)
    piece = st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 4, bytes(4)])

    @given(st.lists(st.tuples(start, st.integers(0, 8), piece), min_size=1, max_size=8))
    @settings(max_examples=examples, deadline=None, derandomize=True)
    def damage(changes):
        content = whole
        for start, length, new in changes:
            content = content[:start] + new + content[start + length :]
        assert read(path, content) is not None

    damage()


def test_damaged_exif_and_values_that_are_not_numbers_are_passed_over(tmp_path):
    expected = read(tmp_path / "none", encoded("JPEG"))
    for content in (b"\0", b"\xff\xff\xff\xff", struct.pack("<IHHHIII", 8, 1, 0x0112, 4, 1, 77, 0)):
        picture = read(tmp_path / "exif", encoded("JPEG", exif=b"Exif\0\0II*\0" + content))
        np.testing.assert_array_equal(picture, expected)
    gray = np.float32(PAGE.convert("L"))
    gray[:4, 0], gray[4:8] = [np.nan, np.inf, -np.inf, 9], 0
    picture = read(tmp_path / "gray", encoded("TIFF", Image.fromarray(gray)))
    assert np.ptp(picture[4:]) > 250


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFO")
def test_what_is_not_a_file_is_reported(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match=f"^{path}: this is not a picture"):
            handwriting.read_picture(path)
