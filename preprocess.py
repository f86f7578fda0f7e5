"""From a picture of handwriting to digits as MNIST has them.

The story, one function a step: load the picture upright (`load_picture`), measure how much ink is
on each pixel (`find_ink`), take ruled lines away (`without_level_lines`), find the digits and
their order (`find_digits`), and make each one look as if it were MNIST's (`mnist_like`).
`read_digits` tells it in one go.

MNIST's authors fitted each digit, free of any background, into 20 x 20 pixels with its proportions
kept, and centred it by its centre of mass in 28 x 28 (Y. LeCun, C. Cortes and C. J. C. Burges, The
MNIST database of handwritten digits). People's pictures come with shadows, ruled lines, specks and
pens of all kinds: the art is to take those away, and nothing else.
"""

import contextlib
import dataclasses
import io
import logging
import math
import os
import stat
import time
import warnings

import cv2
import numpy as np
from PIL import Image, ImageOps

FORMATS = ["PNG", "JPEG", "BMP", "WEBP", "TIFF"]
# Decoded, such a picture takes 200 MB; no phone's camera makes a larger one by default. JPEG has no
# longer sides.
MAX_PIXELS, MAX_SIDE = 64_000_000, 65_535
# A stored picture of that size is smaller, and is read in far fewer pieces and far less time; its
# tags are read again, but not all of it.
MAX_BYTES, MAX_READS, MAX_SECONDS, MAX_REREAD = 200_000_000, 1_000_000, 10, 50_000_000
MAX_EXIF = 65_536  # In bytes, as a JPEG can have them at most.
TIFF_WIDTH, TIFF_LENGTH, TIFF_TILE_WIDTH, TIFF_TILE_LENGTH = 256, 257, 322, 323
# A side of 2,000 pixels leaves 20 for the height of a digit on a page with 70 lines of them; on
# one of 480, the strokes of a drawing of 28 x 28 are wide enough to be measured.
LONGEST_SIDE, SHORTEST_SIDE = 2_000, 480
# The background is smooth: it is estimated on a picture this small, whatever the original.
BACKGROUND_SIDE = 320
# A stroke has this width in MNIST's 20 x 20 box (the median over its training set, measured by
# `stroke_width`): hairlines are thickened to it.
MNIST_STROKE_WIDTH = 2.5
# Of MNIST's training digits 2 % are wider than this times their height. With the other conditions
# of `best_cut`, 0.12 % of them would be cut apart, and so are a fifth of pairs that touch.
CONTACT_ASPECT = 1.3
# Squared paper has a line every 5 mm, and the page 60 of them; noise may have thousands.
MOST_LINES = 100

# What is wrong with a picture is said once, by a `ValueError`.
logging.getLogger("PIL").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module="PIL")


@dataclasses.dataclass
class Digit:
    """A digit in a picture: a box, and the image that a network sees.

    Attributes:
        left: distance of the box from the left edge, in pixels of the upright picture.
        top: distance of the box from the top edge, in the same.
        width: width of the box, in the same.
        height: height of the box, in the same.
        image: uint8 array of shape `(28, 28)`, ink bright on dark, as MNIST's.
    """

    left: int
    top: int
    width: int
    height: int
    image: np.ndarray


@dataclasses.dataclass
class Part:
    """Connected ink, or several pieces of it that make one digit.

    Attributes:
        left, top, right, bottom: its box in pixels; right and bottom are outside of it.
        labels: its numbers in the array of labels.
        mass: the sum of its ink.
        peak: the ink in the middle of its strokes, from 0 to 255.
        contact: how many of its pixels lie on the picture's edges.
    """

    left: int
    top: int
    right: int
    bottom: int
    labels: list
    mass: float
    peak: float
    contact: int = 0

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
        """Return the part that this one and another are together."""
        return Part(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.labels + other.labels,
            self.mass + other.mass,
            max(self.peak, other.peak),
            self.contact + other.contact,
        )


