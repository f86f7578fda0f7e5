"""Step 5: take away ruled lines, squared paper, boxes and underlines."""

import math

import cv2
import numpy as np

from handwriting.images import odd, square
from handwriting.pieces import find_pieces

# Squared paper has a line every 5 mm, so 60 to a page; noise may have thousands.
MAX_LINES = 100


def remove_ruled_lines(mask, ink):
    """Take away lines from edge to edge, both ways, and lines under several digits.

    Args:
        mask: uint8 array of shape `(height, width)`, 1 where there may be ink, 0 elsewhere.
        ink: uint8 array of the same shape, from `separate_from_grain`.

    Returns:
        The mask without lines, of the same shape.
    """
    mask = remove_horizontal_lines(mask, ink)
    transposed = [np.ascontiguousarray(image.T) for image in (mask, ink)]
    mask = np.ascontiguousarray(remove_horizontal_lines(*transposed).T)
    return remove_underlines(mask, ink)


def remove_horizontal_lines(mask, ink):
    """Take away thin lines that run from the left edge to the right.

    A line is removed where it is as thin and as pale as along the rest of its length: what is
    thicker or darker is a stroke that crosses it.
    """
    # A line ends where the dark side of a photo begins: most of a column there is dark, while
    # handwriting and ruled lines leave most of the paper free.
    lit = np.flatnonzero(mask.mean(axis=0) < 0.3)
    if not len(lit):
        return mask
    inner = (slice(None), slice(lit[0], lit[-1] + 1))
    whole, faint, ink = mask.copy(), mask[inner], ink[inner]
    mask = whole[inner]  # A view: what is removed from it is removed from `whole`.
    height, width = mask.shape
    # Lines slope and bend in photos, but short pieces of them are level. Thickened by a pixel
    # above and below, they have no steps.
    level = cv2.dilate(faint, np.ones((3, 1), np.uint8))
    level = cv2.morphologyEx(level, cv2.MORPH_OPEN, np.ones((1, odd(width / 30)), np.uint8)) & faint
    # No ruled line is as thick as a brush stroke, or as a twentieth of its length, and the bar of a
    # 7 may be level, too.
    thick = square(odd(min(0.03 * max(mask.shape), 0.05 * width)))
    level &= ~cv2.morphologyEx(faint, cv2.MORPH_OPEN, thick)
    if not level.any():
        return whole
    thickness = level.sum() / (np.diff(level, axis=0, prepend=np.uint8(0)) == 1).sum()
    tall = np.ones((odd(2 * thickness + 2), 1), np.uint8)
    crossing = cv2.morphologyEx(mask, cv2.MORPH_OPEN, tall)
    half = round(thickness / 2) + 1
    columns = np.arange(width)
    for middle in find_lines(level, faint, thickness):
        rows = np.clip(middle + np.arange(-half, half + 1)[:, np.newaxis], 0, height - 1)
        darker = ink[rows, columns] > 1.5 * np.median(ink[middle, columns])
        mask[rows, columns] &= crossing[rows, columns] | darker
    return whole


def find_lines(level, faint, thickness):
    """Find thin lines from the left edge of a picture to its right edge, with ink all along.

    Paper bends and lenses distort, so a line is a cubic curve between its two ends.

    Args:
        level: uint8 array of shape `(height, width)`, 1 on level strokes, 0 elsewhere.
        faint: uint8 array of the same shape, 1 where there may be ink, 0 elsewhere.
        thickness: of the lines, in pixels.

    Yields:
        For each line an int array of shape `(width,)`, its row in each column.
    """
    height, width = level.shape
    border = math.ceil(0.03 * width)
    starts, ends = (
        [round(row) for _, row in cv2.connectedComponentsWithStats(side.copy())[3][1:]]
        for side in (level[:, :border], level[:, -border:])
    )
    if max(len(starts), len(ends)) > MAX_LINES:
        return
    along = np.linspace(0, 1, 100)
    columns = np.round(along * (width - 1)).astype(int)
    # In every 100 pixels, a line rises by at most 20, bends by 3 and waves by 1; lines that do more
    # are left. The steps between bends are no wider than `near` covers.
    arch = 4 * along * (1 - along)
    bends = np.outer(np.arange(-0.03 * width, 0.03 * width, 3), arch)
    waves = np.outer(np.linspace(-0.02, 0.02, 5) * width, arch * (1 - 2 * along))
    shapes = (bends + waves[:, np.newaxis]).reshape(-1, len(along))
    near = cv2.dilate(faint, np.ones((5, 1), np.uint8))
    beside = round(2 * thickness) + 3
    for start in starts:
        level_ends = [end for end in ends if abs(end - start) < 0.2 * width]
        for end in sorted(level_ends, key=lambda end: abs(end - start)):
            rows = np.round(start + (end - start) * along + shapes).astype(int)
            rows = np.clip(rows, 0, height - 1)
            covered = near[rows, columns].mean(axis=1)
            line = rows[np.argmax(covered)]
            if covered.max() > 0.9:
                yield follow_line(np.interp(np.arange(width), columns, line), faint, beside)
                break


def follow_line(rough, faint, reach):
    """Follow the middle of a line more closely than a cubic curve does.

    Args:
        rough: float array of shape `(width,)`, roughly the line's row in each column.
        faint: uint8 array of shape `(height, width)`, 1 where there may be ink, 0 elsewhere.
        reach: how far off the line may be, in pixels.

    Returns:
        An int array of shape `(width,)`, the line's row in each column.
    """
    height, width = faint.shape
    columns = np.arange(width)
    rows = np.round(rough).astype(int) + np.arange(-reach, reach + 1)[:, np.newaxis]
    rows = np.clip(rows, 0, height - 1)
    inked = faint[rows, columns]
    count = inked.sum(axis=0)
    middle = (rows * inked).sum(axis=0) / np.maximum(1, count)
    free = (count > 0) & (count <= reach)  # Elsewhere a stroke hides it.
    if free.any():
        rough = np.interp(columns, columns[free], middle[free])
    smooth = cv2.blur(np.float32([rough]), (odd(width / 40), 1), borderType=cv2.BORDER_REPLICATE)
    return np.clip(np.round(smooth[0]), 0, height - 1).astype(int)


def remove_underlines(mask, ink):
    """Take away lines that touch several digits above them."""
    mask = mask.copy()
    pieces, labels = find_pieces(ink, mask)
    for piece in pieces:
        if piece.width > 1.6 * piece.height:  # No digit is this wide.
            margin = ((piece.height, piece.height), (0, 0))
            own = piece.mask(labels)
            window = (slice(piece.top, piece.bottom), slice(piece.left, piece.right))
            padded = np.pad(own, margin)
            kept = remove_horizontal_lines(padded, np.pad(ink[window], margin))
            mask[window] &= ~own | kept[piece.height : -piece.height]
    return mask
