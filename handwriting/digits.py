"""Step 6: from pieces of ink to digits: join, drop, split and put in reading order."""

import cv2
import numpy as np

from handwriting.images import ellipse, odd, stroke_width
from handwriting.pieces import Piece, drop_frames, find_pieces, typical_height, typical_ink

# Of MNIST's digits, 2 % are wider than this times their height, of touching pairs 55 %. With the
# conditions of `best_cut`, 0.1 % of the digits are split, and 40 % of the pairs.
TOUCHING_ASPECT = 1.3


def find_digits(ink, mask):
    """Find the digits among the pen's strokes, and the order in which they are read.

    Args:
        ink: uint8 array of shape `(height, width)`, from `separate_from_grain`.
        mask: uint8 array of the same shape, 1 on the pen's strokes, 0 elsewhere.

    Returns:
        `(lines, labels)`: a list of lines from top to bottom, each a list of `Piece` from left to
        right, and an int32 array of the ink's
        shape with the number of the piece of ink that each pixel belongs to.
    """
    pieces, labels = find_pieces(ink, mask)
    pieces = drop_frames(pieces)
    if not pieces:
        return [], labels
    # Show-through, faint shadows and what is left of ruled lines are much paler than the pen.
    pen = typical_ink(pieces)
    pieces = [piece for piece in pieces if piece.peak >= 0.6 * pen]
    size = typical_height(pieces)
    pieces = drop_frames(join_pieces(pieces, labels, size))
    pieces = keep_digits(pieces, labels, size, pen)
    return find_lines_of_writing(split_touching(pieces, labels)), labels


def keep_digits(pieces, labels, size, pen):
    """Drop what is not a digit of this page: too small or flat, too thick, or another thing's edge.

    What a photo shows along its edges may be a shadow, the end of the paper or a finger. A digit
    that the edge cuts was written with the same pen as the others, about as large and as dark. A
    small digit may stand beside a large one, within its height, but it has strokes, and a speck
    does not: it is as wide and as high as one of them.
    """
    upright = [piece for piece in pieces if piece.is_upright]
    large = [piece for piece in upright if piece.height > 0.4 * size]
    if not large:
        return []
    widths = [stroke_width(piece.mask(labels)) for piece in large]
    free = [width for piece, width in zip(large, widths, strict=True) if not piece.edge_pixels]
    stroke = np.median(free or widths)
    digits = [
        piece
        for piece, width in zip(large, widths, strict=True)
        if width < 2 * stroke
        and (
            not (free and piece.edge_pixels)
            or piece.peak > 0.7 * pen
            and 0.75 * size < piece.height < 1.6 * size
            and piece.width < 1.6 * size
        )
    ]
    return digits + [
        piece
        for piece in upright
        if piece.height <= 0.4 * size
        and piece.height > max(5 * stroke, 0.12 * size)
        and not piece.edge_pixels
        and any(
            min(piece.bottom, digit.bottom) - max(piece.top, digit.top) > 0.7 * piece.height
            for digit in digits
        )
    ]


def join_pieces(pieces, labels, size):
    """Join what belongs to one digit: a 5 and its separate bar, a 4 in two strokes."""
    whole = []
    for piece in sorted(pieces, key=lambda piece: -piece.mass):
        for i, host in enumerate(whole):
            if piece.left > host.right or host.left > piece.right:
                continue
            together = piece.joined(host)
            gap = together.height - piece.height - host.height
            overlap = (piece.width + host.width - together.width) / min(piece.width, host.width)
            small = min(piece.height, host.height) < 0.6 * size
            if (
                max(host.width, host.height) > 0.3 * size  # Punched holes stand in a row.
                and gap < 0.25 * size
                and together.height < 1.45 * size
                and together.width < 1.4 * size
                and (
                    overlap > (0.3 if small else 0.7)
                    or overlap > 0.1
                    and together.width < together.height
                    and nearly_touch(together.mask(labels))
                )
            ):
                whole[i] = together
                break
        else:
            whole.append(piece)
    return whole


