"""The project's figures, except for the learning curves and the window to draw in.

The caller saves and shows them. Blue means right and orange wrong (inside a network: above and
below zero): colour-blind readers can tell them apart, and colour is never the only sign.
"""

import dataclasses
import math

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE = "tab:blue", "#c44e00"
UNSURE = 0.6  # A confidence below this is marked.
DIGITS_PER_PAGE = 100

# The sizes on a page of pictures, in inches.
PAGE_WIDTH, PAGE_HEIGHT = 12, 16
DIGIT_WIDTH, DIGIT_HEIGHT = 0.95, 1.3
PICTURE_HEIGHT = 2.3
DIGITS_BESIDE, DIGITS_ACROSS = 3, 7  # In a row: of a picture in half a page's width, in all of it.

# For looking inside a network.
MAX_MAPS, MAPS_ACROSS = 32, 16
COLOURS = matplotlib.colors.LinearSegmentedColormap.from_list(
    "", ["#7a3000", ORANGE, "white", BLUE, "#0b3c5d"]
)


def prediction_pages(images, original, predicted, confidence, heading=None):
    """Show digits in grids of 100, each titled with its original and its predicted class.

    A wrong prediction has an orange frame and an orange title in bold, with a cross.

    Args:
        images: array of shape `(n, 28, 28)`, ink bright on dark, any range; n may be 0.
        original: integers of shape `(n,)`, the true classes, 0 to 9.
        predicted: integers of shape `(n,)`, the predicted classes, 0 to 9.
        confidence: floats of shape `(n,)`, the probability of the predicted class, 0 to 1.
        heading: a line above each grid, or `None`.

    Yields:
        Matplotlib figures, at least one.
    """
    for start in range(0, max(1, len(images)), DIGITS_PER_PAGE):
        page = slice(start, start + DIGITS_PER_PAGE)
        yield prediction_grid(
            images[page], original[page], predicted[page], confidence[page], heading
        )


