"""Every figure of the project, but for the learning curves in the training scripts.

Each function takes plain data and returns one figure; the caller saves and shows it.
Blue is right and orange is wrong (they differ for colour-blind readers too), and colour is
never the only sign.
"""

import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE = "tab:blue", "#c44e00"
UNSURE = 0.6  # A confidence below this is marked.

# The sizes on a page of pictures, in inches.
PAGE_WIDTH, PAGE_HEIGHT = 12, 16
DIGIT_WIDTH, DIGIT_HEIGHT = 0.95, 1.3
PICTURE_HEIGHT = 2.3
DIGITS_BESIDE, DIGITS_ACROSS = 3, 7  # In a row: of a picture in half a page's width, in all of it.


def prediction_grid(images, original, predicted, confidence, heading=None):
    """Show digits in a grid, each titled with its original and its predicted class.

    A wrong prediction has an orange frame and an orange title in bold, with a cross.

    Args:
        images: array of shape `(n, 28, 28)`, ink bright on dark, any range; n may be 0.
        original: integers of shape `(n,)`, the true classes, 0 to 9.
        predicted: integers of shape `(n,)`, the predicted classes, 0 to 9.
        confidence: floats of shape `(n,)`, the probability of the predicted class, 0 to 1.
        heading: a line above the grid, or `None`.

    Returns:
        A matplotlib `Figure`.
    """
    columns = max(1, min(10, math.ceil(math.sqrt(len(images)))))
    rows = max(1, math.ceil(len(images) / columns))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(max(5, 1.6 * columns), 2.1 * rows + 0.6),
        squeeze=False,
        layout="constrained",
    )
    if heading:
        figure.suptitle(heading)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_visible(False)
    for axis, image, truth, prediction, sureness in zip(
        axes.flat, images, original, predicted, confidence, strict=False
    ):
        wrong = truth != prediction
        axis.set_visible(True)
        axis.imshow(image, cmap="gray", interpolation="nearest")
        axis.set_title(
            f"Original {truth}\nPredicted {prediction}" + (" ✗" if wrong else ""),
            fontsize=10,
            color=ORANGE if wrong else "black",
            weight="bold" if wrong else "normal",
        )
        axis.set_xlabel(f"{percent(sureness)} sure", fontsize=9)
        axis.spines[:].set(color=ORANGE if wrong else BLUE, linewidth=4 if wrong else 1)
    return figure


def confusion_matrix(original, predicted):
    """Count how often each class was taken for each other.

    Args:
        original: integers of shape `(n,)`, the true classes, 0 to 9.
        predicted: integers of shape `(n,)`, the predicted classes, 0 to 9.

    Returns:
        A matplotlib `Figure` of ten rows (original) by ten columns (predicted), the count in
        each cell: the diagonal, what is right, in blue and every mistake in orange.
    """
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (original, predicted), 1)
    right = np.eye(10, dtype=bool)

    figure, axis = plt.subplots(figsize=(7, 7), layout="constrained")
    for cells, colours in ((right, "Blues"), (~right, "Oranges")):
        # The mistakes have a scale of their own: beside a thousand, seven would look like none.
        # Both scales stop at their middle, so that black figures are readable on every cell.
        highest = max(1, counts[cells].max())
        axis.imshow(
            np.ma.masked_where(~cells | (counts == 0), counts),
            cmap=colours,
            vmin=0,
            vmax=2 * highest,
        )
    for (row, column), count in np.ndenumerate(counts):
        weight = "bold" if row == column else "normal"
        colour = "black" if count else "#767676"
        axis.text(column, row, count, ha="center", va="center", color=colour, weight=weight)
    axis.set_xticks(range(10))
    axis.set_yticks(range(10))
    axis.set_xlabel("Predicted class", fontsize=12)
    axis.set_ylabel("Original class", fontsize=12)
    axis.set_title(f"{counts.trace()} of {counts.sum()} right (blue), the mistakes in orange")
    return figure


@dataclasses.dataclass
class Panel:
    """A person's picture in the figure, and what was read in it.

    Attributes:
        name: what to call it.
        picture: uint8 array of shape `(height, width, 3)`, RGB, upright.
        boxes: for each digit left, top, width and height, in pixels of `picture`.
        images: for each digit the uint8 array of shape `(28, 28)` that the network saw.
        predicted: integers of shape `(n,)`, 0 to 9.
        confidence: floats of shape `(n,)`, 0 to 1.
        original: the digit that it shows, where that is known, or `None`.
    """

    name: str
    picture: np.ndarray
    boxes: list
    images: list
    predicted: np.ndarray
    confidence: np.ndarray
    original: int | None = None


def picture_pages(counts):
    """Plan pages of pictures: two with few digits side by side, one with many alone in its row.

    Args:
        counts: list of integers, how many digits each picture has.

    Returns:
        A list of pages, each a list of rows, each a list of one or two indices into `counts`.
    """
    rows = []
    for i, count in enumerate(counts):
        beside = count <= 2 * DIGITS_BESIDE
        if beside and rows and len(rows[-1]) == 1 and counts[rows[-1][0]] <= 2 * DIGITS_BESIDE:
            rows[-1].append(i)
        else:
            rows.append([i])
    pages, used = [[]], 0
    for row in rows:
        height = row_height(max(counts[i] for i in row))
        if pages[-1] and used + height > PAGE_HEIGHT:
            pages.append([])
            used = 0
        pages[-1].append(row)
        used += height
    return pages