def nearly_touch(mask):
    """Tell whether the pieces of ink in a mask are less than half a stroke's width apart."""
    grown = cv2.dilate(mask, ellipse(odd(stroke_width(mask) / 2)))
    count, *_ = cv2.connectedComponents(grown)
    return count == 2  # The background, and all of the ink.


def split_touching(pieces, labels):
    """Split pieces that are two touching digits; new digits get new numbers in `labels`.

    Two touching digits are wider than one. A cut between them crosses one stroke or none, and
    leaves a good part of the ink and of the height on both sides. In a wide 0 it would cross two
    strokes; of a wide 2 or 5 it would cut off a flat bar.
    """
    single = []
    waiting = list(pieces)
    while waiting:
        piece = waiting.pop()
        own = piece.mask(labels)
        cut = best_cut(own) if piece.width > TOUCHING_ASPECT * piece.height else None
        if cut is None:
            single.append(piece)
            continue
        window = labels[piece.top : piece.bottom, piece.left : piece.right]
        for side in (own & cut, own & ~cut):
            label = labels.max() + 1
            window[side > 0] = label
            left, top, width, height = cv2.boundingRect(side)
            left, top = left + piece.left, top + piece.top
            mass = piece.mass * side.sum() / own.sum()
            waiting.append(Piece(left, top, left + width, top + height, [label], mass, piece.peak))
    return single


def best_cut(mask):
    """Find where two touching digits come apart: from top to bottom through the least ink.

    This is the seam of seam carving (S. Avidan and A. Shamir, Seam Carving for Content-Aware Image
    Resizing, 2007). Returns a bool array of the mask's shape, true to the left of it, or `None`.
    """
    height, width = mask.shape
    left, right = width // 5, width - width // 5
    cost, steps = np.zeros(right - left), []
    for row in mask[:, left:right]:
        beside = np.pad(cost, 1, constant_values=np.inf)
        # Where there is no ink, straight down is best.
        ways = np.stack([beside[:-2] + 0.01, cost, beside[2:] + 0.01])
        steps.append(ways.argmin(axis=0) - 1)
        cost = ways.min(axis=0) + row
    columns = [int(cost.argmin())]
    for step in reversed(steps[1:]):
        columns.append(columns[-1] + step[columns[-1]])
    seam = left + np.array(columns[::-1])
    crossed = mask[np.arange(height), seam]
    strokes = np.count_nonzero(np.diff(crossed, prepend=np.uint8(0)) == 1)
    is_left = np.arange(width) < seam[:, np.newaxis]
    whole = all(
        part.sum() > 0.25 * mask.sum() and cv2.boundingRect(part)[3] > 0.6 * height
        for part in (mask & is_left, mask & ~is_left)
    )
    return is_left if strokes <= 1 and whole else None


def find_lines_of_writing(digits):
    """Put digits into lines from top to bottom, each from left to right.

    Where no digit stands above another, it is all one line, however much the digits jump. Otherwise
    a line may slope: from left to right, each digit goes to the line whose last digit it stands
    beside.
    """
    digits = sorted(digits, key=lambda digit: digit.left + digit.right)
    if not any(
        min(digit.right, other.right) - max(digit.left, other.left)
        > 0.5 * min(digit.width, other.width)
        for i, digit in enumerate(digits)
        for other in digits[:i]
    ):
        return [digits] if digits else []
    lines = []
    for digit in digits:
        beside = [
            (min(digit.bottom, line[-1].bottom) - max(digit.top, line[-1].top), line)
            for line in lines
        ]
        overlap, line = max(beside, key=lambda pair: pair[0], default=(0, None))
        if line and overlap > 0.5 * min(digit.height, line[-1].height):
            line.append(digit)
        else:
            lines.append([digit])
    lines.sort(key=lambda line: np.mean([digit.top + digit.bottom for digit in line]))
    return lines