def load_picture(path):
    """Load a picture upright, whatever it is called and however it is stored.

    Args:
        path: path of a PNG, JPEG, BMP, WebP or TIFF file.

    Returns:
        `(picture, note)`: a uint8 array of shape `(height, width, 3)`, RGB, and a sentence about
        what was left out, or `None`. Transparent pixels become white, or black behind bright ink.

    Raises:
        ValueError: it is no such picture, or too large; the message is for the user.
        OSError: it is missing, or cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: no picture, but a folder or a device.")
    if status.st_size == 0:
        raise ValueError(f"{path}: the file is empty.")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"{path}: the file is larger than 200 MB; make the picture smaller.")
    with BoundedFile(path) as file:
        image = open_image(path, file)
        several = getattr(image, "is_animated", False) and image.format != "MPO"
        note = f"{path}: only the first picture in it is read." if several else None
        try:
            image.load()
        except TooMuchWorkError:
            raise ValueError(f"{path}: it takes too long to read; save it anew.") from None
        except Exception:
            raise ValueError(f"{path}: the picture is damaged or cut short.") from None
        for key in ("exif", "Raw profile type exif"):
            if len(image.info.get(key, "")) > 2 * MAX_EXIF:  # The second is in hexadecimal.
                del image.info[key]
        with contextlib.suppress(Exception):  # Where this is damaged, the picture is as it is.
            ImageOps.exif_transpose(image, in_place=True)
        return as_rgb(image), note


class TooMuchWorkError(Exception):
    """A file makes more work than a picture does."""


class BoundedFile(io.BufferedReader):
    """A file that ends a hostile picture's work.

    Some files are small, and keep a decoder busy for hours: with millions of empty parts, say, or
    with thousands of passes over the same pixels, or of tags with the same large content. Decoders
    come here for each part.

    Args:
        path: path of the file.
    """

    def __init__(self, path):
        super().__init__(io.FileIO(path))
        self.reads = 0
        self.end = time.thread_time() + MAX_SECONDS
        self.bytes_left = os.fstat(self.fileno()).st_size + MAX_REREAD

    def read(self, size=-1):
        """Read as any file does.

        Raises:
            TooMuchWorkError: too often, too late or too much.
        """
        content = super().read(size)
        self.reads += 1
        self.bytes_left -= len(content)
        if self.reads > MAX_READS or self.bytes_left < 0 or time.thread_time() > self.end:
            raise TooMuchWorkError
        return content


def open_image(path, file):
    """Open a picture as far as to know its kind and its size.

    Args:
        path: what to call it.
        file: a `BoundedFile`.

    Returns:
        A Pillow image that can be loaded without great risk.

    Raises:
        ValueError: as `load_picture`.
    """
    start = file.read(32)
    if start[4:8] == b"ftyp" and start[8:12] not in (b"avif", b"avis"):
        raise ValueError(
            f"{path}: a picture in Apple's HEIC format, which is not read here. Export it as JPEG, "
            "or choose Settings, Camera, Formats, Most Compatible on the iPhone."
        )
    try:
        image = Image.open(file, formats=FORMATS)
        width, height = decoded_size(image)
    except Image.DecompressionBombError:
        raise ValueError(f"{path}: the picture is too large; make it smaller.") from None
    except TooMuchWorkError:
        raise ValueError(f"{path}: it takes too long to read; save it anew.") from None
    except Exception:
        kinds = "PNG, JPEG, BMP, WebP or TIFF"
        raise ValueError(f"{path}: no picture that can be read ({kinds}).") from None
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(f"{path}: {width} x {height} is too large; make it smaller.")
    if image.format in ("JPEG", "MPO"):
        # A thousand passes over the pixels fit in the 64 kB that Pillow would read at a time.
        image.decodermaxblock = 4_096
    return image


def decoded_size(image):
    """Return the width and height in which a Pillow image is decoded.

    They are the image's own but in a TIFF: each of its tiles is decoded whole, however much of it
    is outside of the image.
    """
    if image.format != "TIFF":
        return image.size
    sizes = []
    for side, tile in ((TIFF_WIDTH, TIFF_TILE_WIDTH), (TIFF_LENGTH, TIFF_TILE_LENGTH)):
        length, step = image.tag_v2[side], max(1, image.tag_v2.get(tile, 1))
        sizes.append(-(-length // step) * step)
    return sizes


def as_rgb(image):
    """Convert any kind of Pillow image to a uint8 array of shape `(height, width, 3)`, RGB."""
    if image.mode == "LAB":
        image = image.getchannel("L")
    height, width = image.height, image.width
    picture = np.empty((height, width, 3), np.uint8)
    # In one piece, the steps between would take 3 GB for the largest pictures.
    rows = max(1, 1_000_000 // width)
    boxes = [(0, top, width, min(top + rows, height)) for top in range(0, height, rows)]
    bands = [(slice(box[1], box[3]), box) for box in boxes]
    if image.mode.startswith(("I", "F")):
        # What is darkest in 16 or 32 bits a pixel becomes black, what is brightest white.
        low, high = np.inf, -np.inf
        for _, box in bands:
            values = np.asarray(image.crop(box), dtype=np.float64)
            low = values.min(where=np.isfinite(values), initial=low)
            high = values.max(where=np.isfinite(values), initial=high)
        low, high = (low, high) if low <= high else (0, 0)  # Not a single one is a number.
        for band, box in bands:
            values = np.asarray(image.crop(box), dtype=np.float64)
            values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
            picture[band] = (255 * ((values - low) / max(high - low, 1e-9)))[..., np.newaxis]
    elif image.has_transparency_data:
        light = opacity = 0
        for _, box in bands:
            part = image.crop(box).convert("RGBA")
            share = np.asarray(part.getchannel("A"), dtype=np.float32)
            light += float((np.asarray(part.convert("L")) * share).sum())
            opacity += float(share.sum())
        paper = "white" if light < 128 * max(1, opacity) else "black"
        for band, box in bands:
            part = image.crop(box).convert("RGBA")
            paper_part = Image.new("RGB", part.size, paper)
            paper_part.paste(part, mask=part.getchannel("A"))
            picture[band] = paper_part
    else:
        for band, box in bands:
            part = image.crop(box)
            picture[band] = part if part.mode == "RGB" else part.convert("RGB")
    return picture


def read_digits(picture):
    """Find every digit in a picture, in reading order.

    Args:
        picture: uint8 array of shape `(height, width, 3)`, RGB, upright.

    Returns:
        A list of `Digit`: lines from top to bottom, each from left to right. Empty where there
        is no ink.
    """
    x, y, width, height = inside_margin(picture)
    picture = picture[y : y + height, x : x + width]
    longest = max(picture.shape[:2])
    scale = np.clip(longest, SHORTEST_SIDE, LONGEST_SIDE) / longest
    working = resized(picture, scale)
    ink = find_ink(working)
    parts, labels = find_digits(ink)
    digits = []
    for part in parts:
        left, top, right, bottom = (
            round(side / scale) for side in (part.left, part.top, part.right, part.bottom)
        )
        width, height = max(1, right - left), max(1, bottom - top)
        digits.append(Digit(x + left, y + top, width, height, mnist_like(ink, labels, part)))
    return digits


def inside_margin(picture):
    """Find the photo within a plain margin that was put around it.

    Args:
        picture: uint8 array of shape `(height, width, 3)`, RGB.

    Returns:
        `(left, top, width, height)` of the photo in pixels; of the whole picture where there is
        no such margin.
    """
    height, width = picture.shape[:2]
    for corner in (picture[0, 0], picture[-1, -1]):
        # Compression leaves the margin's colour about as it was.
        lowest, highest = ([int(value) + step for value in corner] for step in (-8, 8))
        other = cv2.inRange(picture, tuple(lowest), tuple(highest)) == 0
        rows = np.flatnonzero(other.mean(axis=1) > 0.5)
        columns = np.flatnonzero(other.mean(axis=0) > 0.5)
        if not len(rows) or not len(columns):
            continue
        left, top = int(columns[0]), int(rows[0])
        right, bottom = int(columns[-1]) + 1, int(rows[-1]) + 1
        inside = other[top:bottom, left:right]
        # A photo has edges; a drawing on plain paper differs from it in its strokes alone.
        edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
        ink_outside = other.sum() - inside.sum()
        if (
            ink_outside < 0.01 * (other.size - inside.size)
            and min(edge.mean() for edge in edges) > 0.7
        ):
            return left, top, right - left, bottom - top
    return 0, 0, width, height


def resized(image, scale):
    """Resize an image: averaging where it shrinks, smoothly where it grows."""
    if scale == 1:
        return image
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def odd(length):
    """Round a length down to an odd number of pixels, 3 or more, as OpenCV wants its kernels."""
    return max(3, int(length) // 2 * 2 + 1)


def ellipse(size):
    """Make a round kernel of the given odd diameter."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def find_ink(picture):
    """Measure how much ink is on each pixel: what is darker (or brighter) than the paper around.

    The paper's own colour and light are estimated by a morphological closing, which fills in
    everything narrower than a quarter of the picture: strokes are, shadows and vignettes are not,
    and it keeps their edges where they are. Ink takes away a share of the light, so that the
    ratio to the paper is the same in the shadow and outside of it.

    Args:
        picture: uint8 array of shape `(height, width, 3)`, RGB.

    Returns:
        uint8 array of shape `(height, width)`: 0 is paper, 255 is black ink on white.
    """
    height, width = picture.shape[:2]
    small = resized(picture, min(1, BACKGROUND_SIDE / max(height, width)))
    if is_bright_on_dark(small):
        picture, small = 255 - picture, 255 - small
    size = odd(min(small.shape[:2]) / 4)
    # Mirrored beyond the edge, the corner between it and a shadow's edge is wide enough to be kept,
    # and a stroke that is cut by the edge is still a stroke.
    mirrored = cv2.copyMakeBorder(small, *[size] * 4, cv2.BORDER_REFLECT)
    paper = cv2.morphologyEx(mirrored, cv2.MORPH_CLOSE, ellipse(size))
    paper = cv2.medianBlur(paper, odd(size / 2))[size:-size, size:-size]
    # Nothing that is written on is darker than this beside its own paper: a brush's stroke that is
    # too wide to be filled in is, and so is a table beside the page, which `without_frames` drops.
    paper = np.maximum(paper, np.uint8(0.3 * np.quantile(paper, 0.9, axis=(0, 1))))
    # Red paper has hardly any blue light that ink could take away, but noise that looks like it.
    light = np.maximum(paper, paper.max(axis=2, keepdims=True) // 4)
    paper, light = (
        cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        for image in (paper, light)
    )
    ink = cv2.divide(cv2.subtract(paper, picture), np.maximum(light, 1), scale=255)
    red, green, blue = cv2.split(ink)
    return cv2.max(cv2.max(red, green), blue)  # Coloured ink leaves one of them its light.


def is_bright_on_dark(picture):
    """Decide whether the ink is brighter than the background, as on a blackboard.

    Args:
        picture: uint8 array of shape `(height, width, 3)`, small.

    Returns:
        `True` where what stands out from the median of its wide surroundings is mostly brighter,
        both as a whole and in its fine detail.
    """
    gray = picture.mean(axis=2).astype(np.uint8)
    size = min(255, odd(min(gray.shape) / 2))
    margin = size // 2
    padded = cv2.copyMakeBorder(gray, *[margin] * 4, cv2.BORDER_REPLICATE)
    median = cv2.medianBlur(padded, size)[margin:-margin, margin:-margin]
    ratio = 1.0
    # The blur's width of a fortieth is that of a pen's stroke in most photos.
    for surroundings in (median, cv2.GaussianBlur(gray, (0, 0), max(gray.shape) / 40)):
        brighter = (cv2.subtract(gray, surroundings).astype(np.float64) ** 2).sum()
        darker = (cv2.subtract(surroundings, gray).astype(np.float64) ** 2).sum()
        ratio *= (brighter + 1) / (darker + 1)
    return ratio > 1


def without_level_lines(mask, faint, ink):
    """Take away thin lines that run from the left edge to the right, as on ruled and squared paper.

    A line is removed where it is no thicker and no darker than it is elsewhere: what is thicker or
    darker there is a stroke that crosses it.

    Args:
        mask: uint8 array of shape `(height, width)`, 1 where there is ink, 0 elsewhere.
        faint: uint8 array of the same shape, 1 where there may be ink.
        ink: uint8 array of the same shape, from `find_ink`.

    Returns:
        The mask without lines, of the same shape.
    """
    # A line ends where the dark side of a photo begins: most of a column there is dark, while
    # handwriting and ruled lines leave most of the paper free.
    lit = np.flatnonzero(faint.mean(axis=0) < 0.3)
    if not len(lit):
        return mask
    inner = (slice(None), slice(lit[0], lit[-1] + 1))
    whole, mask, faint, ink = mask.copy(), mask[inner], faint[inner], ink[inner]
    height, width = mask.shape
    # Lines slope and bend in photos, but short pieces of them are level; made thicker by a pixel
    # above and below, they have no steps.
    level = cv2.dilate(faint, np.ones((3, 1), np.uint8))
    level = cv2.morphologyEx(level, cv2.MORPH_OPEN, np.ones((1, odd(width / 30)), np.uint8)) & faint
    # No ruled line is as thick as a brush's stroke, which is level, too, in the bar of a 7.
    thick = np.ones(2 * [odd(0.03 * max(mask.shape))], np.uint8)
    level &= ~cv2.morphologyEx(faint, cv2.MORPH_OPEN, thick)
    if not level.any():
        return whole
    mask = whole[inner]
    thickness = level.sum() / (np.diff(level, axis=0, prepend=np.uint8(0)) == 1).sum()
    tall = np.ones((odd(2 * thickness + 2), 1), np.uint8)
    crossing = cv2.morphologyEx(mask, cv2.MORPH_OPEN, tall)
    half = round(thickness / 2) + 1
    columns = np.arange(width)
    for middle in edge_to_edge(level, faint, thickness):
        rows = np.clip(middle + np.arange(-half, half + 1)[:, np.newaxis], 0, height - 1)
        darker = ink[rows, columns] > 1.5 * np.median(ink[middle, columns])
        mask[rows, columns] &= crossing[rows, columns] | darker
    return whole


def without_underlines(mask, ink):
    """Take away lines below several digits that touch them.

    Args:
        mask: uint8 array of shape `(height, width)`, 1 where there is ink, 0 elsewhere.
        ink: uint8 array of the same shape, from `find_ink`.

    Returns:
        The mask without such lines, of the same shape.
    """
    mask = mask.copy()
    parts, labels = find_parts(ink, mask)
    for part in parts:
        if part.width > 1.6 * part.height:  # No digit is.
            margin = ((part.height, part.height), (0, 0))
            own = part.mask(labels)
            window = (slice(part.top, part.bottom), slice(part.left, part.right))
            padded = np.pad(own, margin)
            kept = without_level_lines(padded, padded, np.pad(ink[window], margin))
            mask[window] &= ~own | kept[part.height : -part.height]
    return mask


def edge_to_edge(level, faint, thickness):
    """Find thin lines from the left edge of a picture to its right edge, with ink all along.

    Paper bends and lenses distort: a line is a cubic curve between its ends.

    Args:
        level: uint8 array of shape `(height, width)`, 1 on level strokes, 0 elsewhere.
        faint: uint8 array of the same shape, 1 where there may be ink.
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
    if max(len(starts), len(ends)) > MOST_LINES:
        return
    along = np.linspace(0, 1, 100)
    columns = np.round(along * (width - 1)).astype(int)
    # Of every 100 pixels, a line rises by 20 at the most, bends by 3 and waves by 1: a page that
    # does more is not readable. Bends are tried in steps that `near` covers.
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
            sides = np.clip([line - beside, line + beside], 0, height - 1)
            if covered.max() > 0.9 and faint[sides, columns].mean(axis=1).max() < 0.5:
                yield middle_of_line(np.interp(np.arange(width), columns, line), faint, beside)
                break


def middle_of_line(rough, faint, reach):
    """Follow a line more closely than a curve of few parameters does.

    Args:
        rough: float array of shape `(width,)`, about the line's row in each column.
        faint: uint8 array of shape `(height, width)`, 1 where there may be ink.
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


def find_digits(ink):
    """Find the digits among the ink, and the order in which they are read.

    Args:
        ink: uint8 array of shape `(height, width)`, from `find_ink`.

    Returns:
        `(parts, labels)`: a list of `Part` in reading order, and an int32 array of the ink's
        shape with the number of the piece of ink that each pixel belongs to.
    """
    page = ink.shape[::-1]
    smooth = cv2.GaussianBlur(ink, (0, 0), max(0.8, max(ink.shape) / 1200))
    # Paper has grain: ink is what stands out from it by four standard deviations (estimated by
    # the median, which a little ink does not move) and by a tenth of what black ink would.
    # Where half of the picture is black, a wide brush has left little paper.
    paper = smooth[smooth < 128] if np.median(smooth) > 200 else smooth.ravel()
    if not len(paper):
        return [], np.zeros(ink.shape, np.int32)
    median = np.median(paper)
    grain = 1.4826 * np.median(cv2.absdiff(paper, np.full_like(paper, median)))
    least = max(25, median + 4 * grain)
    faint = (smooth > least).astype(np.uint8)
    parts = without_frames(find_parts(smooth, faint)[0], *page)
    if not parts:
        return [], np.zeros(ink.shape, np.int32)
    mask = (smooth > max(least, 0.3 * typical_ink(parts))).astype(np.uint8)
    mask = without_level_lines(mask, faint, smooth)
    mask, faint, sideways = (np.ascontiguousarray(image.T) for image in (mask, faint, smooth))
    mask = np.ascontiguousarray(without_level_lines(mask, faint, sideways).T)
    parts, labels = find_parts(smooth, without_underlines(mask, smooth))
    parts = without_frames(parts, *page)
    if parts:
        # Show-through, faint shadows and what is left of ruled lines are paler than half of it.
        pen = typical_ink(parts)
        parts = [part for part in parts if part.peak >= 0.5 * pen]
        size = typical_height(parts)
        parts = without_frames(joined_pieces(parts, labels, size), *page)
        parts = without_margins(parts, labels, size, pen)
        parts = [part for part in parts if part.height > max(0.4 * size, 0.35 * part.width)]
        parts = without_contact(parts, labels)
    return in_reading_order(parts), labels


def find_parts(ink, mask):
    """Find the connected pieces of ink that may be digits or pieces of them.

    Args:
        ink: uint8 array of shape `(height, width)`.
        mask: uint8 array of the same shape, 1 where the ink counts, 0 elsewhere.

    Returns:
        `(parts, labels)` as `find_digits`, in no order.
    """
    height, width = ink.shape
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask)
    sides = boxes[:, 2:4].max(axis=1)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    contacts = np.bincount(edges, minlength=len(boxes))
    # Specks are no digits; and no page has more than a few hundred digits, but paper has grain.
    found = np.nonzero(sides >= 0.012 * max(height, width))[0]
    found = found[np.argsort(-sides[found], kind="stable")][:400]
    found = found[found > 0]
    # Boxes of digits hardly overlap. Hundreds as large as the page would keep us busy for minutes.
    areas = boxes[found, 2] * boxes[found, 3]
    small_first = np.argsort(areas, kind="stable")
    fits = np.cumsum(areas[small_first]) <= 5 * height * width
    parts = []
    for label in np.delete(found, small_first[~fits]):
        left, top, box_width, box_height, _ = boxes[label]
        window = slice(top, top + box_height), slice(left, left + box_width)
        values = ink[window][labels[window] == label]
        right, bottom = left + box_width, top + box_height
        peak = float(np.quantile(values, 0.9))
        mass, contact = float(values.sum()), int(contacts[label])
        parts.append(Part(left, top, right, bottom, [label], mass, peak, contact))
    return parts, labels


