"""Step 5: take away ruled lines, squared paper and underlines."""

import cv2
import numpy as np

from handwriting.images import odd
from handwriting.pieces import find_pieces, is_box


def remove_ruled_lines(ink, mask):
    """Take away lines from edge to edge, both ways, and underlines that touch the digits.

    Args:
        ink: uint8 array of shape `(height, width)`, from `separate_from_grain`.
        mask: uint8 array of the same shape, 1 where there may be ink, 0 elsewhere.

    Returns:
        The mask without lines, of the same shape.
    """
    mask = remove_horizontal_lines(mask)
    mask = np.ascontiguousarray(remove_horizontal_lines(np.ascontiguousarray(mask.T)).T)
    pieces, labels = find_pieces(ink, mask)
    for piece in pieces:
        # No digit is this wide. Without its top and bottom, a box would leave sides like ones.
        if piece.width > 1.6 * piece.height and not is_box(piece, pieces):
            own = piece.mask(labels)
            window = mask[piece.top : piece.bottom, piece.left : piece.right]
            window &= ~own | remove_horizontal_lines(own)
    return mask


def remove_horizontal_lines(mask):
    """Take away thin lines that run from the left edge to the right, but not what crosses them."""
    mask = mask.copy()
    height, width = mask.shape
    # Lines slope and bend in photos, but short pieces of them are level. Thickened by a pixel
    # above and below, they have no steps.
    level = cv2.dilate(mask, np.ones((3, 1), np.uint8))
    level = cv2.morphologyEx(level, cv2.MORPH_OPEN, np.ones((1, odd(width / 30)), np.uint8)) & mask
    thickness = typical_thickness(level)
    if not 0 < thickness < 0.03 * width:  # The bar of a 7 may run from edge to edge, too.
        return mask
    crossing = np.ones((odd(2 * thickness + 2), 1), np.uint8)
    crossing = cv2.morphologyEx(mask, cv2.MORPH_OPEN, crossing)
    around = np.arange(-round(thickness / 2) - 1, round(thickness / 2) + 2)[:, np.newaxis]
    columns = np.arange(width)
    for gap in (width / 6, width):  # Starting with wide gaps would merge neighbouring lines.
        for line in find_lines(level & mask & ~crossing, gap):
            if mask[line, columns].mean() > 0.9:
                rows = np.clip(line + around, 0, height - 1)
                mask[rows, columns] &= crossing[rows, columns]
    return mask


def typical_thickness(level):
    """Return how many pixels high level strokes are, the median over all columns."""
    steps = np.diff(np.pad(np.int8(level.T), ((0, 0), (1, 1))).ravel())
    heights = np.flatnonzero(steps == -1) - np.flatnonzero(steps == 1)
    return np.median(heights) if len(heights) else 0


def find_lines(level, gap):
    """Yield the row in each column of each line from the left edge to the right.

    It may have gaps, where it is faint or where strokes hide it, `gap` pixels wide.
    """
    height, width = level.shape
    bridged = cv2.dilate(level, np.ones((3, odd(gap)), np.uint8))
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(bridged)
    for label in 1 + np.flatnonzero(boxes[1:, cv2.CC_STAT_WIDTH] == width):
        top, tall = boxes[label, [cv2.CC_STAT_TOP, cv2.CC_STAT_HEIGHT]]
        rows, columns = np.nonzero(level[top : top + tall] & (labels[top : top + tall] == label))
        count = np.bincount(columns, minlength=width)
        inked = np.flatnonzero(count)
        middle = top + np.bincount(columns, rows, width)[inked] / count[inked]
        middle = np.interp(np.arange(width), inked, middle)
        smooth = cv2.blur(
            np.float32([middle]), (odd(width / 40), 1), borderType=cv2.BORDER_REPLICATE
        )
        yield np.round(smooth[0]).astype(int)
