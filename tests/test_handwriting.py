"""`handwriting/`: what is plain to a person is found, on any paper and in any kind of file."""

import itertools

import cv2
import keras
import numpy as np
import paper
import pytest
import scipy.ndimage
from conftest import DIGITS
from PIL import Image

import handwriting
from handwriting.images import stroke_width

X_TEST = DIGITS["x_test"]
PLAIN = paper.as_bytes(paper.plain(X_TEST[1]))


def box(digit):
    return digit.left, digit.top, digit.width, digit.height


def likeness(digits, original):
    """The correlation of the only digit found with its original, at most a pixel apart, else 0."""
    shifts = [np.roll(original, (y, x), (0, 1)).ravel() for y in (-1, 0, 1) for x in (-1, 0, 1)]
    found = [np.corrcoef(shifts, digit.image.ravel())[-1, :-1].max() for digit in digits]
    return found[0] if len(found) == 1 else 0


# MNIST's own digits as pictures, and made-up scenes.


def test_a_hundred_digits_saved_as_pictures_come_back_as_they_were(mnist):
    (images, _), _ = mnist
    forms = ("28 x 28, black on white", "280 x 280, black on white", "blue ink on yellow paper")
    found = [
        likeness(handwriting.read_digits(paper.FORMS[form](image)), image)
        for image, form in zip(images[-5000::50], itertools.cycle(forms), strict=False)
    ]
    assert np.mean(np.greater(found, 0.8)) >= 0.99
    assert np.mean(found) > 0.95


def find_in_scenes(mnist, count, seed):
    scenes = paper.some_scenes(count, seed, *(array[-5000:] for array in mnist[0]))
    return zip(*map(paper.find, itertools.chain(*scenes.values())), strict=True)


def test_as_many_digits_are_found_as_were_written_on_all_kinds_of_paper(mnist):
    written, found = ([*map(len, each)] for each in find_in_scenes(mnist, 1, seed=3))
    same = np.equal(written, found)
    assert sum(same) >= len(same) - 2, dict(zip(paper.SCENES, same, strict=True))


@pytest.mark.long
def test_numbers_are_read_on_all_kinds_of_paper(trained_on_mnist, mnist):
    numbers, found = find_in_scenes(mnist, 5, seed=0)
    model = keras.saving.load_model(trained_on_mnist.model_path)
    assert np.mean([paper.predicted(model, images) for images in found] == np.array(numbers)) >= 0.8


# What a person reads at a glance.


def strokes(*lines):
    """Draw lines through points on white paper."""
    picture = np.full((400, 400, 3), 255, np.uint8)
    return cv2.polylines(picture, [*map(np.int32, lines)], False, (0, 0, 0), 12, cv2.LINE_AA)


FIVE = [(250, 90), (165, 95), (155, 190), (210, 180), (245, 230), (215, 290), (145, 285)]
SINGLE = {
    "a flat, wide 0": strokes(cv2.ellipse2Poly((200, 200), (160, 50), 0, 0, 360, 5)),
    "a 0 with a speck in it": strokes(
        cv2.ellipse2Poly((200, 200), (90, 130), 0, 0, 360, 5), [(200, 190), (210, 205)]
    ),
    "a 5 whose bar does not touch it": strokes(FIVE[1:], [(178, 78), (250, 72)]),
    "an open 4": strokes([(190, 80), (130, 230), (235, 225)], [(262, 110), (255, 340)]),
}


def is_whole(digits, picture, away):
    """Whether they are one, where pixels are dark, at most some pixels away."""
    expected = cv2.boundingRect(np.uint8(picture.min(axis=2) < 235))
    return [box(digit) for digit in digits] == [pytest.approx(expected, abs=away)]


@pytest.mark.parametrize("name", SINGLE)
def test_a_digit_is_found_whole_and_as_thick_as_mnist_s_are(name):
    digits = handwriting.read_digits(SINGLE[name])
    assert is_whole(digits, SINGLE[name], away=12)
    assert stroke_width(np.uint8(digits[0].image > 127)) > 2


def test_a_printed_box_is_not_a_digit():
    picture = SINGLE["an open 4"]
    boxed = cv2.rectangle(picture.copy(), (60, 40), (340, 380), (0, 0, 0), 6)
    found, expected = map(handwriting.read_digits, (boxed, picture))
    assert [*map(box, found)] == [pytest.approx(box(digit), abs=2) for digit in expected]


def test_digits_that_jump_are_on_one_line_if_none_is_above_another():
    picture = paper.sheet()
    for i, top in enumerate((300, 60, 320)):
        paper.write_number(picture, X_TEST[[i]], 100 + 220 * i, top, 150)
    assert [digit.line for digit in handwriting.read_digits(paper.as_bytes(picture))] == [0, 0, 0]