def without_frames(parts, width, height):
    """Drop what surrounds digits or lies beside them: borders of boxes, edges of pages, tables.

    Args:
        parts: list of `Part`.
        width: the picture's, in pixels.
        height: the picture's, in pixels.

    Returns:
        The parts that may be digits.
    """
    # A table beside the page or a dark corner lies along the edges with half of its outline, which
    # is as long as its box is wide and high. A digit that is cut by an edge does not.
    inner = [part for part in parts if part.contact < 0.9 * (part.width + part.height)]
    if any(max(part.width, part.height) > 0.03 * max(width, height) for part in inner):
        parts = inner
    kept = []
    for part in parts:
        flat = part.height < 0.35 * part.width
        edges = (part.left == 0) + (part.top == 0) + (part.right == width) + (part.bottom == height)
        long = part.width > 0.5 * width or part.height > 0.5 * height
        large = part.width * part.height > 0.4 * width * height
        inside = sum(
            other.mass
            for other in parts
            if part.left < other.left
            and part.top < other.top
            and other.right < part.right
            and other.bottom < part.bottom
            and other.height > 0.2 * part.height
        )
        free = sum(
            other.mass
            for other in parts
            if min(other.left, other.top, width - other.right, height - other.bottom) > 0
        )
        # No digit has another one inside, but a speck in a 0 leaves it a 0.
        surrounds = inside > (0.02 if large else 0.1) * part.mass
        beside = edges >= 1 and flat or edges >= 2 and long
        if not (surrounds or beside and free > 0.1 * part.mass):
            kept.append(part)
    return kept


