"""Pictures of handwriting, made from MNIST's digits: as files, and as people photograph them.

    python tests/paper.py number.jpg
    python tests/paper.py --round-trip 1000 --model mnist_cnn.keras mnist_ann.keras
    python tests/paper.py --scenes 50 --model mnist_cnn.keras mnist_ann.keras

The first writes the README's sheet, the others print its tables, from validation digits.
"""

import argparse
import collections.abc
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import sys
from functools import partial

import cv2
import keras
import numpy as np
from PIL import Image

sys.path.append(str(pathlib.Path(__file__).parent.parent))
import handwriting

BLACK, WHITE = (0, 0, 0), (1, 1, 1)


def sheet(height=600, width=800, colour=(0.93, 0.92, 0.88)):
    """Make an empty sheet: float32 of shape `(height, width, 3)`, 0 to 1."""
    return np.full((height, width, 3), colour, np.float32)


def lay(picture, strength, left=0, top=0, colour=BLACK):
    """Lay ink, or a shadow, of a strength of 0 to 1 on a picture, in place."""
    height, width = strength.shape
    strength = strength[..., np.newaxis]
    window = picture[top : top + height, left : left + width]
    window[:] = window * (1 - strength) + np.float32(colour) * strength


def write_number(picture, digits, left, top, size, slope=0, ink=(0.15, 0.15, 0.35)):
    """Write MNIST's digits in a row, `size` pixels each, in place; they rise by `slope`."""
    for i, digit in enumerate(digits):
        large = cv2.resize(digit, (size, size), interpolation=cv2.INTER_CUBIC)
        # Enlarged ink has soft edges; a pen's are sharp.
        strength = np.clip((large / np.float32(255) - 0.3) / 0.4, 0, 1)
        across = i * round(0.78 * size)
        lay(picture, strength, left + across, round(top - slope * across), ink)


def plain(digit):
    """One digit on plain paper, somewhere off the middle."""
    picture = sheet()
    write_number(picture, [digit], 260, 180, 220)
    return picture


def as_bytes(picture):
    """Round a float picture, 0 to 1, to uint8, 0 to 255."""
    return np.uint8(np.round(255 * np.clip(picture, 0, 1)))


def as_jpeg(picture, quality=75):
    """Save a uint8 picture as a JPEG, and open that."""
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)


# The round trip: MNIST's digits as pictures.


def enlarge(image, side=28, method=Image.Resampling.BICUBIC):
    """Enlarge one digit as Pillow does, black on white."""
    return 255 - np.asarray(Image.fromarray(image).resize((side, side), method))


def in_blue_on_yellow(image):
    """Enlarge one digit in two colours."""
    picture = sheet(280, 280, (0.98, 0.92, 0.51))
    strength = (255 - enlarge(image, 280)) / np.float32(255)
    lay(picture, strength, colour=(0.12, 0.2, 0.63))
    return as_bytes(picture)


FORMS = {
    "28 x 28, black on white": enlarge,
    "28 x 28, white on black": lambda image: 255 - enlarge(image),
    "28 x 28, JPEG": lambda image: as_jpeg(enlarge(image)),
    "280 x 280, black on white": partial(enlarge, side=280),
    "280 x 280, white on black": lambda image: 255 - enlarge(image, 280),
    "1000 x 1000, JPEG": lambda image: as_jpeg(enlarge(image, 1000)),
    "100 x 100, in blocks": partial(enlarge, side=100, method=Image.Resampling.NEAREST),
    "blue ink on yellow paper": in_blue_on_yellow,
    "90 high on a sheet of 800 x 600": lambda image: np.pad(
        enlarge(image, 90), ((240, 270), (300, 410)), constant_values=255
    ),
}


# A scene is a page, the writing on it, and a camera. `Scene` says below what varies in each.