def test_soft_drawings_of_28_pixels_are_found_whole():
    soft = [np.dstack(3 * [255 - image // 3]) for image in X_TEST[:20]]
    found = [is_whole(handwriting.read_digits(picture), picture, away=3) for picture in soft]
    assert sum(found) >= 19


@pytest.mark.parametrize(("thin", "ink"), [(2, (0.15, 0.15, 0.35)), (1, (0.5, 0.5, 0.6))])
def test_the_first_of_ten_digits_may_be_thinner_or_paler(thin, ink):
    picture, first = paper.sheet(400, 1300), cv2.erode(X_TEST[0], np.ones((thin, 1)))
    paper.write_number(picture, [first], 60, 120, 140, ink=ink)
    paper.write_number(picture, X_TEST[1:10], 180, 120, 140)
    assert len(handwriting.read_digits(paper.as_bytes(picture))) == 10


def test_dark_edges_of_a_picture_are_not_digits():
    picture = strokes(FIVE)[60:320, 100:300]
    picture[:, :10] = picture[:, -10:] = 0
    assert len(handwriting.read_digits(picture)) == 1


def test_nothing_is_found_where_nothing_is_written():
    noise, shadow, rules = paper.sheet(), paper.sheet(), paper.sheet()
    noise += np.random.default_rng(0).normal(0, 0.05, noise.shape)
    shadow[:, 500:] *= 0.5
    rules[30::60] = rules[31::60] = (0.6, 0.65, 0.75)
    shapes = itertools.product([(28, 28), (1, 1), (1, 3000), (3000, 1)], [0, 0.5, 1])
    plain = [paper.sheet(*shape, colour) for shape, colour in shapes]
    for picture in (noise, shadow, rules, *plain):
        assert handwriting.read_digits(paper.as_bytes(picture)) == []


# Where digits are, against where they were put.


@pytest.mark.parametrize("scale", [0.25, 1, 3])
@pytest.mark.parametrize("margin", [None, 0, 128])
def test_boxes_are_in_pixels_of_the_picture_and_digits_in_the_middle(scale, margin):
    left, top, width, height = (round(scale * side) for side in (300, 200, 40, 220))
    picture = np.full((round(600 * scale), round(800 * scale), 3), 255, np.uint8)
    picture[top : top + height, left : left + width] = 0
    if margin is not None:
        picture = np.pad(picture, ((90, 60), (70, 110), (0, 0)), constant_values=margin)
        left, top = left + 70, top + 90
    (digit,) = handwriting.read_digits(picture)
    assert box(digit) == pytest.approx((left, top, width, height), abs=max(3, 4 * scale))
    assert scipy.ndimage.center_of_mass(digit.image) == pytest.approx((14, 14), abs=0.6)


def test_digits_are_in_reading_order_and_know_their_line():
    """On lines that rise, and with small digits beside large ones."""
    picture = paper.sheet(1000, 1200)
    written = [(160 + 120 * i, 280 + 250 * line - 18 * i) for line in range(3) for i in range(8)]
    for i, (x, y) in enumerate(written):
        size = 80 if i % 2 else 150
        paper.write_number(picture, X_TEST[[i]], x - size // 2, y - size // 2, size)
    digits = handwriting.read_digits(paper.as_bytes(picture))
    middles = [(digit.left + digit.width / 2, digit.top + digit.height / 2) for digit in digits]
    np.testing.assert_allclose(middles, written, atol=20)
    assert [digit.line for digit in digits] == [i // 8 for i in range(24)]


# Kinds of files and of pixels.


@pytest.fixture
def read_saved(tmp_path):
    def read_image(image, kind="PNG", **options):
        image.save(tmp_path / "picture", kind, **options)
        return handwriting.read_picture(tmp_path / "picture")

    return read_image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "I", "F"])
def test_pixels_of_every_kind_are_read(read_saved, mode):
    image = Image.fromarray(PLAIN[..., 1]).convert(mode, dither=Image.Dither.NONE)
    assert likeness(read_saved(image, "TIFF").digits, X_TEST[1]) > 0.8


@pytest.mark.parametrize("ink", [0, 255])
def test_a_transparent_background_is_paper(read_saved, ink):
    light, opacity = np.full((600, 800), ink, np.uint8), 255 * np.uint8(PLAIN[..., 1] <= 200)
    image = Image.fromarray(np.dstack([light, opacity]))
    assert likeness(read_saved(image).digits, X_TEST[1]) > 0.8


STORED = [  # The upright pixels as each of EXIF's orientations stores them, from 1 to 8.
    lambda x: x,
    lambda x: x[:, ::-1],
    lambda x: x[::-1, ::-1],
    lambda x: x[::-1],
    lambda x: x.transpose(1, 0, 2),
    np.rot90,
    lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    lambda x: np.rot90(x, -1),
]


def test_a_turn_in_exif_is_undone(read_saved):
    exif = Image.Exif()
    for exif[0x0112], stored in enumerate(STORED, 1):
        image = Image.fromarray(np.ascontiguousarray(stored(PLAIN)))
        np.testing.assert_array_equal(read_saved(image, exif=exif).thumbnail, PLAIN)


def test_of_several_pictures_the_first_is_read_and_its_thumbnail_kept(read_saved):
    first, second = Image.new("RGB", (1600, 1200), "white"), Image.new("RGB", (1600, 1200))
    reading = read_saved(first, "TIFF", save_all=True, append_images=[second])
    assert (reading.thumbnail.shape, reading.thumbnail.min()) == ((600, 800, 3), 255)
    assert (reading.scale, reading.note) == (0.5, "only the first picture in it is read.")
