"""Look inside a network: what each layer makes of one digit, and its figure."""

import math

import keras
import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np

import plots

MAX_PICTURES, ACROSS = 32, 16  # Of a layer, and side by side.
BELOW = 8  # Pixels below a neuron's weights, for its activation.
COLOURS = matplotlib.colors.LinearSegmentedColormap.from_list(
    "", ["#7a3000", plots.ORANGE, "white", plots.BLUE, "#0b3c5d"]
)


def layer_figure(model, digit):
    """Show a digit, how probable each class is, and what each layer of a network makes of it.

    Convolution, pooling and the layers between them have maps, and the first convolution has its
    filters too. Dense layers have a bar for each neuron, and the first of a dense network has the
    weights of its neurons too. Of more than 32, those are shown that the digit excites most.

    Args:
        model: a Sequential or Functional Keras model that takes one digit.
        digit: a `handwriting.Digit` with its probabilities.

    Returns:
        A matplotlib `Figure`: the first layer at the top, blue above zero and orange below.
    """
    image = np.float32(digit.image).reshape(1, *model.input_shape[1:]) / 255
    rows = list(layer_rows(model, image))
    last = rows[-1][1] if rows else np.zeros(0)
    if last.size == 10 and np.allclose(last.ravel(), digit.probabilities, atol=1e-3):
        rows.pop()  # These are drawn beside the digit.
    heights = [3.2, *(row_height(*row[1:]) for row in rows)]
    height = sum(heights) + 0.36 * len(rows) + 0.1
    figure = plt.figure(figsize=(12, height), layout="constrained")
    grid = figure.add_gridspec(len(heights), 4, height_ratios=heights)
    axis = figure.add_subplot(grid[0, 0], xticks=[], yticks=[], anchor="N")
    axis.imshow(digit.image, cmap="gray", interpolation="nearest")
    title = "The digit" if digit.original is None else f"Original {digit.original}"
    axis.set_title(title, fontsize=13)
    plots.draw_probabilities(figure.add_subplot(grid[0, 1:]), digit)
    for i, (title, values, activations) in enumerate(rows):
        axis = figure.add_subplot(grid[1 + i, :], anchor="NW")
        if values.ndim == 1:
            draw_bars(axis, values)
        else:
            draw_pictures(axis, values, activations)
            title += f", {values.shape[1]} × {values.shape[2]} pixels"
        title += f", from {values.min():.2g} to {values.max():.2g}"
        axis.set_title(title, loc="left", fontsize=11, parse_math=False)
    note = "Blue is above zero, orange below, white is zero. Each row has a scale of its own."
    figure.supxlabel(note, fontsize=11)
    return figure


def layer_outputs(model, inputs):
    """Yield each layer or operation, those of models in the model too, with its output."""
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    calls = []

    def call(layer, *args, **kwargs):
        calls.append((layer, args[0], layer(*args, **kwargs)))
        return calls[-1][-1]

    # The same layers once more, to get hold of every tensor between them.
    copy = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    tensors = {"calls": [(x, y) for _, x, y in calls]}  # Keras would unpack a list of one.
    graph = keras.Model(keras.tree.flatten(copy.input), tensors)
    values = graph(keras.tree.flatten(inputs), training=False)
    for (layer, _, _), (x, y) in zip(calls, values["calls"], strict=True):
        if isinstance(layer, keras.Model):
            yield from layer_outputs(layer, x)
        elif keras.ops.is_tensor(y):  # Some recurrent layers return several.
            yield layer, keras.ops.convert_to_numpy(y)


def layer_rows(model, image):
    """Yield `(title, values, activations)` for each layer that changes something.

    The values are pictures, `(n, height, width)`, or activations, `(n,)`; beside the weights of
    neurons, which are pictures, stand their activations, else `None`.
    """
    previous = image
    for layer, output in layer_outputs(model, image):
        # Dropout and augmentation change nothing outside of training, and Flatten only the shape.
        if np.array_equal(output.ravel(), previous.ravel()) or not 2 <= output.ndim <= 4:
            continue
        previous, output, name = output, output[0], layer.name[:40]
        kernel = np.asarray(getattr(layer, "kernel", 0))
        if output.ndim == 1:
            if kernel.shape == (28 * 28, output.size):
                some, shown = most_excited(output)
                weights = kernel.T[shown].reshape(-1, 28, 28)
                yield f"{name}: weights of {some} neurons", weights, output[shown]
            yield f"{name}: {output.size} activations", output, None
            continue
        maps = np.atleast_3d(output).transpose(2, 0, 1)  # Of a sequence, one map.
        some, shown = most_excited(maps.max(axis=(1, 2)))
        plural = "s" if len(maps) > 1 else ""
        if kernel.shape[2:] == (1, len(maps)):
            yield f"{name}: {some} filter{plural}", kernel[:, :, 0, shown].transpose(2, 0, 1), None
        yield f"{name}: {some} map{plural}", maps[shown], None


def most_excited(excitement):
    """Return how many neurons or maps are shown, in words, and their indices."""
    count = len(excitement)
    if count <= MAX_PICTURES:
        return f"{count}", np.arange(count)
    shown = np.argsort(-excitement, kind="stable")[:MAX_PICTURES]
    return f"the {MAX_PICTURES} most excited of {count}", shown


def row_height(values, activations):
    """Return the height of a row in inches, without its title."""
    if values.ndim == 1:
        return 0.8
    count, height, width = values.shape
    height += 0 if activations is None else BELOW
    return math.ceil(count / ACROSS) * np.clip(0.74 * height / width, 0.4, 1.2)


def draw_pictures(axis, pictures, activations):
    """Draw pictures in rows, on one scale, with an activation below each where there are any."""
    limit = abs(pictures).max() or 1
    lines = math.ceil(len(pictures) / ACROSS)
    columns = math.ceil(len(pictures) / lines)
    missing, below = lines * columns - len(pictures), 0 if activations is None else BELOW
    tiles = np.pad(pictures, ((0, missing), (0, below), (0, 0)), constant_values=np.nan)
    height, width = tiles.shape[1:]
    tiles = tiles.reshape(lines, columns, height, width).swapaxes(1, 2)
    tiles = tiles.reshape(lines * height, columns * width)
    axis.imshow(tiles, COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
    axis.set_xticks(np.arange(columns + 1) * width - 0.5, [])
    axis.set_yticks(np.arange(lines + 1) * height - 0.5, [])
    axis.tick_params(length=0)
    axis.grid(color="#606060", linewidth=2)
    for i, activation in enumerate([] if activations is None else activations):
        x, y = (i % columns + 0.5) * width, (i // columns + 1) * height - BELOW / 2
        axis.text(x, y, f"{activation:.2g}", ha="center", va="center", fontsize=8)


def draw_bars(axis, activations):
    """Draw a bar for each neuron: blue and up, or orange and down."""
    colours = np.where(activations < 0, plots.ORANGE, plots.BLUE)
    width = max(0.5, 650 / len(activations))  # In points.
    axis.vlines(np.arange(len(activations)), 0, activations, colors=colours, linewidth=width)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(yticks=[], xlim=(-0.5, len(activations) - 0.5))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.spines[:].set_visible(False)
