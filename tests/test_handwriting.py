"""`handwriting/`: what it finds on paper of all kinds, and what must not change it."""

import functools

import cv2
import keras
import numpy as np
import paper
import pytest
import sample_digits
import scipy.ndimage
from PIL import Image

import handwriting
from handwriting.images import stroke_width

(_, _), (X_TEST, Y_TEST) = sample_digits.load_data()
# Shifted by one pixel, since the centre of mass may be rounded the other way, a digit differs from
# itself by 12 grey levels on average; two digits differ by 28.
ONE_PIXEL = 20
load_model = functools.cache(keras.saving.load_model)


@functools.cache
def plain(i):
    return paper.as_bytes(paper.plain(X_TEST[i]))


def blank(height, width):
    return np.full((height, width, 3), 255, np.uint8)


def only_image(picture):
    """The image of the only digit in a picture."""
    (digit,) = handwriting.read_digits(picture)
    return digit.image.astype(int)


def box(digit):
    return digit.left, digit.top, digit.width, digit.height


def middle(digit):
    return digit.left + digit.width / 2, digit.top + digit.height / 2


@functools.cache
def found_on_paper(kind, images):
    """What is found of each digit, once for both networks."""
    digits = np.frombuffer(images, np.uint8).reshape(-1, 28, 28)
    return [handwriting.read_digits(paper.as_bytes(kind(digit))) for digit in digits]


def share_right(model_path, kind, images, labels):
    """Of the digits that a network reads with confidence, the share that it reads on paper."""
    model = load_model(model_path)

    def read(images):
        inputs = np.float32(images).reshape(-1, *model.input_shape[1:]) / 255
        return np.asarray(model(inputs, training=False))

    before = read(images)
    sure = (before.argmax(axis=1) == labels) & (before.max(axis=1) > 0.9)
    assert sure.mean() >= 0.7
    found = found_on_paper(kind, images.tobytes())
    single = [i for i in np.flatnonzero(sure) if len(found[i]) == 1]
    after = read([found[i][0].image for i in single]).argmax(axis=1)
    return (after == labels[single]).sum() / sure.sum()


@pytest.mark.parametrize("kind", paper.KINDS, ids=lambda kind: kind.__name__)
def test_reads_digits_on_all_kinds_of_paper(trained, kind):
    assert share_right(trained.model_path, kind, X_TEST[:8], Y_TEST[:8]) > 0.85


@pytest.mark.long
@pytest.mark.parametrize("kind", paper.KINDS, ids=lambda kind: kind.__name__)
def test_reads_mnist_on_all_kinds_of_paper(trained_on_mnist, mnist, kind):
    images, labels = mnist[1]
    assert share_right(trained_on_mnist.model_path, kind, images[:60], labels[:60]) >= 0.98


# What must not change the image that a network sees.


def add_margin(picture, random):
    sides, colour = random.integers(0, 300, 4).tolist(), picture[0, 0].tolist()
    return cv2.copyMakeBorder(picture, *sides, cv2.BORDER_CONSTANT, value=colour)


def dim_or_brighten(picture, random):
    return np.uint8(np.clip(picture * random.uniform(0.4, 1.05), 0, 255))


def resize(picture, random):
    scale = random.uniform(0.5, 3)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def invert(picture, random):
    return 255 - picture


CHANGES = [add_margin, dim_or_brighten, resize, invert]


@pytest.mark.parametrize("digits", [range(4), pytest.param(range(4, 30), marks=pytest.mark.long)])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_changes_nothing(change, digits):
    for i in digits:
        changed = change(plain(i), np.random.default_rng(i))
        assert np.abs(only_image(changed) - only_image(plain(i))).mean() < ONE_PIXEL, i


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "LAB", "I;16", "I", "F"])
def test_every_mode_of_pillow_gives_the_same_picture(tmp_path, mode):
    gray = plain(1)[..., 1]
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray(gray.astype(dtype) * dtype(200))
    elif mode == "LAB":
        image = Image.merge("LAB", 3 * [Image.fromarray(gray)])
    else:
        colour = Image.fromarray(gray).convert("RGB" if mode == "P" else "L")
        image = colour.convert(mode, dither=Image.Dither.NONE)
    image.save(tmp_path / "picture", "TIFF" if mode in ("CMYK", "LAB", "I", "F") else "PNG")
    assert Image.open(tmp_path / "picture").mode == mode
    (digit,) = handwriting.read_picture(tmp_path / "picture").digits
    assert np.abs(digit.image - only_image(plain(1))).mean() < 10