def without_margins(parts, labels, size, pen):
    """Drop what a photo shows along its edges: a shadow, the end of the paper, a finger.

    A digit that touches the edge, or is cut by it, was written with the same pen as the others,
    about as large and with strokes about as wide.

    Args:
        parts: list of `Part`.
        labels: int32 array of shape `(height, width)`, from `find_parts`.
        size: the typical height of a digit, in pixels.
        pen: the typical ink of the pen, from 0 to 255.

    Returns:
        The parts that may be digits.
    """
    height, width = labels.shape
    free, at_edge = [], []
    for part in parts:
        distance = min(part.left, part.top, width - part.right, height - part.bottom)
        (free if distance else at_edge).append(part)
    if not free:
        return parts
    stroke = np.median([stroke_width(part.mask(labels)) for part in free])
    like = [
        part
        for part in at_edge
        if part.peak > 0.7 * pen
        and 0.75 * size < part.height < 1.6 * size
        and part.width < 1.6 * size
        and stroke_width(part.mask(labels)) < 2 * stroke
    ]
    return free + like


def typical_ink(parts):
    """Return what three quarters of the ink are paler than: the pen's, from 0 to 255."""
    ordered = sorted(parts, key=lambda part: part.peak)
    mass = np.cumsum([part.mass for part in ordered])
    return ordered[np.searchsorted(mass, 0.75 * mass[-1])].peak