def row_height(count):
    """Return the height in inches of a row whose picture has `count` digits."""
    in_a_row = DIGITS_BESIDE if count <= 2 * DIGITS_BESIDE else DIGITS_ACROSS
    return max(PICTURE_HEIGHT, math.ceil(count / in_a_row) * DIGIT_HEIGHT) + 0.5


def picture_page(rows):
    """Show pictures with a box and the predicted class over each digit, and what the network saw.

    A wrong or unsure digit has a thick orange frame, dashed in the picture, and a ✗ or a ?.

    Args:
        rows: list of rows as `picture_pages` planned them, each a list of one or two `Panel`.

    Returns:
        A matplotlib `Figure`.
    """
    heights = [row_height(max(len(panel.images) for panel in row)) for row in rows]
    alone = [len(row) == 1 and len(row[0].images) > 2 * DIGITS_BESIDE for row in rows]
    columns = 1 if len(rows) == len(rows[0]) == 1 and not any(alone) else 2
    width, height = PAGE_WIDTH * columns / 2, sum(heights)
    figure = plt.figure(figsize=(width, height))

    def add_axes(left, top, axes_width, axes_height):
        box = (left / width, 1 - (top + axes_height) / height)
        return figure.add_axes((*box, axes_width / width, axes_height / height))

    top = 0
    for row, row_alone, this_height in zip(rows, alone, heights, strict=True):
        for i, panel in enumerate(row):
            digits_in_a_row = DIGITS_ACROSS if row_alone else DIGITS_BESIDE
            left = i * PAGE_WIDTH / 2 + 0.15
            picture_width = (PAGE_WIDTH if row_alone else PAGE_WIDTH / 2) - 0.4
            picture_width -= digits_in_a_row * DIGIT_WIDTH
            axis = add_axes(left, top + 0.35, picture_width, this_height - 0.5)
            draw_picture(axis, panel, picture_width)
            side = DIGIT_WIDTH - 0.2 if len(panel.images) > 1 else 1.5
            for j, image in enumerate(panel.images):
                row_of_digit, column = divmod(j, digits_in_a_row)
                digit_axis = add_axes(
                    left + picture_width + 0.15 + column * DIGIT_WIDTH,
                    top + 0.65 + row_of_digit * DIGIT_HEIGHT,
                    side,
                    side,
                )
                draw_digit(digit_axis, image, panel, j)
        top += this_height
    return figure


def draw_picture(axis, panel, width):
    """Draw the upright original, with a box and the predicted class over each digit.

    Args:
        axis: the matplotlib `Axes` to draw on.
        panel: a `Panel`.
        width: of the axes, in inches.
    """
    axis.imshow(panel.picture, interpolation="antialiased")
    axis.set(xticks=[], yticks=[], anchor="N")
    axis.spines[:].set(color="#b0b0b0")
    letters = int(13 * width)
    name = panel.name if len(panel.name) <= letters else f"…{panel.name[1 - letters :]}"
    axis.set_title(name, fontsize=9, parse_math=False)
    if not panel.images:
        axis.set_xlabel("no digit was found", fontsize=9, color=ORANGE, weight="bold")
    points_a_pixel = 72 * width / panel.picture.shape[1]
    for i, (left, top, box_width, box_height) in enumerate(panel.boxes):
        mark = mark_of(panel, i)
        colour = ORANGE if mark else BLUE
        axis.add_patch(
            plt.Rectangle(
                (left, top),
                box_width,
                box_height,
                fill=False,
                edgecolor=colour,
                linewidth=2 if mark else 1.2,
                linestyle="--" if mark else "-",
            )
        )
        size = min(13, max(4, 0.5 * box_height * points_a_pixel))
        inside = top * points_a_pixel < 1.5 * size  # Above the box it would be on the name.
        axis.annotate(
            f"{panel.predicted[i]}{mark}",
            (left if inside else left + box_width / 2, top),
            (0, -1 if inside else 1),
            textcoords="offset points",
            ha="left" if inside else "center",
            va="top" if inside else "bottom",
            fontsize=size,
            color="white",
            weight="bold",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.1 * size},
        )


def draw_digit(axis, image, panel, i):
    """Draw the image that the network saw, with its class and confidence.

    Args:
        axis: the matplotlib `Axes` to draw on.
        image: array of shape `(28, 28)`, ink bright on dark.
        panel: the `Panel` that it belongs to.
        i: its number there.
    """
    mark = mark_of(panel, i)
    colour, weight = (ORANGE, "bold") if mark else ("black", "normal")
    axis.imshow(image, cmap="gray", interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(color=ORANGE if mark else BLUE, linewidth=3 if mark else 1)
    title = f"{panel.predicted[i]} {mark}".strip()
    if panel.original is not None:
        title = f"Original {panel.original}\nPredicted {title}"
    size = 11 if panel.original is None else 8
    axis.set_title(title, fontsize=size, color=colour, weight=weight, pad=3)
    sure = "unsure" if panel.confidence[i] < UNSURE else "sure"
    axis.set_xlabel(f"{percent(panel.confidence[i])} {sure}", fontsize=7.5, labelpad=2)


def mark_of(panel, i):
    """Return ✗ for a digit that is read wrong, ? for one that is unsure, else nothing."""
    if panel.original is not None and panel.predicted[i] != panel.original:
        return "✗"
    return "?" if panel.confidence[i] < UNSURE else ""


def percent(share):
    """Write a share from 0 to 1 as a percentage that never rounds up to certainty.

    Args:
        share: a float from 0 to 1.

    Returns:
        A string such as `"97.3%"`; 0.9999 is `"99.9%"`, and only 1 itself is `"100%"`.
    """
    return "100%" if share == 1 else f"{math.floor(share * 1000) / 10:.1f}%"
