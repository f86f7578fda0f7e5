"""Pictures of handwriting, made from MNIST's digits: as files, and as people photograph them.

    python tests/paper.py number.jpg
    python tests/paper.py --round-trip 5000 --model mnist_cnn.keras mnist_ann.keras
    python tests/paper.py --scenes 50 --model mnist_cnn.keras mnist_ann.keras

The first writes a sheet of ruled paper in a shadow, with two numbers made of test digits.
The second saves validation digits as pictures in several forms, and counts those that are lost, of
those that the network reads correctly when it gets them directly.
The third makes random scenes of each kind from validation digits, and prints the shares of which
the whole number is read correctly, with their 95 % confidence intervals.
"""

import argparse
import copy
import multiprocessing
import pathlib
import sys
from functools import partial

import cv2
import numpy as np
from PIL import Image

INK = (0.15, 0.15, 0.35)


def sheet(height=600, width=800, colour=(0.93, 0.92, 0.88)):
    """Make an empty sheet: float32 RGB of shape `(height, width, 3)`, 0 to 1."""
    return np.full((height, width, 3), colour, np.float32)


def write(picture, digit, left, top, size, ink=INK):
    """Write one digit of shape `(28, 28)`, uint8, into a square of `size` pixels, in place."""
    large = cv2.resize(digit, (size, size), interpolation=cv2.INTER_CUBIC)[..., np.newaxis]
    # Enlarged ink has soft edges; a pen's are sharp.
    strength = np.clip((large / np.float32(255) - 0.3) / 0.4, 0, 1)
    window = picture[top : top + size, left : left + size]
    window[:] = window * (1 - strength) + np.float32(ink) * strength


def write_number(picture, digits, left, top, size, slope=0.0, ink=INK):
    """Write digits in a row, in place; they rise by `slope`."""
    step = round(0.78 * size)
    for i, digit in enumerate(digits):
        write(picture, digit, left + i * step, round(top - slope * i * step), size, ink)


def plain(digit):
    """One digit on plain paper, somewhere off the middle."""
    picture = sheet()
    write(picture, digit, 260, 180, 220)
    return picture


def as_bytes(picture):
    """Round a float picture, 0 to 1, to uint8, 0 to 255."""
    return np.uint8(np.round(255 * np.clip(picture, 0, 1)))


def as_jpeg(picture, quality=75):
    """Save a uint8 picture as a JPEG, and open that."""
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)


def in_two_colours(image, side=28, ink=0, paper=255, method=Image.Resampling.BICUBIC):
    """One digit, enlarged as Pillow does, as a picture in two colours."""
    large = np.asarray(Image.fromarray(image).resize((side, side), method), np.float32)
    ink, paper = (np.broadcast_to(np.float32(colour), 3) for colour in (ink, paper))
    return np.uint8(np.round(paper + large[..., np.newaxis] / 255 * (ink - paper)))


def on_a_sheet(image):
    """One digit, 90 pixels high, on a sheet of 800 x 600."""
    picture = np.full((600, 800, 3), 255, np.uint8)
    picture[240:330, 300:390] = in_two_colours(image, 90)
    return picture


BLUE_ON_YELLOW = {"ink": (30, 50, 160), "paper": (250, 235, 130)}
FORMS = {
    "28 x 28, black on white": in_two_colours,
    "28 x 28, white on black": partial(in_two_colours, ink=255, paper=0),
    "28 x 28, JPEG": lambda image: as_jpeg(in_two_colours(image)),
    "280 x 280, black on white": partial(in_two_colours, side=280),
    "280 x 280, white on black": partial(in_two_colours, side=280, ink=255, paper=0),
    "1000 x 1000, JPEG": lambda image: as_jpeg(in_two_colours(image, 1000)),
    "100 x 100, in blocks": partial(in_two_colours, side=100, method=Image.Resampling.NEAREST),
    "blue ink on yellow paper": partial(in_two_colours, side=280, **BLUE_ON_YELLOW),
    "90 high on a sheet of 800 x 600": on_a_sheet,
}


