"""Paper with handwriting on it, as people photograph it: made from digits in MNIST's form.

    python tests/paper.py number.jpg
    python tests/paper.py --round-trip 5000 --model mnist_cnn.keras mnist_ann.keras
    python tests/paper.py --scenes 200 --model mnist_cnn.keras mnist_ann.keras

The first writes a sheet of ruled paper in a shadow, with two numbers made of MNIST's test digits.
The second saves validation digits as pictures in several forms, and counts those that are lost.
The third makes random scenes, 200 of each kind, from validation images; reads them; and prints a
table of the shares read exactly, and of the digits read, by edit distance.
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


def shadow_edge(digit):
    """The shadow of a hand, with a sharp edge across the digit."""
    picture = plain(digit)
    rows, columns = np.indices(picture.shape[:2])
    picture[columns + 0.4 * rows > 500] *= 0.6
    return picture


def darken_corners(picture):
    """Put a lamp in the middle, and darkness around it."""
    rows, columns = np.indices(picture.shape[:2])
    distance = np.hypot(rows - 300, columns - 400) / 500
    return picture * np.clip(1 - distance**2, 0.1, 1)[..., np.newaxis].astype(np.float32)


def vignette(digit):
    """A lamp in the middle, darkness around it."""
    return darken_corners(plain(digit))


def draw_rules(picture):
    """Draw the grey lines of ruled paper, a little bent, in place."""
    height, width = picture.shape[:2]
    columns = np.arange(width)
    for top in range(30, height, 60):
        points = np.stack([columns, top + 0.01 * columns + 6 * np.sin(columns / 200)], axis=1)
        cv2.polylines(picture, [np.int32(points)], False, (0.6, 0.65, 0.75), 2)


def draw_squares(picture):
    """Draw the lines of squared paper, in place."""
    height, width = picture.shape[:2]
    for start in range(20, max(height, width), 50):
        picture[start : start + 2] = (0.7, 0.75, 0.85)
        picture[:, start : start + 2] = (0.7, 0.75, 0.85)


def draw_underline(picture):
    """Draw a line with the pen that digits of 160 pixels at 180 from the top stand on, in place."""
    cv2.line(picture, (90, 322), (picture.shape[1] - 90, 306), INK, 8)


def ruled(digit):
    """Ruled paper: grey lines from edge to edge."""
    picture = sheet()
    draw_rules(picture)
    write(picture, digit, 260, 180, 220)
    return picture


def ruled_vignette(digit):
    """Lines that run into the dark."""
    return darken_corners(ruled(digit))


def squared(digit):
    """Squared paper: lines both ways."""
    picture = sheet()
    draw_squares(picture)
    write(picture, digit, 260, 180, 220)
    return picture


def underlined(digit):
    """A line below the digit that does not touch it."""
    picture = plain(digit)
    cv2.line(picture, (230, 410), (530, 400), INK, 14)
    return picture


def margin(digit):
    """A dim photo with the white margin that a page or a program put around it."""
    return np.pad(0.7 * shadow_edge(digit), ((60, 60), (60, 60), (0, 0)), constant_values=1)


def table(digit):
    """The end of the sheet, and the dark table beside it."""
    picture = plain(digit)
    rows, columns = np.indices(picture.shape[:2])
    picture[columns - 0.1 * rows > 680] = (0.25, 0.15, 0.1)
    return picture


def boxed(digit):
    """The printed box of a form around the digit."""
    picture = plain(digit)
    cv2.rectangle(picture, (200, 120), (540, 460), (0.2, 0.2, 0.2), 4)
    return picture


def noisy(digit):
    """A phone's grainy picture in a dim room."""
    noise = np.random.default_rng(0).normal(0, 0.04, (600, 800, 3))
    return np.float32(np.clip(0.5 * plain(digit) + noise, 0, 1))


def blurred(digit):
    """Out of focus."""
    return cv2.GaussianBlur(plain(digit), (0, 0), 5)


def inverse(digit):
    """Chalk on a blackboard."""
    return 1 - plain(digit)


def pencil(digit):
    """Pale pencil on coloured paper."""
    picture = sheet(colour=(0.85, 0.8, 0.6))
    write(picture, digit, 300, 200, 150, ink=(0.6, 0.57, 0.45))
    return picture


def tiny(digit):
    """A small digit in a corner of a large sheet."""
    picture = sheet(1500, 2000)
    write(picture, digit, 60, 1350, 100)
    return picture


