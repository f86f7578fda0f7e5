"""Step 7: make one digit look as MNIST's authors made theirs.

They fitted each digit, free of any background, into 20 x 20 pixels with its proportions kept, and
centred it by its centre of mass in 28 x 28 (Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST
database of handwritten digits).
"""

import cv2
import numpy as np

from handwriting.images import ellipse, odd, resize, stroke_width

# A stroke has this width in MNIST's 20 x 20 box (the median over its training set, measured by
# `stroke_width`): hairlines are thickened to it.
MNIST_STROKE_WIDTH = 2.5


def to_mnist_form(ink, labels, digit):
    """Cut one digit out of the page, and make it look like MNIST's.

    Args:
        ink: uint8 array of shape `(height, width)`, from `measure_ink`.
        labels: int32 array of the same shape, from `find_digits`.
        digit: the `Piece` to take, from the same.

    Returns:
        uint8 array of shape `(28, 28)`, ink bright on dark: at most 20 x 20 pixels, proportions
        kept, its centre of mass at pixel (14, 14).
    """
    margin = max(2, max(digit.width, digit.height) // 20)
    window = (
        slice(max(0, digit.top - margin), digit.bottom + margin),
        slice(max(0, digit.left - margin), digit.right + margin),
    )
    own = np.isin(labels[window], digit.labels)
    # From a quarter of the digit's ink to three quarters, so that strokes are full and edges soft.
    image = np.clip((ink[window] / np.float32(digit.peak) - 0.25) / 0.5, 0, 1) * own
    image = crop(resize(image, min(1, 160 / max(image.shape))))  # Enough to measure strokes.
    image = crop(thicken(image, MNIST_STROKE_WIDTH * max(image.shape) / 20))
    image = resize(image, 20 / max(image.shape))
    # OpenCV's moments would take an image two pixels wide for a list of points.
    rows, columns = np.indices(image.shape)
    right = round(14 - np.average(columns, weights=image))
    down = round(14 - np.average(rows, weights=image))
    centred = cv2.warpAffine(image, np.float32([[1, 0, right], [0, 1, down]]), (28, 28))
    return np.round(255 * np.clip(centred / centred.max(), 0, 1)).astype(np.uint8)


def thicken(image, width):
    """Widen strokes narrower than `width` pixels; the image grows by a margin where they were."""
    missing = width - stroke_width((image > 0.5).astype(np.uint8))
    if missing <= 1:
        return image
    size = odd(missing + 1)
    return cv2.dilate(np.pad(image, size), ellipse(size))


def crop(image):
    """Crop a float32 image to the box around what is more than half ink."""
    left, top, width, height = cv2.boundingRect((image > 0.5).astype(np.uint8))
    if width == 0:
        return image
    return image[top : top + height, left : left + width]
