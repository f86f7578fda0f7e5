"""Pictures from strangers: whatever is in them, they cost seconds and one line."""

import functools
import io
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib

import cv2
import numpy as np
import paper
import pytest
import sample_digits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import plots
import predict
import preprocess

(_, _), (X_TEST, _) = sample_digits.load_data()
few = functools.partial(settings, deadline=None, derandomize=True)
needs_unix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFO")


def page():
    """A small sheet with one digit."""
    picture = paper.sheet(90, 120)
    paper.write(picture, X_TEST[0], 20, 10, 70)
    return Image.fromarray(paper.as_bytes(picture))


def encoded(kind, image=None, **options):
    file = io.BytesIO()
    (image or page()).save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width, height, extra=b""):
    """A PNG of any size, with any chunks, and next to no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    return start + extra + data + png_chunk(b"IEND", b"")


def png_text(kind, start):
    """A PNG with a text that unpacks to 20 MB."""
    return png(30, 30, png_chunk(kind, start + zlib.compress(bytes(20_000_000), 9)))


def jpeg_header(size):
    """Where a JPEG's size is written."""
    plain = encoded("JPEG")
    start = plain.index(b"\xff\xc0") + 5
    return plain[:start] + struct.pack(">HH", *size) + plain[start + 4 :]


def jpeg_passes():
    """A progressive JPEG with the same pass over all of its pixels a thousand times."""
    plain = encoded("JPEG", Image.new("RGB", (4000, 4000), "white"), progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:-2] + 1_000 * last + plain[-2:]


def bmp(width, height, data, compression):
    palette = bytes(range(256)) * 4
    header = (40, width, height, 1, 8, compression, len(data), 0, 0, 256, 0)
    start = struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, 54 + 1024)
    return b"BM" + start + struct.pack("<IiiHHIIiiII", *header) + palette + data


def webp_canvas(width, height):
    """An animated WebP with a small frame on a canvas of any size."""

    def chunk(kind, content):
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    def size(width, height):
        return struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]

    frame = bytes(6) + size(120, 90) + bytes(4) + encoded("WEBP", lossless=True)[12:]
    chunks = chunk(b"VP8X", b"\2\0\0\0" + size(width, height)) + chunk(b"ANIM", bytes(6))
    return b"RIFF" + chunk(b"", b"WEBP" + chunks + chunk(b"ANMF", frame))


def tiff(width, height, pages=1, data=None, **tags):
    """A grey TIFF with any tags, and as many pages with the same pixels."""
    data = data or bytes(width * height)
    own = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1}
    own |= {278: height, 279: len(data)} | {int(tag[1:]): value for tag, value in tags.items()}
    entries = [struct.pack("<HHII", tag, 4, 1, own[tag]) for tag in sorted(own) if own[tag]]
    start, length = 8 + len(data), 2 + 12 * len(entries) + 4
    following = [start + length * (i + 1) for i in range(pages - 1)] + [0]
    directory = struct.pack("<H", len(entries)) + b"".join(entries)
    directories = [directory + struct.pack("<I", offset) for offset in following]
    return b"II*\0" + struct.pack("<I", start) + data + b"".join(directories)


def same_content(count, length):
    """A TIFF with many tags that have the same large content, which may be EXIF, too."""
    entries = [struct.pack("<HHII", 256, 4, 1, 9), struct.pack("<HHII", 257, 4, 1, 9)]
    entries += [struct.pack("<HHII", 1_000 + i, 7, length, 8) for i in range(count)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + length) + bytes(length) + directory


def tiled(tile_width, tile_height):
    """A TIFF of 100 x 100 pixels in one tile of any size."""
    packed = zlib.compress(bytes(1_000_000), 9)
    size = {"t322": tile_width, "t323": tile_height}
    # Strips' tags go, tiles' come.
    tags = {"t273": 0, "t278": 0, "t279": 0, "t324": 8, "t325": len(packed), "t259": 8}
    return tiff(100, 100, data=packed, **tags, **size)