def rule(generator, page, squares=False, holes=False):
    """Draw the lines of ruled or squared paper, and punch the holes of a spiral."""
    step, width = generator.integers(30, 60) * (1 if squares else 2), generator.integers(1, 4)
    colour = page[0, 0] * generator.uniform(0.4, 0.9) + (0, 0, 0.1)
    first = generator.integers(step)
    for side in (page, page.swapaxes(0, 1)) if squares else (page,):
        side[(np.arange(len(side)) + first) % step < width] = colour
    if holes:
        step, radius = generator.integers((28, 5), (50, 9)).tolist()
        for row in range(step, len(page) - step, step):
            cv2.circle(page, (30, row), radius, (0.15, 0.15, 0.15), -1)


def cut_out(ink, least):
    """Cut out what is stronger than that."""
    left, top, width, height = cv2.boundingRect(np.uint8(ink > least))
    return ink[top : top + height, left : left + width]


def write_digit(image, height, pen, slant):
    """Write one digit anew with a pen `pen` pixels wide: strength of ink, 0 to 1."""
    matrix = np.float32([[8, -8 * slant, 48 + 112 * slant], [0, 8, 48]])
    large = cv2.warpAffine(image, matrix, (320, 320), flags=cv2.INTER_CUBIC)
    strokes = np.uint8(cv2.GaussianBlur(large, (0, 0), 4) > 85)
    depth = cv2.distanceTransform(strokes, cv2.DIST_L2, 5)
    # Its middle is where no way leads deeper into the ink, but not in the corners of an end.
    is_ridge = np.hypot(*np.gradient(depth)) < 0.8
    middle = np.uint8(is_ridge & (depth > 0.5 * cv2.dilate(depth, np.ones((19, 19)))))
    middle = cv2.morphologyEx(middle, cv2.MORPH_CLOSE, np.ones((9, 9)))
    scale = height / (np.ptp(np.nonzero(middle)[0]) + 1)
    middle = np.pad(middle, 5 + int(pen / scale))
    away = cv2.distanceTransform(1 - middle, cv2.DIST_L2, 5)
    away = scale * cv2.resize(away, None, fx=scale, fy=scale)
    return cut_out(np.clip(pen / 2 - away + 0.5, 0, 1), 0.4)


def write_lines(generator, scene, images, lines, size, pen):
    """Write digits on lines: strength of ink, 0 to 1."""
    width = int(2.5 * size * len(images) / lines)
    canvas = np.zeros((int((1.8 + 1.6 * lines) * size + scene.slope * width), width), np.float32)
    for line, digits in enumerate(np.split(images, lines)):
        slant, slope = generator.uniform((-0.1, -scene.slope), (0.35, scene.slope))
        gap, left = generator.choice([0.1, 0.2, 0.5]) * size, 0
        foot = len(canvas) / 2 + (1.6 * line - 0.8 * (lines - 1) + 0.5) * size
        for i, digit in enumerate(digits):
            ink = write_digit(digit, size * scene.ratio ** -generator.random(), pen, slant)
            off = slope * (width / 2 - left) + generator.uniform(-scene.jump, scene.jump) * size
            row = canvas[: int(foot + off)][-len(ink) :]
            touches = scene.touching and i % 2
            closest = max(0, left - 0.35 * ink.shape[1]) if touches else left
            while left > closest and np.minimum(row[:, left:][:, : ink.shape[1]], ink).max() < 0.5:
                left -= 1
            window = row[:, left:][:, : ink.shape[1]]
            np.maximum(window, ink, out=window)
            left += ink.shape[1]
            if touches or not scene.touching:
                left += int(gap * generator.uniform(1, 2.6))
    return cut_out(canvas, 0)


def ink_box(page):
    """Return where the ink is: `(left, top, width, height)`."""
    return cv2.boundingRect(np.uint8(page[..., 3] > 0.3))


