"""The project's figures, except for the learning curves and the insides of a network.

The caller saves and shows them. Blue means correct and orange wrong or unsure: colour-blind readers
can tell them apart, and colour is never the only sign.
"""

import math

import matplotlib.pyplot as plt
import numpy as np

from handwriting import percent

BLUE, ORANGE = "tab:blue", "#c44e00"
DIGITS_PER_PAGE = 100
SIDE, CELL_WIDTH = 28, 44  # Pixels of a digit, and of the place that it has with its labels.

# In inches: the place of a digit below its picture, the place of a test digit, a page of pictures,
# and on it the name and number above each picture, the gaps, and the side of a picture.
DIGIT_WIDTH, TEST_DIGIT_WIDTH = 1.05, 1.5
PAGE_WIDTH, PAGE_HEIGHT = 12.5, 16
HEADING, GAP = 0.62, 0.12
MIN_PICTURE, MAX_PICTURE = 1.2, 7.5
MAX_SIDE = 36  # Of all digits of a picture together; longer lines are shown smaller.


def prediction_pages(digits, heading=None):
    """Show test digits in grids of 100, each with its original and its predicted class.

    Args:
        digits: list of `handwriting.Digit` with their original classes and probabilities; it may
            be empty.
        heading: a line above each grid, or `None`.

    Yields:
        Matplotlib figures, at least one.
    """
    for start in range(0, max(1, len(digits)), DIGITS_PER_PAGE):
        page = digits[start : start + DIGITS_PER_PAGE]
        side = max(1, math.ceil(math.sqrt(len(page))))
        columns = min(range(side, max(side, min(10, 2 * side)) + 1), key=lambda n: -len(page) % n)
        lines = [page[i : i + columns] for i in range(0, len(page), columns)]
        zoom = TEST_DIGIT_WIDTH / CELL_WIDTH
        width, height = zoom * size_of(lines)
        page_width, top = max(5, width), 0.5
        axis = empty_page(page_width, top + height)
        axis.text(page_width / 2, 0.3, heading or "", ha="center", va="center", fontsize=13)
        draw_digits(axis, lines, (page_width - width) / 2, top, zoom)
        yield axis.figure


def empty_page(width, height):
    """Return the axis of a new figure, which counts in inches from the top left corner."""
    # An axis for each digit would take most of the time.
    axis = plt.figure(figsize=(width, height)).add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axis.axis("off")
    return axis


def confusion_matrix(digits):
    """Count how often each class was taken for each of the others.

    Args:
        digits: list of `handwriting.Digit` with their original classes and probabilities.

    Returns:
        A matplotlib `Figure` of ten rows (original) by ten columns (predicted), the count in
        each cell: the diagonal, what is correct, in blue and every mistake in orange.
    """
    counts = np.zeros((10, 10), dtype=int)
    for digit in digits:
        counts[digit.original, digit.predicted] += 1
    correct = np.eye(10, dtype=bool)

    figure, axis = plt.subplots(figsize=(7, 7), layout="constrained")
    for cells, colours in ((correct, "Blues"), (~correct, "Oranges")):
        # On a shared scale, seven mistakes would vanish beside a thousand hits. Both scales stop
        # at their middle, so that black numbers are readable in every cell.
        shown = np.ma.masked_where(~cells | (counts == 0), counts)
        axis.imshow(shown, cmap=colours, vmin=0, vmax=2 * max(1, counts[cells].max()))
    for (row, column), count in np.ndenumerate(counts):
        weight = "bold" if row == column else "normal"
        colour = "black" if count else "#767676"
        axis.text(column, row, count, ha="center", va="center", color=colour, weight=weight)
    axis.set(xticks=range(10), yticks=range(10))
    axis.set_xlabel("Predicted class", fontsize=12)
    axis.set_ylabel("Original class", fontsize=12)
    axis.set_title(f"{counts.trace()} of {counts.sum()} correct (blue), the mistakes in orange")
    return figure


def picture_pages(readings):
    """Show pictures with the number read in each, a box around each digit, and the digits found.

    Pictures follow each other as words do: side by side, as many as fit.

    Args:
        readings: list of `handwriting.Reading` whose digits have their probabilities.

    Yields:
        Matplotlib figures.
    """
    rows = fill(map(Block, readings), lambda block: block.width, PAGE_WIDTH)
    for page in fill(rows, height_of, PAGE_HEIGHT):
        width = max(sum(block.width for block in row) for row in page)
        axis = empty_page(width, sum(map(height_of, page)))
        top = 0
        for row in page:
            left = 0
            for block in row:
                block.draw(axis, left, top)
                left += block.width
            top += height_of(row)
        yield axis.figure