def typical_height(parts):
    """Return the height that half of the ink is at least as high as, in pixels.

    Flat pieces, of ruled lines say, do not count where there are others.
    """
    upright = [part for part in parts if part.height > 0.35 * part.width] or parts
    ordered = sorted(upright, key=lambda part: -part.height)
    mass = np.cumsum([part.mass for part in ordered])
    return ordered[np.searchsorted(mass, mass[-1] / 2)].height


def joined_pieces(parts, labels, size):
    """Join what belongs to one digit: the bar of a 5 that does not touch, a 4 in two strokes.

    Args:
        parts: list of `Part`.
        labels: int32 array of shape `(height, width)`, from `find_parts`.
        size: the typical height of a digit, in pixels.

    Returns:
        A list of `Part`.
    """
    whole = []
    for part in sorted(parts, key=lambda part: -part.mass):
        for i, host in enumerate(whole):
            if part.left > host.right or host.left > part.right:
                continue
            together = part.joined(host)
            gap_y = together.height - part.height - host.height
            overlap = (part.width + host.width - together.width) / min(part.width, host.width)
            piece = min(part.height, host.height) < 0.6 * size
            if (
                not is_underline(part, host)
                and gap_y < 0.25 * size
                and together.height < 1.45 * size
                and together.width < 1.4 * size
                and part.mass > 0.02 * host.mass
                and (
                    overlap > (0.3 if piece else 0.7)
                    or overlap > 0.1
                    and together.width < together.height
                    and nearly_touch(together.mask(labels))
                )
            ):
                whole[i] = together
                break
        else:
            whole.append(part)
    return whole


