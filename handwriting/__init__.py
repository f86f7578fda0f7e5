"""From a picture of handwriting to digits as MNIST has them.

The story, one module a step (`images` has tools that several steps use):

1. `picture`: find the picture files that a user means, open any of them, and turn it upright.
2. `page`: find the page in the picture.
3. `ink`: measure how much ink is on each pixel of the page.
4. `pieces`: find connected pieces of ink, and keep what this page's pen left.
5. `ruling`: before that, take away ruled lines, squared paper, boxes and underlines.
6. `digits`: join pieces that belong to one digit, drop what is not a digit, and find the lines.
7. `mnist_form`: make each digit look as MNIST's authors made theirs, 28 x 28 pixels.

People's pictures come with shadows, ruled lines, specks and pens of all kinds: the art is to take
those away, and nothing else. Each module uses only those before it. `read_picture` and
`read_digits` tell the whole story:

    reading = handwriting.read_picture("number.jpg")
    images = [digit.image for digit in reading.digits]
"""

import concurrent.futures
import dataclasses
import itertools
import math
import os

import numpy as np

from handwriting.digits import find_digits
from handwriting.images import resize
from handwriting.ink import measure_ink, separate_from_grain
from handwriting.mnist_form import to_mnist_form
from handwriting.page import find_page
from handwriting.picture import as_picture, find_pictures, load_picture
from handwriting.pieces import find_pen_strokes
from handwriting.ruling import remove_ruled_lines

__all__ = [
    "Digit",
    "Reading",
    "find_pictures",
    "percent",
    "read_digits",
    "read_picture",
    "read_pictures",
]

THUMBNAIL_SIDE = 800  # Pixels.
UNSURE = 0.6  # A confidence below this is marked.


def percent(confidence):
    """Write a confidence from 0 to 1 so that it never looks like certainty: at most "99.9%"."""
    return f"{min(999, math.floor(1000 * confidence)) / 10:.1f}%"


@dataclasses.dataclass(eq=False)
class Digit:
    """All that is known of a digit, from the paper to the plot.

    Attributes:
        image: uint8 array of shape `(28, 28)`, ink bright on dark, as MNIST's: what a network sees.
        left: distance of its box from the left edge, in pixels of the upright picture; like the
            other sides of the box, `None` for a digit of MNIST's, which has no picture.
        top: distance of the box from the top edge.
        width: width of the box.
        height: height of the box.
        line: the line of writing that it stands on, 0 for the first.
        original: the class that it really is, 0 to 9, or `None` where that is not known.
        probabilities: floats of shape `(10,)`, how probable each class is, as a network predicts;
            `None` until one was asked. The properties below need it.
    """

    image: np.ndarray
    left: int | None = None
    top: int | None = None
    width: int | None = None
    height: int | None = None
    line: int = 0
    original: int | None = None
    probabilities: np.ndarray | None = None

    @property
    def predicted(self):
        """The most probable class, 0 to 9."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self):
        """The probability of the predicted class, 0 to 1."""
        return float(self.probabilities.max())

    @property
    def is_unsure(self):
        """Whether the network is not confident."""
        return self.confidence < UNSURE

    @property
    def is_wrong(self):
        """Whether another class is known to be the true one."""
        return self.original is not None and self.predicted != self.original

    @property
    def mark(self):
        """A ✗ for a wrong prediction, a ? for an unsure one, else nothing."""
        return "✗" if self.is_wrong else "?" if self.is_unsure else ""

    def __str__(self):
        """Say what is known, in one line."""
        known = [] if self.original is None else [f"original {self.original}"]
        if self.probabilities is not None:
            known.append(f"predicted {self.predicted} ({percent(self.confidence)} sure)")
        if self.left is not None:
            box = f"{self.width} x {self.height} pixels at ({self.left}, {self.top})"
            known.append(f"{box}, line {self.line}")
        return f"Digit: {', '.join(known) or 'not read yet'}"

    __repr__ = __str__


@dataclasses.dataclass(eq=False)
class Reading:
    """What was found in one picture.

    Attributes:
        path: the path of the picture, as it was given; `test/1234` for one of MNIST's test digits.
        digits: list of `Digit`, in reading order; empty where no digit was found.
        thumbnail: uint8 array of shape `(height, width, 3)`, RGB: the upright picture, with at
            most 800 pixels on the longer side; `None` for a test digit.
        scale: how many pixels of the thumbnail there are to one of the picture.
        outline: int array of shape `(n, 2)`, x and y in pixels of the picture: the outline of the
            page, or `None` where the page fills the picture.
        note: a sentence about what was left out, or `None`.
    """

    path: str
    digits: list
    thumbnail: np.ndarray | None = None
    scale: float = 1.0
    outline: np.ndarray | None = None
    note: str | None = None

    @property
    def lines(self):
        """The digits of each line of writing, a list of lists."""
        lines = itertools.groupby(self.digits, key=lambda digit: digit.line)
        return [list(digits) for _, digits in lines]

    @property
    def number(self):
        """The predicted classes in reading order, with a space between lines: `"561247 31"`."""
        return " ".join("".join(str(digit.predicted) for digit in line) for line in self.lines)


def read_picture(path):
    """Find every digit in a picture file.

    Args:
        path: path of a picture file, for example a photo.

    Returns:
        A `Reading`.

    Raises:
        ValueError: it cannot be read as a picture; the message is for the user.
        OSError: it is missing, or its file cannot be read.
    """
    picture, note = load_picture(path)
    try:
        digits, outline = find_page_and_digits(picture)
    except Exception as error:  # Other pictures must still be read, whatever is in this one.
        raise ValueError(f"{path}: looking for digits failed ({error}).") from error
    scale = min(1, THUMBNAIL_SIDE / max(picture.shape))
    return Reading(path, digits, resize(picture, scale), scale, outline, note)


def read_pictures(paths):
    """Find every digit in many picture files, on all cores.

    Args:
        paths: list of strings.

    Yields:
        For each path, in the same order, a `Reading`, or the exception of a picture that cannot
        be read, as in `read_picture`.
    """

    def read(path):
        try:
            return read_picture(path)
        except (OSError, ValueError) as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
        yield from executor.map(read, paths)


def read_digits(picture):
    """Find every digit in a picture.

    Args:
        picture: array of shape `(height, width)`, gray, or `(height, width, 3)` or
            `(height, width, 4)`, RGB or RGBA, upright: whole numbers from 0 to 255, or floats
            from 0 to 1.

    Returns:
        A list of `Digit` in reading order: lines from top to bottom, each from left to right.
        Empty where no digit is found.

    Raises:
        ValueError: it is not such an array; the message is for the user.
    """
    return find_page_and_digits(as_picture(picture))[0]


def find_page_and_digits(picture):
    """Tell the whole story of a picture: `(digits, outline)`, the latter as in `Reading`."""
    page, (page_left, page_top), scale, outline = find_page(picture)
    ink = measure_ink(page)
    smooth, faint = separate_from_grain(ink)
    strokes = find_pen_strokes(smooth, remove_ruled_lines(faint, smooth))
    lines, labels = find_digits(smooth, strokes)
    digits = []
    for line, pieces in enumerate(lines):
        for piece in pieces:
            sides = piece.left, piece.top, piece.right, piece.bottom
            left, top, right, bottom = (round(side / scale) for side in sides)
            width, height = max(1, right - left), max(1, bottom - top)
            image = to_mnist_form(ink, labels, piece)
            digits.append(Digit(image, page_left + left, page_top + top, width, height, line))
    return digits, outline