@pytest.mark.parametrize("ink", [0, 255])
def test_a_transparent_background_is_paper(tmp_path, ink):
    rgba = np.full((600, 800, 4), ink, np.uint8)
    rgba[..., 3] = np.where(plain(1)[..., 1] > 200, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "transparent.png")
    (digit,) = handwriting.read_picture(tmp_path / "transparent.png").digits
    assert np.abs(digit.image - only_image(plain(1))).mean() < ONE_PIXEL


STORED = [  # The upright pixels as each of EXIF's orientations stores them, from 1 to 8.
    *(lambda x: x, lambda x: x[:, ::-1], lambda x: x[::-1, ::-1], lambda x: x[::-1]),
    *(lambda x: x.transpose(1, 0, 2), lambda x: np.rot90(x)),
    *(lambda x: x[::-1, ::-1].transpose(1, 0, 2), lambda x: np.rot90(x, -1)),
]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turn_in_exif_is_undone(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation - 1](plain(2)))
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    reading = handwriting.read_picture(str(tmp_path / "turned.png"))
    assert (reading.path, reading.scale) == (str(tmp_path / "turned.png"), 1)
    np.testing.assert_array_equal(reading.thumbnail, plain(2))
    assert box(*reading.digits) == box(*handwriting.read_digits(plain(2)))


def test_of_several_pictures_the_first_is_read_and_its_thumbnail_kept(tmp_path):
    first, second = Image.new("RGB", (1600, 1200), "white"), Image.new("RGB", (1600, 1200))
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    reading = handwriting.read_picture(tmp_path / "two.tif")
    assert (reading.thumbnail.shape, reading.thumbnail.min()) == ((600, 800, 3), 255)
    assert reading.scale == 0.5
    assert reading.note == "only the first picture in it is read."


# Boxes and order, against where the digits were put.


@pytest.mark.parametrize("scale", [0.25, 1, 4])
def test_boxes_are_in_pixels_of_the_picture(scale):
    picture = blank(round(600 * scale), round(800 * scale))
    left, top, width, height = (round(scale * side) for side in (300, 200, 40, 220))
    picture[top : top + height, left : left + width] = 0
    (digit,) = handwriting.read_digits(picture)
    assert box(digit) == pytest.approx((left, top, width, height), abs=max(3, 4 * scale))


def test_boxes_within_a_black_margin_are_those_of_the_whole_picture():
    photo = paper.as_bytes(paper.shadow_edge(X_TEST[0]))
    (expected,) = handwriting.read_digits(photo)
    (digit,) = handwriting.read_digits(np.pad(photo, ((30, 0), (70, 20), (0, 0))))
    assert (digit.left, digit.top) == pytest.approx((expected.left + 70, expected.top + 30), abs=3)


@pytest.mark.parametrize("lines", [None, "rules", "squares", "underline"])
def test_a_number_is_found_from_left_to_right(lines):
    picture = paper.sheet(500, 1100)
    if lines:
        getattr(paper, f"draw_{lines}")(picture)
    paper.write_number(picture, X_TEST[:6], 120, 180, 160, slope=0.02 if lines else 0.15)
    digits = handwriting.read_digits(paper.as_bytes(picture))
    assert [middle(digit)[0] for digit in digits] == pytest.approx(range(200, 950, 125), abs=25)


def test_lines_are_read_from_top_to_bottom():
    picture = paper.sheet(1000, 1200)
    for line in range(4):
        paper.write_number(picture, X_TEST[8 * line :][:8], 100, 60 + 210 * line, 150, slope=0.03)
    expected = [(175 + 117 * i, 135 + 210 * j - 3.5 * i) for j in range(4) for i in range(8)]
    found = [middle(digit) for digit in handwriting.read_digits(paper.as_bytes(picture))]
    np.testing.assert_allclose(found, expected, atol=30)


def test_a_bar_that_does_not_touch_belongs_to_its_digit():
    picture = blank(400, 400)
    points = np.array([(160, 120), (155, 190), (210, 185), (230, 230), (200, 280), (150, 270)])
    cv2.polylines(picture, [points], False, (0, 0, 0), 10)
    cv2.line(picture, (175, 105), (240, 100), (0, 0, 0), 10)
    assert len(handwriting.read_digits(picture)) == 1


