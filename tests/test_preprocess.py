"""`preprocess.py`: what is found on paper of all kinds, and what does not change it."""

import functools

import cv2
import keras
import numpy as np
import paper
import pytest
import sample_digits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import preprocess

(X_TRAIN, Y_TRAIN), (X_TEST, Y_TEST) = sample_digits.load_data()


class Reader:
    """A model, and which digits it reads right and surely in MNIST's form."""

    def __init__(self, name, model, images, labels):
        self.name, self.model, self.images, self.labels = name, model, images, labels
        probabilities = self.probabilities(images)
        right = probabilities.argmax(axis=1) == labels
        self.sure = np.flatnonzero(right & (probabilities.max(axis=1) > 0.9))

    def probabilities(self, images):
        inputs = np.float32(images).reshape(-1, *self.model.input_shape[1:]) / 255
        return self.model.predict(inputs, verbose=0)

    def numbers(self, found):
        """Read what was found in pictures: a string of digits for each."""
        images = [digit.image for digits in found for digit in digits]
        classes = iter(self.probabilities(images).argmax(axis=1) if images else [])
        return ["".join(str(next(classes)) for _ in digits) for digits in found]

    def share_right(self, kind):
        """Read each digit on a kind of paper, and return how many of the sure ones are right."""
        numbers = self.numbers(found_on_paper(kind, self.name, self.images.tobytes()))
        return np.mean([numbers[i] == str(self.labels[i]) for i in self.sure])


@functools.cache
def found_on_paper(kind, name, images):
    """Find digits on a kind of paper, once for both networks."""
    digits = np.frombuffer(images, np.uint8).reshape(-1, 28, 28)
    return [preprocess.read_digits(paper.as_bytes(kind(digit))) for digit in digits]


@pytest.fixture(scope="module")
def reader(trained):
    """Read with a network that was trained for a moment on scikit-learn's digits."""
    model = keras.saving.load_model(trained.model_path)
    return Reader("sample", model, X_TEST[:50], Y_TEST[:50])


@pytest.fixture(scope="module")
def mnist_reader(trained_on_mnist, mnist):
    """Read with a network that was trained as a user trains it."""
    model = keras.saving.load_model(trained_on_mnist.model_path)
    return Reader("mnist", model, mnist[1][0][:60], mnist[1][1][:60])


@pytest.mark.parametrize("kind", paper.KINDS, ids=lambda kind: kind.__name__)
def test_reads_digits_on_all_kinds_of_paper(reader, kind):
    assert len(reader.sure) > 30
    assert reader.share_right(kind) >= 0.95


@pytest.mark.parametrize("kind", paper.KINDS, ids=lambda kind: kind.__name__)
def test_reads_mnist_on_all_kinds_of_paper(mnist_reader, kind):
    assert len(mnist_reader.sure) > 50
    assert mnist_reader.share_right(kind) >= 0.98


def share_of_numbers_right(reader, paper_of_number, count=10):
    """Write numbers of six digits that the network is sure of, and return how many are right."""
    numbers = [reader.sure[6 * i % 48 :][:6] for i in range(count)]
    pictures = [paper_of_number(reader.images[mine]) for mine in numbers]
    found = [preprocess.read_digits(paper.as_bytes(picture)) for picture in pictures]
    expected = ["".join(map(str, reader.labels[mine])) for mine in numbers]
    return np.mean(np.array(reader.numbers(found)) == expected)


@pytest.mark.parametrize("slope", [0, 0.15, -0.15])
def test_reads_a_number_that_slopes(mnist_reader, slope):
    def sloping(digits):
        picture = paper.sheet(700, 1200)
        paper.write_number(picture, digits, 120, 280, 160, slope)
        return picture

    assert share_of_numbers_right(mnist_reader, sloping) >= 0.9