def write(generator, scene, images):
    """Write a number on a page: `(page, how many of the images it shows)`.

    The fourth channel of the page is the ink: what must be in the photo.
    """
    shape = generator.choice([(0.75, 1), (0.5625, 1), (1, 0.75)]) * generator.uniform(*scene.side)
    page = sheet(*np.int32(shape), generator.uniform(*scene.paper))
    if scene.draw:
        scene.draw(generator, page)
    colour, shape = generator.uniform(*scene.ink), np.array(page.shape[:2])
    lines, count = (generator.integers(*x, endpoint=True) for x in (scene.lines, scene.count))
    size = generator.uniform(*scene.size) * len(page)
    pen = max(1.5, size * np.exp(generator.uniform(*np.log(scene.pen))))
    ink = write_lines(generator, scene, images[: lines * count], lines, size, pen)
    scale = min(1, *0.85 * shape / ink.shape)
    ink = cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    ink *= 1 - scene.grain * generator.random(ink.shape, np.float32)
    top, left = np.int32(generator.uniform(0.06 * shape, 0.94 * shape - ink.shape))
    page = np.dstack([page, np.zeros(shape, np.float32)])
    lay(page, ink, left, top, [*colour, 1])
    return page, lines * count


def aim(generator, scene, page):
    """Hold the camera so that all of the ink is in the photo: the matrix from page to photo."""
    size, askew = np.float32(page.shape[1::-1]), scene.askew
    corners = cv2.boxPoints((size / 2, size, 0))
    ink = np.float32([np.argwhere(page[..., 3] > 0.3)[:, ::-1]])
    turn, scale = generator.normal(0, 4 * askew), generator.uniform(*scene.scale)
    away = generator.uniform(-0.1 * askew, 0.1 * askew, 2) * size
    bent = generator.normal(0, 0.03 * askew, (4, 2)) * size
    while True:
        seen = cv2.boxPoints((size / 2 + away, scale * size, turn)) + np.float32(scale * bent)
        matrix = cv2.getPerspectiveTransform(corners, seen)
        place = cv2.perspectiveTransform(ink, matrix) / size
        if place.min() > 0.02 and place.max() < 0.98:
            return matrix
        scale, away = 0.97 * scale, 0.95 * away


