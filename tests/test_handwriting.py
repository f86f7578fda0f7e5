"""`handwriting/`: what is plain to a person is found, on any paper and in any kind of file."""

import itertools

import cv2
import keras
import numpy as np
import paper
import pytest
import sample_digits
import scipy.ndimage
from PIL import Image

import handwriting

_, (X_TEST, _) = sample_digits.load_data()
PLAIN = paper.as_bytes(paper.plain(X_TEST[1]))


def blank(height=400, width=400):
    return np.full((height, width, 3), 255, np.uint8)


def box(digit):
    return digit.left, digit.top, digit.width, digit.height


def middle(digit):
    return digit.left + digit.width / 2, digit.top + digit.height / 2


def is_same(image, original):
    """Whether two digits are the same one, at most a pixel apart, by their correlation."""
    shifts = [np.roll(image, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(np.corrcoef(shifted.ravel(), original.ravel())[0, 1] for shifted in shifts) > 0.8


def is_found(picture, original):
    digits = handwriting.read_digits(picture)
    return len(digits) == 1 and is_same(digits[0].image, original)


# MNIST's own digits as pictures, and made-up scenes.


def test_a_hundred_digits_saved_as_pictures_come_back_as_they_were(mnist):
    (images, _), _ = mnist
    forms = ("28 x 28, black on white", "280 x 280, black on white", "blue ink on yellow paper")
    pairs = zip(images[-5000::50], itertools.cycle(forms), strict=False)
    lost = [(form, image) for image, form in pairs if not is_found(paper.FORMS[form](image), image)]
    assert len(lost) <= 1, [form for form, _ in lost]


def find_in_scenes(mnist, count):
    """What is found in some scenes of each kind: `(numbers written, lists of images)`."""
    jobs = paper.scene_jobs(count, 0, *(array[-5000:] for array in mnist[0]))
    return zip(*(paper.find(*job) for kind in jobs.values() for job in kind), strict=True)


def test_as_many_digits_are_found_as_were_written_on_all_kinds_of_paper(mnist):
    written, found = find_in_scenes(mnist, count=1)
    same = [len(number) == len(images) for number, images in zip(written, found, strict=True)]
    assert np.mean(same) >= 0.85, dict(zip(paper.SCENES, same, strict=True))


@pytest.mark.long
def test_numbers_are_read_on_all_kinds_of_paper(trained_on_mnist, mnist):
    written, found = find_in_scenes(mnist, count=5)
    read = paper.numbers(keras.saving.load_model(trained_on_mnist.model_path), found)
    assert np.mean(np.equal(written, read)) >= 0.8


# What a person reads at a glance.


def strokes(*lines, width=12, ink=0, picture=None):
    """Draw lines through points on white paper, or on a picture."""
    picture = blank() if picture is None else picture
    for points in lines:
        cv2.polylines(picture, [np.int32(points)], False, [ink] * 3, width, cv2.LINE_AA)
    return picture


FIVE = [(250, 90), (165, 95), (155, 190), (210, 180), (245, 230), (215, 290), (145, 285)]


def felt_tip_zero():
    """A ring that fills the photo, with two specks of paper that the pen left inside it."""
    picture = blank()
    cv2.ellipse(picture, (200, 200), (125, 140), 10, 0, 360, (40, 35, 35), 95, cv2.LINE_AA)
    for centre in ((110, 150), (290, 260)):
        cv2.ellipse(picture, centre, (7, 12), 0, 0, 360, (225, 225, 225), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), 2)


def open_four(gap):
    """The angle first, then a stem that its bar nearly meets."""
    return strokes([(190, 80), (130, 230), (255 - gap, 225)], [(262, 110), (255, 340)])


def flat_zero():
    picture = blank()
    cv2.ellipse(picture, (200, 200), (160, 50), 0, 0, 360, (0, 0, 0), 12)
    return picture


def pencil_five():
    """A pale pencil, the strokes of which are full of grains of paper."""
    ink = 1 - strokes(FIVE, width=7)[..., :1] / np.float32(255)
    generator = np.random.default_rng(0)
    strength = cv2.GaussianBlur(generator.random((400, 400), np.float32), (0, 0), 1.5)
    strength = np.clip(0.5 + 4 * (strength - 0.5), 0.15, 1)[..., np.newaxis]
    return paper.as_bytes(paper.sheet(400, 400) - 0.35 * ink * strength)


def large_two_on_squares():
    picture = blank(600, 500)
    picture[20::40] = picture[21::40] = picture[:, 15::40] = picture[:, 16::40] = 170
    two = [(120, 170), (180, 80), (300, 80), (350, 170), (120, 500), (390, 490)]
    return strokes(two, width=14, ink=60, picture=picture)


SINGLE = {
    "a felt-tip 0 that fills the photo": felt_tip_zero(),
    **{f"an open 4, {gap} pixels from its stem": open_four(gap) for gap in (0, 14, 20, 26)},
    "a flat, wide 0": flat_zero(),
    "a pale pencil 5": pencil_five(),
    "a 5 whose bar does not touch it": strokes(FIVE[1:], [(178, 78), (250, 72)]),
    "a large 2 on squared paper": large_two_on_squares(),
}


def is_whole(picture, darker, away):
    """Whether one digit is found where pixels are dark, at most some pixels away."""
    digits = handwriting.read_digits(picture)
    rows, columns = np.nonzero(picture.min(axis=2) < darker)
    ink = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    return len(digits) == 1 and box(digits[0]) == pytest.approx(ink, abs=away)


@pytest.mark.parametrize("name", SINGLE)
def test_a_digit_is_found_whole(name):
    assert is_whole(SINGLE[name], darker=SINGLE[name].min() + 30, away=12)


def test_soft_drawings_of_28_pixels_are_found_whole():
    soft = [np.repeat(255 - image[..., np.newaxis] // 3, 3, axis=2) for image in X_TEST[:20]]
    assert sum(is_whole(picture, darker=235, away=3) for picture in soft) >= 19


@pytest.mark.parametrize("change", ["thinner", "paler"])
def test_the_first_of_ten_digits_may_differ(change):
    digits, ink = list(X_TEST[:10]), (0.5, 0.5, 0.6) if change == "paler" else paper.INK
    if change == "thinner":
        digits[0] = np.uint8(cv2.erode(digits[0], np.ones((2, 1))))
    picture = paper.sheet(400, 1300)
    paper.write(picture, digits[0], 60, 120, 140, ink)
    paper.write_number(picture, digits[1:], 180, 120, 140)
    assert len(handwriting.read_digits(paper.as_bytes(picture))) == 10


def test_a_whiteboard_s_pens_and_eraser_are_not_digits():
    picture = paper.sheet(600, 900, (0.88, 0.89, 0.9))
    picture[555:] = (0.55, 0.56, 0.58)
    for left, colour in ((90, (0.1, 0.2, 0.7)), (300, (0.75, 0.1, 0.1)), (520, (0.1, 0.1, 0.1))):
        cv2.rectangle(picture, (left, 535), (left + 130, 556), colour, -1)
    cv2.rectangle(picture, (700, 500), (840, 556), (0.15, 0.15, 0.2), -1)
    paper.write_number(picture, X_TEST[:4], 150, 150, 200)
    found = [middle(digit) for digit in handwriting.read_digits(paper.as_bytes(picture))]
    np.testing.assert_allclose(found, [(250 + 156 * i, 250) for i in range(4)], atol=30)


def nothing():
    """Pictures in which nothing is written."""
    for shape in ((28, 28), (1, 1), (1, 3000), (3000, 1), (600, 800)):
        yield from (np.full((*shape, 3), value, np.uint8) for value in (0, 128, 255))
    noise, shadow, rules = paper.sheet(), paper.sheet(), paper.sheet()
    noise += np.random.default_rng(0).normal(0, 0.05, noise.shape)
    shadow[:, 500:] *= 0.5
    rules[30::60] = rules[31::60] = (0.6, 0.65, 0.75)
    yield from map(paper.as_bytes, (noise, shadow, rules))


def test_nothing_is_found_where_nothing_is_written():
    assert [handwriting.read_digits(picture) for picture in nothing()] == 18 * [[]]


# Where digits are, against where they were put.


@pytest.mark.parametrize("scale", [0.25, 1, 3])
@pytest.mark.parametrize("margin", [None, 0, 128])
def test_boxes_are_in_pixels_of_the_picture(scale, margin):
    left, top, width, height = (round(scale * side) for side in (300, 200, 40, 220))
    picture = blank(round(600 * scale), round(800 * scale))
    picture[top : top + height, left : left + width] = 0
    if margin is not None:
        picture = np.pad(picture, ((90, 60), (70, 110), (0, 0)), constant_values=margin)
        left, top = left + 70, top + 90
    (digit,) = handwriting.read_digits(picture)
    assert box(digit) == pytest.approx((left, top, width, height), abs=max(3, 4 * scale))


def test_digits_are_in_reading_order_and_know_their_line():
    picture = paper.sheet(1000, 1200)
    for line in range(4):
        paper.write_number(picture, X_TEST[8 * line :][:8], 100, 60 + 210 * line, 150, slope=0.03)
    digits = handwriting.read_digits(paper.as_bytes(picture))
    expected = [(175 + 117 * i, 135 + 210 * j - 3.5 * i) for j in range(4) for i in range(8)]
    np.testing.assert_allclose([middle(digit) for digit in digits], expected, atol=30)
    assert [digit.line for digit in digits] == [line for line in range(4) for _ in range(8)]


def test_small_and_large_digits_on_a_sloping_line_stay_on_it():
    picture = paper.sheet(500, 1100)
    for i, size in enumerate((160, 80, 150, 90, 160)):
        paper.write(picture, X_TEST[i], 80 + 180 * i, 300 - size // 2 - 27 * i, size)
    digits = handwriting.read_digits(paper.as_bytes(picture))
    assert [digit.line for digit in digits] == [0] * 5


# Kinds of files and of pixels.


NUMBERS = {"I;16": np.uint16, "I": np.int32, "F": np.float32}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "LAB", *NUMBERS])
def test_every_mode_of_pillow_gives_the_same_picture(tmp_path, mode):
    gray = Image.fromarray(PLAIN[..., 1])
    if mode in NUMBERS:
        image = Image.fromarray(NUMBERS[mode](PLAIN[..., 1]) * NUMBERS[mode](200))
    elif mode == "LAB":
        image = Image.merge("LAB", [gray, *2 * [Image.new("L", gray.size, 128)]])
    else:
        colour = gray.convert("RGB") if mode == "P" else gray
        image = colour.convert(mode, dither=Image.Dither.NONE)
    image.save(tmp_path / "picture", "TIFF" if mode in ("CMYK", "LAB", "I", "F") else "PNG")
    assert Image.open(tmp_path / "picture").mode == mode
    (digit,) = handwriting.read_picture(tmp_path / "picture").digits
    assert is_same(digit.image, X_TEST[1])


@pytest.mark.parametrize("ink", [0, 255])
def test_a_transparent_background_is_paper(tmp_path, ink):
    rgba = np.full((600, 800, 4), ink, np.uint8)
    rgba[..., 3] = np.where(PLAIN[..., 1] > 200, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "transparent.png")
    (digit,) = handwriting.read_picture(tmp_path / "transparent.png").digits
    assert is_same(digit.image, X_TEST[1])


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turn_in_exif_is_undone(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation - 1](PLAIN))
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    reading = handwriting.read_picture(str(tmp_path / "turned.png"))
    np.testing.assert_array_equal(reading.thumbnail, PLAIN)


def test_of_several_pictures_the_first_is_read_and_its_thumbnail_kept(tmp_path):
    first, second = Image.new("RGB", (1600, 1200), "white"), Image.new("RGB", (1600, 1200))
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    reading = handwriting.read_picture(tmp_path / "two.tif")
    assert (reading.thumbnail.shape, reading.thumbnail.min()) == ((600, 800, 3), 255)
    assert reading.scale == 0.5
    assert reading.note == "only the first picture in it is read."


@pytest.mark.parametrize("width", [1, 2, 3, 7, 12, 30])
def test_a_bar_of_any_width_is_centred_and_not_too_thin(width):
    picture = blank()
    picture[120:280, 150 : 150 + width] = 0
    (digit,) = handwriting.read_digits(picture)
    assert scipy.ndimage.center_of_mass(digit.image) == pytest.approx((14, 14), abs=0.6)
    assert np.median((digit.image > 127).sum(axis=1)[6:22]) >= 2
