"""Step 1: from the files that a user means to upright RGB arrays.

A picture may come from a stranger and be made to exhaust the computer. What prevents that is here
and nowhere else: few kinds of pictures, a limit on the file and on the pixels before any is
decoded, and a time limit. Pillow itself bounds the texts and tags in a file.
"""

import contextlib
import glob
import io
import logging
import os
import stat
import time
import warnings

import numpy as np
from PIL import Image, ImageChops, ImageOps

try:
    import pi_heif
except ImportError:  # Google Colab does not have it.
    pi_heif = None
else:
    pi_heif.register_heif_opener()

# The kinds of pictures that are read, with the endings that their files have.
KINDS = {
    "PNG": [".png"],
    "JPEG": [".jpg", ".jpeg"],
    "BMP": [".bmp"],
    "WebP": [".webp"],
    "TIFF": [".tif", ".tiff"],
    "HEIC": [".heic", ".heif", ".hif"],
}
FORMATS = [{"HEIC": "HEIF"}.get(kind, kind.upper()) for kind in KINDS]  # As Pillow names them.
# In a folder, two kinds that cannot be read are reported, so they are not silently skipped.
ENDINGS = (*sum(KINDS.values(), []), ".avif", ".gif")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
FIGURE_TITLES = ("Learning curves", "Predictions", "Explanation", "Drawing")
MAX_BYTES = 200_000_000
# No phone takes larger pictures by default. A side of a JPEG has at most 65,535 pixels.
MAX_PIXELS, MAX_SIDE = 64_000_000, 65_535
MAX_SECONDS = 10  # Of CPU time; an ordinary picture of that size takes two or three.

# What is wrong with a picture is said once, in a `ValueError`.
logging.getLogger("PIL").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module="PIL")


def find_pictures(names):
    """List the pictures that were named, and those in the folders that were named.

    Figures that this project wrote are not pictures to read.

    Args:
        names: list of strings, each the path of a picture or of a folder, or a pattern such as
            `*.jpg`, which the shell of Windows does not expand.

    Returns:
        `(paths, problems)`: lists of strings, the paths as they were given (for a folder, joined
        to it, in alphabetical order), and a line for each name that stands for no picture.
    """
    paths, problems = [], []
    for pattern in names:
        found = [] if os.path.lexists(pattern) else sorted(glob.glob(pattern))
        for name in found or [pattern]:
            if os.path.isdir(name):
                inside, closed = pictures_in(name)
                paths += inside
                problems += [f"{error.filename}: {error.strerror}." for error in closed]
                if not inside and not closed:
                    problems.append(f"{name}: there are no pictures in this folder.")
            elif read_labels(name):
                problems.append(
                    f"{name}: this is one of this project's own figures, not a picture of digits."
                )
            else:
                paths.append(name)
    return paths, problems


def pictures_in(folder):
    """List the pictures in a folder and below, and the errors of folders that are closed."""
    paths, closed = [], []
    for inside, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]  # Such as `.venv`.
        paths += [
            os.path.join(inside, name)
            for name in files
            if name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]
    return sorted(path for path in paths if not read_labels(path)), closed


def read_labels(path):
    """Return the texts in the file of a figure that this project wrote; of others, none."""
    if not os.path.isfile(path):
        return {}
    try:
        with TimedFile(path) as file:
            labels = Image.open(file, formats=["PNG"]).info
    except Exception:  # As in `load_picture`, which says what is wrong with a picture.
        return {}
    return labels if labels.get("Title") in FIGURE_TITLES else {}


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
        path: path of a picture of one of the `KINDS`.

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
        is_heic = start[4:8] == b"ftyp" and start[8:] in HEIC_BRANDS
        if is_heic and not pi_heif:
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
        except Exception as error:  # Pillow raises a dozen kinds.
            problem = "the picture is damaged or cut short"
            if isinstance(error, Image.DecompressionBombError):
                problem = "the picture is too large; make it smaller"
            elif isinstance(error, TimeoutError):
                problem = "the picture takes too long to read; save it again"
            elif isinstance(error, Image.UnidentifiedImageError) and not is_heic:
                problem = f"this is not a picture that can be read ({', '.join(KINDS)})"
            raise ValueError(f"{path}: {problem}.") from None
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


def as_picture(array):
    """Bring an array from any program to the form of a loaded picture.

    Args:
        array: of shape `(height, width)`, gray, or `(height, width, channels)`, gray, RGB or RGBA:
            whole numbers from 0 to 255, or floats from 0 to 1.

    Returns:
        A uint8 array of shape `(height, width, 3)`, RGB.

    Raises:
        ValueError: it is not such an array; the message is for the user.
    """
    values = np.asarray(array)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    is_shape = values.ndim == 2 or values.ndim == 3 and values.shape[2] in (3, 4)
    most = 1 if values.dtype.kind in "bf" else 255
    is_number = values.size and values.dtype.kind in "buif"
    if not (is_shape and is_number and values.min() >= 0 and values.max() <= most):
        raise ValueError(
            "A picture is an array of shape (height, width), (height, width, 3) or "
            "(height, width, 4), of whole numbers from 0 to 255 or of floats from 0 to 1; this one "
            f"has shape {values.shape} and type {values.dtype}, or other values."
        )
    return as_rgb(Image.fromarray(np.uint8(np.round(values * (255 / most)))))