def test_a_zero_in_two_strokes_is_one_digit():
    picture = blank(400, 400)
    cv2.ellipse(picture, (200, 200), (80, 120), 0, 40, 320, (0, 0, 0), 10)
    cv2.line(picture, (256, 150), (256, 250), (0, 0, 0), 10)
    (digit,) = handwriting.read_digits(picture)
    assert box(digit) == pytest.approx((115, 75, 151, 250), abs=6)


def test_a_brush_that_leaves_little_paper():
    picture = blank(400, 400)
    cv2.circle(picture, (200, 200), 130, (0, 0, 0), 110)
    (digit,) = handwriting.read_digits(picture)
    assert box(digit) == pytest.approx((15, 15, 370, 370), abs=3)


@pytest.mark.parametrize("shape", [(28, 28), (1, 1), (1, 3000), (3000, 1), (600, 800)])
def test_nothing_is_found_on_a_blank_page(shape):
    for value in (0, 128, 255):
        assert handwriting.read_digits(np.full((*shape, 3), value, np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 4), (3, 3), (4, 1), (20, 6400)])
def test_a_tiny_picture_with_a_margin_ends(shape):
    picture = np.zeros((*shape, 3), np.uint8)
    picture[shape[0] // 4 :, shape[1] // 4 :] = 200
    assert len(handwriting.read_digits(picture)) <= 1


@pytest.mark.parametrize("level", [255, 128])
def test_a_plain_margin_around_a_photo_is_left_out(level):
    photo = paper.as_bytes(paper.shadow_edge(X_TEST[0]))
    (expected,) = handwriting.read_digits(photo)
    margin = ((90, 60), (70, 110), (0, 0))
    (digit,) = handwriting.read_digits(np.pad(photo, margin, constant_values=level))
    assert box(digit) == pytest.approx(
        (expected.left + 70, expected.top + 90, expected.width, expected.height), abs=4
    )


def test_nothing_is_found_in_noise_in_shadows_and_on_ruled_paper():
    noise, shadow, rules = paper.sheet(), paper.sheet(), paper.sheet()
    noise += np.random.default_rng(0).normal(0, 0.05, noise.shape)
    shadow[:, 500:] *= 0.5
    rules[30::60] = rules[31::60] = (0.6, 0.65, 0.75)
    for picture in (noise, shadow, rules):
        assert handwriting.read_digits(paper.as_bytes(picture)) == []


# MNIST's form, against its definition.


def mnist_form(ink):
    """Pillow fits the ink into 20 x 20, SciPy centres it by its mass, as MNIST's authors did."""
    ink = ink.crop(ink.getbbox())
    size = [round(side * 20 / max(ink.size)) for side in ink.size]
    small = ink.resize(size, Image.Resampling.BOX)
    row, column = scipy.ndimage.center_of_mass(np.asarray(small))
    image = Image.new("L", (28, 28))
    image.paste(small, (round(14 - column), round(14 - row)))
    return np.asarray(image)


def test_the_form_is_that_of_mnist():
    differences = []
    for digit in X_TEST[:10]:
        large = cv2.resize(digit, (560, 560), interpolation=cv2.INTER_CUBIC)
        ink = np.uint8(np.where(np.pad(large, 100) > 80, 255, 0))
        image = only_image(np.repeat(255 - ink[..., np.newaxis], 3, axis=2))
        differences.append(np.abs(image - mnist_form(Image.fromarray(ink))).mean())
    assert np.median(differences) < 3
    assert max(differences) < ONE_PIXEL


@pytest.mark.parametrize("width", [1, 2, 3, 7, 12, 30])
def test_a_bar_of_any_width_is_centred_and_not_too_thin(width):
    picture = blank(400, 400)
    picture[120:280, 150 : 150 + width] = 0
    image = only_image(picture)
    assert scipy.ndimage.center_of_mass(image) == pytest.approx((14, 14), abs=0.6)
    assert np.median((image > 127).sum(axis=1)[6:22]) >= 2
    mask = np.uint8(picture[..., 0] == 0)
    assert stroke_width(mask) == pytest.approx(width, rel=0.15) or width == 1
