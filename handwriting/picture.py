"""Step 1: from the files that a user means to upright RGB arrays.

A picture may come from a stranger and be made to exhaust the computer. What prevents that is here
and nowhere else: few kinds of pictures, a limit on the file and on the pixels before any is
decoded, and a time limit. Pillow itself bounds the texts and tags in a file.
"""

import contextlib
import glob
import io
import logging
import math
import os
import subprocess
import sys
import time

from PIL import Image, ImageOps

from handwriting.images import as_rgb

try:
    import pi_heif
except ImportError:  # Google Colab does not have it.
    pi_heif = None
else:
    pi_heif.register_heif_opener()

# The kinds of pictures that are read, and how their files' names end.
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
MAX_PIXELS = 64_000_000  # No phone takes larger pictures by default.
MAX_SECONDS, MAX_WAIT = 10, 30  # Of CPU time, and of waiting for a HEIC.

logging.getLogger("PIL").addHandler(logging.NullHandler())  # What is wrong is said once, below.


def find_pictures(names):
    """List the pictures that were named, but not the figures that this project wrote.

    Args:
        names: list of strings, each the path of a picture or of a folder, or a pattern such as
            `*.jpg`, which the shell of Windows does not expand.

    Returns:
        `(paths, problems)`: lists of strings, the paths as they were given (for a folder, joined
        to it, in alphabetical order), and a line for each name without a picture and for each
        folder that cannot be opened.
    """
    paths, problems = [], []

    def report(error):
        problems.append(f"{error.filename}: {error.strerror}.")

    for pattern in names:
        matches = [] if os.path.lexists(pattern) else sorted(glob.glob(pattern))
        files = [path for name in matches or [pattern] for path in files_in(name, report)]
        pictures = [path for path in files if not read_labels(path)]
        paths += pictures
        if not pictures:
            problems.append(f"{pattern}: there is no picture, or only this project's figures.")
    return paths, problems


def files_in(name, report):
    """List the files in a folder and below that are named as pictures are, or a file itself."""
    if not os.path.isdir(name):
        return [name]
    paths = []
    for folder, folders, files in os.walk(name, onerror=report):
        folders[:] = [inside for inside in folders if not inside.startswith(".")]  # As `.venv`.
        pictures = [file for file in files if file.lower().endswith(ENDINGS) and file[0] != "."]
        paths += [os.path.join(folder, file) for file in pictures]
    return sorted(paths)


def read_labels(path):
    """Return the texts in the file of a figure that this project wrote, else none."""
    if not os.path.isfile(path):
        return {}
    try:
        with TimedFile(path) as file:
            labels = Image.open(file, formats=["PNG"]).info
    except Exception:  # As in `load_picture`, which says what is wrong with a picture.
        return {}
    return labels if labels.get("Title") in FIGURE_TITLES else {}


class TimedFile(io.BufferedReader):
    """A file that raises `TimeoutError` when its decoder wants more after ten seconds of work.

    A small file can keep a decoder busy for hours, with a thousand passes over the same pixels.
    """

    def __init__(self, path):
        super().__init__(io.FileIO(path))
        self.end = time.thread_time() + MAX_SECONDS

    def read(self, size=-1):
        """Read as any file does."""
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
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError(f"{path}: the file is larger than 200 MB; make the picture smaller.")
    if not os.path.isfile(path):
        raise ValueError(f"{path}: this is not a picture, but a folder or a device.")
    if not pi_heif and os.fspath(path).lower().endswith(tuple(KINDS["HEIC"])):
        raise ValueError(
            f"{path}: pictures in Apple's HEIC format cannot be read. Export it as JPEG, or "
            "choose Settings, Camera, Formats, Most Compatible on the iPhone."
        )
    file = TimedFile(path)
    try:
        with file:
            image = Image.open(file, formats=FORMATS)
            sizes = [image.size]
            if image.format == "TIFF":  # A tile is decoded whole, even where it exceeds the image.
                sizes.append([image.tag_v2.get(tag, 0) for tag in (322, 323)])
            if max(map(math.prod, sizes)) > MAX_PIXELS:
                raise Image.DecompressionBombError
            # In an MPO, a phone's photo, what follows the first picture is not another page.
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
    """Return the pixels of a HEIC picture, decoded in a child process, which can be stopped."""
    code = """if True:
        import sys, pi_heif
        from PIL import Image
        pi_heif.register_heif_opener()
        sys.stdout.buffer.write(Image.open(sys.argv[1]).tobytes())
    """
    command = [sys.executable, "-P", "-c", code, path]
    return subprocess.run(command, capture_output=True, check=True, timeout=MAX_WAIT).stdout
