"""Pictures from strangers: whatever is in them, they cost seconds and end in one sentence."""

import contextlib
import io
import os
import socket
import struct
import time
import zlib

import cv2
import numpy as np
import paper
import PIL
import pytest
import sample_digits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import handwriting

# Pytest undoes what `picture.py` does about them.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")
(_, _), (X_TEST, _) = sample_digits.load_data()
SHEET = paper.sheet(90, 120)
paper.write(SHEET, X_TEST[0], 20, 10, 70)
PAGE = Image.fromarray(paper.as_bytes(SHEET))


def encoded(kind, mode="RGB", **options):
    file = io.BytesIO()
    PAGE.convert(mode).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width=30, height=30, extra=b""):
    """A PNG of any size, with any chunks, and next to no data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def png_text(kind, start):
    return png(extra=chunk(kind, start + zlib.compress(bytes(20_000_000), 9)))


def jpeg_start(extra):
    return b"\xff\xd8" + extra + encoded("JPEG")


def jpeg_passes():
    file = io.BytesIO()
    Image.new("RGB", (4000, 4000), "white").save(file, "JPEG", progressive=True)
    plain = file.getvalue()
    return plain[:-2] + 1_000 * plain[plain.rindex(b"\xff\xda") : -2] + plain[-2:]


def bmp(width, height, data=b"", compression=0):
    header = (40, width, height, 1, 8, compression, len(data), 0, 0, 256, 0)
    start = b"BM" + struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, 54 + 1024)
    return start + struct.pack("<IiiHHIIiiII", *header) + bytes(range(256)) * 4 + data


def webp(width, height):
    """An animated WebP without a frame."""
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    content = b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + canvas
    content += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def tiff(width=100, height=100, data=bytes(10_000), **tags):
    """A gray TIFF with any tags."""
    own = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1}
    own |= {278: height, 279: len(data)} | {int(tag[1:]): value for tag, value in tags.items()}
    entries = [struct.pack("<HHII", tag, 4, 1, own[tag]) for tag in sorted(own) if own[tag]]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def tiff_tile(width, height):
    data = zlib.compress(bytes(1_000_000), 9)
    strip = {"t273": 0, "t278": 0, "t279": 0}  # A TIFF has tiles or strips.
    return tiff(data=data, t259=8, t322=width, t323=height, t324=8, t325=len(data), **strip)


def tiff_tags(count=20_000, length=100_000):
    """A TIFF, or EXIF, with many tags that share one large content."""
    entries = [struct.pack("<HHII", tag, 4, 1, 9) for tag in (256, 257)]
    entries += [struct.pack("<HHII", 1_000 + i, 7, length, 8) for i in range(count)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + length) + bytes(length) + directory


LARGE, LONG, DAMAGED, UNKNOWN = "is too large", "too long", "damaged or cut short", "not a picture"
# What each file does, how it is made, and what must be said; nothing where it can be read.
ATTACKS = {
    "a PNG of 10,000 x 10,000 pixels": (lambda: png(10_000, 10_000), LARGE),
    "a PNG in one row of pixels": (lambda: png(60_000_000, 1), LARGE),
    "a PNG whose zTXt unpacks to 20 MB": (lambda: png_text(b"zTXt", b"a\0\0"), DAMAGED),
    "a PNG whose iTXt does": (lambda: png_text(b"iTXt", b"a\0\1\0\0\0"), DAMAGED),
    "a PNG whose colour profile does": (lambda: png_text(b"iCCP", b"a\0\0"), DAMAGED),
    "a PNG with 600,000 chunks": (lambda: png(extra=600_000 * chunk(b"abCd", b"")), LONG),
    "a JPEG with 3 MB of filling": (lambda: jpeg_start(3_000_000 * b"\xff"), LONG),
    "a JPEG with 2,000,000 segments": (lambda: jpeg_start(2_000_000 * b"\xff\xe3\0\2"), LONG),
    "a JPEG with a thousand passes": (jpeg_passes, LONG),
    "a BMP of 30,000 x 30,000 pixels": (lambda: bmp(30_000, 30_000), LARGE),
    "a BMP with 2,000,000 runs": (lambda: bmp(8_000, 8_000, 2_000_000 * b"\1\5", 1), LONG),
    "a BMP that jumps over its row": (lambda: bmp(60_000_000, 1, b"\0\2\xff\xff\0\1", 1), LARGE),
    "a WebP with a large canvas": (lambda: webp(16_383, 16_383), LARGE),
    "a TIFF of 30,000 x 30,000 pixels": (lambda: tiff(30_000, 30_000, data=b"0"), LARGE),
    "a TIFF with a large tile": (lambda: tiff_tile(40_000, 40_000), LARGE),
    "a TIFF with a tall tile": (lambda: tiff_tile(16, 60_000_000), LARGE),
    "a TIFF with a strip of 2 GB": (lambda: tiff(t279=2**31 - 1, t259=8), DAMAGED),
    "a TIFF with 2**31 channels": (lambda: tiff(t277=2**31), UNKNOWN),
    "a TIFF with 2 GB of tags": (tiff_tags, UNKNOWN),
    "a PNG with 2 GB of EXIF": (lambda: png(extra=chunk(b"eXIf", tiff_tags())), ""),
    "an empty file": (lambda: b"", "is empty"),
    "a text": (lambda: b"no pixels at all", UNKNOWN),
    "an iPhone's HEIC": (lambda: b"\0\0\0\x18ftypheic" + bytes(99), "HEIC"),
}


@contextlib.contextmanager
def little_memory():
    """Let this process take 500 MB more than it has."""
    resource = pytest.importorskip("resource", reason="this system does not limit memory")
    with open("/proc/self/statm") as file:
        memory = int(file.read().split()[0]) * resource.getpagesize() + 500_000_000
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def read(path, content):
    """Read a picture; return its thumbnail, or the sentence in which it ended."""
    path.write_bytes(content)
    try:
        return handwriting.read_picture(path).thumbnail
    except ValueError as error:
        return str(error)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_costs_little_and_ends_in_one_sentence(tmp_path, monkeypatch, name):
    if "2 GB of" in name and PIL.__version__ < "13":
        pytest.skip("older versions of Pillow do not bound tags")
    monkeypatch.setattr(handwriting.picture, "MAX_SECONDS", 0.5)
    make, says = ATTACKS[name]
    content, start = make(), time.process_time()
    with little_memory():
        result = read(tmp_path / "attack", content)
    assert time.process_time() - start < 10, "it ends after half a second, at the next pass"
    if says:
        assert result.startswith(f"{tmp_path / 'attack'}: ")
        assert says in result
    else:
        assert isinstance(result, np.ndarray)


def test_a_file_of_3_gb_is_not_opened(tmp_path):
    (tmp_path / "large").write_bytes(encoded("PNG"))
    os.truncate(tmp_path / "large", 3_000_000_000)
    with pytest.raises(ValueError, match="larger than 200 MB"):
        handwriting.read_picture(tmp_path / "large")


KINDS = {
    "png palette": encoded("PNG", "P", transparency=3),
    "jpeg": encoded("JPEG"),
    "jpeg progressive": encoded("JPEG", "CMYK", progressive=True),
    "bmp": encoded("BMP"),
    "bmp run-length": bmp(120, 90, 90 * b"\x20\x05\x30\xff\x28\x05\0\0" + b"\0\1", 1),
    "webp": encoded("WEBP"),
    "tiff float": encoded("TIFF", "F", compression="tiff_lzw"),
    "tiff jpeg": encoded("TIFF", compression="jpeg"),
}


@pytest.mark.parametrize("examples", [5, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_damaged_or_cut_short(tmp_path_factory, kind, examples):
    whole, path = KINDS[kind], tmp_path_factory.mktemp("damaged") / "picture"
    assert isinstance(read(path, whole), np.ndarray)
    for length in (60, len(whole) // 3, len(whole) - 100):
        assert isinstance(read(path, whole[:length]), str)
    start = st.integers(0, 63) | st.integers(0, len(whole) - 1)
    piece = st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 4, bytes(4)])

    @given(st.lists(st.tuples(start, st.integers(0, 8), piece), min_size=1, max_size=8))
    @settings(max_examples=examples, deadline=None, derandomize=True)
    def damage(changes):
        content = whole
        for start, length, new in changes:
            content = content[:start] + new + content[start + length :]
        result = read(path, content)
        assert isinstance(result, np.ndarray) or result.startswith(f"{path}: ")

    damage()


ABSURD_EXIF = {
    "cut short": b"\0",
    "nowhere": b"\xff\xff\xff\xff",
    "itself": struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8),
    "endless": struct.pack("<IH", 8, 65_535) + 5_000 * b"\x12\x01\3\0\1\0\0\0",
    "huge": struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 2**32 - 1, 8, 0),
    "a text": struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"six\0", 0),
    "turned by 77": struct.pack("<IHHHIII", 8, 1, 0x0112, 4, 1, 77, 0),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_absurd_exif_is_passed_over(tmp_path, kind):
    expected = read(tmp_path / "none", encoded(kind))
    for content in ABSURD_EXIF.values():
        picture = read(tmp_path / "exif", encoded(kind, exif=b"Exif\0\0II*\0" + content))
        np.testing.assert_array_equal(picture, expected)


def test_values_that_are_not_numbers(tmp_path):
    gray = np.float32(PAGE.convert("L"))
    for value in (np.nan, np.inf, -np.inf, 3e38):
        gray[:4] = value
        Image.fromarray(gray).save(tmp_path / "gray.tif")
        picture = handwriting.read_picture(tmp_path / "gray.tif").thumbnail
        assert np.ptp(picture[4:]) > 250 or value == 3e38
    Image.fromarray(np.full_like(gray, np.nan)).save(tmp_path / "gray.tif")
    assert handwriting.read_picture(tmp_path / "gray.tif").digits == []


CONTENTS = {
    "noise": lambda shape, generator: generator.integers(0, 256, shape),
    "specks": lambda shape, generator: 255 * (generator.random(shape[:2] + (1,)) > 0.01),
    "gradient": lambda shape, generator: np.linspace(0, 255, np.prod(shape)).reshape(shape),
    "squares": lambda shape, generator: 255 * (np.indices(shape).sum(axis=0) // 3 % 2),
    "a pixel": lambda shape, generator: np.arange(np.prod(shape)).reshape(shape) // 3 == 0,
}


@pytest.mark.parametrize("longest", [300, pytest.param(5_000, marks=pytest.mark.long)])
def test_any_array_can_be_read(longest):
    @given(st.sampled_from(sorted(CONTENTS)), st.integers(1, longest), st.integers(1, 300))
    @settings(max_examples=15, deadline=None, derandomize=True)
    def check(content, height, width):
        values = CONTENTS[content]((height, width, 3), np.random.default_rng(height))
        picture = np.uint8(np.broadcast_to(values, (height, width, 3)))
        for digit in handwriting.read_digits(picture):
            assert digit.image.shape == (28, 28)
            assert 0 <= digit.left < digit.left + digit.width <= width + 1
            assert 0 <= digit.top < digit.top + digit.height <= height + 1

    check()


@pytest.mark.long
def test_a_page_full_of_strokes_as_large_as_itself_takes_seconds():
    picture = np.full((2_000, 2_000, 3), 255, np.uint8)
    for top in range(100, 1_300, 14):
        cv2.line(picture, (100 + top // 9, top), (1_700 + top // 9, top + 600), (0, 0, 0))
    start = time.process_time()
    handwriting.read_digits(picture)
    assert time.process_time() - start < 30


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFO")
def test_what_is_not_a_file_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder")
    os.mkfifo("pipe")
    os.symlink("/dev/zero", "device")
    os.symlink("loop", "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name in ("folder", "pipe", "device", "socket"):
            with pytest.raises(ValueError, match=f"^{name}: this is not a picture"):
                handwriting.read_picture(name)
    for name in ("loop", "missing"):
        with pytest.raises(OSError, match=name):
            handwriting.read_picture(name)


def test_pictures_in_folders_are_found_in_alphabetical_order(tmp_path, monkeypatch):
    for name in ("b.png", "a.JPG", "c/d.tif", "c/.hidden.png", "none/text.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    paths, problems = handwriting.find_pictures([".", "x.gif", "none"])
    assert paths == [*(os.path.join(".", name) for name in ("a.JPG", "b.png", "c/d.tif")), "x.gif"]
    assert problems == ["none: there are no pictures in this folder."]


def test_a_folder_that_cannot_be_opened_is_reported(monkeypatch):
    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", f"{top}/closed"))
        yield top, [], ["a.png"]

    monkeypatch.setattr(os, "walk", walk)
    monkeypatch.setattr(os.path, "isdir", lambda path: True)
    expected = ["photos/a.png"], ["photos/closed: Permission denied."]
    assert handwriting.find_pictures(["photos"]) == expected