# Of each attack a file, and what must be said of it; nothing is said of what can be read.
ATTACKS = {
    "png dimensions": (lambda: png(30_000, 30_000), "too large"),
    "png wide": (lambda: png(60_000_000, 1), "too large"),
    "png zTXt": (lambda: png_text(b"zTXt", b"a\0\0"), "no picture that can be read"),
    "png iTXt": (lambda: png_text(b"iTXt", b"a\0\1\0\0\0"), "no picture that can be read"),
    "png iCCP": (lambda: png_text(b"iCCP", b"a\0\0"), "no picture that can be read"),
    "png parts": (lambda: png(30, 30, png_chunk(b"abCd", b"") * 600_000), "too long"),
    "jpeg dimensions": (lambda: jpeg_header((65_500, 65_500)), "too large"),
    "jpeg filling": (lambda: b"\xff\xd8" + b"\xff" * 3_000_000 + jpeg_header((9, 9)), "too long"),
    "jpeg parts": (lambda: b"\xff\xd8" + b"\xff\xe3\0\2" * 2_000_000 + encoded("JPEG"), "too long"),
    "jpeg passes": (jpeg_passes, "too long"),
    "bmp dimensions": (lambda: bmp(30_000, 30_000, b"", 0), "too large"),
    "bmp run-length": (lambda: bmp(8_000, 8_000, b"\1\5" * 2_000_000, 1), "too long"),
    "bmp jump": (lambda: bmp(60_000_000, 1, b"\0\2\xff\xff\0\1", 1), "too large"),
    "webp canvas": (lambda: webp_canvas(16_383, 16_383), "too large"),
    "webp wide": (lambda: webp_canvas(2**24, 200), "too large"),
    "tiff dimensions": (lambda: tiff(30_000, 30_000, data=b"0"), "too large"),
    "tiff tile": (lambda: tiled(40_000, 40_000), "too large"),
    "tiff tall tile": (lambda: tiled(16, 60_000_000), "too large"),
    "tiff no tile": (lambda: tiled(2**32 - 1, 2**32 - 1), "too large"),
    "tiff strip": (lambda: tiff(100, 100, t279=2**31 - 1, t259=8), "cut short"),
    "tiff pages": (lambda: tiff(100, 100, pages=60_000), ""),
    "tiff bands": (lambda: tiff(100, 100, t277=2**31), "no picture that can be read"),
    "tiff tags": (lambda: same_content(20_000, 100_000), "read"),
    "png exif": (lambda: png(30, 30, png_chunk(b"eXIf", same_content(20_000, 100_000))), ""),
    "any size": (lambda: None, "larger than 200 MB"),
}
LARGEST = ["RGB", "P", "RGBA", "F"]
READ_THEM = """
import json, sys, time
from PIL import Image
import preprocess

def megabytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))

preprocess.MAX_SECONDS = 2
Image.init()
for name in json.loads(sys.argv[1]):
    before, start, message = megabytes(), time.process_time(), ""
    try:
        if name in json.loads(sys.argv[2]):
            preprocess.as_rgb(Image.new(name, (8000, 8000)))
        else:
            preprocess.load_picture(name)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    took = time.process_time() - start
    print(json.dumps([name, message, took, megabytes() - before]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Read all of them in one process, whose memory can only grow."""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("this system does not tell how much memory was used")
    folder = tmp_path_factory.mktemp("attacks")
    for name, (make, _) in ATTACKS.items():
        content = make()
        with open(folder / name, "wb") as file:
            file.write(content or encoded("PNG"))
            if content is None:
                file.truncate(3_000_000_000)
    process = subprocess.run(
        [sys.executable, "-c", READ_THEM, json.dumps([*ATTACKS, *LARGEST]), json.dumps(LARGEST)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(preprocess.__file__).parent)},
        capture_output=True,
        encoding="utf-8",
        timeout=200,
    )
    return {name: rest for name, *rest in map(json.loads, process.stdout.splitlines())}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_costs_little_and_is_reported_in_one_line(outcomes, name):
    message, seconds, megabytes = outcomes[name]
    says = ATTACKS[name][1]
    assert message.startswith(f"ValueError: {name}: ") if says else message == ""
    assert says in message
    assert "\n" not in message
    assert seconds < 20, "it ends after two seconds, at the next pass"
    assert megabytes < 200


@pytest.mark.parametrize("mode", LARGEST)
def test_the_largest_picture_fits_in_memory_whatever_its_kind(outcomes, mode):
    message, _, megabytes = outcomes[mode]
    assert message == ""
    assert megabytes < 600, "64 megapixels: 256 MB as Pillow has them, and 192 MB as RGB"


