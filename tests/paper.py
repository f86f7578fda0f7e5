"""Paper with handwriting on it, as people photograph it: made from digits in MNIST's form.

    python tests/paper.py number.jpg

That writes a sheet of ruled paper in a shadow, with two numbers made of MNIST's test digits.
"""

import sys

import cv2
import numpy as np

INK = (0.15, 0.15, 0.35)


def sheet(height=600, width=800, colour=(0.93, 0.92, 0.88)):
    """Make an empty sheet: float32 RGB of shape `(height, width, 3)`, 0 to 1."""
    return np.full((height, width, 3), colour, np.float32)


def write(picture, digit, left, top, size, ink=INK):
    """Write one digit of shape `(28, 28)`, uint8, into a square of `size` pixels, in place."""
    large = cv2.resize(digit, (size, size), interpolation=cv2.INTER_CUBIC)[..., np.newaxis]
    # Enlarged ink has soft edges; a pen's are sharp.
    strength = np.clip((large / np.float32(255) - 0.3) / 0.4, 0, 1)
    window = picture[top : top + size, left : left + size]
    window[:] = window * (1 - strength) + np.float32(ink) * strength


def write_number(picture, digits, left, top, size, slope=0.0, ink=INK):
    """Write digits in a row, in place; they rise by `slope`."""
    step = round(0.78 * size)
    for i, digit in enumerate(digits):
        write(picture, digit, left + i * step, round(top - slope * i * step), size, ink)


def plain(digit):
    """One digit on plain paper, somewhere off the middle."""
    picture = sheet()
    write(picture, digit, 260, 180, 220)
    return picture


def shadow_edge(digit):
    """The shadow of a hand, with a sharp edge across the digit."""
    picture = plain(digit)
    rows, columns = np.indices(picture.shape[:2])
    picture[columns + 0.4 * rows > 500] *= 0.6
    return picture


def darken_corners(picture):
    """Put a lamp in the middle, and darkness around it."""
    rows, columns = np.indices(picture.shape[:2])
    distance = np.hypot(rows - 300, columns - 400) / 500
    return picture * np.clip(1 - distance**2, 0.1, 1)[..., np.newaxis].astype(np.float32)


def vignette(digit):
    """A lamp in the middle, darkness around it."""
    return darken_corners(plain(digit))


def draw_rules(picture):
    """Draw the grey lines of ruled paper, a little bent, in place."""
    height, width = picture.shape[:2]
    columns = np.arange(width)
    for top in range(30, height, 60):
        points = np.stack([columns, top + 0.01 * columns + 6 * np.sin(columns / 200)], axis=1)
        cv2.polylines(picture, [np.int32(points)], False, (0.6, 0.65, 0.75), 2)


def draw_squares(picture):
    """Draw the lines of squared paper, in place."""
    height, width = picture.shape[:2]
    for start in range(20, max(height, width), 50):
        picture[start : start + 2] = (0.7, 0.75, 0.85)
        picture[:, start : start + 2] = (0.7, 0.75, 0.85)


def draw_underline(picture):
    """Draw a line with the pen that digits of 160 pixels at 180 from the top stand on, in place."""
    cv2.line(picture, (90, 322), (picture.shape[1] - 90, 306), INK, 8)


def ruled(digit):
    """Ruled paper: grey lines from edge to edge."""
    picture = sheet()
    draw_rules(picture)
    write(picture, digit, 260, 180, 220)
    return picture


def ruled_vignette(digit):
    """Lines that run into the dark."""
    return darken_corners(ruled(digit))


def squared(digit):
    """Squared paper: lines both ways."""
    picture = sheet()
    draw_squares(picture)
    write(picture, digit, 260, 180, 220)
    return picture


def underlined(digit):
    """A line below the digit that does not touch it."""
    picture = plain(digit)
    cv2.line(picture, (230, 410), (530, 400), INK, 14)
    return picture


def margin(digit):
    """A dim photo with the white margin that a page or a program put around it."""
    return np.pad(0.7 * shadow_edge(digit), ((60, 60), (60, 60), (0, 0)), constant_values=1)


def table(digit):
    """The end of the sheet, and the dark table beside it."""
    picture = plain(digit)
    rows, columns = np.indices(picture.shape[:2])
    picture[columns - 0.1 * rows > 680] = (0.25, 0.15, 0.1)
    return picture


def boxed(digit):
    """The printed box of a form around the digit."""
    picture = plain(digit)
    cv2.rectangle(picture, (200, 120), (540, 460), (0.2, 0.2, 0.2), 4)
    return picture


def noisy(digit):
    """A phone's grainy picture in a dim room."""
    noise = np.random.default_rng(0).normal(0, 0.04, (600, 800, 3))
    return np.float32(np.clip(0.5 * plain(digit) + noise, 0, 1))


def blurred(digit):
    """Out of focus."""
    return cv2.GaussianBlur(plain(digit), (0, 0), 5)


def inverse(digit):
    """Chalk on a blackboard."""
    return 1 - plain(digit)


def pencil(digit):
    """Pale pencil on coloured paper."""
    picture = sheet(colour=(0.85, 0.8, 0.6))
    write(picture, digit, 300, 200, 150, ink=(0.6, 0.57, 0.45))
    return picture


def tiny(digit):
    """A small digit in a corner of a large sheet."""
    picture = sheet(1500, 2000)
    write(picture, digit, 60, 1350, 100)
    return picture


def touching_the_edge(digit):
    """Cropped up to the ink on the left and above."""
    rows, columns = np.nonzero(digit.max(axis=1))[0], np.nonzero(digit.max(axis=0))[0]
    picture = plain(digit)
    top, left = 180 + round(rows[0] * 220 / 28), 260 + round(columns[0] * 220 / 28)
    return picture[top + 2 :, left + 2 :]


def as_bytes(picture):
    """Round a float picture, 0 to 1, to uint8, 0 to 255."""
    return np.uint8(np.round(255 * np.clip(picture, 0, 1)))


KINDS = (
    *(plain, shadow_edge, vignette, ruled, squared, boxed, noisy, blurred, inverse, pencil),
    *(tiny, touching_the_edge, underlined, margin, table, ruled_vignette),
)


def main(path):
    """Write an example for the README."""
    import keras

    _, (x_test, y_test) = keras.datasets.mnist.load_data()
    generator = np.random.default_rng(4)
    picture = sheet(560, 1150)
    for top in range(40, 560, 80):
        picture[top : top + 2] = (0.62, 0.68, 0.8)
    for number, top in (("20261124", 75), ("31415926", 315)):
        chosen = [generator.choice(np.flatnonzero(y_test == int(digit))) for digit in number]
        write_number(picture, x_test[chosen], 70, top, 150, slope=0.02)
    rows, columns = np.indices(picture.shape[:2])
    picture[columns + 0.6 * rows > 900] *= 0.6
    picture += generator.normal(0, 0.015, picture.shape)
    cv2.imwrite(path, cv2.GaussianBlur(as_bytes(picture), (0, 0), 1)[..., ::-1])


if __name__ == "__main__":
    main(sys.argv[1])