def prediction_grid(images, original, predicted, confidence, heading=None):
    """Show up to 100 digits; the arguments are those of `prediction_pages`."""
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
    for axis in axes.flat[len(images) :]:
        axis.set_visible(False)
    for axis, image, truth, prediction, sureness in zip(
        axes.flat, images, original, predicted, confidence, strict=False
    ):
        wrong = truth != prediction
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
        # Both scales stop at their middle, so that black numbers are readable in every cell.
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
        reading: what was found in it, as `handwriting.read_picture` returns it.
        predicted: integers of shape `(n,)`, 0 to 9, one for each digit.
        confidence: floats of shape `(n,)`, 0 to 1.
        original: the digit that it shows, where that is known, or `None`.
    """

    name: str
    reading: object
    predicted: np.ndarray
    confidence: np.ndarray
    original: int | None = None


def picture_pages(panels):
    """Show pictures with a box and the predicted class over each digit, and what the network saw.

    Two pictures with few digits stand side by side; one with many has a row to itself.

    Args:
        panels: list of `Panel`.

    Yields:
        Matplotlib figures.
    """
    rows = []
    for panel in panels:
        if rows and len(rows[-1]) == 1 and has_few_digits(rows[-1][0]) and has_few_digits(panel):
            rows[-1].append(panel)
        else:
            rows.append([panel])
    page, used = [], 0
    for row in rows:
        height = row_height(row)
        if page and used + height > PAGE_HEIGHT:
            yield picture_page(page)
            page, used = [], 0
        page.append(row)
        used += height
    yield picture_page(page)


def has_few_digits(panel):
    """Tell whether a picture fits into half of a row."""
    return len(panel.reading.digits) <= 2 * DIGITS_BESIDE


def row_height(row):
    """Return the height in inches of a row of pictures."""
    count = max(len(panel.reading.digits) for panel in row)
    in_a_row = DIGITS_BESIDE if has_few_digits(row[0]) else DIGITS_ACROSS
    return max(PICTURE_HEIGHT, math.ceil(count / in_a_row) * DIGIT_HEIGHT) + 0.5


def picture_page(rows):
    """Show the pictures of one page: lists of one or two `Panel`.

    A wrong or unsure digit has a thick orange frame, dashed in the picture, and a ✗ or a ?.
    """
    heights = [row_height(row) for row in rows]
    columns = 1 if len(rows) == len(rows[0]) == 1 and has_few_digits(rows[0][0]) else 2
    width, height = PAGE_WIDTH * columns / 2, sum(heights)
    figure = plt.figure(figsize=(width, height))

    def add_axes(left, top, axes_width, axes_height):
        box = (left / width, 1 - (top + axes_height) / height)
        return figure.add_axes((*box, axes_width / width, axes_height / height))

    top = 0
    for row, this_height in zip(rows, heights, strict=True):
        across = not has_few_digits(row[0])
        digits_in_a_row = DIGITS_ACROSS if across else DIGITS_BESIDE
        for i, panel in enumerate(row):
            left = i * PAGE_WIDTH / 2 + 0.15
            picture_width = (PAGE_WIDTH if across else PAGE_WIDTH / 2) - 0.4
            picture_width -= digits_in_a_row * DIGIT_WIDTH
            axis = add_axes(left, top + 0.35, picture_width, this_height - 0.5)
            draw_picture(axis, panel)
            side = DIGIT_WIDTH - 0.2 if len(panel.reading.digits) > 1 else 1.5
            for j in range(len(panel.reading.digits)):
                row_of_digit, column = divmod(j, digits_in_a_row)
                digit_axis = add_axes(
                    left + picture_width + 0.15 + column * DIGIT_WIDTH,
                    top + 0.65 + row_of_digit * DIGIT_HEIGHT,
                    side,
                    side,
                )
                draw_digit(digit_axis, panel, j)
        top += this_height
    return figure


def draw_picture(axis, panel):
    """Draw a picture with a box and the predicted class over each digit."""
    width, height = axis.bbox.size / axis.figure.dpi  # In inches.
    axis.imshow(panel.reading.thumbnail, interpolation="antialiased")
    axis.set(xticks=[], yticks=[], anchor="N")
    axis.spines[:].set(color="#b0b0b0")
    max_letters = int(13 * width)
    name = panel.name if len(panel.name) <= max_letters else f"…{panel.name[1 - max_letters :]}"
    axis.set_title(name, fontsize=9, parse_math=False)
    if not panel.reading.digits:
        axis.set_xlabel("no digit was found", fontsize=9, color=ORANGE, weight="bold")
    rows, columns = panel.reading.thumbnail.shape[:2]
    points_per_pixel = 72 * min(width / columns, height / rows)
    if panel.reading.outline is not None:  # What was taken for the page.
        outline = panel.reading.scale * panel.reading.outline
        axis.add_patch(plt.Polygon(outline, fill=False, edgecolor=BLUE, linestyle=":"))
    for i, digit in enumerate(panel.reading.digits):
        left, top, box_width, box_height = panel.reading.scale * np.array(
            [digit.left, digit.top, digit.width, digit.height]
        )
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
        size = min(13, max(4, 0.5 * box_height * points_per_pixel))
        inside = top * points_per_pixel < 1.5 * size  # Above the box it would be on the name.
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


def draw_digit(axis, panel, i):
    """Draw what the network saw of a digit, with its class and confidence."""
    mark = mark_of(panel, i)
    colour, weight = (ORANGE, "bold") if mark else ("black", "normal")
    axis.imshow(panel.reading.digits[i].image, cmap="gray", interpolation="nearest")
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


def feature_maps(model, image, probabilities, original=None):
    """Show a digit, how probable each class is, and what each layer of a network makes of it.

    Convolution, pooling and the layers between them have maps, and the first convolution has its
    filters too. A dense network has the weights of the neurons that the digit excites most.

    Args:
        model: a Keras model that takes one digit.
        image: floats of shape `(28, 28)` or `(28, 28, 1)`, 0 to 1, as the network takes them.
        probabilities: floats of shape `(10,)`, what the network predicts for it.
        original: the true class, 0 to 9, or `None`.

    Returns:
        A matplotlib `Figure`: the first layer at the top, blue above zero and orange below.
    """
    rows = pictures_of_layers(layer_outputs(model, image), image)
    lines = [math.ceil(len(pictures) / MAPS_ACROSS) for _, pictures in rows]
    height = 0.74 * sum(lines) + 0.36 * len(lines) + 3.3
    figure = plt.figure(figsize=(PAGE_WIDTH, height), layout="constrained")
    grid = figure.add_gridspec(1 + len(rows), 4, height_ratios=[3.2, *lines])
    axis = figure.add_subplot(grid[0, 0], xticks=[], yticks=[])
    axis.imshow(np.reshape(image, (28, 28)), cmap="gray", interpolation="nearest")
    axis.set_title("The digit" if original is None else f"Original {original}", fontsize=13)
    draw_probabilities(figure.add_subplot(grid[0, 1:]), probabilities, original)
    for i, (title, pictures) in enumerate(rows):
        axis = figure.add_subplot(grid[1 + i, :], anchor="NW")
        draw_side_by_side(axis, title, pictures, lines[i])
    if rows:
        note = "Blue is above zero, orange below, white is zero. Each row has a scale of its own."
        figure.supxlabel(note, fontsize=11)
    return figure


def layer_outputs(model, image):
    """Return each layer, those of models in the model too, with its output for one digit."""
    import keras

    outputs, call = [], keras.layers.Layer.__call__

    def call_and_record(layer, *args, **kwargs):
        output = call(layer, *args, **kwargs)
        if keras.ops.is_tensor(output):  # Some recurrent layers return several.
            outputs.append((layer, keras.ops.convert_to_numpy(output)))
        return output

    # Unlike keras.Model(model.inputs, [layer.output, ...]), this looks into a model in a model.
    keras.layers.Layer.__call__ = call_and_record
    try:
        model(np.float32(image).reshape(1, *model.input_shape[1:]), training=False)
    finally:
        keras.layers.Layer.__call__ = call
    return outputs


def pictures_of_layers(outputs, image):
    """Return pairs of a title and an array of pictures, `(n, height, width)`."""
    rows, previous = [], np.float32(image).reshape(1, 28, 28, 1)
    for layer, output in outputs:
        if output.ndim == 2 and "Pooling2D" in type(layer).__name__:
            output = output[:, np.newaxis, np.newaxis]  # Global pooling: one pixel a map.
        # Dropout and augmentation change nothing outside of training, and are left out.
        if output.ndim != 4 or np.array_equal(output, previous):
            continue
        previous, maps = output, output[0].transpose(2, 0, 1)
        some = f"the first {MAX_MAPS} of {len(maps)}" if len(maps) > MAX_MAPS else len(maps)
        kernel = np.asarray(getattr(layer, "kernel", 0))
        if kernel.shape[2:] == (1, len(maps)):
            filters = kernel[:, :, 0].transpose(2, 0, 1)
            rows.append((f"{layer.name[:40]}: {some} filters", filters[:MAX_MAPS]))
        rows.append((f"{layer.name[:40]}: {some} maps", maps[:MAX_MAPS]))
    if rows:
        return rows
    for layer, output in outputs:
        kernel = np.asarray(getattr(layer, "kernel", 0))
        if kernel.shape == (28 * 28, output.size):
            shown = np.argsort(-output[0], kind="stable")[:MAX_MAPS]
            some = f"the {len(shown)} of {output.size} neurons that this digit excites most"
            return [(f"{layer.name[:40]}: weights of {some}", kernel.T[shown].reshape(-1, 28, 28))]
    return []


def draw_side_by_side(axis, title, pictures, lines):
    """Draw pictures in rows (`lines` of them), on one scale, below a title with their size."""
    count, height, width = pictures.shape
    columns = math.ceil(count / lines)
    missing = lines * columns - count
    tiles = np.pad(pictures, ((0, missing), (0, 0), (0, 0)), constant_values=np.nan)
    tiles = tiles.reshape(lines, columns, height, width).swapaxes(1, 2)
    tiles = tiles.reshape(lines * height, columns * width)
    limit = abs(pictures).max() or 1
    axis.imshow(tiles, COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
    axis.set_xticks(np.arange(columns + 1) * width - 0.5, [])
    axis.set_yticks(np.arange(lines + 1) * height - 0.5, [])
    axis.tick_params(length=0)
    axis.grid(color="#606060", linewidth=2)
    title += f", {height} × {width} pixels, from {pictures.min():.2g} to {pictures.max():.2g}"
    axis.set_title(title, loc="left", fontsize=11, parse_math=False)


def draw_probabilities(axis, probabilities, original=None):
    """Draw a bar for each class, and name the runner-up where the network is not sure."""
    runner_up, predicted = np.argsort(probabilities)[-2:]
    cross = "" if original in (None, predicted) else " ✗"
    unsure = probabilities[predicted] < UNSURE
    title = f"Predicted {predicted}{cross}, {percent(probabilities[predicted])} sure"
    if unsure:
        title += f"; the runner-up is {runner_up}, {percent(probabilities[runner_up])}"
    axis.set_title(title, fontsize=13, color=ORANGE if cross or unsure else "black")
    bars = axis.bar(range(10), probabilities, color="#b0b0b0")
    bars[predicted].set(color=ORANGE if cross or unsure else BLUE)
    axis.bar_label(bars, [percent(share) for share in probabilities], fontsize=9)
    axis.set(xticks=range(10), yticks=[], ylim=(0, 1.12), xlabel="Class")
    axis.spines[["left", "top", "right"]].set_visible(False)
