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
import multiprocessing
import pathlib
import sys
from functools import partial

import cv2
import numpy as np
from PIL import Image

INK = (0.15, 0.15, 0.35)


def sheet(height=600, width=800, colour=(0.93, 0.92, 0.88)):
    """Make an empty sheet: float32 of shape `(height, width, channels)`, 0 to 1."""
    return np.full((height, width, len(colour)), colour, np.float32)


def lay(picture, strength, left, top, colour):
    """Lay ink of a strength of 0 to 1 on a picture, in place."""
    height, width = strength.shape
    strength = strength[..., np.newaxis]
    window = picture[top : top + height, left : left + width]
    window[:] = window * (1 - strength) + np.float32(colour) * strength


def write(picture, digit, left, top, size, ink=INK):
    """Write one digit of shape `(28, 28)`, uint8, into a square of `size` pixels, in place."""
    large = cv2.resize(digit, (size, size), interpolation=cv2.INTER_CUBIC)
    # Enlarged ink has soft edges; a pen's are sharp.
    lay(picture, np.clip((large / np.float32(255) - 0.3) / 0.4, 0, 1), left, top, ink)


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


# The round trip: MNIST's digits as pictures.


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


def make_form(form, image, label):
    """Make a picture of one digit: `(picture, number)`."""
    return FORMS[form](image), str(label)


# A scene is a page, the writing on it, and a camera. First the pages.


def clouds(generator, shape, rows, columns):
    """Make smooth random values about 0, with as many hills and valleys down and across."""
    hills = generator.standard_normal((rows + 1, columns + 1), np.float32)
    return cv2.resize(hills, shape[::-1], interpolation=cv2.INTER_CUBIC)[..., np.newaxis]


WHITE = (0.88, 0.86, 0.8), (1, 1, 0.96)
PEN, PENCIL = ((0.08, 0.08, 0.1), (0.3, 0.3, 0.6)), ((0.35, 0.35, 0.35), (0.62, 0.62, 0.62))
BOARD, CHALK = ((0.1, 0.12, 0.12), (0.14, 0.25, 0.18)), ((0.85, 0.8, 0.5), (1, 1, 0.9))
LIGHT, DEEP = ((0.6, 0.6, 0.6), (1, 1, 1)), ((0, 0, 0), (0.6, 0.6, 0.6))


def page(generator, paper=WHITE, ink=PEN, draw=None, side=(1200, 1200)):
    """Make a page of some shape with something drawn on it: `(page, colour of the ink)`.

    What may vary is given as `(least, most)`: two colours, or the length of the longer side.
    """
    shape = generator.choice([(0.75, 1), (0.5625, 1), (1, 0.75)]) * generator.uniform(*side)
    empty = sheet(*np.int32(shape), generator.uniform(*paper))
    if draw:
        draw(generator, empty)
    return empty, generator.uniform(*ink)


def rule(generator, page, squares=False):
    """Draw the lines of ruled or squared paper."""
    step, width = generator.integers(30, 60) * (1 if squares else 2), generator.integers(1, 4)
    colour = page[0, 0] * generator.uniform(0.4, 0.9) + (0, 0, 0.1)
    first = generator.integers(step)
    for side in (page, page.swapaxes(0, 1)) if squares else (page,):
        side[(np.arange(len(side)) + first) % step < width] = colour


def punch(generator, page):
    """Punch the holes of a spiral into ruled paper."""
    rule(generator, page)
    step, radius = generator.integers((28, 5), (50, 9))
    for row in range(step, len(page) - step, step):
        cv2.circle(page, (30, row), int(radius), (0.15, 0.15, 0.15), -1)


def crumple(generator, page):
    """Fold a page here and there: it is brighter on one side of each fold, and darker beyond."""
    y, x = np.indices(page.shape[:2], np.float32)
    for _ in range(generator.integers(3, 12)):
        angle, reach = generator.uniform((0, 0.02), (2 * np.pi, 0.3))
        column, row = generator.random(2) * page.shape[1::-1]
        away = (x - column) * np.float32(np.cos(angle)) + (y - row) * np.float32(np.sin(angle))
        fold = np.sign(away) * np.exp(-abs(away) / np.float32(reach * len(page)))
        page *= 1 + np.float32(generator.normal(0, 0.05)) * fold[..., np.newaxis]


