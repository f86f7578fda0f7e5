"""Tools that several of the steps use."""

import cv2
import numpy as np
from PIL import Image, ImageChops


def as_picture(array):
    """Bring a picture from any program to the form of a loaded one.

    Args:
        array: of shape `(height, width)`, gray, or `(height, width, channels)`, gray, RGB or RGBA:
            whole numbers from 0 to 255, or floats from 0 to 1.

    Returns:
        A uint8 array of shape `(height, width, 3)`, RGB.

    Raises:
        ValueError: it is not such an array; the message is for the user.
    """
    values = np.asarray(array)
    if values.shape[2:] == (1,):
        values = values[..., 0]
    scale = 255 if values.dtype.kind in "bf" else 1
    try:
        if values.ndim < 2 or not 0 <= values.min() <= values.max() <= 255 / scale:
            raise ValueError
        return as_rgb(Image.fromarray(np.uint8(np.round(values * scale))))
    except (TypeError, ValueError):
        raise ValueError(
            "A picture is an array of shape (height, width), (height, width, 3) or "
            "(height, width, 4), of whole numbers from 0 to 255 or of floats from 0 to 1; this one "
            f"has shape {values.shape} and type {values.dtype}, or other values."
        ) from None


def as_rgb(image):
    """Convert any kind of Pillow image to a uint8 array of shape `(height, width, 3)`, RGB.

    Transparent pixels become white, or black behind bright ink. Of 16 or 32 bits per pixel, the
    darkest becomes black and the brightest white.
    """
    if image.mode[0] in "IF":
        values = np.array(image, np.float64)
        values[~np.isfinite(values)] = np.median(values[np.isfinite(values)])
        gray = cv2.normalize(values, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
        return cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        light, opacity = image.convert("LA").split()
        is_dark = np.mean(ImageChops.multiply(light, opacity)) <= np.mean(opacity) / 2
        paper = Image.new("RGBA", image.size, "white" if is_dark else "black")
        image = Image.alpha_composite(paper, image)
    return np.asarray(image.convert("RGB"))


def resize(image, scale):
    """Resize an image by a factor: averaging where it shrinks, smoothly where it grows.

    Args:
        image: uint8 or float32 array of shape `(height, width)` or `(height, width, 3)`.
        scale: how many new pixels there are to an old one.

    Returns:
        An array of the same type; the same array where `scale` is 1.
    """
    if scale == 1:
        return image
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def odd(length):
    """Round a length to the nearest odd number, at least 3, as OpenCV's kernels require."""
    return 1 + 2 * max(1, int(length) // 2)


def square(size):
    """Make a square kernel."""
    return np.ones((size, size), np.uint8)


def ellipse(size):
    """Make a round kernel with the given odd diameter."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def fill_in(picture, size, smoothing):
    """Fill in what is dark and narrower than `size` pixels, and smooth what is left."""
    return cv2.medianBlur(cv2.morphologyEx(picture, cv2.MORPH_CLOSE, ellipse(size)), smoothing)


def where_dark(picture, paper):
    """Mark the pixels that are darker than the paper: uint8 of shape `(height, width)`, 1 or 0."""
    return np.uint8(cv2.subtract(paper, picture).max(axis=2) > 0.15 * paper.max(axis=2) + 10)


def distance_to_zero(mask):
    """Return how far from each pixel of a uint8 mask the nearest 0 is, in pixels."""
    return cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)


def stroke_width(mask):
    """Estimate how wide a stroke is.

    Across a bar, the distance to the nearer edge is a quarter of the bar's width on average; from
    pixel to pixel, OpenCV's distance is half a pixel more.

    Args:
        mask: uint8 array of shape `(height, width)`, 1 where there is ink, 0 elsewhere.

    Returns:
        The width in pixels, 0 where there is no ink.
    """
    padded = np.pad(mask, 1)
    distance = distance_to_zero(padded)
    return 4 * (cv2.mean(distance, padded)[0] - 0.5) if mask.any() else 0.0