def clouds(generator, shape, rows, columns):
    """Make smooth random values about 0, with as many hills and valleys down and across."""
    hills = generator.standard_normal((rows + 1, columns + 1), np.float32)
    return cv2.resize(hills, shape[::-1], interpolation=cv2.INTER_CUBIC)[..., np.newaxis]


def skeleton(mask):
    """Thin strokes to lines one pixel wide, from eight sides in turn, without side branches."""
    corners = ([[-1, -1, -1], [0, 1, 0], [1, 1, 1]], [[0, -1, -1], [1, 1, -1], [0, 1, 0]])
    kernels = [np.rot90(corner, turns) for turns in range(4) for corner in corners]
    before = -1
    while before != (before := mask.sum()):
        for kernel in kernels:
            mask = mask & ~cv2.morphologyEx(mask, cv2.MORPH_HITMISS, kernel.astype(np.int32))
    for _ in range(12):
        mask = mask & (cv2.filter2D(mask, -1, np.ones((3, 3))) > 2)
    # That took twelve pixels off the ends of strokes, too.
    rows, columns = np.nonzero(mask)
    for row, column in np.argwhere(mask & (cv2.filter2D(mask, -1, np.ones((3, 3))) == 2)):
        near = np.hypot(rows - row, columns - column) < 15
        away = np.array([column - columns[near].mean(), row - rows[near].mean()])
        end = (column, row) + 16 * away / max(1, np.hypot(*away))
        cv2.line(mask, (int(column), int(row)), np.int32(end).tolist(), 1)
    return mask


def stroke(generator, image, height, pen, slant):
    """Write one digit anew with a pen `pen` pixels wide: strength of ink, 0 to 1, cropped."""
    wide, shear = 8 * generator.uniform(0.85, 1.1), 8 * slant
    matrix = np.float32([[wide, -shear, 160 - 14 * (wide - shear)], [0, 8, 160 - 14 * 8]])
    large = cv2.warpAffine(image, matrix, (320, 320), flags=cv2.INTER_CUBIC)
    lines = skeleton(np.uint8(cv2.GaussianBlur(large, (0, 0), 3) > 85))
    scale = height / (np.ptp(np.nonzero(lines)[0]) + 1)
    lines = np.pad(lines, 5 + int(pen / scale))
    # The distance from a line is about 0.8 sigma in its middle when it is smoothed.
    distance = cv2.GaussianBlur(cv2.distanceTransform(1 - lines, cv2.DIST_L2, 5), (0, 0), 2.5)
    distance = np.sqrt(np.maximum(distance**2 - 2**2, 0))
    distance = scale * cv2.resize(distance, None, fx=scale, fy=scale)
    pressure = 1 + 0.1 * clouds(generator, distance.shape, 5, 5)[..., 0]
    ink = np.clip(pressure * pen / 2 - distance + 0.5, 0, 1)
    left, top, width, height = cv2.boundingRect(np.uint8(ink > 0.4))
    return ink[top : top + height, left : left + width]