def fill(items, size, limit):
    """Put items into groups, in order, as many into each as their sizes allow."""
    groups, used = [], limit
    for item in items:
        if used + size(item) > limit:
            groups.append([])
            used = 0
        groups[-1].append(item)
        used += size(item)
    return groups


def height_of(row):
    """Return the height of blocks that stand side by side."""
    return max(block.height for block in row)


class Block:
    """A picture's place on a page, in inches: its name, the number, what was read, and the digits.

    The digits stand below what was read, or beside it where their lines are short.
    """

    def __init__(self, reading):
        self.reading = reading
        self.lines = reading.lines
        self.part = part_with_digits(reading)
        part_size = np.subtract(self.part[2:], self.part[:2])
        self.digit_zoom = min(DIGIT_WIDTH / CELL_WIDTH, MAX_SIDE / max(1, *size_of(self.lines)))
        width, height = self.digit_zoom * size_of(self.lines)
        if max(map(len, self.lines), default=0) < 2 * len(self.lines):
            side = np.clip(height, MIN_PICTURE, MAX_PICTURE)
            self.zoom = side / max(part_size)
            self.digits_at = max(MIN_PICTURE, self.zoom * part_size[0]), 0
            self.width, self.height = self.digits_at[0] + width, max(side, height)
        else:
            self.width = max(2 * MIN_PICTURE, width)
            self.zoom = min((self.width, MAX_PICTURE) / part_size)
            self.digits_at = 0, self.zoom * part_size[1] + GAP
            self.height = self.digits_at[1] + height
        self.width += 2 * GAP
        self.height += HEADING + GAP

    def draw(self, axis, left, top):
        """Draw it on a page."""
        left, top, width = left + GAP, top + HEADING, self.width - 2 * GAP
        name = "".join(letter if letter.isprintable() else "?" for letter in self.reading.path)
        letters = int(13 * width)
        name = name if len(name) <= letters else f"…{name[1 - letters :]}"
        axis.text(left, top - 0.42, name, size=8, color="#606060", parse_math=False)
        number, size, colour = self.reading.number, 20, "black"
        if not self.lines:
            number, size, colour = "no digit was found", 11, ORANGE
        size = min(size, 105 * width / len(number))
        axis.text(left, top - GAP, number, size=size, color=colour, weight="bold")
        draw_part(axis, self.reading, self.part, left, top, self.zoom, 72)
        left, top = left + self.digits_at[0], top + self.digits_at[1]
        draw_digits(axis, self.lines, left, top, self.digit_zoom)


def part_with_digits(reading):
    """Return left, top, right and bottom of what was read, with a margin, in thumbnail pixels."""
    rows, columns = reading.thumbnail.shape[:2]
    if not reading.digits:
        return 0, 0, columns, rows
    boxes = np.array([(d.left, d.top, d.left + d.width, d.top + d.height) for d in reading.digits])
    margin = 0.6 * max(digit.height for digit in reading.digits)
    left, top = np.floor(reading.scale * (boxes[:, :2].min(axis=0) - margin))
    right, bottom = np.ceil(reading.scale * (boxes[:, 2:].max(axis=0) + margin))
    # Above the picture there may be space, so that labels do not lie on the ink.
    return max(0, int(left)), int(top), min(columns, int(right)), min(rows, int(bottom))


def draw_picture(axis, reading):
    """Draw a picture with a box and the predicted class over each digit.

    The axis then counts in pixels of the thumbnail, from its top left corner.

    Args:
        axis: matplotlib `Axes`, at its final size.
        reading: a `handwriting.Reading` whose digits have their probabilities.
    """
    rows, columns = reading.thumbnail.shape[:2]
    axis.set(xticks=[], yticks=[], aspect="equal", xlim=(0, columns), ylim=(rows, 0))
    points = min(axis.bbox.size / (columns, rows)) * 72 / axis.figure.dpi
    draw_part(axis, reading, (0, 0, columns, rows), 0, 0, 1, points)