@pytest.mark.parametrize("lines", [paper.draw_rules, paper.draw_squares, paper.draw_underline])
def test_reads_a_number_across_lines(mnist_reader, lines):
    def across_lines(digits):
        picture = paper.sheet(500, 1100)
        lines(picture)
        paper.write_number(picture, digits, 120, 180, 160, slope=0.02)
        return picture

    assert share_of_numbers_right(mnist_reader, across_lines) >= 0.9


def test_reads_lines_from_top_to_bottom_each_from_left_to_right(mnist_reader):
    picture = paper.sheet(1000, 1200)
    digits = mnist_reader.images[mnist_reader.sure]
    for line in range(4):
        paper.write_number(picture, digits[8 * line :][:8], 100, 60 + 210 * line, 150, slope=0.03)
    (number,) = mnist_reader.numbers([preprocess.read_digits(paper.as_bytes(picture))])
    assert number == "".join(map(str, mnist_reader.labels[mnist_reader.sure[:32]]))


# Properties: what must not change what is read. The pictures vary in what usually varies.


@functools.cache
def plain(i):
    return paper.as_bytes(paper.plain(X_TEST[i]))


def difference(i, change):
    """How far apart, in grey levels of 255, are the two images that a network sees?"""
    (before,) = preprocess.read_digits(plain(i))
    (after,) = preprocess.read_digits(change(plain(i)))
    return np.abs(before.image.astype(int) - after.image).mean()


# Shifted by one pixel, since the centre of mass may be rounded the other way, a digit differs from
# itself by 12 grey levels on average; two digits differ by 28.
ONE_PIXEL = 20
few = functools.partial(settings, deadline=None, derandomize=True)
which = st.integers(0, 39)


@given(which, st.tuples(*[st.integers(0, 300)] * 4))
@few(max_examples=15)
def test_an_added_margin_changes_nothing(i, sides):
    top, bottom, left, right = sides
    change = difference(
        i,
        lambda picture: cv2.copyMakeBorder(
            picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=picture[0, 0].tolist()
        ),
    )
    assert change < ONE_PIXEL


@given(which, st.floats(0.4, 1.05))
@few(max_examples=15)
def test_brighter_or_dimmer_light_changes_nothing(i, light):
    change = difference(i, lambda picture: np.uint8(np.clip(picture * light, 0, 255)))
    assert change < ONE_PIXEL


@given(which, st.floats(0.5, 3))
@few(max_examples=15)
def test_another_size_changes_nothing(i, scale):
    def resize(picture):
        return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)

    change = difference(i, resize)
    assert change < ONE_PIXEL


@given(which)
@few(max_examples=10)
def test_an_inverted_picture_changes_nothing(i):
    change = difference(i, lambda picture: 255 - picture)
    assert change < ONE_PIXEL


@given(which, st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8]))
@few(max_examples=15)
def test_a_turn_written_as_exif_changes_nothing(tmp_path_factory, i, orientation):
    def turned_on_disk(picture):
        # The stored pixels are the upright ones, turned or mirrored back.
        back = {
            1: lambda x: x,
            2: lambda x: x[:, ::-1],
            3: lambda x: x[::-1, ::-1],
            4: lambda x: x[::-1],
            5: lambda x: x.transpose(1, 0, 2),
            6: lambda x: np.rot90(x),
            7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
            8: lambda x: np.rot90(x, -1),
        }[orientation](picture)
        path = tmp_path_factory.getbasetemp() / f"turned-{orientation}.png"
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(back)).save(path, exif=exif)
        upright, note = preprocess.load_picture(path)
        assert note is None
        np.testing.assert_array_equal(upright, picture)
        return upright

    change = difference(i, turned_on_disk)
    assert change < ONE_PIXEL


# One step at a time, against what can be worked out by hand.