KINDS = {
    "png": lambda: encoded("PNG"),
    "png palette": lambda: encoded("PNG", page().convert("P"), transparency=3),
    "png 16 bits": lambda: encoded("PNG", Image.fromarray(np.uint16(page().convert("L")))),
    "png animated": lambda: encoded("PNG", save_all=True, append_images=[page().rotate(9)]),
    "jpeg": lambda: encoded("JPEG", exif=exif(6)),
    "jpeg progressive": lambda: encoded("JPEG", progressive=True),
    "jpeg cmyk": lambda: encoded("JPEG", page().convert("CMYK")),
    "mpo": lambda: encoded("MPO", save_all=True, append_images=[page()]),
    "bmp": lambda: encoded("BMP"),
    "bmp run-length": lambda: bmp(120, 90, b"\x20\x05\x30\xff\x28\x05\0\0" * 90 + b"\0\1", 1),
    "webp": lambda: encoded("WEBP", exif=exif(6)),
    "webp lossless": lambda: encoded("WEBP", page().convert("RGBA"), lossless=True),
    "webp animated": lambda: encoded("WEBP", save_all=True, append_images=[page().rotate(9)]),
    "tiff": lambda: encoded("TIFF", exif=exif(6)),
    "tiff float": lambda: encoded("TIFF", page().convert("F"), compression="tiff_lzw"),
    "tiff deflate": lambda: encoded("TIFF", page().convert("CMYK"), compression="tiff_deflate"),
    "tiff jpeg": lambda: encoded("TIFF", compression="jpeg"),
    "tiff fax": lambda: encoded("TIFF", page().convert("1"), compression="group4"),
    "tiff pages": lambda: encoded("TIFF", save_all=True, append_images=[page()]),
}


def exif(orientation):
    entries = Image.Exif()
    entries[0x0112] = orientation
    return entries


def read(path, content):
    """Read a picture as `predict.py` does; return how it ended: a picture, or one line."""
    path.write_bytes(content)
    try:
        picture, note = preprocess.load_picture(path)
    except (ValueError, OSError) as error:
        line = str(error)
        assert line.startswith(f"{path}: ")
        assert "\n" not in line
        return line
    assert note in (None, f"{path}: only the first picture in it is read.")
    assert picture.dtype == np.uint8
    check_digits(picture)
    return picture