# The writing. It becomes the fourth channel of the page: what must be in the photo.


def skeleton(mask):
    """Thin strokes to lines one pixel wide, from eight sides in turn."""
    corners = ([[-1, -1, -1], [0, 1, 0], [1, 1, 1]], [[0, -1, -1], [1, 1, -1], [0, 1, 0]])
    kernels = [np.rot90(corner, turns) for turns in range(4) for corner in corners]
    before = -1
    while before != (before := mask.sum()):
        for kernel in kernels:
            mask = mask & ~cv2.morphologyEx(mask, cv2.MORPH_HITMISS, kernel.astype(np.int32))
    # The ends of wide strokes have become forks. They go, with twelve pixels of each stroke's end.
    for _ in range(12):
        mask = mask & (cv2.filter2D(mask, -1, np.ones((3, 3))) > 2)
    return lengthen(mask)


def lengthen(mask):
    """Give the ends of lines back what the forks have cost; otherwise, a 0 may be open."""
    rows, columns = np.nonzero(mask)
    for row, column in np.argwhere(mask & (cv2.filter2D(mask, -1, np.ones((3, 3))) == 2)):
        near = np.hypot(rows - row, columns - column) < 15
        away = np.array([column - columns[near].mean(), row - rows[near].mean()])
        end = (column, row) + 16 * away / max(1, np.hypot(*away))
        cv2.line(mask, (int(column), int(row)), np.int32(end).tolist(), 1)
    return mask


def stroke(image, height, pen, slant):
    """Write one digit anew with a pen `pen` pixels wide: strength of ink, 0 to 1, cropped."""
    matrix = np.float32([[8, -8 * slant, 48 + 112 * slant], [0, 8, 48]])
    large = cv2.warpAffine(image, matrix, (320, 320), flags=cv2.INTER_CUBIC)
    line = skeleton(np.uint8(cv2.GaussianBlur(large, (0, 0), 3) > 85))
    scale = height / (np.ptp(np.nonzero(line)[0]) + 1)
    line = np.pad(line, 5 + int(pen / scale))
    distance = cv2.distanceTransform(1 - line, cv2.DIST_L2, 5)
    distance = scale * cv2.resize(distance, None, fx=scale, fy=scale)
    ink = np.clip(pen / 2 - distance + 0.5, 0, 1)
    left, top, width, height = cv2.boundingRect(np.uint8(ink > 0.4))
    return ink[top : top + height, left : left + width]


def write_line(generator, images, size, pen, jump=0.05, ratio=1.25, slope=0, touching=False):
    """Write digits on a line: strength of ink, 0 to 1, cropped.

    They are `size` high or up to `ratio` times smaller, and up to `jump` sizes off the line, which
    rises or falls by up to `slope`; every second one may be `touching` the one before.
    """
    slant, slope = generator.uniform((-0.1, -slope), (0.35, slope))
    gap = generator.choice([0.1, 0.2, 0.5]) * size
    across, left = int(2.5 * size * len(images)), 0
    canvas = np.zeros((int(3.4 * size + abs(slope) * across), across), np.float32)
    for i, image in enumerate(images):
        ink = stroke(image, size * ratio ** -generator.random(), pen, slant)
        middle = len(canvas) / 2 + slope * (across / 2 - left)
        bottom = int(middle + (0.5 + generator.uniform(-jump, jump)) * size)
        rows, width = canvas[bottom - len(ink) : bottom], ink.shape[1]
        if touching and i % 2:
            closest = max(0, left - 0.35 * width)
            while left > closest and np.minimum(rows[:, left : left + width], ink).max() < 0.5:
                left -= 1
        np.maximum(rows[:, left : left + width], ink, out=rows[:, left : left + width])
        left += width if touching and not i % 2 else width + int(gap * generator.uniform(1, 2.6))
    left, top, width, height = cv2.boundingRect(np.uint8(canvas > 0))
    return canvas[top : top + height, left : left + width]