def is_underline(part, other):
    """Tell whether the lower one of two parts is a line below the other, and no piece of it."""
    upper, line = sorted((part, other), key=lambda part: part.top + part.bottom)
    flat = line.height < 0.35 * line.width
    return flat and line.width > max(1.1 * upper.width, 0.7 * upper.height)


def nearly_touch(mask):
    """Tell whether the pieces of ink in a mask are less than half a stroke's width apart."""
    grown = cv2.dilate(mask, ellipse(odd(stroke_width(mask) / 2)))
    count, *_ = cv2.connectedComponents(grown)
    return count == 2  # The background, and all of the ink.


def without_contact(parts, labels):
    """Cut digits apart that touch each other.

    Two digits that touch are wider than one, and a straight cut between them crosses a single
    stroke, or none, and leaves two pieces that are nearly as high as both together. A wide 0 has
    two strokes to cross; the bars of a wide 2 or 5 are flat when they are cut off.

    Args:
        parts: list of `Part`.
        labels: int32 array of shape `(height, width)`, from `find_parts`; digits that are cut off
            get new numbers, in place.

    Returns:
        A list of `Part`.
    """
    apart = []
    waiting = list(parts)
    while waiting:
        part = waiting.pop()
        own = part.mask(labels)
        cut = best_cut(own) if part.width > CONTACT_ASPECT * part.height else None
        if cut is None:
            apart.append(part)
            continue
        window = labels[part.top : part.bottom, part.left : part.right]
        for side in (own & (cut < 0), own & (cut >= 0)):
            label = labels.max() + 1
            window[side > 0] = label
            left, top, width, height = cv2.boundingRect(side)
            left, top = left + part.left, top + part.top
            mass = part.mass * side.sum() / own.sum()
            waiting.append(Part(left, top, left + width, top + height, [label], mass, part.peak))
    return apart