def check_digits(picture):
    """Find digits; whatever the picture is, they are digits, and inside of it."""
    height, width, _ = picture.shape
    for digit in preprocess.read_digits(picture):
        assert digit.image.shape == (28, 28)
        assert digit.image.dtype == np.uint8
        assert 0 <= digit.left < digit.left + digit.width <= width + 1
        assert 0 <= digit.top < digit.top + digit.height <= height + 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_short(tmp_path, kind):
    content = KINDS[kind]()
    assert isinstance(read(tmp_path / "whole", content), np.ndarray)
    for length in (1, 2, 3, 11, 31, 60, len(content) // 3, len(content) // 2):
        line = read(tmp_path / "cut", content[:length])
        # Without its end, an animation's first picture may be whole.
        assert isinstance(line, str) or "animated" in kind or kind in ("mpo", "tiff pages")
    read(tmp_path / "cut", content[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_damaged(tmp_path_factory, kind):
    content = KINDS[kind]()
    path = tmp_path_factory.mktemp("damaged") / "picture"
    position = st.one_of(st.integers(0, 63), st.integers(0, len(content) - 1))
    piece = st.one_of(
        st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, bytes(4), b"\xff\x7f"])
    )

    @given(st.lists(st.tuples(position, st.integers(0, 8), piece), min_size=1, max_size=8))
    @few(max_examples=15)
    def damage(changes):
        changed = content
        for start, length, new in changes:
            changed = changed[:start] + new + changed[start + length :]
        read(path, changed)

    damage()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (27, 27), (1, 60_000), (60_000, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_sizes_that_no_camera_makes(tmp_path, size, kind):
    picture = read(tmp_path / "odd", encoded(kind, Image.new("RGB", size, "white")))
    assert picture.shape == (size[1], size[0], 3)
    assert picture.min() == 255


@pytest.mark.parametrize("values", [[np.nan], [np.inf, -np.inf, np.nan], [3e38, -3e38], []])
def test_numbers_that_are_none(tmp_path, values):
    gray = np.float32(page().resize((480, 360)).convert("L"))
    expected = preprocess.as_rgb(Image.fromarray(gray))
    for i, value in enumerate(values):
        gray[i] = value
    picture = read(tmp_path / "float", encoded("TIFF", Image.fromarray(gray)))
    if np.isfinite(values).all():
        return
    np.testing.assert_array_equal(picture[5:], expected[5:])
    gray[:] = values[0]
    picture = read(tmp_path / "float", encoded("TIFF", Image.fromarray(gray)))
    assert np.ptp(picture) == 0


@pytest.mark.parametrize("orientation", [0, 9, 77, 65_535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_absurd_orientations_are_passed_over(tmp_path, kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read(tmp_path / "turned", encoded(kind, exif=exif(orientation), **options))
    np.testing.assert_array_equal(picture, read(tmp_path / "upright", encoded(kind, **options)))


EXIF_START = b"Exif\0\0II*\0"
ABSURD_EXIF = {
    "nowhere": EXIF_START + b"\xff\xff\xff\xff",
    "itself": EXIF_START + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8),
    "endless": EXIF_START + struct.pack("<IH", 8, 65_535) + 5_000 * b"\x12\x01\3\0\1\0\0\0",
    "huge": EXIF_START + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 2**32 - 1, 8, 0),
    "text": EXIF_START + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"six\0", 0),
    "fraction": EXIF_START + struct.pack("<IHHHIfI", 8, 1, 0x0112, 11, 1, 6.5, 0),
    "negative": EXIF_START + struct.pack("<IHHHIiI", 8, 1, 0x0112, 9, 1, -6, 0),
    "unknown": EXIF_START + struct.pack("<IHHHIII", 8, 1, 0x0112, 999, 1, 6, 0),
    "noise": EXIF_START + bytes(range(256)) * 200,
    "nothing": b"",
}


@pytest.mark.parametrize("name", ABSURD_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_absurd_exif_is_passed_over(tmp_path, kind, name):
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read(tmp_path / "exif", encoded(kind, exif=ABSURD_EXIF[name], **options))
    np.testing.assert_array_equal(picture, read(tmp_path / "none", encoded(kind, **options)))


# Arrays that no camera makes.

CONTENTS = {
    "noise": lambda shape, generator: generator.integers(0, 256, shape),
    "black and white": lambda shape, generator: 255 * generator.integers(0, 2, shape[:2] + (1,)),
    "specks": lambda shape, generator: 255 * (generator.random(shape[:2] + (1,)) > 0.01),
    "all ink": lambda shape, generator: np.zeros(shape),
    "gradient": lambda shape, generator: np.linspace(0, 255, np.prod(shape)).reshape(shape),
    "squares": lambda shape, generator: 255 * (np.indices(shape).sum(axis=0) // 3 % 2),
    "stripes": lambda shape, generator: 255 * (np.indices(shape)[0] // 2 % 2),
    "a pixel": lambda shape, generator: np.arange(np.prod(shape)).reshape(shape) // 3 == 0,
}


@given(st.sampled_from(sorted(CONTENTS)), st.integers(1, 500), st.integers(1, 500))
@few(max_examples=25)
def test_any_array_can_be_read(content, height, width):
    shape = height, width, 3
    values = CONTENTS[content](shape, np.random.default_rng(height))
    check_digits(np.ascontiguousarray(np.broadcast_to(values, shape), dtype=np.uint8))


@given(st.sampled_from(sorted(CONTENTS)), st.integers(1, 3), st.integers(1, 5_000), st.booleans())
@few(max_examples=20)
def test_any_narrow_array_can_be_read(content, short, long, upright):
    shape = (long, short, 3) if upright else (short, long, 3)
    values = CONTENTS[content](shape, np.random.default_rng(long))
    check_digits(np.ascontiguousarray(np.broadcast_to(values, shape), dtype=np.uint8))


def dashes(ink):
    """Ruled lines of short dashes: thousands of pieces to chain."""
    generator = np.random.default_rng(0)
    for row in range(14, 2_000, 14):
        ends = np.cumsum(generator.integers([70, 3], [90, 10], (25, 2)).ravel())
        for left, right in ends.reshape(-1, 2):
            ink[row, left - 60 : right - 20] = 255
            ink[row, right - 6 : right] = 0


def lines(ink):
    """Ruled lines, as many as there is room for."""
    ink[::14] = 255


def slopes(ink):
    """Strokes as large as the page, and as many as there is room for."""
    for top in range(100, 1_300, 14):
        cv2.line(ink, (100 + top // 9, top), (1_700 + top // 9, top + 600), 255)


@pytest.mark.parametrize("draw", [dashes, lines, slopes], ids=lambda draw: draw.__name__)
def test_no_array_keeps_us_busy(draw):
    def seconds(ink):
        start = time.process_time()
        parts, labels = preprocess.find_digits(ink)
        for part in parts:
            preprocess.mnist_like(ink, labels, part)
        return time.process_time() - start

    sheet = paper.sheet(2_000, 2_000)
    for line in range(8):
        paper.write_number(sheet, X_TEST[:12], 60, 20 + 240 * line, 160)
    ordinary = seconds(preprocess.find_ink(paper.as_bytes(sheet)))
    ink = np.zeros((2_000, 2_000), np.uint8)
    draw(ink)
    assert seconds(ink) < 40 * ordinary


# In a folder, and on the command line.


@pytest.fixture
def predict_pictures(predict_here, trained):
    def run_predict(*arguments):
        return predict_here(*arguments, "--model", trained.model_path)

    return run_predict


@needs_unix
def test_what_is_no_file_is_reported_and_the_others_are_still_read(
    predict_pictures, tmp_path, monkeypatch
):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.png").write_bytes(encoded("PNG", page().resize((480, 360))))
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "one.png").symlink_to("other.png")
    (folder / "other.png").symlink_to("one.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "folder.png").mkdir()  # It is looked into.
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        process = predict_pictures("photos", "/dev/zero", "pipe", ".")
    names = ["loop.png", "one.png", "other.png", "device.png", "pipe.png", "socket.png"]
    expected = ["/dev/zero", "pipe", *(f"photos/{name}" for name in names)]
    expected += [f"./photos/{name}" for name in names]
    assert process.returncode == 1
    reported = [line.split(":")[0] for line in process.stderr.splitlines()]
    assert sorted(reported) == sorted(expected)
    assert process.stdout.count("good.png: ") == 2


def test_a_folder_that_cannot_be_looked_into(monkeypatch, tmp_path):
    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", f"{top}/closed"))
        yield top, [], ["a.png"]

    monkeypatch.setattr(os, "walk", walk)
    paths, problems = predict.find_pictures([str(tmp_path)])
    assert paths == [str(tmp_path / "a.png")]
    assert problems == [f"{tmp_path}/closed: Permission denied."]


def test_libraries_say_nothing_of_a_damaged_picture(run, trained, tmp_path):
    """They would, from C, from Python's warnings, and from its logging."""
    (tmp_path / "strip.tif").write_bytes(ATTACKS["tiff strip"][0]())
    (tmp_path / "bands.tif").write_bytes(ATTACKS["tiff bands"][0]())
    (tmp_path / "exif.jpg").write_bytes(encoded("JPEG", exif=ABSURD_EXIF["noise"]))
    (tmp_path / "large.png").write_bytes(png(10_000, 10_000))
    process = run("predict.py", tmp_path, "--model", trained.model_path)
    assert process.returncode == 1
    said = [line for line in process.stderr.splitlines() if "no digit was found" not in line]
    assert len(said) == 3, said
    assert all(line.startswith(str(tmp_path)) for line in said)


def test_the_progress_bar_grows_only_where_it_is_looked_at(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    for done in range(1, 1_001):
        predict.show_progress(done, 1_000, seconds=1)
    assert capsys.readouterr().out == f"Reading pictures [{30 * '='}] 1000/1000\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for done in range(1, 1_001):
        predict.show_progress(done, 1_000, seconds=1)
    out = capsys.readouterr().out
    assert out.count("\r") == 100
    assert out.count("\n") == 1
    predict.show_progress(1, 2, seconds=1)
    assert capsys.readouterr().out == ""
    predict.show_progress(1, 2, seconds=3)
    assert "1/2" in capsys.readouterr().out


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(encoded("PNG", page().resize((1_200, 900))))
    paths, _ = predict.find_pictures([str(tmp_path)])
    predict.read_pictures(paths[:2])
    tracemalloc.start()
    readings = predict.read_pictures(paths)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(len(reading.digits) == 1 for reading in readings)
    assert kept < 12 * 20_000, "each has 3 MB of pixels"


def test_no_figure_stays_open(predict_pictures, tmp_path):
    for i in range(30):
        (tmp_path / f"{i}.png").write_bytes(encoded("PNG"))
    open_figures = []
    original = plots.picture_page

    def picture_page(rows):
        open_figures.append(len(plots.plt.get_fignums()))
        return original(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "picture_page", picture_page)
        process = predict_pictures(".")
    assert process.returncode == 0, process.stderr
    assert open_figures == [0, 1, 1]
    assert plots.plt.get_fignums() == []