def test_mnist_like_fits_and_centres_as_mnist_does():
    """An L of two bars: its box and its centre of mass are known without OpenCV."""
    picture = paper.sheet(400, 400, colour=(1, 1, 1))
    picture[100:300, 150:180] = 0  # 200 x 30 pixels, the centre at (164.5, 199.5).
    picture[270:300, 180:250] = 0  # 30 x 70 pixels, the centre at (214.5, 284.5).
    (digit,) = preprocess.read_digits(paper.as_bytes(picture))
    assert (digit.left, digit.top) == (pytest.approx(150, abs=2), pytest.approx(100, abs=2))
    assert (digit.width, digit.height) == (pytest.approx(100, abs=3), pytest.approx(200, abs=3))
    assert digit.image.shape == (28, 28)
    assert digit.image.dtype == np.uint8
    assert digit.image.max() == 255
    rows, columns = np.nonzero(digit.image > 127)
    assert rows.max() - rows.min() + 1 == pytest.approx(20, abs=1)
    assert columns.max() - columns.min() + 1 == pytest.approx(10, abs=1)
    weights = digit.image / digit.image.sum()
    assert (weights.sum(axis=1) * np.arange(28)).sum() == pytest.approx(14, abs=0.6)
    assert (weights.sum(axis=0) * np.arange(28)).sum() == pytest.approx(14, abs=0.6)
    # From the two bars' areas and centres: the mass lies at 0.28 of the width from the left.
    centre = (6000 * 164.5 + 2100 * 214.5) / 8100
    expected = 14 - (centre - 150) * 20 / 200
    assert columns.min() == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("width", range(2, 40))
def test_a_bar_of_any_width_is_centred(width):
    picture = paper.sheet(400, 400, colour=(1, 1, 1))
    picture[120:280, 150 : 150 + width] = 0
    (digit,) = preprocess.read_digits(paper.as_bytes(picture))
    weights = digit.image / digit.image.sum()
    assert (weights.sum(axis=1) * np.arange(28)).sum() == pytest.approx(14, abs=0.6)
    assert (weights.sum(axis=0) * np.arange(28)).sum() == pytest.approx(14, abs=0.6)


def test_a_hairline_becomes_as_thick_as_mnists_strokes():
    picture = paper.as_bytes(paper.sheet(800, 1500, colour=(1, 1, 1)))
    cv2.line(picture, (300, 100), (360, 700), (0, 0, 0), 1)
    (digit,) = preprocess.read_digits(picture)
    widths = (digit.image > 127).sum(axis=1)
    assert 1.5 <= np.median(widths[widths > 0]) <= 4


@pytest.mark.parametrize("width", [2, 3, 4, 7, 12, 30])
def test_stroke_width_of_a_bar(width):
    mask = np.zeros((400, 100), np.uint8)
    mask[10:390, 40 : 40 + width] = 1
    assert preprocess.stroke_width(mask) == pytest.approx(width, rel=0.15)


def test_pale_ink_on_red_paper():
    picture = paper.sheet(colour=(0.98, 0.28, 0.24))
    paper.write(picture, X_TEST[0], 260, 180, 220, ink=(0.92, 0.76, 0.73))
    (digit,) = preprocess.read_digits(paper.as_bytes(picture))
    (expected,) = preprocess.read_digits(plain(0))
    assert np.abs(digit.image.astype(int) - expected.image).mean() < ONE_PIXEL


def test_a_brush_that_leaves_little_paper():
    picture = np.full((400, 400, 3), 255, np.uint8)
    cv2.circle(picture, (200, 200), 130, (0, 0, 0), 110)
    (digit,) = preprocess.read_digits(picture)
    box = digit.left, digit.top, digit.width, digit.height
    assert box == pytest.approx((15, 15, 370, 370), abs=3)


def test_boxes_are_those_of_the_whole_picture_within_a_margin():
    photo = paper.as_bytes(paper.shadow_edge(X_TEST[0]))
    (expected,) = preprocess.read_digits(photo)
    (digit,) = preprocess.read_digits(np.pad(photo, ((30, 0), (70, 20), (0, 0))))
    assert digit.left == pytest.approx(expected.left + 70, abs=3)
    assert digit.top == pytest.approx(expected.top + 30, abs=3)


