"""Step 1: from any picture file to an upright RGB array.

A picture may come from a stranger and be made to exhaust the computer. What prevents that is here
and nowhere else: few formats, a limit on the file and on the pixels before any is decoded, and a
time limit. Pillow itself bounds the texts and tags in a file.
"""

import contextlib
import io
import logging
import os
import stat
import time
import warnings

import numpy as np
from PIL import Image, ImageChops, ImageOps

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
MAX_BYTES = 200_000_000
# No phone takes larger pictures by default. A side of a JPEG has at most 65,535 pixels.
MAX_PIXELS, MAX_SIDE = 64_000_000, 65_535
MAX_SECONDS = 10  # Of CPU time; an ordinary picture of that size takes two or three.

# What is wrong with a picture is said once, in a `ValueError`.
logging.getLogger("PIL").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module="PIL")


class TimedFile(io.BufferedReader):
    """A file that can no longer be read after ten seconds of work.

    Some small files keep a decoder busy for hours, for example with a thousand passes over the
    same pixels. Decoders come back here for each part of the file.
    """

    def __init__(self, path):
        super().__init__(io.FileIO(path))
        self.end = time.thread_time() + MAX_SECONDS

    def read(self, size=-1):
        """Read as any file does, or raise `TimeoutError`."""
        if time.thread_time() > self.end:
            raise TimeoutError
        return super().read(size)


def load_picture(path):
    """Load a picture upright, whatever its name and however it is stored.

    Args:
        path: path of a PNG, JPEG, BMP, WebP or TIFF file.

    Returns:
        `(picture, note)`: a uint8 array of shape `(height, width, 3)`, RGB, and a sentence about
        what was left out, or `None`. Transparent pixels become white, or black behind bright ink.

    Raises:
        ValueError: it is not such a picture, damaged or too large; the message is for the user.
        OSError: it is missing, or cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: this is not a picture, but a folder or a device.")
    if status.st_size == 0:
        raise ValueError(f"{path}: the file is empty.")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"{path}: the file is larger than 200 MB; make the picture smaller.")
    with TimedFile(path) as file:
        start = file.read(12)
        if start[4:8] == b"ftyp" and start[8:] in HEIC_BRANDS:
            raise ValueError(
                f"{path}: pictures in Apple's HEIC format cannot be read. Export it as JPEG, or "
                "choose Settings, Camera, Formats, Most Compatible on the iPhone."
            )
        try:
            image = Image.open(file, formats=FORMATS)
            check_size(image)
            if image.format in ("JPEG", "MPO"):
                image.decodermaxblock = 4_096  # Bytes: few passes fit in a part this small.
            image.load()
            with contextlib.suppress(Exception):  # Where EXIF is damaged, nothing is turned.
                ImageOps.exif_transpose(image, in_place=True)
            picture = as_rgb(image)
        except Image.UnidentifiedImageError:
            kinds = "PNG, JPEG, BMP, WebP or TIFF"
            raise ValueError(f"{path}: this is not a picture that can be read ({kinds}).") from None
        except Image.DecompressionBombError:
            raise ValueError(f"{path}: the picture is too large; make it smaller.") from None
        except TimeoutError:
            raise ValueError(
                f"{path}: the picture takes too long to read; save it again."
            ) from None
        except Exception:  # Pillow raises a dozen kinds.
            raise ValueError(f"{path}: the picture is damaged or cut short.") from None
    # An MPO is a phone's photo; what follows the first picture is not another page.
    several = getattr(image, "is_animated", False) and image.format != "MPO"
    return picture, "only the first picture in it is read." if several else None


def check_size(image):
    """Raise `DecompressionBombError` where decoding an opened image would take too much memory."""
    width, height = image.size
    if image.format == "TIFF":  # A tile is decoded whole, even where it exceeds the image.
        tile_width, tile_height = 322, 323
        width = max(width, image.tag_v2.get(tile_width, 0))
        height = max(height, image.tag_v2.get(tile_height, 0))
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Image.DecompressionBombError


def as_rgb(image):
    """Convert any kind of Pillow image to a uint8 array of shape `(height, width, 3)`, RGB."""
    if image.mode[0] in "IF":
        # The darkest of 16 or 32 bits per pixel becomes black, the brightest white.
        values = np.array(image, np.float64)
        finite = np.isfinite(values)
        if not finite.any():
            return np.zeros((*values.shape, 3), np.uint8)
        low = values.min(where=finite, initial=np.inf)
        high = values.max(where=finite, initial=-np.inf)
        np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
        values -= low
        values /= max(high - low, 1e-9)
        values *= 255
        return np.repeat(values.astype(np.uint8)[..., np.newaxis], 3, axis=2)
    if image.mode == "LAB":
        image = image.getchannel("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        opacity = image.getchannel("A")
        light = ImageChops.multiply(image.convert("L"), opacity)
        paper = "white" if np.mean(light) <= np.mean(opacity) / 2 else "black"
        background = Image.new("RGB", image.size, paper)
        background.paste(image, mask=opacity)
        image = background
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