def best_cut(mask):
    """Find the straight cut, upright or slanted, that parts two digits which touch.

    Args:
        mask: uint8 array of shape `(height, width)`, 1 where there is ink, 0 elsewhere.

    Returns:
        An int32 array of the same shape, negative to the left of the cut, or `None`.
    """
    height, width = mask.shape
    rows, columns = np.indices(mask.shape)
    inked = mask > 0
    stroke = stroke_width(mask)
    best = None
    for slant in np.linspace(-0.6, 0.6, 7):
        position = np.int32(np.round(columns + slant * (rows - height / 2)))
        crossed = np.bincount(np.clip(position[inked], 0, width), minlength=width + 1)
        # Each digit is a third of the whole at the least.
        middle = slice(width // 3, width - width // 3)
        cut = width // 3 + int(np.argmin(crossed[middle]))
        sides = [inked & (position < cut), inked & (position >= cut)]
        heights = [np.ptp(np.nonzero(side)[0]) + 1 if side.any() else 0 for side in sides]
        if min(heights) > 0.8 * height and crossed[cut] < stroke:
            best = min(best or (np.inf,), (crossed[cut], abs(slant), slant, cut))
    if best is None:
        return None
    *_, slant, cut = best
    return np.int32(np.round(columns + slant * (rows - height / 2))) - cut


def in_reading_order(parts):
    """Order digits by lines from top to bottom, each from left to right.

    A line may slope: from left to right, each digit goes to the line whose last digit it stands
    beside.

    Args:
        parts: list of `Part`.

    Returns:
        A list of the same parts.
    """
    lines = []
    for part in sorted(parts, key=lambda part: part.left):
        beside = [
            (min(part.bottom, line[-1].bottom) - max(part.top, line[-1].top), line)
            for line in lines
        ]
        overlap, line = max(beside, key=lambda pair: pair[0], default=(0, None))
        if line and overlap > 0.5 * min(part.height, line[-1].height):
            line.append(part)
        else:
            lines.append([part])
    lines.sort(key=lambda line: np.mean([part.top + part.bottom for part in line]))
    return [part for line in lines for part in line]


def stroke_width(mask):
    """Estimate how wide a stroke is.

    Across a bar, the distance to the nearer edge is a quarter of the bar's width on average; from
    pixel to pixel, OpenCV's distance is half a pixel more.

    Args:
        mask: uint8 array of shape `(height, width)`, 1 where there is ink, 0 elsewhere.

    Returns:
        The width in pixels, 0 where there is no ink.
    """
    distance = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)
    return 4 * (cv2.mean(distance, np.pad(mask, 1))[0] - 0.5) if mask.any() else 0.0