def look(generator, scene, page):
    """Look at a page and, from afar, at the table that it lies on."""
    size, matrix = page.shape[1::-1], aim(generator, scene, page)
    photo = cv2.warpPerspective(page, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    if min(scene.scale) > 1:
        return photo
    here = cv2.warpPerspective(np.ones_like(page[..., 0]), matrix, size)
    # The table is plain, of wood, or under a checked cloth.
    colour, other = generator.uniform(0.08, 0.9, (2, 1)) * generator.uniform(0.5, 1, (2, 3))
    checks = (np.indices(here.shape) // generator.integers(20, 90)).sum(axis=0) % 2
    wood = cv2.resize(generator.normal(0, 0.15, (51, 5)), size, interpolation=cv2.INTER_CUBIC)
    pattern = (0 * checks, wood, checks)[generator.integers(3)][..., np.newaxis]
    table = np.float32(np.clip(colour + pattern * (other - colour), 0.02, 1))
    lay(table, 0.5 * cv2.GaussianBlur(here, (0, 0), 10))
    is_table = here < 0.5
    photo[is_table] = np.pad(table[is_table], ((0, 0), (0, 1)))
    return photo


# What may happen before a photo is taken; each gets the photo, and the box around the ink in it.


def hold(generator, photo, left, top, width, height):
    """Put a thumb on the page, left or right of the ink, where there is more room."""
    rows, columns = photo.shape[:2]
    room = max(left, columns - left - width)
    radius, row = np.int32(generator.uniform((0.07, 0.2), (0.12, 1)) * rows).tolist()
    tip = int(min(generator.uniform(0, 0.08) * columns, room - radius - 20))
    thumb = np.zeros((rows, columns), np.float32)
    cv2.line(thumb, (-columns // 4, row + 2 * radius), (tip, row), 1, 2 * radius)
    if room > left:
        thumb = thumb[:, ::-1]
    skin = np.float32([0.85, 0.62, 0.5]) * generator.uniform(0.35, 1)
    lay(photo, 0.5 * cv2.GaussianBlur(thumb, (0, 0), 20))
    lay(photo, cv2.GaussianBlur(thumb, (0, 0), 2), colour=skin)
    return photo


def shade(generator, photo, *_):
    """Let a phone, or an arm, cast its shadow from an edge of the photo."""
    height, width = photo.shape[:2]
    size = generator.uniform(0.3, 0.7) * width, 1.3 * height
    centre = generator.random() * width, generator.choice([-0.1, 1.1]) * height
    corners = cv2.boxPoints((centre, size, generator.uniform(-35, 35)))
    shadow = cv2.fillConvexPoly(np.zeros((height, width), np.float32), np.int32(corners), 1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), np.exp(generator.uniform(0, np.log(height / 20))))
    lay(photo, generator.uniform(0.2, 0.55) * shadow)
    return photo


def box(generator, photo, left, top, width, height, underline=False):
    """Print the box of a form around the ink, or underline it with a pen."""
    right, bottom = left + width, top + height
    room = min(left, top, photo.shape[1] - right, photo.shape[0] - bottom)
    away = min(room, round(generator.uniform(0.15, 0.4) * height))
    start = left - away, bottom + away if underline else top - away
    thick = max(1, round(generator.uniform(0.01, 0.06) * height))
    colour = photo[top, left] * generator.uniform(0.1, 0.6)
    cv2.rectangle(photo, start, (right + away, bottom + away), colour.tolist(), thick)
    return photo


def cut(generator, photo, left, top, width, height):
    """Cut the last digit by the edge of the photo, a little."""
    return photo[:, : left + width - int(generator.uniform(0, 0.07) * height)].copy()


def photograph(generator, scene, page):
    """Take a photo: uneven light, a cast of colour, blur, grain, JPEG's losses and a margin."""
    page = look(generator, scene, page)
    photo = page[..., :3].copy()
    if scene.change:
        photo = scene.change(generator, photo, *ink_box(page))
    height, width = photo.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope_x, slope_y = generator.normal(0, 0.1, 2)
    corners = 1 - generator.uniform(*scene.dark_corners) * (x**2 + y**2) / 2
    cast = generator.normal(1, 0.03, 3) * generator.uniform(0.6, 1.05)
    photo *= ((1 + slope_x * x + slope_y * y) * corners)[..., np.newaxis] * cast
    photo = cv2.GaussianBlur(photo, (0, 0), generator.uniform(0.3, 0.5 + max(height, width) / 1200))
    grain = generator.standard_normal(photo.shape, np.float32)
    photo += cv2.GaussianBlur(grain, (0, 0), 0.5) * generator.uniform(0, 0.03)
    photo = as_jpeg(as_bytes(photo), int(generator.integers(50, 96)))
    sides, level = generator.integers(scene.margin + 1, size=4), generator.choice([0, 128, 255])
    return cv2.copyMakeBorder(photo, *sides.tolist(), cv2.BORDER_CONSTANT, value=[int(level)] * 3)


def screenshot(generator, scene, page):
    """Save a drawing, at times white on black."""
    picture = as_bytes(page[..., :3])
    return 255 - picture if generator.random() < 0.2 else picture


def crop(generator, scene, page):
    """Crop a digit as tightly as people do, or through its strokes, and make that small."""
    left, top, width, height = ink_box(page)
    side = int(max(width, height) * generator.uniform(0.95, 1.5))
    off = generator.uniform(0.3, 0.7, 2)
    left, top = (max(0, int(x)) for x in (left, top) + off * ((width, height) - np.float64(side)))
    pixels = int(generator.choice([28, 28, 28, generator.integers(50, 400)]))
    square = page[top : top + side, left : left + side]
    small = cv2.resize(square, (pixels, pixels), interpolation=cv2.INTER_AREA)
    return screenshot(generator, scene, small)


@dataclasses.dataclass
class Scene:
    """What may vary in a scene; where two values are given, at random between them."""

    paper: tuple = ((0.88, 0.86, 0.8), (1, 1, 0.96))
    side: tuple = (1200, 1200)  # The longer side of the page, in pixels.
    draw: collections.abc.Callable | None = None  # Draws on the page.
    ink: tuple = ((0.08, 0.08, 0.1), (0.3, 0.3, 0.6))
    count: tuple = (2, 8)  # Digits on a line.
    lines: tuple = (1, 1)
    size: tuple = (0.1, 0.3)  # The height of the largest digit, in heights of the page.
    ratio: float = 1.25  # Digits are up to so many times smaller.
    pen: tuple = (0.03, 0.13)  # The width of strokes, in heights of the largest digit.
    grain: float = 0.1  # The ink is up to so much fainter here and there.
    jump: float = 0.05  # Digits are up to so much off their line, in heights of the largest one.
    slope: float = 0  # Lines rise or fall by up to so much.
    touching: bool = False  # Whether every second digit touches the one before.
    scale: tuple = (1.1, 1.3)  # The page in the photo, in sizes of the photo.
    askew: float = 0.5  # How carelessly the camera is held.
    change: collections.abc.Callable | None = None  # Changes the photo that is about to be taken.
    dark_corners: tuple = (0, 0.2)
    margin: int = 0  # The picture has a margin of up to so many pixels on each side.
    take: collections.abc.Callable = photograph


one_digit = partial(Scene, side=(200, 1400), count=(1, 1), size=(0.25, 0.75))
drawing = partial(one_digit, paper=(WHITE, WHITE), ink=(BLACK, (0.3, 0.3, 0.3)), grain=0)
with_edges = partial(Scene, scale=(0.85, 1.25), askew=1)
from_afar = partial(Scene, size=(0.15, 0.35), scale=(0.6, 1), askew=2)
BOARD, CHALK = ((0.1, 0.12, 0.12), (0.14, 0.25, 0.18)), ((0.85, 0.8, 0.5), (1, 1, 0.9))

SCENES = {
    "drawing": drawing(side=(150, 1000), pen=(0.015, 0.22), take=screenshot),
    "tight crop": drawing(side=(1200, 1200), pen=(0.04, 0.14), take=crop),
    "pencil": one_digit(ink=((0.35, 0.35, 0.35), (0.62, 0.62, 0.62)), grain=0.3),
    "colours": one_digit(paper=((0.6, 0.6, 0.6), WHITE), ink=(BLACK, (0.6, 0.6, 0.6))),
    "shadow": one_digit(change=shade),
    "chalk": one_digit(paper=BOARD, ink=CHALK, grain=0.3),
    "sheet on a table": from_afar(),
    "notebook": from_afar(draw=partial(rule, holes=True)),
    "held by a finger": with_edges(change=hold),
    "phone shadow": Scene(change=shade),
    "dark corners": Scene(draw=rule, dark_corners=(0.6, 0.9)),
    "margin": Scene(change=shade, margin=150),
    "box": with_edges(count=(1, 4), size=(0.1, 0.2), change=box),
    "underlined": Scene(change=partial(box, underline=True)),
    "ruled": Scene(draw=rule),
    "squared": Scene(draw=partial(rule, squares=True), count=(1, 6), size=(0.1, 0.5)),
    "touching": Scene(touching=True),
    "unequal sizes": Scene(size=(0.15, 0.35), ratio=3, pen=(0.015, 0.03)),
    "jumping": Scene(jump=0.45),
    "sloping": Scene(slope=0.3),
    "several lines": Scene(lines=(2, 3), count=(2, 5)),
    "cut off": Scene(change=cut),
    "thin pen": Scene(size=(0.06, 0.15), pen=(0.02, 0.04)),
}


def make_scene(scene, seed, images, labels):
    """Make a scene from as many of these digits as it needs: `(picture, number)`."""
    generator = np.random.default_rng(seed)
    page, count = write(generator, scene, images)
    return scene.take(generator, scene, page), "".join(map(str, labels[:count]))


def is_clear(image):
    """Leave out digits with specks, or strokes so thick that their middle is unclear."""
    areas = cv2.connectedComponentsWithStats(np.uint8(image > 85))[2][:, cv2.CC_STAT_AREA]
    return cv2.erode(image, np.ones((4, 4))).max() < 100 and areas.min() > 12


def some_scenes(count, seed, images, labels):
    """List scenes of each kind: dict of lists of functions that make them."""
    clear = np.flatnonzero([is_clear(image) for image in images])
    scenes = {kind: [] for kind in SCENES}
    for kind, index in itertools.product(SCENES, range(count)):
        own_seed = [seed, index, *kind.encode()]
        chosen = np.random.default_rng(own_seed).choice(clear, 15)
        make = partial(make_scene, SCENES[kind], own_seed, images[chosen], labels[chosen])
        scenes[kind].append(make)
    return scenes


def make_example(images, labels):
    """Make the README's sheet from test digits: two numbers on ruled paper, in a shadow."""
    chosen = [np.flatnonzero(labels == int(n))[i] for i, n in enumerate("2026112431415926")]
    scene = Scene(draw=rule, count=(8, 8), lines=(2, 2), change=shade)
    return make_scene(scene, 23, images[chosen], labels[chosen])[0]


def in_form(make, image, label):
    """Make a picture of one digit: `(picture, number)`."""
    return make(image), str(label)


def find(make):
    """Make a picture and find its digits: `(number, images of digits)`."""
    picture, number = make()
    return number, [digit.image for digit in handwriting.read_digits(picture)]


def predicted(model, images):
    """Return the number that a model predicts for images of digits."""
    return "".join(map(str, np.argmax(model(np.float32(images) / 255), axis=1))) if images else ""


def print_table(kinds, models):
    """Read pictures of several kinds with each model, and print the share read correctly."""
    print("| pictures |", " | ".join(models), "|\n|---|" + "---:|" * len(models))
    correct = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
        for kind, jobs in kinds.items():
            numbers, found = zip(*executor.map(find, jobs), strict=True)
            read = [[predicted(model, images) for images in found] for model in models.values()]
            correct[kind] = np.array(read) == numbers
            print_row(kind, correct[kind])
    print_row("all", np.hstack([*correct.values()]))


def print_row(kind, correct):
    """Print a share for each model, and its 95 % confidence interval."""
    import scipy.stats  # Which the tests need, but not the README's sheet.

    cells = []
    for row in correct:
        low, high = scipy.stats.binomtest(row.sum(), len(row)).proportion_ci(method="wilson")
        cells.append(f"{row.mean():.1%} ({low:.1%} to {high:.1%})")
    print(f"| {kind} |", " | ".join(cells), "|", flush=True)


def main():
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_number = partial(parser.add_argument, type=int, default=0)
    parser.add_argument("file", nargs="?", help="write the README's sheet to this .jpg or .png")
    add_number("--round-trip", help="how many digits to save as pictures and read")
    add_number("--scenes", help="how many scenes of each kind to read")
    add_number("--seed", help="different ones for a different seed")
    parser.add_argument("--model", nargs="+", default=["mnist_cnn.keras"], help="networks to try")
    options = parser.parse_args()
    if not (options.file or options.round_trip or options.scenes):
        parser.error("name a file to write, or ask for --round-trip or --scenes")

    (images, labels), test_digits = keras.datasets.mnist.load_data()
    images, labels = images[-5000:], labels[-5000:]
    try:
        if options.file:
            Image.fromarray(make_example(*test_digits)).save(options.file)
            print(f"Saved {options.file}")
        paths = options.model if options.round_trip or options.scenes else []
        models = {path: keras.saving.load_model(path, compile=False) for path in paths}
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    if options.round_trip:
        chosen = np.random.default_rng(options.seed).permutation(5000)[: options.round_trip]
        for model in models.values():  # What none of them predicts correctly, none can lose.
            chosen = [i for i in chosen if predicted(model, [images[i]]) == str(labels[i])]
        forms = {
            form: [partial(in_form, make, images[i], labels[i]) for i in chosen]
            for form, make in FORMS.items()
        }
        print_table(forms, models)
    if options.scenes:
        print_table(some_scenes(options.scenes, options.seed, images, labels), models)


if __name__ == "__main__":
    main()
