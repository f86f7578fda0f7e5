"""From a picture of handwriting to digits as MNIST has them.

The story, one module a step (`images` has tools that several steps use, `reading` has what comes
out):

1. `picture`: find the picture files that a user means, open any of them, and turn it upright.
2. `page`: find the page in the picture.
3. `ink`: measure how much ink is on each pixel of the page.
4. `pieces`: find connected pieces of ink, which tell what this page's pen is like.
5. `ruling`: take away ruled lines, squared paper and underlines, so that `pieces` keeps only what
   the pen left.
6. `digits`: join pieces that belong to one digit, drop what is not a digit, and find the lines.
7. `mnist_form`: make each digit look as MNIST's authors made theirs, 28 x 28 pixels.

People's pictures come with shadows, ruled lines, specks and pens of all kinds: the art is to take
those away, and nothing else. Each module uses only those before it. `read_picture` and
`read_digits` tell the whole story:

    reading = handwriting.read_picture("number.jpg")
    images = [digit.image for digit in reading.digits]
"""

import concurrent.futures
import os

import numpy as np

from handwriting.digits import find_digits
from handwriting.images import as_picture, resize
from handwriting.ink import measure_ink, separate_from_grain
from handwriting.mnist_form import to_mnist_form
from handwriting.page import find_page
from handwriting.picture import find_pictures as find_pictures
from handwriting.picture import load_picture
from handwriting.pieces import find_pen_strokes
from handwriting.reading import Digit, Reading
from handwriting.reading import percent as percent
from handwriting.ruling import remove_ruled_lines

THUMBNAIL_SIDE = 800  # Pixels.


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
    """Run all the steps on a picture: `(digits, outline)`, the latter as in `Reading`."""
    page, corner, scale, outline = find_page(picture)
    ink = measure_ink(page)
    smooth, faint = separate_from_grain(ink)
    strokes = find_pen_strokes(smooth, remove_ruled_lines(smooth, faint))
    lines, labels = find_digits(smooth, strokes)
    digits = []
    for line, pieces in enumerate(lines):
        for piece in pieces:
            box = np.array([piece.left, piece.top, piece.width, piece.height]) / scale
            box[:2] += corner
            digits.append(Digit(to_mnist_form(ink, labels, piece), *map(round, box), line))
    return digits, outline
