"""Step 3: measure how much ink is on each pixel of the page."""

import cv2
import numpy as np

from handwriting.images import fill_in, odd, resize, stroke_width, where_dark

# The background is smooth: it is estimated on a picture this small, whatever the original.
BACKGROUND_SIDE = 200


def measure_ink(picture):
    """Measure the ink on each pixel: how much darker (or brighter) it is than the paper around it.

    The colour and light of the paper are estimated by a morphological closing, which fills in
    everything narrower than a few strokes, but not shadows and vignettes, whose edges it keeps in
    place. Ink takes away a share of the light, so its ratio to the paper is the same inside a
    shadow and outside it.

    Args:
        picture: uint8 array of shape `(height, width, 3)`, RGB.

    Returns:
        uint8 array of shape `(height, width)`: 0 is paper, 255 is black ink on white.
    """
    height, width = picture.shape[:2]
    small = resize(picture, min(1, BACKGROUND_SIDE / max(height, width)))
    if is_bright_on_dark(small):
        picture, small = 255 - picture, 255 - small
    size = odd(min(small.shape[:2]) / 4)
    # Mirrored at the picture's edge, the corner between it and a shadow is wide enough to be kept,
    # and a stroke that the edge cuts is still a stroke.
    mirrored = cv2.copyMakeBorder(small, *[size] * 4, cv2.BORDER_REFLECT)
    dark = where_dark(mirrored, fill_in(mirrored, size, odd(size / 2)))
    few_strokes = min(size, odd(6 * stroke_width(dark)))
    paper = fill_in(mirrored, few_strokes, odd(few_strokes / 2))[size:-size, size:-size]
    paper = cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR)
    ink = cv2.divide(cv2.subtract(paper, picture), np.maximum(paper, 1), scale=255)
    red, green, blue = cv2.split(ink)
    # Coloured ink darkens some channels, and leaves the others bright.
    return cv2.max(cv2.max(red, green), blue)


def is_bright_on_dark(picture):
    """Decide whether the ink is brighter than the background, as on a blackboard.

    What stands out from its surroundings is mostly brighter than them on a blackboard, and mostly
    darker on paper. Wide and narrow surroundings count equally.
    """
    gray = picture.mean(axis=2).astype(np.uint8)
    size = odd(min(gray.shape) / 2)
    margin = size // 2
    padded = cv2.copyMakeBorder(gray, *[margin] * 4, cv2.BORDER_REPLICATE)
    median = cv2.medianBlur(padded, size)[margin:-margin, margin:-margin]
    ratio = 1.0
    # A pen's stroke is about a fortieth of the longer side wide in most photos.
    for surroundings in (median, cv2.GaussianBlur(gray, (0, 0), max(gray.shape) / 40)):
        brighter = (cv2.subtract(gray, surroundings).astype(np.float64) ** 2).sum()
        darker = (cv2.subtract(surroundings, gray).astype(np.float64) ** 2).sum()
        ratio *= (brighter + 1) / (darker + 1)
    return ratio > 1


def separate_from_grain(ink):
    """Separate ink from the grain of the paper and the noise of the camera.

    Args:
        ink: uint8 array of shape `(height, width)`, from `measure_ink`.

    Returns:
        `(ink, faint)`: the ink, a little smoothed, and a uint8 array of the same shape, 1 where
        there may be ink, 0 elsewhere.
    """
    smooth = cv2.GaussianBlur(ink, (0, 0), max(0.8, max(ink.shape) / 1200))
    # Ink stands out from the paper by a tenth of what black ink would, and by four standard
    # deviations: of noise, these are 5.93 median deviations, which a little ink does not move.
    paper = smooth[smooth < 128]
    if 2 * len(paper) < smooth.size:  # Where there is hardly any, it is all grain.
        paper = smooth
    median = np.median(paper)
    grain = np.median(cv2.absdiff(paper, np.full_like(paper, median)))
    return smooth, np.uint8(smooth > max(25, median + 5.93 * grain))