def test_stroke_width_without_ink():
    assert preprocess.stroke_width(np.zeros((10, 10), np.uint8)) == 0


def test_boxes_are_in_pixels_of_the_upright_picture():
    for scale in (0.25, 1, 4):
        picture = paper.sheet(round(600 * scale), round(800 * scale), colour=(1, 1, 1))
        left, top, right, bottom = (round(scale * side) for side in (300, 200, 340, 420))
        picture[top:bottom, left:right] = 0
        (digit,) = preprocess.read_digits(paper.as_bytes(picture))
        tolerance = max(2, 3 * scale)
        assert digit.left == pytest.approx(left, abs=tolerance)
        assert digit.top == pytest.approx(top, abs=tolerance)
        assert digit.left + digit.width == pytest.approx(right, abs=tolerance)
        assert digit.top + digit.height == pytest.approx(bottom, abs=tolerance)


def test_a_bar_that_does_not_touch_belongs_to_its_digit():
    picture = paper.as_bytes(paper.sheet(400, 400, colour=(1, 1, 1)))
    points = np.array([(160, 120), (155, 190), (210, 185), (230, 230), (200, 280), (150, 270)])
    cv2.polylines(picture, [points], False, (0, 0, 0), 10)
    cv2.line(picture, (175, 105), (240, 100), (0, 0, 0), 10)
    assert len(preprocess.read_digits(picture)) == 1


@pytest.mark.parametrize(
    "shape", [(28, 28, 3), (1, 1, 3), (1, 3000, 3), (3000, 1, 3), (600, 800, 3)]
)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_nothing_is_found_on_a_blank_page(shape, value):
    assert preprocess.read_digits(np.full(shape, value, np.uint8)) == []


@pytest.mark.parametrize("kind", ["noise", "shadow", "ruled"])
def test_nothing_is_found_where_there_is_no_digit(kind):
    picture = paper.sheet()
    if kind == "noise":
        picture += np.random.default_rng(0).normal(0, 0.05, picture.shape)
    if kind == "shadow":
        picture[:, 500:] *= 0.5
    if kind == "ruled":
        picture[30::60] = picture[31::60] = (0.6, 0.65, 0.75)
    assert preprocess.read_digits(paper.as_bytes(picture)) == []


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_gives_the_same_picture(tmp_path, mode):
    gray = paper.as_bytes(paper.plain(X_TEST[1]))[..., 1]
    path = tmp_path / f"picture{'.tif' if mode in ('CMYK', 'I', 'F') else '.png'}"
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        Image.fromarray(gray.astype(dtype) * dtype(200)).save(path)
    else:
        colour = Image.fromarray(gray).convert("RGB" if mode == "P" else "L")
        colour.convert(mode, dither=Image.Dither.NONE).save(path)
    assert Image.open(path).mode == mode
    picture, note = preprocess.load_picture(path)
    assert note is None
    assert picture.dtype == np.uint8
    assert picture.shape == (600, 800, 3)
    (digit,) = preprocess.read_digits(picture)
    (expected,) = preprocess.read_digits(np.repeat(gray[..., np.newaxis], 3, axis=2))
    assert np.abs(digit.image.astype(int) - expected.image).mean() < 10


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_background_is_paper(tmp_path, ink):
    rgba = np.full((600, 800, 4), ink, np.uint8)
    rgba[..., 3] = 255 - paper.as_bytes(paper.plain(X_TEST[1]))[..., 1]
    rgba[..., 3][rgba[..., 3] < 40] = 0
    Image.fromarray(rgba).save(tmp_path / "transparent.png")
    picture, _ = preprocess.load_picture(tmp_path / "transparent.png")
    assert len(preprocess.read_digits(picture)) == 1