def thickened(digit, width):
    """Widen strokes that are narrower than a width; the others stay as they are.

    Args:
        digit: float32 array of shape `(height, width)`, 1 where there is ink, 0 elsewhere.
        width: in pixels.

    Returns:
        A float32 array, larger by a margin where strokes were widened.
    """
    missing = width - stroke_width((digit > 0.5).astype(np.uint8))
    if missing <= 1:
        return digit
    size = odd(missing + 1)
    return cv2.dilate(np.pad(digit, size), ellipse(size))


def mnist_like(ink, labels, part):
    """Make one digit look like MNIST's.

    Args:
        ink: uint8 array of shape `(height, width)`, from `find_ink`.
        labels: int32 array of the same shape, from `find_digits`.
        part: the `Part` to take.

    Returns:
        uint8 array of shape `(28, 28)`, ink bright on dark: 20 x 20 at the most, with its
        proportions kept, its centre of mass at pixel (14, 14).
    """
    margin = max(2, max(part.width, part.height) // 20)
    window = (
        slice(max(0, part.top - margin), part.bottom + margin),
        slice(max(0, part.left - margin), part.right + margin),
    )
    mine = cv2.dilate(np.isin(labels[window], part.labels).astype(np.uint8), ellipse(3))
    # From a quarter of the pen's ink to three quarters, so that strokes are full and edges soft.
    digit = np.clip((ink[window] / np.float32(part.peak) - 0.25) / 0.5, 0, 1) * mine
    shrink = max(digit.shape) / 160  # Enough to measure strokes, and fast.
    if shrink > 1:
        # A hairline that is narrower than a new pixel would fade.
        digit = resized(thickened(digit, shrink), 1 / shrink)
    digit = cropped(digit)
    digit = cropped(thickened(digit, MNIST_STROKE_WIDTH * max(digit.shape) / 20))
    digit = resized(digit, 20 / max(digit.shape))
    # OpenCV's moments would take an image that is two pixels wide for a list of points.
    rows, columns = np.indices(digit.shape)
    right = round(14 - np.average(columns, weights=digit))
    down = round(14 - np.average(rows, weights=digit))
    centred = cv2.warpAffine(digit, np.float32([[1, 0, right], [0, 1, down]]), (28, 28))
    return np.round(255 * np.clip(centred / centred.max(), 0, 1)).astype(np.uint8)


def cropped(digit):
    """Crop a float32 image to the box around what is more than half ink."""
    left, top, width, height = cv2.boundingRect((digit > 0.5).astype(np.uint8))
    if width == 0:
        return digit
    return digit[top : top + height, left : left + width]