def number(
    generator,
    images,
    page,
    colour,
    count=(2, 8),
    lines=(1, 1),
    size=(0.1, 0.3),
    pen=(0.03, 0.13),
    grain=0.1,
    **line,
):
    """Write a number somewhere on a page: `(page, how many of the images it shows)`.

    What may vary is given as `(least, most)`: the digits on a line, the digits' `size` as a share
    of the page's height, the `pen`'s width as a share of that size. `line`: as in `write_line`.
    """
    shape = np.array(page.shape[:2])
    count, lines = (generator.integers(*range_, endpoint=True) for range_ in (count, lines))
    size = generator.uniform(*size) * len(page)
    pen = max(1.5, size * np.exp(generator.uniform(*np.log(pen))))
    written = [
        write_line(generator, images[count * i :][:count], size, pen, **line) for i in range(lines)
    ]
    # Below one another, from the left, with room between the lines.
    across, leading = max(line.shape[1] for line in written), int(0.6 * size)
    margins = [((0, leading), (0, across - line.shape[1])) for line in written]
    ink = np.vstack([np.pad(*line) for line in zip(written, margins, strict=True)])[:-leading]
    scale = min(1, *0.85 * shape / ink.shape)
    ink = cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    ink *= 1 - grain * generator.random(ink.shape, np.float32)
    top, left = np.int32(generator.uniform(0.06 * shape, 0.94 * shape - ink.shape))
    page = np.dstack([page, np.zeros(shape, np.float32)])
    lay(page, ink, left, top, [*colour, 1])
    return page, count * lines


def ink_box(page):
    """Return where the ink is: `(left, top, width, height)`."""
    return cv2.boundingRect(np.uint8(page[..., 3] > 0.3))


# The camera.


