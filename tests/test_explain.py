"""What each layer makes of a digit."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import DIGITS, texts_of
from keras import layers
from learners_networks import NETWORKS, sequential
from test_plots import BLUE, ORANGE, digit

import explain

IMAGE = DIGITS["x_train"][0]
INPUT = np.float32(IMAGE) / 255


def rows_of(model, shown):
    """Read what the rows are said to show, and the values that they do show, off a figure."""
    figure = explain.layer_figure(model, shown)
    texts_of(figure)  # None of them overlap.
    titles = [axis.get_title(loc="left").split(": ")[1].split(", ")[0] for axis in figure.axes[2:]]
    return titles, [pictures(axis) if axis.images else bars(axis) for axis in figure.axes[2:]]


def pictures(axis):
    """Cut a row into its pictures again."""
    (image,) = axis.images
    values = np.float32(np.ma.filled(image.get_array(), 0))
    red, blue = image.to_rgba(values)[..., 0], image.to_rgba(values)[..., 2]
    assert (np.sign(values) * (blue - red) > -0.01).all(), "blue is above zero, orange below"
    lines = np.vsplit(values, len(axis.get_yticks()) - 1)
    return np.concatenate([np.hsplit(line, len(axis.get_xticks()) - 1) for line in lines])


def bars(axis):
    values = np.array([segment[1, 1] for segment in axis.collections[0].get_segments()])
    expected = np.where(values[:, None] < 0, ORANGE, BLUE)
    np.testing.assert_array_equal(axis.collections[0].get_colors(), expected)
    return values


def dense(units, activation=None):
    return layers.Dense(units, activation, bias_initializer="random_normal")


def test_a_convolutional_network_shows_what_numpy_computes():
    keras.utils.set_random_seed(0)
    convolution = layers.Conv2D(40, 3, bias_initializer="random_normal", name="x" * 99)
    steps = layers.MaxPooling2D(3), layers.Flatten(), dense(30, "relu"), dense(10)
    model = sequential(convolution, *steps)
    kernel, bias, dense_kernel, dense_bias, last, last_bias = model.get_weights()
    windows = np.lib.stride_tricks.sliding_window_view(INPUT, (3, 3))
    maps = np.einsum("yxij,ijf->fyx", windows, kernel[:, :, 0]) + bias[:, None, None]
    pooled = maps[:, :24, :24].reshape(40, 8, 3, 8, 3).max(axis=(2, 4))
    hidden = np.maximum(0, pooled.transpose(1, 2, 0).ravel() @ dense_kernel + dense_bias)
    first, then = (np.argsort(-values.max(axis=(1, 2)))[:32] for values in (maps, pooled))
    expected = [kernel[:, :, 0].transpose(2, 0, 1)[first], maps[first], pooled[then]]
    expected += [hidden, hidden @ last + last_bias]
    titles, shown = rows_of(model, digit(3, image=IMAGE))
    some = [f"the 32 most excited of 40 {name}" for name in ("filters", "maps", "maps")]
    assert titles == [*some, "30 activations", "10 activations"]
    for values, reference in zip(shown, expected, strict=True):
        np.testing.assert_allclose(values, reference, atol=1e-4)


def test_a_dense_network_shows_every_layer_and_the_weights_beside_the_activations():
    keras.utils.set_random_seed(0)
    steps = [layers.Flatten(), dense(40, "relu"), dense(20), dense(10), layers.Softmax()]
    model = sequential(*steps, shape=(28, 28))
    kernel, bias, *_ = model.get_weights()
    activations = np.maximum(0, INPUT.ravel() @ kernel + bias)
    excited = np.argsort(-activations, kind="stable")[:32]
    titles, (weights, shown, *_) = rows_of(model, digit(3, image=IMAGE))
    bars = [f"{count} activations" for count in (40, 20, 10, 10)]
    assert titles == ["weights of the 32 most excited of 40 neurons", *bars]
    np.testing.assert_allclose(weights[:, :28], kernel.T[excited].reshape(-1, 28, 28))
    np.testing.assert_allclose(shown, activations, atol=1e-4)
    beside = [text.get_text() for text in plt.gcf().axes[2].texts]
    assert beside == [f"{value:.2g}" for value in activations[excited]]


ROWS = {
    "dropout and activations": [
        "6 filters",
        *4 * ["6 maps"],
        *3 * ["9 activations"],
        "10 activations",
    ],
    "residual": ["4 filters", *7 * ["4 maps"], "8 maps", "8 activations"],
    "nested": [*2 * ["1 filter", "1 map"], "weights of 10 neurons"],
    "rows": [*5 * ["1 map"], "4 activations"],
    "mixed precision": ["4 filters", "4 maps", "4 maps", "8 activations"],
}


@pytest.mark.parametrize("name", ROWS)
def test_networks_that_learners_build_show_each_layer_that_changes_something(name):
    keras.utils.set_random_seed(0)
    model, shown = NETWORKS[name](), digit(4, image=IMAGE)
    inputs = INPUT.reshape(1, *model.input_shape[1:])
    shown.probabilities = keras.ops.convert_to_numpy(model(inputs, training=False))[0]
    assert rows_of(model, shown)[0] == ROWS[name]