def touching_the_edge(digit):
    """Cropped up to the ink on the left and above."""
    rows, columns = np.nonzero(digit.max(axis=1))[0], np.nonzero(digit.max(axis=0))[0]
    picture = plain(digit)
    top, left = 180 + round(rows[0] * 220 / 28), 260 + round(columns[0] * 220 / 28)
    return picture[top + 2 :, left + 2 :]


def as_bytes(picture):
    """Round a float picture, 0 to 1, to uint8, 0 to 255."""
    return np.uint8(np.round(255 * np.clip(picture, 0, 1)))


KINDS = (
    *(plain, shadow_edge, vignette, ruled, squared, boxed, noisy, blurred, inverse, pencil),
    *(tiny, touching_the_edge, underlined, margin, table, ruled_vignette),
)


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
    neighbours = np.ones((3, 3), np.float32)
    for _ in range(12):
        mask = mask & (cv2.filter2D(mask, -1, neighbours) > 2)
    # That took twelve pixels off the ends of strokes, too.
    rows, columns = np.nonzero(mask)
    for row, column in np.argwhere(mask & (cv2.filter2D(mask, -1, neighbours) == 2)):
        near = np.hypot(rows - row, columns - column) < 15
        away = np.array([column - columns[near].mean(), row - rows[near].mean()])
        end = (column, row) + 16 * away / max(1, np.hypot(*away))
        cv2.line(mask, (int(column), int(row)), np.int32(end).tolist(), 1)
    return mask


def add_flag(generator, lines):
    """Give a 1 the flag that it has in much of Europe, and sometimes a foot, in place."""
    rows, columns = np.nonzero(lines)
    top, left, bottom, foot = (int(end) for i in (0, -1) for end in (rows[i], columns[i]))
    across, down, half = generator.uniform((0.15, 0.2, 0.15), (0.4, 0.5, 0.35)) * (bottom - top)
    cv2.line(lines, (left, top), (round(left - across), round(top + down)), 1)
    if generator.random() < 0.3:
        cv2.line(lines, (round(foot - half), bottom), (round(foot + half), bottom), 1)


def add_crossbar(generator, lines):
    """Cross the stem of a 7, in place, if its writer has not."""
    rows, columns = np.nonzero(lines)
    height, middle = np.ptp(rows), rows[0] + np.ptp(rows) / 2
    stem = columns[np.abs(rows - middle) < 0.12 * height]
    if len(stem) and np.ptp(stem) < 0.25 * height:
        half, rise = generator.uniform((0.15, -0.03), (0.3, 0.1)) * height
        ends = [[stem.mean() - half, middle + rise], [stem.mean() + half, middle - rise]]
        cv2.line(lines, *np.int32(ends).tolist(), 1)


def stroke(generator, digit, height, pen, slant):
    """Write one digit anew with a pen `pen` pixels wide: strength of ink, 0 to 1, cropped."""
    image, label = digit
    wide, shear = 8 * generator.uniform(0.85, 1.1), 8 * slant
    matrix = np.float32([[wide, -shear, 160 - 14 * (wide - shear)], [0, 8, 160 - 14 * 8]])
    large = cv2.warpAffine(image, matrix, (320, 320), flags=cv2.INTER_CUBIC)
    lines = skeleton(np.uint8(cv2.GaussianBlur(large, (0, 0), 3) > 85))
    if label == 1 and generator.random() < 0.5:
        add_flag(generator, lines)
    if label == 7 and generator.random() < 0.35:
        add_crossbar(generator, lines)
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