def draw_part(axis, reading, part, x, y, zoom, points):
    """Draw a part of a picture with its top left corner at (x, y).

    The part is in thumbnail pixels; a pixel is `zoom` units of the axis, a unit `points` points.
    """
    left, top, right, bottom = part
    image = reading.thumbnail[max(0, top) : bottom, left:right]
    sides = x, x + zoom * image.shape[1], y + zoom * (bottom - top), y + zoom * max(0, -top)
    axis.imshow(image, extent=sides)  # By default, it would count from the middle of a pixel.
    edge = plt.Rectangle(sides[::3], zoom * image.shape[1], zoom * image.shape[0], fill=False)
    axis.add_patch(edge).set_edgecolor("#b0b0b0")
    start, unit = np.array([x - zoom * left, y - zoom * top]), zoom * reading.scale
    if reading.outline is not None:  # What was taken for the page.
        outline = start + unit * reading.outline
        page = plt.Polygon(outline, fill=False, edgecolor=BLUE, linestyle=":", linewidth=1.5)
        axis.add_patch(page).set_clip_path(edge)
    for digit in reading.digits:
        corner = start + unit * np.array([digit.left, digit.top])
        width, height = unit * digit.width, unit * digit.height
        add_frame(axis, digit, corner, width, height, points)
        size = np.clip(0.36 * height * points, 5, 13)
        y_text, va = corner[1] - 2 / points, "bottom"
        if (y_text - y) * points < size:  # There is no room above the box.
            y_text, va = corner[1] + height + 2 / points, "top"
        background = {"facecolor": colour_of(digit), "edgecolor": "none", "pad": 0.1 * size}
        label = axis.text(corner[0] + width / 2, y_text, f"{digit.predicted}{digit.mark}", va=va)
        label.set(size=size, color="white", weight="bold", ha="center", bbox=background)


def colour_of(digit):
    """Return orange for a digit that is wrong or unsure, else blue."""
    return ORANGE if digit.mark else BLUE


def add_frame(axis, digit, corner, width, height, points):
    """Draw a frame close around a digit; it is dashed for one that is wrong or unsure."""
    line = 2.5 if digit.mark else 1.2
    out = line / 2 / points  # None of the line lies on the digit.
    frame = plt.Rectangle(corner - out, width + 2 * out, height + 2 * out, fill=False)
    style = "--" if digit.mark else "-"
    frame.set(edgecolor=colour_of(digit), linewidth=line, linestyle=style, clip_on=False)
    axis.add_patch(frame)


def title_height(lines):
    """Return the height of the titles above digits, in pixels of the digits."""
    return 16 if any(digit.original is not None for line in lines for digit in line) else 10


def size_of(lines):
    """Return the width and height of lines of digits with their labels, in pixels of the digits."""
    height = title_height(lines) + SIDE + 11
    return np.array([CELL_WIDTH * max(map(len, lines), default=0), height * len(lines)])


def draw_digits(axis, lines, x, y, zoom):
    """Draw digits as a network sees them, each with its class above it and its confidence below.

    `(x, y)` is the top left corner, in inches as the axis, and `zoom` inches are one pixel.
    """
    if not lines:
        return
    columns, rows = size_of(lines)
    image = np.full((rows, columns), 255, np.uint8)  # One for all: one for each would be slow.
    for i, line in enumerate(lines):
        top = i * (rows // len(lines)) + title_height(lines)
        for j, digit in enumerate(line):
            left = j * CELL_WIDTH + (CELL_WIDTH - SIDE) // 2
            image[top : top + SIDE, left : left + SIDE] = digit.image
            corner, side = np.array([x + zoom * left, y + zoom * top]), zoom * SIDE
            add_frame(axis, digit, corner, side, side, 72)
            title, size = f"{digit.predicted} {digit.mark}".strip(), 6.5
            if digit.original is not None:
                title, size = f"Original {digit.original}\nPredicted {title}", 4.6
            sure, weight = f"{percent(digit.confidence)} sure", "bold" if digit.mark else "normal"
            style = {"ha": "center", "color": ORANGE if digit.mark else "black"}
            middle, above, below = corner[0] + side / 2, corner[1], corner[1] + side
            above, below, points = above - 2.5 * zoom, below + 2.5 * zoom, 72 * zoom
            axis.text(middle, above, title, size=size * points, weight=weight, **style)
            if 4.4 * points > 4:  # Nobody could read a smaller text.
                axis.text(middle, below, sure, size=4.4 * points, va="top", **style)
    extent = (x, x + zoom * columns, y + zoom * rows, y)
    axis.imshow(image, "gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")


def draw_probabilities(axis, digit):
    """Draw a bar for each class, and name the runner-up where the network is not sure.

    Args:
        axis: matplotlib `Axes`.
        digit: a `handwriting.Digit` with its probabilities.
    """
    title = f"Predicted {digit.predicted} {digit.mark}".strip()
    title += f", {percent(digit.confidence)} sure"
    if digit.is_unsure:
        runner_up = np.argsort(digit.probabilities)[-2]
        title += f"; the runner-up is {runner_up}, {percent(digit.probabilities[runner_up])}"
    axis.set_title(title, fontsize=13, color=ORANGE if digit.mark else "black")
    bars = axis.bar(range(10), digit.probabilities, color="#b0b0b0")
    bars[digit.predicted].set(color=colour_of(digit))
    axis.bar_label(bars, [percent(share) for share in digit.probabilities], fontsize=9)
    axis.set(xticks=range(10), yticks=[], ylim=(0, 1.12), xlabel="Class")
    axis.spines[["left", "top", "right"]].set_visible(False)
