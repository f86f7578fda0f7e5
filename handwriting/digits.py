"""Step 6: from pieces of ink to digits: join them, drop what is not a digit, and find the lines."""

import numpy as np

from handwriting.images import distance_to_zero, stroke_width
from handwriting.pieces import find_pieces, is_box, measure_pen


def find_digits(ink, mask):
    """Find the digits among the pen's strokes, and the order in which they are read.

    Args:
        ink: uint8 array of shape `(height, width)`, from `separate_from_grain`.
        mask: uint8 array of the same shape, 1 on the pen's strokes, 0 elsewhere.

    Returns:
        `(lines, labels)`: a list of lines from top to bottom, each a list of `Piece` from left to
        right, and an int32 array of the ink's shape with the number of the piece of ink that each
        pixel belongs to.
    """
    pieces, labels = find_pieces(ink, mask)
    # The outline of a dark edge is half on the edges of the page, and is about twice as long as
    # its box is wide and high together; a digit that the edge cuts has less there.
    inner = [piece for piece in pieces if piece.edge_pixels < 0.6 * (piece.width + piece.height)]
    pieces = [piece for piece in inner or pieces if not is_box(piece, pieces)]
    if not pieces:
        return [], labels
    pen = measure_pen(pieces, labels)
    pieces = [piece for piece in pieces if piece.peak >= 0.5 * pen.ink]
    digits = keep_digits(join_pieces(pieces, labels, pen), labels, pen)
    return lines_of_writing(digits), labels


def join_pieces(pieces, labels, pen):
    """Join what belongs to one digit: a 5 and its separate bar, a 4 in two strokes."""
    whole = []
    for piece in sorted(pieces, key=lambda piece: -piece.mass):
        for i, host in enumerate(whole):
            if belong_together(piece, host, labels, pen):
                whole[i] = piece.joined(host)
                break
        else:
            whole.append(piece)
    return whole


def belong_together(piece, host, labels, pen):
    """Tell whether two pieces are parts of one digit.

    One above the other, they need only be near, unless both together are higher than the page's
    digits; then they must almost touch. So must they side by side, where one must also hang above
    the line, as the corner of an open 4 does.
    """
    together = piece.joined(host)
    # Negative where they overlap.
    horizontal_gap = together.width - piece.width - host.width
    vertical_gap = together.height - piece.height - host.height
    if max(host.width, host.height) < 0.3 * pen.height:
        return False  # Two punched holes are not a digit.
    if together.width > 1.4 * together.height:
        return False
    if -horizontal_gap < 0.3 * min(piece.width, host.width):
        hangs = abs(piece.bottom - host.bottom) > 0.2 * pen.height
        if not hangs or together.width > together.height:
            return False
    elif max(together.width, together.height) < 1.4 * pen.height:
        return vertical_gap < 0.25 * pen.height
    return distance_between(piece, host, labels) < 1.5 * pen.stroke


def distance_between(piece, other, labels):
    """Return how many pixels there are between the ink of two pieces."""
    together = piece.joined(other)
    window = labels[together.top : together.bottom, together.left : together.right]
    away = distance_to_zero(np.uint8(~np.isin(window, piece.labels)))
    return away[np.isin(window, other.labels)].min()


def keep_digits(pieces, labels, pen):
    """Drop what is not a digit of this page: too small, too thick, or another thing's edge.

    A small digit may stand beside large ones; a speck is lower than five stroke widths.
    What a photo shows along its edges may be a shadow, the end of the paper or a finger; a digit
    that the edge cuts is about as high as the others.
    """
    smallest = min(0.4 * pen.height, 5 * pen.stroke)
    large = [piece for piece in pieces if piece.height > smallest]
    all_at_edges = all(piece.edge_pixels for piece in large)
    return [
        piece
        for piece in large
        if stroke_width(piece.mask(labels)) < 1.6 * pen.stroke
        and (all_at_edges or not piece.edge_pixels or 0.75 < piece.height / pen.height < 1.6)
    ]


def lines_of_writing(digits):
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
        overlaps = [
            (min(digit.bottom, line[-1].bottom) - max(digit.top, line[-1].top), line)
            for line in lines
        ]
        overlap, line = max(overlaps, key=lambda pair: pair[0], default=(0, None))
        if line and overlap > 0.5 * min(digit.height, line[-1].height):
            line.append(digit)
        else:
            lines.append([digit])
    lines.sort(key=lambda line: np.mean([digit.top + digit.bottom for digit in line]))
    return lines