def row_of(generator, digits, size, pen, gap, jump=0, ratio=1, slope=0, touching=0):
    """Write a number in one row: strength of ink, 0 to 1, cropped.

    Digits are `size` high or up to `ratio` times smaller, `gap` sizes apart, up to `jump` sizes off
    the line; a share of them, but at least one, are `touching` the one before.
    """
    slant = generator.uniform(-0.1, 0.35)
    heights = size * ratio ** -generator.permutation(np.linspace(0, 1, len(digits)))
    touches = generator.random(len(digits)) < touching
    touches[generator.integers(1, len(digits) + 1) % len(digits)] |= touching > 0
    across = round(2.4 * size * len(digits))
    canvas = np.zeros((round(3 * size + abs(slope) * across), across), np.float32)
    left = 0
    for digit, height, touch in zip(digits, heights, touches, strict=True):
        ink = stroke(generator, digit, height * generator.uniform(0.88, 1.12), pen, slant)
        off = generator.normal(0, 0.03) * height + generator.uniform(-jump, jump) * size
        bottom = round((len(canvas) + size) / 2 + slope * (across / 2 - left) + off)
        left += round(generator.uniform(*gap) * size) if left else 0
        rows, wide = canvas[bottom - ink.shape[0] : bottom], ink.shape[1]
        closest = max(0, left - 0.35 * wide) if touch else left
        while left > closest and np.minimum(rows[:, left : left + wide], ink).max() < 0.5:
            left -= 1
        np.maximum(rows[:, left : left + wide], ink, out=rows[:, left : left + wide])
        left += wide
    x, y, width, height = cv2.boundingRect(np.uint8(canvas > 0))
    return canvas[y : y + height, x : x + width]


def white_paper(generator, shape):
    """Make an empty sheet of white, grey or yellowish paper."""
    grey = generator.uniform(0.75, 1)
    colour = grey * generator.uniform((1, 0.97, 0.9), (1, 1, 1.01))
    return sheet(*shape, colour) * (1 + 0.006 * clouds(generator, shape, 40, 60))


def coloured_paper(generator, shape):
    """Make an empty sheet of white or coloured paper."""
    return sheet(*shape, generator.permutation(generator.uniform((0.5, 0.8, 0.9), 1)))


def board(generator, shape):
    """Make a blackboard, or a green one, that was wiped before."""
    colour = generator.choice([(0.1, 0.25, 0.18), (0.13, 0.13, 0.14)])
    return sheet(*shape, colour) * (1 + 0.1 * clouds(generator, shape, 6, 4))


def rule(generator, page, squares=False):
    """Draw the lines of ruled paper, across or down the page, in place."""
    step, width = int(generator.integers(30, 60) * (1 if squares else 2)), generator.integers(1, 4)
    tint = generator.uniform(0.35 if squares else 0.5, 0.9) + np.float32([0, 0, 0.1])
    across, first = generator.random() < 0.85, generator.integers(step)
    for start in range(first, max(page.shape), step):
        if squares or across:
            page[start : start + width] = page[0, 0] * tint
        if squares or not across:
            page[:, start : start + width] = page[0, 0] * tint


def square(generator, page):
    """Draw the lines of squared paper, paler or darker than a pen's, in place."""
    rule(generator, page, squares=True)


def bind(generator, page):
    """Bind a page with a spiral at its left edge or its top, in place."""
    side = page if generator.random() < 0.5 else page.swapaxes(0, 1)
    step, radius = generator.integers(28, 50), generator.integers(5, 9)
    wire = generator.choice([0.1, 0.45, 0.8])
    for row in range(step, len(side) - step, step):
        side[row - radius : row + radius, 18 : 18 + 2 * radius] = 0.15
        side[row - 2 : row + 2, : 18 + radius] = wire


