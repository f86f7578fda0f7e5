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
import subprocess
import sys
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
FIGURE_TITLES = ("Learning curves", "Predictions", "Explanation", "Drawing")
MAX_BYTES = 200_000_000
# No phone takes larger pictures by default. A side of a JPEG has at most 65,535 pixels.
MAX_PIXELS, MAX_SIDE = 64_000_000, 65_535
# Of CPU time, and of waiting for a HEIC; an ordinary picture of that size takes two or three.
MAX_SECONDS, MAX_WAIT = 10, 30

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
        to it, in alphabetical order), and a line for each name that stands for no picture and
        for each folder that cannot be opened.
    """
    paths, problems = [], []

    def report(error):
        problems.append(f"{error.filename}: {error.strerror}.")

    for pattern in names:
        found = [] if os.path.lexists(pattern) else sorted(glob.glob(pattern))
        files = []
        for name in found or [pattern]:
            files += sorted(files_in(name, report)) if os.path.isdir(name) else [name]
        pictures = [path for path in files if not read_labels(path)]
        paths += pictures
        if not pictures:
            problems.append(f"{pattern}: there is no picture, or only this project's figures.")
    return paths, problems


def files_in(folder, report):
    """Yield the files in a folder and below that are named as pictures are."""
    for inside, folders, files in os.walk(folder, onerror=report):
        folders[:] = [name for name in folders if not name.startswith(".")]  # Such as `.venv`.
        for name in files:
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield os.path.join(inside, name)


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
    if status.st_size > MAX_BYTES:
        raise ValueError(f"{path}: the file is larger than 200 MB; make the picture smaller.")
    if not pi_heif and os.fspath(path).lower().endswith(tuple(KINDS["HEIC"])):
        raise ValueError(
            f"{path}: pictures in Apple's HEIC format cannot be read. Export it as JPEG, or "
            "choose Settings, Camera, Formats, Most Compatible on the iPhone."
        )
    file = TimedFile(path)
    try:
        with file:
            image = Image.open(file, formats=FORMATS)
            check_size(image)
            # An MPO is a phone's photo; what follows the first picture is not another page.
            several = getattr(image, "is_animated", False) and image.format != "MPO"
            if image.format == "HEIF":
                image = Image.frombytes(image.mode, image.size, decode_heic(path))
            image.decodermaxblock = 4_096  # Bytes: few passes of a JPEG fit in a part this small.
            image.load()
        with contextlib.suppress(Exception):  # Where EXIF is damaged, nothing is turned.
            ImageOps.exif_transpose(image, in_place=True)
        return as_rgb(image), "only the first picture in it is read." if several else None
    except (Image.DecompressionBombError, MemoryError):
        problem = "the picture is too large; make it smaller"
    except (TimeoutError, subprocess.TimeoutExpired):
        problem = "the picture takes too long to read; save it again"
    except Image.UnidentifiedImageError:
        problem = f"this is not a picture that can be read ({', '.join(KINDS)})"
    except Exception:  # Pillow raises a dozen kinds.
        problem = "the picture is damaged, cut short or of a rare kind; save it again"
    raise ValueError(f"{path}: {problem}.")


def decode_heic(path):
    """Return the pixels of a HEIC picture, decoded in a process that does not run for long.

    It is decoded in one go, and a small file may hold a thousand layers of large pictures.
    """
    code = """if True:
        import sys, pi_heif
        from PIL import Image
        pi_heif.register_heif_opener()
        sys.stdout.buffer.write(Image.open(sys.argv[1]).tobytes())
    """
    command = [sys.executable, "-P", "-c", code, path]
    return subprocess.run(command, capture_output=True, check=True, timeout=MAX_WAIT).stdout


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
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
        np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
        gray = np.uint8((values - low) * (255 / max(high - low, 1e-9)))
        return np.repeat(gray[..., np.newaxis], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        light, opacity = image.convert("LA").split()
        is_dark = np.mean(ImageChops.multiply(light, opacity)) <= np.mean(opacity) / 2
        paper = Image.new("RGBA", image.size, "white" if is_dark else "black")
        image = Image.alpha_composite(paper, image)
    return np.asarray(image.convert("RGB"))


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