def write_lines(
    generator, images, lines, size, pen, gap, jump=0, ratio=1, slope=0, touching=0, leading=1.6
):
    """Write a number on one or several lines: strength of ink, 0 to 1, cropped.

    Digits are `size` high or up to `ratio` times smaller, `gap` sizes apart, up to `jump` sizes off
    the line; a share of them, but at least one, are `touching` the one before.
    """
    slant, per_line = generator.uniform(-0.1, 0.35), len(images) // lines
    heights = size * ratio ** -generator.permutation(np.linspace(0, 1, len(images)))
    touches = generator.random(len(images)) < touching
    touches[generator.integers(1, len(images) + 1) % len(images)] |= touching > 0
    across = round(2.4 * size * per_line)
    canvas = np.zeros(
        (round((2 + leading * lines) * size + abs(slope) * across), across), np.float32
    )
    left = 0
    for i, (image, height, touch) in enumerate(zip(images, heights, touches, strict=True)):
        left *= i % per_line > 0
        ink = stroke(generator, image, height * generator.uniform(0.88, 1.12), pen, slant)
        off = generator.normal(0, 0.03) * height + generator.uniform(-jump, jump) * size
        line = len(canvas) - size - leading * size * (lines - 1 - i // per_line)
        bottom = round(line - abs(slope) * across / 2 + slope * (across / 2 - left) + off)
        left += round(generator.uniform(*gap) * size) if left else 0
        rows, wide = canvas[bottom - ink.shape[0] : bottom], ink.shape[1]
        closest = max(0, left - 0.35 * wide) if touch else left
        while left > closest and np.minimum(rows[:, left : left + wide], ink).max() < 0.5:
            left -= 1
        np.maximum(rows[:, left : left + wide], ink, out=rows[:, left : left + wide])
        left += wide
    x, y, width, height = cv2.boundingRect(np.uint8(canvas > 0))
    return canvas[y : y + height, x : x + width]


def put(generator, page, ink, colour, grain):
    """Put ink somewhere on a page; its strength becomes the fourth channel."""
    shape = np.array(page.shape[:2])
    scale = min(1, *0.85 * shape / ink.shape)
    ink = cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = np.int32(generator.uniform(0.06 * shape, 0.94 * shape - ink.shape))
    strength = np.zeros((*shape, 1), np.float32)
    strength[top : top + ink.shape[0], left : left + ink.shape[1], 0] = ink
    cover = strength * (1 - grain * generator.random(strength.shape, np.float32))
    # Printed lines are seen through ink, but not through chalk.
    covered = (np.minimum if np.mean(colour) < page.mean() else np.maximum)(page, colour)
    return np.dstack([page + (covered - page) * cover, strength])


# The colours of a page and of the ink on it.


def pen_ink(generator):
    paper = generator.uniform(0.75, 1) * generator.uniform((1, 0.97, 0.9), (1, 1, 1.01))
    inks = ((0.1, 0.1, 0.12), (0.12, 0.17, 0.5), (0.2, 0.25, 0.6), (0.3, 0.3, 0.32))
    return paper, generator.choice(inks) * generator.uniform(0.7, 1.2)


def pencil_lead(generator):
    paper, _ = pen_ink(generator)
    return paper, paper * generator.uniform(0.4, 0.75)


def pen_or_pencil(generator):
    return generator.choice([pen_ink, pencil_lead])(generator)


def crayon(generator):
    paper, ink = (
        generator.uniform((0.5, 0.8, 0.9), 1),
        generator.uniform((0.4, 0, 0), (0.8, 0.3, 0.3)),
    )
    return generator.permutation(paper), generator.permutation(ink)


def chalk(generator):
    boards, chalks = [(0.1, 0.25, 0.18), (0.13, 0.13, 0.14)], [(0.9, 0.9, 0.88), (0.9, 0.85, 0.5)]
    return generator.choice(boards), generator.choice(chalks)


# What is on a page before it is written on, drawn in place.


def wipe(generator, page):
    page *= 1 + 0.1 * clouds(generator, page.shape[:2], 6, 4)


def rule(generator, page, squares=False):
    """Draw the lines of ruled paper, across or down the page, or both."""
    step, width = int(generator.integers(30, 60) * (1 if squares else 2)), generator.integers(1, 4)
    tint = generator.uniform(0.35 if squares else 0.5, 0.9) + np.float32([0, 0, 0.1])
    across, first = generator.random() < 0.85, generator.integers(step)
    for start in range(first, max(page.shape), step):
        if squares or across:
            page[start : start + width] = page[0, 0] * tint
        if squares or not across:
            page[:, start : start + width] = page[0, 0] * tint


def bind(generator, page):
    """Bind a page with a spiral at its left edge or its top."""
    side = page if generator.random() < 0.5 else page.swapaxes(0, 1)
    step, radius, wire = *generator.integers((28, 5), (50, 9)), generator.choice([0.1, 0.45, 0.8])
    for row in range(step, len(side) - step, step):
        side[row - radius : row + radius, 18 : 18 + 2 * radius] = 0.15
        side[row - 2 : row + 2, : 18 + radius] = wire


def crumple(generator, page):
    """Crumple a page: facets, bright and dark, with creases between them."""
    points = (np.indices(page.shape[:2]).T / page.shape[1]).astype(np.float32)
    centres = generator.random((generator.integers(8, 40), 2), np.float32)
    points += 0.06 * clouds(generator, page.shape[1::-1], 4, 4)
    nearest = np.argmin([((points - centre) ** 2).sum(axis=-1) for centre in centres], axis=0)
    slopes = generator.normal(0, 0.3, centres.shape)
    light = generator.normal(1, 0.08, len(centres))[nearest]
    light += ((points - centres[nearest]) * slopes[nearest]).sum(axis=-1)
    light = cv2.GaussianBlur(np.float32(light.T), (0, 0), generator.uniform(2, 20))
    page *= light[..., np.newaxis]


# What happens to a photo, the fourth channel of which is where its ink is.


def look(generator, page, scale, angle, shift, tilt):
    """Look at a page on a table from some angle, so that all of its ink is in the photo."""
    height, width = page.shape[:2]
    size, unit = np.float32([width, height]), np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])
    left, top, *ink = cv2.boundingRect(np.uint8(page[..., 3] > 0.3))
    ink = [left, top] + unit * np.float32(ink)
    scale, turn = generator.uniform(*scale), np.deg2rad(generator.normal(0, angle))
    rotation = np.float32([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners = (unit - 0.5) * size * (1 + generator.normal(0, tilt, (4, 2))) @ rotation
    away, inside = generator.uniform(-shift, shift, 2) * size, False
    while not inside:
        seen = np.float32(scale * corners + away + size / 2)
        matrix = cv2.getPerspectiveTransform(unit * size, seen)
        place = cv2.perspectiveTransform(np.float32([ink]), matrix) / size
        inside = place.min() > 0.02 and place.max() < 0.98
        scale, away = 0.97 * scale, 0.95 * away
    photo = cv2.warpPerspective(page, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if scale > 1:
        return photo
    here = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, (width, height))
    shadow = cv2.GaussianBlur(here, (0, 0), 10)[..., np.newaxis]
    table = table_top(generator, (height, width)) * (1 - 0.5 * shadow)
    return np.where(here[..., np.newaxis] > 0.5, photo, np.dstack([table, 0 * shadow]))


def table_top(generator, shape):
    """Make a table, dark or bright: plain, of wood, or under a checked or flowery cloth."""
    colour, other = generator.uniform(0.08, 0.9, (2, 1)) * generator.uniform(0.5, 1, (2, 3))
    checks = (np.indices(shape) // generator.integers(20, 90)).sum(axis=0)[..., np.newaxis] % 2
    wood = 0.1 * clouds(generator, shape, 50, 4) + 0.05 * clouds(generator, shape, 300, 9)
    flowers = np.clip(3 * clouds(generator, shape, 12, 16) - 1, 0, 1)
    pattern = (0 * wood, wood, checks, flowers)[generator.integers(4)]
    return np.clip(colour + pattern * (other - colour), 0.02, 1)


def hold(generator, photo):
    """Put a finger or a thumb on the page from an edge of the photo, beside its ink."""
    height, width = photo.shape[:2]
    ink = cv2.dilate(photo[..., 3], np.ones((41, 41)))
    for _ in range(50):
        thick, side = int(generator.uniform(0.14, 0.25) * height), generator.choice([-1, 1])
        row, reach = generator.uniform(0.2, 1) * height, generator.uniform(0.42, 0.5) * width
        tip = round(width / 2 + side * reach), round(row)
        palm = round(width / 2 + side * 0.75 * width), round(row + 0.15 * height)
        finger = cv2.line(np.zeros((height, width), np.float32), palm, tip, 1, thick)
        if not (finger * ink).any():
            break
    else:
        return photo
    depth = cv2.distanceTransform(np.uint8(finger), cv2.DIST_L2, 5)[..., np.newaxis] / thick
    skin = np.float32([0.85, 0.62, 0.5]) * generator.uniform(0.35, 1)
    finger, shadow = (cv2.GaussianBlur(finger, (0, 0), blur)[..., np.newaxis] for blur in (2, 20))
    page = photo[..., :3] * (1 - 0.5 * shadow)
    photo[..., :3] = page + (skin * (0.6 + 0.9 * np.minimum(depth, 0.4)) - page) * finger
    return photo


def shade(generator, photo):
    """Let a phone, or an arm, cast its shadow from an edge of the photo."""
    height, width = photo.shape[:2]
    size = generator.uniform(0.3, 0.7) * width, 1.3 * height
    centre = generator.random() * width, generator.choice([-0.1, 1.1]) * height
    box = cv2.boxPoints((centre, size, generator.uniform(-35, 35)))
    shadow = cv2.fillConvexPoly(np.zeros((height, width), np.float32), np.int32(box), 1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), np.exp(generator.uniform(0, np.log(height / 20))))
    photo[..., :3] *= 1 - generator.uniform(0.2, 0.55) * shadow[..., np.newaxis]
    return photo


def box(generator, photo, underline=False):
    """Print the box of a form around the ink, or underline it with a pen."""
    left, top, width, height = cv2.boundingRect(np.uint8(photo[..., 3] > 0.3))
    right, bottom = left + width, top + height
    room = min(left, top, photo.shape[1] - right, photo.shape[0] - bottom)
    away = min(room, round(generator.uniform(0.15, 0.4) * height))
    thick = max(1, round(generator.uniform(0.01, 0.06) * height))
    corners = (
        (left - away, bottom + away if underline else top - away),
        (right + away, bottom + away),
    )
    lines = np.zeros(photo.shape[:2], np.float32)
    (cv2.line if underline else cv2.rectangle)(lines, *corners, 1, thick)
    photo[..., :3] *= 1 - generator.uniform(0.4, 0.9) * lines[..., np.newaxis]
    return photo


def cut(generator, photo):
    """Cut the last digit by the edge of the photo, a little."""
    left, _, width, height = cv2.boundingRect(np.uint8(photo[..., 3] > 0.3))
    return photo[:, : left + width - round(generator.uniform(0, 0.07) * height)]


def develop(generator, photo, dark_corners):
    """Take the photo: uneven light, a cast of colour, blur, grain and JPEG's losses."""
    photo = np.ascontiguousarray(photo[..., :3], np.float32)
    height, width = photo.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope_x, slope_y = generator.normal(0, 0.1, 2)
    light = (1 + slope_x * x + slope_y * y) * (1 - dark_corners * (x**2 + y**2) / 2)
    cast = generator.normal(1, 0.03, 3) * generator.uniform(0.6, 1.05)
    photo *= np.float32(light[..., np.newaxis] * cast)
    photo = cv2.GaussianBlur(photo, (0, 0), generator.uniform(0.3, 0.5 + max(height, width) / 1200))
    grain = generator.standard_normal(photo.shape, np.float32)
    photo += cv2.GaussianBlur(grain, (0, 0), 0.5) * np.float32(generator.uniform(0, 0.03))
    return as_jpeg(as_bytes(photo), int(generator.integers(50, 96)))


FILLED = {"scale": (1.1, 1.3), "angle": 2, "shift": 0.03, "tilt": 0.02}
WITH_EDGES = {"scale": (0.85, 1.25), "angle": 4, "shift": 0.1, "tilt": 0.03}
FROM_AFAR = {"scale": (0.6, 1), "angle": 8, "shift": 0.3, "tilt": 0.06}


def photo(
    generator,
    images,
    colours=pen_ink,
    before=(),
    view=FILLED,
    after=(),
    side=(1200, 1200),
    count=(2, 8),
    lines=(1, 1),
    size=(0.1, 0.3),
    pen=(0.03, 0.13),
    grain=(0.1, 0.1),
    gap=None,
    dark_corners=(0, 0.2),
    **arrangement,
):
    """Photograph a number on paper: `(picture, how many of the images it shows)`.

    What may vary is given as `(least, most)`: the photo's longer `side`, the digits' `size` as a
    share of its height, the `pen`'s width and the `gap` as shares of that size, and so on.
    """
    long = generator.uniform(*side)
    shape = np.int32(long * generator.permutation([1, generator.choice([0.5, 0.5625, 0.75, 0.75])]))
    shape = tuple(np.sort(shape) if generator.random() < 0.6 else shape)
    paper, colour = colours(generator)
    page = sheet(*shape, paper) * (1 + 0.006 * clouds(generator, shape, 40, 60))
    for draw in before:
        draw(generator, page)
    lines, count = (int(generator.integers(low, high + 1)) for low, high in (lines, count))
    size = generator.uniform(*size) * shape[0]
    pen = max(1.5, size * np.exp(generator.uniform(*np.log(pen))))
    gap = gap or generator.choice([(0.1, 0.3), (0.2, 0.6), (0.5, 1.3)])
    arrangement = {name: generator.uniform(*range_) for name, range_ in arrangement.items()}
    ink = write_lines(generator, images[: lines * count], lines, size, pen, gap, **arrangement)
    picture = look(generator, put(generator, page, ink, colour, generator.uniform(*grain)), **view)
    for change in after:
        picture = change(generator, picture)
    return develop(generator, picture, generator.uniform(*dark_corners)), lines * count


def with_margin(generator, images):
    """Put a photo on a page of a document, or let a program add bars to it."""
    picture, count = photo(generator, images, after=[shade])
    sides, level = generator.integers(0, 150, 4).tolist(), generator.choice([0, 128, 255])
    return cv2.copyMakeBorder(picture, *sides, cv2.BORDER_CONSTANT, value=[int(level)] * 3), count


def drawing(generator, images):
    """Draw one digit on the screen, or scan it, with a pen of any width."""
    side, share = np.exp(generator.uniform(np.log((150, 0.015)), np.log((1000, 0.22))))
    size, page = generator.uniform(0.3, 0.75) * side, sheet(int(side), int(side), 1)
    ink = write_lines(generator, images[:1], 1, size, max(1, share * size), (0, 0))
    picture = as_bytes(put(generator, page, ink, (0, 0, 0), 0)[..., :3])
    return 255 - picture if generator.random() < 0.2 else picture, 1


def tight_crop(generator, images):
    """Crop one digit to 28 x 28 pixels or more, its strokes up to the edges or cut by them."""
    side = int(generator.choice([28, 28, 28, 32, generator.integers(50, 400)]))
    pen = generator.choice([1.2, 2, 3, 4]) * side / 7
    ink = stroke(generator, images[0], 4 * side, pen, generator.uniform(-0.1, 0.3))
    narrow = max(0, len(ink) - ink.shape[1]) // 2 * (generator.random() < 0.7)
    margins = np.maximum(generator.integers(-1, 3, (2, 2)) * side // 7, -int(pen)) + [[0], [narrow]]
    (top, bottom), (left, right) = np.maximum(-margins, 0)
    ink = np.pad(ink[top : len(ink) - bottom, left : ink.shape[1] - right], np.maximum(margins, 0))
    size = max(8, side * ink.shape[1] // len(ink)), side
    ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA)
    if generator.random() < 0.3:
        ink = np.round(ink)  # As a paint program draws without smooth edges.
    grey = 1 - generator.choice([0.7, 1]) * ink
    return as_bytes(np.dstack(3 * [1 - grey if generator.random() < 0.4 else grey])), 1


digit = partial(photo, count=(1, 1), side=(200, 1400), size=(0.25, 0.75))
SCENES = {
    "drawing": drawing,
    "tight crop": tight_crop,
    "pencil": partial(digit, colours=pencil_lead, pen=(0.025, 0.07), grain=(0.1, 0.4)),
    "colours": partial(digit, colours=crayon),
    "shadow": partial(digit, after=[shade]),
    "chalk": partial(digit, colours=chalk, before=[wipe], grain=(0.1, 0.4), pen=(0.04, 0.12)),
    "sheet on a table": partial(photo, view=FROM_AFAR, size=(0.15, 0.35)),
    "notebook": partial(photo, before=[rule, bind], view=FROM_AFAR, size=(0.15, 0.35)),
    "held by a finger": partial(photo, view=WITH_EDGES, after=[hold]),
    "crumpled": partial(photo, before=[crumple], view=WITH_EDGES),
    "phone shadow": partial(photo, after=[shade]),
    "dark corners": partial(photo, before=[rule], dark_corners=(0.6, 0.9)),
    "margin": with_margin,
    "box": partial(photo, after=[box], count=(1, 4), size=(0.1, 0.2), view=WITH_EDGES),
    "underlined": partial(photo, after=[partial(box, underline=True)]),
    "ruled": partial(photo, before=[rule]),
    "squared": partial(
        photo,
        before=[partial(rule, squares=True)],
        colours=pen_or_pencil,
        count=(1, 6),
        size=(0.1, 0.5),
    ),
    "touching": partial(photo, touching=(0.2, 0.7)),
    "unequal sizes": partial(photo, ratio=(1.5, 5), size=(0.15, 0.35), pen=(0.015, 0.03)),
    "jumping": partial(photo, jump=(0.2, 0.7), gap=(0.15, 0.8)),
    "sloping": partial(photo, slope=(-0.3, 0.3)),
    "several lines": partial(photo, lines=(2, 3), count=(2, 5)),
    "cut off": partial(photo, after=[cut]),
    "thin pen": partial(photo, side=(1600, 1600), size=(0.05, 0.12), pen=(0.02, 0.04)),
}


def is_clear(image):
    """Leave out digits with specks, or strokes so thick that their middle lines are unclear."""
    areas = cv2.connectedComponentsWithStats(np.uint8(image > 85))[2][:, cv2.CC_STAT_AREA]
    return cv2.erode(image, np.ones((4, 4))).max() < 100 and areas.min() > 12


def make_scene(kind, generator, images, labels):
    """Make one scene of a kind from fifteen digits or fewer: `(picture, number)`."""
    picture, count = SCENES[kind](copy.deepcopy(generator), images)
    return picture, "".join(str(label) for label in labels[:count])


def make_form(form, image, label):
    """Make a picture of one digit: `(picture, number)`."""
    return FORMS[form](image), str(label)


def find(make, *job):
    """Make a picture and find its digits: `(number, images of digits)`."""
    import handwriting  # The folder above this one is in the path by now.

    picture, number = make(*job)
    return number, [digit.image for digit in handwriting.read_digits(picture)]


def numbers(model, found):
    """What a model predicts for the images that were found in each picture."""
    images = [image for images in found for image in images]
    predicted = model.predict(np.float32(images or [np.zeros((28, 28))]) / 255, verbose=0)
    classes = iter(predicted.argmax(axis=1))
    return ["".join(str(next(classes)) for _ in images) for images in found]


def share(count, total):
    """Write a share with its 95 % confidence interval, which is Wilson's."""
    z = 1.96
    middle = (count + z**2 / 2) / (total + z**2)
    margin = z / (total + z**2) * np.sqrt(count * (total - count) / total + z**2 / 4)
    return f"{count / total:.1%} ({max(0, middle - margin):.0%} to {middle + margin:.0%})"


def print_table(title, jobs, models, folder, asked=None):
    """Make pictures of several kinds, read them with each model, and print a row a kind.

    Args:
        title: the header of the first column.
        jobs: dict of kinds, with a list of the arguments of `find` for each.
        models: dict of Keras models by name.
        folder: where to keep the pictures that are not read correctly, or `None`.
        asked: for each model, which pictures count; then those lost are printed, not the share.
    """

    def print_row(name, counts):
        cells = [
            share(count, total) if asked is None else f"{total - count} of {total} lost"
            for count, total in counts
        ]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)

    counts = {}
    print(f"| {title} |", " | ".join(models), "|")
    print("|---|" + "---:|" * len(models))
    with multiprocessing.get_context("spawn").Pool(None, cv2.setNumThreads, [1]) as pool:
        for kind in jobs:
            wanted, found = zip(*pool.starmap(find, jobs[kind], chunksize=4), strict=True)
            counts[kind] = []
            for which, model in enumerate(models.values()):
                read = numbers(model, found)
                counted = range(len(read)) if asked is None else np.flatnonzero(asked[which])
                wrong = [i for i in counted if read[i] != wanted[i]]
                counts[kind].append((len(counted) - len(wrong), len(counted)))
                for i in wrong if folder else []:
                    make, *job = jobs[kind][i]
                    name = f"{kind}-{i:04}_{wanted[i]}-{read[i] or 'nothing'}.png"
                    name = name.replace(",", "").replace(" ", "-")
                    cv2.imwrite(f"{folder}/{name}", make(*job)[0][..., ::-1])
            print_row(kind, counts[kind])
    print_row("all", np.sum(list(counts.values()), axis=0))


def try_forms(count, seed, images, labels, models, folder):
    """Print how many validation digits are lost in each form."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    images, labels = images[chosen], labels[chosen].astype(str)
    digits = list(zip(images, labels, strict=True))
    jobs = {form: [(make_form, form, *digit) for digit in digits] for form in FORMS}
    asked = [numbers(model, images[:, np.newaxis]) == labels for model in models.values()]
    print_table("form", jobs, models, folder, asked)


def try_scenes(count, seed, images, labels, models, folder):
    """Print the share of made-up scenes of each kind that are read correctly."""
    clear = [is_clear(image) for image in images]
    images, labels, jobs = images[clear], labels[clear], {}
    for kind in SCENES:
        jobs[kind] = []
        for index in range(count):
            generator = np.random.default_rng([seed, index, *kind.encode()])
            chosen = generator.choice(len(images), 15)
            jobs[kind].append((make_scene, kind, generator, images[chosen], labels[chosen]))
    print_table("scenes", jobs, models, folder)


def write_example(path, images, labels):
    """Write the sheet of the README."""
    generator = np.random.default_rng(4)
    picture = sheet(560, 1150)
    for top in range(40, 560, 80):
        picture[top : top + 2] = (0.62, 0.68, 0.8)
    for number, top in (("20261124", 75), ("31415926", 315)):
        chosen = [generator.choice(np.flatnonzero(labels == int(digit))) for digit in number]
        write_number(picture, images[chosen], 70, top, 150, slope=0.02)
    rows, columns = np.indices(picture.shape[:2])
    picture[columns + 0.6 * rows > 900] *= 0.6
    picture += generator.normal(0, 0.015, picture.shape)
    cv2.imwrite(path, cv2.GaussianBlur(as_bytes(picture), (0, 0), 1)[..., ::-1])


def main():
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    number = partial(parser.add_argument, type=int, default=0)
    parser.add_argument("file", nargs="?", help="write the README's sheet to this .jpg or .png")
    number("--round-trip", help="how many digits to try as pictures")
    number("--scenes", help="how many scenes of each kind to read")
    number("--seed", help="different ones for a different seed")
    parser.add_argument("--model", nargs="+", default=["mnist_cnn.keras"], help="networks to try")
    parser.add_argument("--folder", help="where to keep the pictures that are not read correctly")
    arguments = parser.parse_args()
    reads = max(arguments.round_trip, arguments.scenes) > 0
    if not (arguments.file or reads):
        parser.error("give a file to write, or --round-trip or --scenes with a number")
    for folder in (pathlib.Path(arguments.file or "").parent, arguments.folder or "."):
        if not pathlib.Path(folder).is_dir():
            parser.error(f"there is no folder {folder}; make it first")
    if arguments.file and not cv2.haveImageWriter(arguments.file):
        parser.error(f"{arguments.file}: name a .jpg or .png file")

    import keras

    sys.path.append(str(pathlib.Path(__file__).parent.parent))
    models = {}
    for path in arguments.model if reads else []:
        try:
            models[path] = keras.saving.load_model(path, compile=False)
        except (OSError, ValueError):
            parser.error(f"{path}: there is no such model; train one, or name one with --model")
    (images, labels), test_digits = keras.datasets.mnist.load_data()
    data = (arguments.seed, images[-5000:], labels[-5000:], models, arguments.folder)
    if arguments.file:
        write_example(arguments.file, *test_digits)
    if arguments.round_trip > 0:
        try_forms(arguments.round_trip, *data)
    if arguments.scenes > 0:
        try_scenes(arguments.scenes, *data)


if __name__ == "__main__":
    main()