def aim(generator, page, scale, askew):
    """Hold the camera so that all of the ink is in the photo: the matrix from page to photo."""
    size, unit = np.float32(page.shape[1::-1]), np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])
    left, top, *sides = ink_box(page)
    ink = np.float32([[left, top] + unit * np.float32(sides)])
    turn = np.deg2rad(generator.normal(0, 4 * askew))
    rotation = [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    corners = (unit - 0.5) * size * (1 + generator.normal(0, 0.03 * askew, (4, 2))) @ rotation
    away, scale = generator.uniform(-0.1 * askew, 0.1 * askew, 2) * size, generator.uniform(*scale)
    while True:
        seen = np.float32(scale * corners + away + size / 2)
        matrix = cv2.getPerspectiveTransform(unit * size, seen)
        place = cv2.perspectiveTransform(ink, matrix) / size
        if place.min() > 0.02 and place.max() < 0.98:
            return matrix
        scale, away = 0.97 * scale, 0.95 * away


def look(generator, page, scale, askew):
    """Look at a page, and from afar, at the table that it lies on."""
    size, matrix = page.shape[1::-1], aim(generator, page, scale, askew)
    photo = cv2.warpPerspective(page, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    if min(scale) > 1:
        return photo
    here = cv2.warpPerspective(np.ones_like(page[..., 0]), matrix, size)
    shadow = cv2.GaussianBlur(here, (0, 0), 10)[..., np.newaxis]
    table = table_top(generator, page.shape[:2]) * (1 - 0.5 * shadow)
    return np.where(here[..., np.newaxis] > 0.5, photo, np.dstack([table, 0 * shadow]))


def table_top(generator, shape):
    """Make a table, dark or bright: plain, of wood, or under a checked cloth."""
    colour, other = generator.uniform(0.08, 0.9, (2, 1)) * generator.uniform(0.5, 1, (2, 3))
    checks = (np.indices(shape) // generator.integers(20, 90)).sum(axis=0)[..., np.newaxis] % 2
    pattern = (0 * checks, 0.15 * clouds(generator, shape, 50, 4), checks)[generator.integers(3)]
    return np.clip(colour + pattern * (other - colour), 0.02, 1)


def hold(generator, photo):
    """Put a thumb on the page, left or right of the ink, where there is more room."""
    height, width = photo.shape[:2]
    left, _, across, _ = ink_box(photo)
    room = max(left, width - left - across)
    radius, row = np.int32(generator.uniform((0.07, 0.2), (0.12, 1)) * height)
    tip = int(min(generator.uniform(0, 0.08) * width, room - radius - 20))
    thumb = np.zeros((height, width), np.float32)
    cv2.line(thumb, (-width // 4, int(row + 2 * radius)), (tip, int(row)), 1, int(2 * radius))
    if room > left:
        thumb = thumb[:, ::-1]
    skin = np.float32([0.85, 0.62, 0.5]) * generator.uniform(0.35, 1)
    photo[..., :3] *= 1 - 0.5 * cv2.GaussianBlur(thumb, (0, 0), 20)[..., np.newaxis]
    lay(photo, cv2.GaussianBlur(thumb, (0, 0), 2), 0, 0, [*skin, 0])
    return photo


def shade(generator, photo):
    """Let a phone, or an arm, cast its shadow from an edge of the photo."""
    height, width = photo.shape[:2]
    size = generator.uniform(0.3, 0.7) * width, 1.3 * height
    centre = generator.random() * width, generator.choice([-0.1, 1.1]) * height
    corners = cv2.boxPoints((centre, size, generator.uniform(-35, 35)))
    shadow = cv2.fillConvexPoly(np.zeros((height, width), np.float32), np.int32(corners), 1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), np.exp(generator.uniform(0, np.log(height / 20))))
    photo[..., :3] *= 1 - generator.uniform(0.2, 0.55) * shadow[..., np.newaxis]
    return photo


def box(generator, photo, underline=False):
    """Print the box of a form around the ink, or underline it with a pen."""
    left, top, width, height = ink_box(photo)
    right, bottom = left + width, top + height
    room = min(left, top, photo.shape[1] - right, photo.shape[0] - bottom)
    away = min(room, round(generator.uniform(0.15, 0.4) * height))
    start = left - away, bottom + away if underline else top - away
    thick = max(1, round(generator.uniform(0.01, 0.06) * height))
    lines = np.zeros(photo.shape[:2], np.float32)
    cv2.rectangle(lines, start, (right + away, bottom + away), 1, thick)
    photo[..., :3] *= 1 - generator.uniform(0.4, 0.9) * lines[..., np.newaxis]
    return photo


def cut(generator, photo):
    """Cut the last digit by the edge of the photo, a little."""
    left, _, width, height = ink_box(photo)
    return photo[:, : left + width - int(generator.uniform(0, 0.07) * height)]


def photograph(generator, page, scale=(1.1, 1.3), askew=0.5, change=None, dark_corners=(0, 0.2)):
    """Take a photo: uneven light, a cast of colour, blur, grain and JPEG's losses."""
    photo = look(generator, page, scale, askew)
    photo = np.ascontiguousarray((change(generator, photo) if change else photo)[..., :3])
    height, width = photo.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope_x, slope_y = generator.normal(0, 0.1, 2)
    corners = 1 - generator.uniform(*dark_corners) * (x**2 + y**2) / 2
    cast = generator.normal(1, 0.03, 3) * generator.uniform(0.6, 1.05)
    photo *= ((1 + slope_x * x + slope_y * y) * corners)[..., np.newaxis] * cast
    photo = cv2.GaussianBlur(photo, (0, 0), generator.uniform(0.3, 0.5 + max(height, width) / 1200))
    grain = generator.standard_normal(photo.shape, np.float32)
    photo += cv2.GaussianBlur(grain, (0, 0), 0.5) * generator.uniform(0, 0.03)
    return as_jpeg(as_bytes(photo), int(generator.integers(50, 96)))


def add_margin(generator, page):
    """Put a photo on a page of a document, or let a program add bars to it."""
    photo = photograph(generator, page, change=shade)
    sides, level = generator.integers(0, 150, 4).tolist(), generator.choice([0, 128, 255])
    return cv2.copyMakeBorder(photo, *sides, cv2.BORDER_CONSTANT, value=[int(level)] * 3)


def screenshot(generator, page):
    """Save a drawing, at times white on black."""
    picture = as_bytes(page[..., :3])
    return 255 - picture if generator.random() < 0.2 else picture


def crop(generator, page):
    """Crop a digit as tightly as people do, or through its strokes, and make that small."""
    left, top, width, height = ink_box(page)
    side = int(max(width, height) * generator.uniform(0.95, 1.5))
    off = generator.uniform(0.3, 0.7, 2)
    left, top = (max(0, int(x)) for x in (left, top) + off * ((width, height) - np.float64(side)))
    pixels = int(generator.choice([28, 28, 28, generator.integers(50, 400)]))
    square = page[top : top + side, left : left + side]
    return screenshot(generator, cv2.resize(square, 2 * [pixels], interpolation=cv2.INTER_AREA))


digit = partial(number, count=(1, 1), size=(0.25, 0.75))
smaller = partial(number, size=(0.15, 0.35))
ruled, squared = partial(page, draw=rule), partial(page, draw=partial(rule, squares=True))
any_size = partial(page, side=(200, 1400))
on_screen = partial(page, paper=((1, 1, 1), (1, 1, 1)), ink=((0, 0, 0), (0.3, 0.3, 0.3)))
in_shadow = partial(photograph, change=shade)
with_edges = partial(photograph, scale=(0.85, 1.25), askew=1)
from_afar = partial(photograph, scale=(0.6, 1), askew=2)

# Most kinds differ from a number on plain paper, photographed from near, in one of the three.
SCENES = {
    "drawing": (
        partial(on_screen, side=(150, 1000)),
        partial(digit, pen=(0.015, 0.22), grain=0),
        screenshot,
    ),
    "tight crop": (on_screen, partial(digit, pen=(0.04, 0.14), grain=0), crop),
    "pencil": (partial(any_size, ink=PENCIL), partial(digit, grain=0.3), photograph),
    "colours": (partial(any_size, paper=LIGHT, ink=DEEP), digit, photograph),
    "shadow": (any_size, digit, in_shadow),
    "chalk": (partial(any_size, paper=BOARD, ink=CHALK), partial(digit, grain=0.3), photograph),
    "sheet on a table": (page, smaller, from_afar),
    "notebook": (partial(page, draw=punch), smaller, from_afar),
    "held by a finger": (page, number, partial(with_edges, change=hold)),
    "crumpled": (partial(page, draw=crumple), number, with_edges),
    "phone shadow": (page, number, in_shadow),
    "dark corners": (ruled, number, partial(photograph, dark_corners=(0.6, 0.9))),
    "margin": (page, number, add_margin),
    "box": (page, partial(number, count=(1, 4), size=(0.1, 0.2)), partial(with_edges, change=box)),
    "underlined": (page, number, partial(photograph, change=partial(box, underline=True))),
    "ruled": (ruled, number, photograph),
    "squared": (squared, partial(number, count=(1, 6), size=(0.1, 0.5)), photograph),
    "touching": (page, partial(number, touching=True), photograph),
    "unequal sizes": (page, partial(smaller, ratio=3, pen=(0.015, 0.03)), photograph),
    "jumping": (page, partial(number, jump=0.45), photograph),
    "sloping": (page, partial(number, slope=0.3), photograph),
    "several lines": (page, partial(number, lines=(2, 3), count=(2, 5)), photograph),
    "cut off": (page, number, partial(photograph, change=cut)),
    "thin pen": (page, partial(number, size=(0.06, 0.15), pen=(0.02, 0.04)), photograph),
}


def make_scene(kind, seed, images, labels):
    """Make one scene of a kind from fifteen digits or fewer: `(picture, number)`."""
    generator = np.random.default_rng(seed)
    make_page, write_on, take = SCENES[kind]
    written, count = write_on(generator, images, *make_page(generator))
    return take(generator, written), "".join(map(str, labels[:count]))


def is_clear(image):
    """Leave out digits with specks, or strokes so thick that their middle lines are unclear."""
    areas = cv2.connectedComponentsWithStats(np.uint8(image > 85))[2][:, cv2.CC_STAT_AREA]
    return cv2.erode(image, np.ones((4, 4))).max() < 100 and areas.min() > 12


def scene_jobs(count, seed, images, labels):
    """Choose digits for some scenes of each kind: dict of lists of arguments of `find`."""
    clear = [is_clear(image) for image in images]
    images, labels, jobs = images[clear], labels[clear], {}
    for kind in SCENES:
        jobs[kind] = []
        for index in range(count):
            own_seed = [seed, index, *kind.encode()]
            chosen = np.random.default_rng(own_seed).choice(len(images), 15)
            jobs[kind].append((make_scene, kind, own_seed, images[chosen], labels[chosen]))
    return jobs


# Reading them.


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


def lost(correct, total):
    """Write how many are not correct."""
    return f"{total - correct} of {total} lost"


def share(correct, total):
    """Write a share with its 95 % confidence interval, which is Wilson's."""
    z = 1.96
    middle = (correct + z**2 / 2) / (total + z**2)
    margin = z / (total + z**2) * np.sqrt(correct * (total - correct) / total + z**2 / 4)
    return f"{correct / total:.1%} ({max(0, middle - margin):.0%} to {middle + margin:.0%})"


def print_table(title, cell, jobs, models, folder, asked=None):
    """Make pictures of several kinds, read them with each model, and print a row a kind.

    Args:
        title: the header of the first column.
        cell: function that writes what is in a cell, of how many are correct and how many count.
        jobs: dict of kinds, with a list of the arguments of `find` for each.
        models: dict of Keras models by name.
        folder: where to keep the pictures that are not read correctly, or `None`.
        asked: for each model, which pictures count; all of them by default.
    """
    counts = []
    print(f"| {title} |", " | ".join(models), "|")
    print("|---|" + "---:|" * len(models))
    with multiprocessing.get_context("spawn").Pool(None, cv2.setNumThreads, [1]) as pool:
        for kind, kind_jobs in jobs.items():
            wanted, found = zip(*pool.starmap(find, kind_jobs, chunksize=4), strict=True)
            read = np.array([numbers(model, found) for model in models.values()])
            counted = np.ones(read.shape, bool) if asked is None else asked
            wrong = counted & (read != wanted)
            for which, index in np.argwhere(wrong) if folder else []:
                keep_picture(
                    folder, kind, index, wanted[index], read[which, index], kind_jobs[index]
                )
            counts.append(np.transpose([(counted & ~wrong).sum(axis=1), counted.sum(axis=1)]))
            print(f"| {kind} |", " | ".join(cell(*count) for count in counts[-1]), "|", flush=True)
    print("| all |", " | ".join(cell(*count) for count in sum(counts)), "|")


def keep_picture(folder, kind, index, wanted, read, job):
    """Save a picture again, under the number in it and the one that was read."""
    make, *arguments = job
    name = f"{kind}-{index:04}_{wanted}-{read or 'nothing'}.png".replace(",", "").replace(" ", "-")
    cv2.imwrite(f"{folder}/{name}", make(*arguments)[0][..., ::-1])


def try_forms(count, seed, images, labels, models, folder):
    """Print how many validation digits are lost in each form."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    images, labels = images[chosen], labels[chosen].astype(str)
    jobs = {
        form: [(make_form, form, *digit) for digit in zip(images, labels, strict=True)]
        for form in FORMS
    }
    asked = [numbers(model, images[:, np.newaxis]) == labels for model in models.values()]
    print_table("form", lost, jobs, models, folder, np.array(asked))


def main():
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    whole = partial(parser.add_argument, type=int, default=0)
    parser.add_argument("file", nargs="?", help="write the README's sheet to this .jpg or .png")
    whole("--round-trip", help="how many digits to try as pictures")
    whole("--scenes", help="how many scenes of each kind to read")
    whole("--seed", help="different ones for a different seed")
    parser.add_argument("--model", nargs="+", default=["mnist_cnn.keras"], help="networks to try")
    parser.add_argument("--folder", help="where to keep the pictures that are not read correctly")
    options = parser.parse_args()
    reads = max(options.round_trip, options.scenes) > 0
    if not (options.file or reads):
        parser.error("give a file to write, or --round-trip or --scenes with a number")
    for folder in (pathlib.Path(options.file or "").parent, options.folder or "."):
        if not pathlib.Path(folder).is_dir():
            parser.error(f"there is no folder {folder}; make it first")
    if options.file and not cv2.haveImageWriter(options.file):
        parser.error(f"{options.file}: name a .jpg or .png file")

    import keras

    sys.path.append(str(pathlib.Path(__file__).parent.parent))
    models = {}
    for path in options.model if reads else []:
        try:
            models[path] = keras.saving.load_model(path, compile=False)
        except (OSError, ValueError):
            parser.error(f"{path}: there is no such model; train one, or name one with --model")
    (images, labels), test_digits = keras.datasets.mnist.load_data()
    images, labels = images[-5000:], labels[-5000:]
    if options.file:
        write_example(options.file, *test_digits)
    if options.round_trip > 0:
        try_forms(options.round_trip, options.seed, images, labels, models, options.folder)
    if options.scenes > 0:
        jobs = scene_jobs(options.scenes, options.seed, images, labels)
        print_table("scenes", share, jobs, models, options.folder)


if __name__ == "__main__":
    main()
