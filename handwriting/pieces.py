"""Step 4: from ink to connected pieces of it, which tell what this page's pen is like."""

import dataclasses

import cv2
import numpy as np

from handwriting.images import odd, square, stroke_width


@dataclasses.dataclass
class Pen:
    """What the writing on a page is typically like.

    Attributes:
        ink: how dark it is in the middle of a stroke, from 0 to 255.
        stroke: the width of its strokes in pixels.
        height: the height of its digits in pixels.
    """

    ink: float
    stroke: float
    height: int


@dataclasses.dataclass
class Piece:
    """Connected ink, or several pieces of it that make one digit.

    Attributes:
        left, top, right, bottom: its box in pixels; right and bottom are just outside it.
        labels: list of its numbers in the array of labels.
        mass: the sum of its ink.
        peak: the ink in the middle of its strokes, from 0 to 255.
        edge_pixels: how many of its pixels lie on the edges of the page.
    """

    left: int
    top: int
    right: int
    bottom: int
    labels: list
    mass: float
    peak: float
    edge_pixels: int = 0

    @property
    def width(self):
        """Width of the box in pixels."""
        return self.right - self.left

    @property
    def height(self):
        """Height of the box in pixels."""
        return self.bottom - self.top

    def mask(self, labels):
        """Return where its ink is in its box: uint8 of shape `(height, width)`, 1 or 0."""
        window = labels[self.top : self.bottom, self.left : self.right]
        return np.isin(window, self.labels).astype(np.uint8)

    def joined(self, other):
        """Return the piece that this one and another make together."""
        return Piece(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.labels + other.labels,
            self.mass + other.mass,
            max(self.peak, other.peak),
            self.edge_pixels + other.edge_pixels,
        )


def find_pieces(ink, mask):
    """Find the connected pieces of ink that may be digits or parts of digits.

    Args:
        ink: uint8 array of shape `(height, width)`, from `separate_from_grain`.
        mask: uint8 array of the same shape, 1 where the ink counts, 0 elsewhere.

    Returns:
        `(pieces, labels)`: a list of `Piece`, in no order, and an int32 array of the ink's shape
        with the number of the piece that each pixel belongs to.
    """
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    edge_pixels = np.bincount(edges, minlength=len(boxes))
    sides = boxes[:, 2:4].max(axis=1)
    sides[0] = 0  # The background.
    # Specks are not digits, and no page has more than a few hundred digits, but paper has grain.
    found = np.argsort(-sides, kind="stable")[:400]
    pieces = []
    for label in found[sides[found] >= 0.012 * max(ink.shape)]:
        left, top, width, height, _ = boxes[label]
        right, bottom = left + width, top + height
        window = slice(top, bottom), slice(left, right)
        values = ink[window][labels[window] == label]
        mass, peak = float(values.sum()), float(np.quantile(values, 0.9))
        pieces.append(Piece(left, top, right, bottom, [label], mass, peak, int(edge_pixels[label])))
    return pieces, labels


def find_pen_strokes(ink, mask):
    """Keep the ink that the pen of this page left.

    Strokes are soft where they are narrow or fast: paler ink counts where there is dark ink beside
    it, which shadows and folds of the paper do not have.

    Args:
        ink: uint8 array of shape `(height, width)`, from `separate_from_grain`.
        mask: uint8 array of the same shape, 1 where there may be ink, 0 elsewhere.

    Returns:
        uint8 array of the same shape, 1 on the pen's strokes, 0 elsewhere.
    """
    pieces, _ = find_pieces(ink, mask)
    if not pieces:
        return np.zeros_like(mask)
    pen = typical_ink(pieces)
    dark = np.uint8(ink > 0.3 * pen) & mask
    beside = cv2.dilate(dark, square(odd(stroke_width(dark) / 2)))
    return mask & beside & (ink > 0.15 * pen)


def is_box(piece, pieces):
    """Tell whether there are digits well inside a piece; a speck in a 0 leaves it a 0."""
    margin = 0.05 * piece.height
    inside = sum(
        other.mass
        for other in pieces
        if piece.left + margin < other.left
        and piece.top + margin < other.top
        and other.right < piece.right - margin
        and other.bottom < piece.bottom - margin
    )
    return inside > 0.1 * piece.mass


def measure_pen(pieces, labels):
    """Measure the pen with which most of the ink in the pieces was written."""
    height = at_share_of_ink(0.5, pieces, lambda piece: piece.height)
    stroke = at_share_of_ink(0.5, pieces, lambda piece: stroke_width(piece.mask(labels)))
    return Pen(typical_ink(pieces), stroke, height)


def typical_ink(pieces):
    """Return how dark the pen's ink is, 0 to 255: the upper quartile of the pieces, by ink."""
    return at_share_of_ink(0.75, pieces, lambda piece: piece.peak)


def at_share_of_ink(share, pieces, measure):
    """Return a quantile of a measure of the pieces, each weighted by its ink."""
    pieces = free_pieces(pieces)
    measures = np.array([measure(piece) for piece in pieces])
    order = np.argsort(measures)
    mass = np.cumsum([pieces[i].mass for i in order])
    return measures[order][np.searchsorted(mass, share * mass[-1])]


def free_pieces(pieces):
    """Leave out what touches the page's edges, and may not be the pen's, if there is more."""
    free = [piece for piece in pieces if not piece.edge_pixels]
    enough = sum(piece.mass for piece in free) > 0.1 * sum(piece.mass for piece in pieces)
    return free if enough else pieces