def crumple(generator, page):
    """Crumple a page, in place: facets, bright and dark, with creases between them."""
    height, width = (side // 4 for side in page.shape[:2])
    rows, columns = np.indices((height, width), np.float32)
    light, nearest = np.ones((height, width), np.float32), np.full((height, width), np.inf)
    bend = 0.06 * width * clouds(generator, (height, width), 4, 4)[..., 0]
    for _ in range(generator.integers(8, 40)):
        y, x, bright = *generator.random(2) * (height, width), generator.normal(1, 0.08)
        along, down = generator.normal(0, 0.3, 2) / width
        distance = np.hypot(rows - y + bend, columns - x + bend)
        facet = bright + along * (columns - x) + down * (rows - y)
        light = np.where(distance < nearest, facet, light)
        nearest = np.minimum(distance, nearest)
    light = cv2.GaussianBlur(light, (0, 0), generator.uniform(0.7, 5))
    light = cv2.resize(light, page.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    page *= np.float32(light[..., np.newaxis])


def pen_ink(generator, page):
    """Choose black, blue or dark grey ink."""
    colours = ((0.1, 0.1, 0.12), (0.12, 0.17, 0.5), (0.2, 0.25, 0.6), (0.3, 0.3, 0.32))
    return generator.choice(colours) * generator.uniform(0.7, 1.2)


def coloured_ink(generator, page):
    """Choose bright ink of some colour."""
    return generator.permutation(generator.uniform((0.4, 0, 0), (0.8, 0.3, 0.3)))


def pencil_lead(generator, page):
    """Choose a grey that is paler than a pen's."""
    return page.mean(axis=(0, 1)) * generator.uniform(0.4, 0.75)


def pen_or_pencil(generator, page):
    """Choose ink or lead."""
    return generator.choice([pen_ink, pencil_lead])(generator, page)


def chalk(generator, page):
    """Choose white or yellow chalk."""
    return np.float32(generator.choice([(0.9, 0.9, 0.88), (0.9, 0.85, 0.5)]))


def put_number(generator, page, digits, lines, colour, size, pen, gap, grain=0.1, **arrangement):
    """Write lines of digits somewhere on a page; the strength of the ink is the fourth channel."""
    height, width = page.shape[:2]
    count = len(digits) // lines
    rows = [
        row_of(generator, digits[i : i + count], size, pen, gap, **arrangement)
        for i in range(0, len(digits), count)
    ]
    space = generator.uniform(0.4, 1.2) * size
    wide, tall = max(row.shape[1] for row in rows), sum(len(row) + space for row in rows) - space
    ink, top = np.zeros((round(tall) + lines, wide), np.float32), 0
    for row in rows:
        ink[round(top) : round(top) + len(row), : row.shape[1]] = row
        top += len(row) + space
    scale = min(1, 0.85 * height / tall, 0.85 * width / wide)
    ink = cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = (
        round(generator.uniform(0.06 * side, 0.94 * side - inked))
        for side, inked in zip((height, width), ink.shape, strict=True)
    )
    strength = np.zeros((height, width, 1), np.float32)
    strength[top : top + ink.shape[0], left : left + ink.shape[1], 0] = ink
    cover = strength * (1 - grain * generator.random(strength.shape, np.float32))
    # Printed lines are seen through ink, but not through chalk.
    covered = (np.minimum if np.mean(colour) < page.mean() else np.maximum)(page, colour)
    return np.dstack([page + (covered - page) * cover, strength])


def table_top(generator, shape):
    """Make a table, dark or bright: plain, of wood, or under a checked or flowery cloth."""
    kind = generator.integers(4)
    top = sheet(*shape, generator.uniform(0.08, 0.9) * generator.uniform((1, 0.65, 0.4), 1))
    other = generator.uniform(0.1, 0.9) * generator.uniform(0.6, 1, 3)
    if kind == 1:
        top *= 1 + 0.1 * clouds(generator, shape, 50, 4) + 0.05 * clouds(generator, shape, 300, 9)
    elif kind == 2:
        checks = (np.indices(shape) // generator.integers(20, 90) % 2).sum(axis=0)
        top += 0.5 * checks[..., np.newaxis] * (np.float32(other) - top)
    elif kind == 3:
        flowers = np.clip(3 * clouds(generator, shape, 12, 16) - 1, 0, 1)
        top += flowers * (np.float32(other) - top)
        top *= 1 + 0.15 * clouds(generator, shape, 12, 12)
    return np.maximum(top, 0.02)


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
    sheet_here = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, (width, height))
    shadow = cv2.GaussianBlur(sheet_here, (0, 0), 10)[..., np.newaxis]
    around = np.dstack([table_top(generator, (height, width)) * (1 - 0.5 * shadow), 0 * shadow])
    return np.where(sheet_here[..., np.newaxis] > 0.5, photo, around)


def hold(generator, photo):
    """Put a finger or a thumb on the page from an edge of the photo, beside its ink."""
    height, width = photo.shape[:2]
    ink = cv2.dilate(photo[..., 3], np.ones((41, 41)))
    for _ in range(50):
        thick, side = int(generator.uniform(0.14, 0.25) * height), generator.choice([0, width])
        row, inward = generator.uniform(0.2, 1) * height, 1 if side == 0 else -1
        tip = round(side + inward * generator.uniform(0, 0.08) * width), round(row)
        finger = np.zeros((height, width), np.float32)
        cv2.line(
            finger, (round(side - inward * width / 4), round(row + 0.15 * height)), tip, 1, thick
        )
        if not (finger * ink).any():
            break
    else:
        return photo
    depth = cv2.distanceTransform(np.uint8(finger), cv2.DIST_L2, 5) / thick
    nail = cv2.ellipse(np.zeros_like(finger), (tip, (thick // 2, thick // 2), 0), 0.15, -1)
    light = (0.6 + 0.9 * np.minimum(depth, 0.4)) * (1 + cv2.GaussianBlur(nail, (0, 0), 2))
    skin = np.float32([0.85, 0.62, 0.5]) * generator.uniform(0.35, 1) * light[..., np.newaxis]
    finger, shadow = (cv2.GaussianBlur(finger, (0, 0), blur)[..., np.newaxis] for blur in (2, 20))
    photo[..., :3] = photo[..., :3] * (1 - 0.5 * shadow) * (1 - finger) + skin * finger
    return photo


def shade(generator, photo):
    """Let a phone, or an arm, cast its shadow from an edge of the photo."""
    height, width = photo.shape[:2]
    size = generator.uniform(0.3, 0.7) * width, 1.3 * height
    centre = generator.random() * width, generator.choice([-0.1, 1.1]) * height
    box = cv2.boxPoints((centre, size, generator.uniform(-35, 35)))
    shadow = cv2.fillConvexPoly(np.zeros((height, width), np.float32), np.int32(box), 1)
    blur = np.exp(generator.uniform(0, np.log(height / 20)))
    shadow = cv2.GaussianBlur(shadow, (0, 0), blur)[..., np.newaxis]
    photo[..., :3] *= 1 - generator.uniform(0.2, 0.55) * shadow
    return photo


def cut(generator, photo):
    """Cut the last digit by the edge of the photo, a little."""
    columns = np.flatnonzero(photo[..., 3].max(axis=0) > 0.3)
    height = np.ptp(np.flatnonzero(photo[..., 3].max(axis=1) > 0.3))
    return photo[:, : columns[-1] + 1 - round(generator.uniform(0, 0.07) * height)]


def develop(generator, photo):
    """Take the photo: uneven light, a cast of colour, blur, grain and JPEG's losses."""
    photo = np.ascontiguousarray(photo[..., :3], np.float32)
    height, width = photo.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope_x, slope_y = generator.normal(0, 0.1, 2)
    fall = generator.choice([0, generator.uniform(0, 0.3)])
    light = (1 + slope_x * x + slope_y * y) * (1 - fall * (x**2 + y**2) / 2)
    cast = generator.normal(1, 0.03, 3) * generator.uniform(0.6, 1.05)
    photo *= np.float32(light[..., np.newaxis] * cast)
    photo = cv2.GaussianBlur(photo, (0, 0), generator.uniform(0.3, 0.5 + max(height, width) / 1200))
    grain = generator.standard_normal(photo.shape, np.float32)
    photo += cv2.GaussianBlur(grain, (0, 0), 0.5) * np.float32(generator.uniform(0, 0.03))
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(50, 96))]
    return cv2.imdecode(cv2.imencode(".jpg", as_bytes(photo), quality)[1], cv2.IMREAD_COLOR)


FILLED = {"scale": (1.1, 1.3), "angle": 2, "shift": 0.03, "tilt": 0.02}
WITH_EDGES = {"scale": (0.85, 1.25), "angle": 4, "shift": 0.1, "tilt": 0.03}
FROM_AFAR = {"scale": (0.6, 1), "angle": 8, "shift": 0.3, "tilt": 0.06}


def photo(
    generator,
    digits,
    paper=white_paper,
    before=(),
    ink=pen_ink,
    view=FILLED,
    after=(),
    side=(1200, 1200),
    count=(2, 8),
    lines=(1, 1),
    size=(0.1, 0.3),
    pen=(0.03, 0.13),
    gap=None,
    **arrangement,
):
    """Photograph a number on paper: `(picture, number)`.

    What may vary is given as `(least, most)`: the photo's longer `side`, the digits' `size` as a
    share of its height, the `pen`'s width and the `gap` as shares of that size, and so on.
    """
    long = generator.uniform(*side)
    shape = np.int32(long * generator.permutation([1, generator.choice([0.5, 0.5625, 0.75, 0.75])]))
    page = paper(generator, tuple(np.sort(shape) if generator.random() < 0.6 else shape))
    for draw in before:
        draw(generator, page)
    lines, count = (int(generator.integers(low, high + 1)) for low, high in (lines, count))
    digits = digits[: lines * count]
    size = generator.uniform(*size) * page.shape[0]
    pen = max(1.5, size * np.exp(generator.uniform(*np.log(pen))))
    gap = gap or generator.choice([(0.1, 0.3), (0.2, 0.6), (0.5, 1.3)])
    arrangement = {name: generator.uniform(*range_) for name, range_ in arrangement.items()}
    colour = ink(generator, page)
    page = put_number(generator, page, digits, lines, colour, size, pen, gap, **arrangement)
    picture = look(generator, page, **view)
    for change in after:
        picture = change(generator, picture)
    return develop(generator, picture), "".join(str(label) for _, label in digits)


def drawing(generator, digits):
    """Draw one digit on the screen, or scan it, with a pen of any width: `(picture, number)`."""
    side, share = np.exp(generator.uniform(np.log((150, 0.015)), np.log((1000, 0.22))))
    page, size = sheet(int(side), int(side), (1, 1, 1)), generator.uniform(0.3, 0.75) * side
    pen = max(1, share * size)
    page = put_number(generator, page, digits[:1], 1, (0, 0, 0), size, pen, (0, 0), grain=0)
    picture = as_bytes(page[..., :3])
    return (255 - picture if generator.random() < 0.2 else picture), str(digits[0][1])


def tight_crop(generator, digits):
    """Crop one digit to 28 x 28 pixels or more, its strokes up to the edges or cut by them."""
    side = int(generator.choice([28, 28, 28, 32, generator.integers(50, 400)]))
    pen = generator.choice([1.2, 2, 3, 4]) * side / 7
    ink = stroke(generator, digits[0], 4 * side, pen, generator.uniform(-0.1, 0.3))
    wide = max(0, int(0.9 * ink.shape[0]) - ink.shape[1]) // 2 * (generator.random() < 0.7)
    margins = np.maximum(generator.integers(-1, 3, (2, 2)) * side // 7, -int(pen)) + [[0], [wide]]
    (top, bottom), (left, right) = np.maximum(-margins, 0)
    ink = np.pad(ink[top : len(ink) - bottom, left : ink.shape[1] - right], np.maximum(margins, 0))
    size = (side, side) if wide else (max(8, side * ink.shape[1] // len(ink)), side)
    ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA)[..., np.newaxis]
    if generator.random() < 0.3:
        ink = np.float32(ink > 0.45)  # As a paint program draws without smooth edges.
    paper, colour = (0, 1) if generator.random() < 0.4 else (1, generator.choice([0, 0.3]))
    return as_bytes(np.repeat(paper + (colour - paper) * ink, 3, axis=2)), str(digits[0][1])


digit = partial(photo, count=(1, 1), side=(200, 1400), size=(0.25, 0.75))
SCENES = {
    "drawing": drawing,
    "tight crop": tight_crop,
    "pencil": partial(digit, ink=pencil_lead, pen=(0.025, 0.07), grain=(0.1, 0.4)),
    "colours": partial(digit, paper=coloured_paper, ink=coloured_ink),
    "shadow": partial(digit, after=[shade]),
    "chalk": partial(digit, paper=board, ink=chalk, grain=(0.1, 0.4), pen=(0.04, 0.12)),
    "sheet on a table": partial(photo, view=FROM_AFAR, size=(0.15, 0.35)),
    "notebook": partial(photo, before=[rule, bind], view=FROM_AFAR, size=(0.15, 0.35)),
    "held by a finger": partial(photo, view=WITH_EDGES, after=[hold]),
    "crumpled": partial(photo, before=[crumple], view=WITH_EDGES),
    "phone shadow": partial(photo, after=[shade]),
    "ruled": partial(photo, before=[rule]),
    "squared": partial(photo, before=[square], ink=pen_or_pencil, count=(1, 6), size=(0.1, 0.5)),
    "touching": partial(photo, touching=(0.2, 0.7)),
    "unequal sizes": partial(photo, ratio=(1.5, 5), size=(0.15, 0.35), pen=(0.015, 0.03)),
    "jumping": partial(photo, jump=(0.2, 0.7), gap=(0.15, 0.8)),
    "sloping": partial(photo, slope=(-0.3, 0.3)),
    "several lines": partial(photo, lines=(2, 3), count=(2, 5)),
    "cut off": partial(photo, after=[cut]),
    "thin pen": partial(photo, side=(1600, 1600), size=(0.05, 0.12), pen=(0.02, 0.04)),
}


def clear_strokes(images, labels):
    """Leave out digits with specks, or strokes so thick that their middle lines are unclear."""
    pieces = [cv2.connectedComponentsWithStats(np.uint8(image > 85))[2] for image in images]
    clear = [
        cv2.erode(image, np.ones((4, 4))).max() < 100 and areas[:, cv2.CC_STAT_AREA].min() > 12
        for image, areas in zip(images, pieces, strict=True)
    ]
    return images[clear], labels[clear]


def scene(kind, index, seed, images, labels):
    """Make one scene of a kind, the same one for the same index and seed: `(picture, number)`."""
    generator = np.random.default_rng([seed, index, *kind.encode()])
    wanted = generator.integers(10, size=15).tolist()
    chosen = [generator.choice(np.flatnonzero(labels == label)) for label in wanted]
    return SCENES[kind](generator, list(zip(images[chosen], wanted, strict=True)))


def read_scene(kind, index, seed, folder, images, labels):
    """Make a scene and find its digits: `(number, images of digits)`."""
    import handwriting  # The folder above this one is in the path by now.

    cv2.setNumThreads(1)  # Two processes take turns already.
    picture, number = scene(kind, index, seed, images, labels)
    if folder:
        ending = "png" if kind in ("drawing", "tight crop") else "jpg"
        name = f"{kind}-{index:04}_{number}.{ending}".replace(" ", "-")
        cv2.imwrite(f"{folder}/{name}", picture[..., ::-1])
    return number, [digit.image for digit in handwriting.read_digits(picture)]


def as_jpeg(picture, quality=75):
    """Save a uint8 picture as a JPEG, and open that."""
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)


def in_colours(image, side=28, ink=0, paper=255, method=Image.Resampling.BICUBIC):
    """One digit, enlarged as Pillow does, as a picture in two colours."""
    large = np.asarray(Image.fromarray(image).resize((side, side), method), np.float32)
    return np.uint8(
        np.round(paper + large[..., np.newaxis] / 255 * np.subtract(ink, paper)) + [0] * 3
    )


def on_a_sheet(image):
    """One digit, 90 pixels high, on a sheet of 800 x 600."""
    picture = np.full((600, 800, 3), 255, np.uint8)
    picture[240:330, 300:390] = in_colours(image, 90)
    return picture


FORMS = {
    "28 x 28, black on white": in_colours,
    "28 x 28, white on black": partial(in_colours, ink=255, paper=0),
    "28 x 28, JPEG": lambda image: as_jpeg(in_colours(image)),
    "280 x 280, black on white": partial(in_colours, side=280),
    "280 x 280, white on black": partial(in_colours, side=280, ink=255, paper=0),
    "1000 x 1000, JPEG": lambda image: as_jpeg(in_colours(image, 1000)),
    "100 x 100, in blocks": partial(in_colours, side=100, method=Image.Resampling.NEAREST),
    "blue ink on yellow paper": partial(
        in_colours, side=280, ink=(30, 50, 160), paper=(250, 235, 130)
    ),
    "90 high on a sheet of 800 x 600": on_a_sheet,
}


def find_in_form(form, image):
    """Find the digits in a picture of one: their images."""
    import handwriting  # The folder above this one is in the path by now.

    cv2.setNumThreads(1)  # Two processes take turns already.
    return [digit.image for digit in handwriting.read_digits(FORMS[form](image))]


def numbers(model, found):
    """What a model predicts for the images that were found in each picture, as texts."""
    images = [image for images in found for image in images]
    predicted = model.predict(np.float32(images or [np.zeros((28, 28))]) / 255, verbose=0)
    classes = iter(predicted.argmax(axis=1))
    return ["".join(str(next(classes)) for _ in images) for images in found]


def round_trip(arguments):
    """Count the validation digits that are lost in each form, of those read correctly directly."""
    import keras

    sys.path.append(str(pathlib.Path(__file__).parent.parent))
    (images, labels), _ = keras.datasets.mnist.load_data()
    images, labels = images[-5000:][: arguments.round_trip], labels[-5000:][: arguments.round_trip]
    models = [keras.models.load_model(path, compile=False) for path in arguments.model]
    direct = [numbers(model, [[image] for image in images]) for model in models]
    print("| form |", *(f"lost, {path} |" for path in arguments.model))
    print("|---|" + "---:|" * len(models))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for form in FORMS:
            found = pool.starmap(find_in_form, [(form, image) for image in images], chunksize=20)
            cells = []
            for model, before in zip(models, direct, strict=True):
                after = numbers(model, found)
                correct = [i for i, label in enumerate(labels) if before[i] == str(label)]
                lost = [i for i in correct if after[i] != before[i]]
                cells.append(f"{len(lost)} of {len(correct)}")
                for i in lost if arguments.folder else []:
                    name = f"{form}-{i:04}_{labels[i]}-{after[i] or 'nothing'}.png"
                    name = name.replace(" ", "-").replace(",", "")
                    cv2.imwrite(f"{arguments.folder}/{name}", FORMS[form](images[i])[..., ::-1])
            print(f"| {form} |", " | ".join(cells), "|", flush=True)


def edit_distance(text, other):
    """Count the letters to insert, delete or replace to get from one text to another."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(text, start=1):
        above, row = row, [i]
        for j, mine in enumerate(other):
            row.append(min(above[j + 1] + 1, row[j] + 1, above[j] + (letter != mine)))
    return row[-1]


def score(found, model):
    """Predict what was found: `(share of numbers read exactly, share of their digits)`."""
    images = [image for _, images in found for image in images]
    predicted = model.predict(np.float32(images or [np.zeros((28, 28))]) / 255, verbose=0)
    classes = iter(predicted.argmax(axis=1))
    pairs = [(number, "".join(str(next(classes)) for _ in images)) for number, images in found]
    wrong = sum(min(edit_distance(*pair), len(pair[0])) for pair in pairs)
    exact = np.mean([number == read for number, read in pairs])
    return exact, 1 - wrong / sum(len(number) for number, _ in pairs)


def print_row(kind, found, models):
    """Print a row of the table: what each network makes of the scenes of a kind."""
    shares = [f"{share:.1%}" for model in models for share in score(found, model)]
    print(f"| {kind} |", " | ".join(shares), "|", flush=True)


def read_scenes(arguments):
    """Make scenes of each kind from MNIST's validation images, read them, and print the shares."""
    import keras

    sys.path.append(str(pathlib.Path(__file__).parent.parent))
    (images, labels), _ = keras.datasets.mnist.load_data()
    models = [keras.models.load_model(path, compile=False) for path in arguments.model]
    images, labels = clear_strokes(images[-5000:], labels[-5000:])
    data = (arguments.seed, arguments.folder, images, labels)
    print("| scenes |", *(f"{path}, exactly | digits |" for path in arguments.model))
    print("|---|" + "---:|---:|" * len(models))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = {}
        for kind in SCENES:
            jobs = [(kind, index, *data) for index in range(arguments.scenes)]
            found[kind] = pool.starmap(read_scene, jobs, chunksize=4)
            print_row(kind, found[kind], models)
    print_row("all", sum(found.values(), []), models)


def write_example(path):
    """Write an example for the README."""
    import keras

    _, (x_test, y_test) = keras.datasets.mnist.load_data()
    generator = np.random.default_rng(4)
    picture = sheet(560, 1150)
    for top in range(40, 560, 80):
        picture[top : top + 2] = (0.62, 0.68, 0.8)
    for number, top in (("20261124", 75), ("31415926", 315)):
        chosen = [generator.choice(np.flatnonzero(y_test == int(digit))) for digit in number]
        write_number(picture, x_test[chosen], 70, top, 150, slope=0.02)
    rows, columns = np.indices(picture.shape[:2])
    picture[columns + 0.6 * rows > 900] *= 0.6
    picture += generator.normal(0, 0.015, picture.shape)
    cv2.imwrite(path, cv2.GaussianBlur(as_bytes(picture), (0, 0), 1)[..., ::-1])


def main():
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="write the README's sheet to this file")
    parser.add_argument("--round-trip", type=int, help="how many validation digits to try")
    parser.add_argument("--scenes", type=int, help="how many made-up scenes of each kind to read")
    parser.add_argument("--model", nargs="+", default=["mnist_cnn.keras"], help="networks to try")
    parser.add_argument("--seed", type=int, default=0, help="other scenes for another one")
    parser.add_argument("--folder", help="where to keep the scenes' pictures")
    arguments = parser.parse_args()
    if not (arguments.file or arguments.scenes or arguments.round_trip):
        parser.error("give a file to write, --round-trip or --scenes")
    if arguments.folder:
        pathlib.Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    if arguments.file:
        write_example(arguments.file)
    if arguments.round_trip:
        round_trip(arguments)
    if arguments.scenes:
        read_scenes(arguments)


if __name__ == "__main__":
    main()
